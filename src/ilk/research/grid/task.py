"""`Task`: a job together with what its source brings, which tells finished work from work to be done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from ilk.evaluation import long_tailed
from ilk.research.grid.job import Job
from ilk.research.labelled import Labelled
from ilk.research.oracle import ORACLE


@dataclass(frozen=True)
class Task:
    """A job on images with labels, equal to another where the run, the read-out and the labels are.

    `key` names the run: what the job asks, which images these are, how many clusters, and the labels where they
    shape the training (a long tail is cut by them; oracle_acc lets them choose). `scored`: a hash of the labels.
    """

    job: Job = field(compare=False)
    labelled: Labelled = field(compare=False, repr=False)
    key: str
    read_out: str
    scored: str

    @property
    def folder(self) -> str:
        return self.job.folder_of(self.key)


def task_of(job: Job, labelled: Labelled) -> Task:
    scored = digest(labelled.codes.astype("<i8").tobytes())
    try:
        k = chosen(job, labelled)[1]
    except ValueError:  # no such split, a tail of one class: told when it is tried
        k = None
    shaped = job.imbalance is not None or (job.select == ORACLE and not job.is_baseline)
    key = digest(json.dumps([job.key, labelled.images.fingerprint, k, scored if shaped else None]).encode())
    return Task(job, labelled, key, job.read_out, scored)


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=5).hexdigest()


def chosen(job: Job, labelled: Labelled) -> tuple[np.ndarray, int]:
    """The rows of the images of a job, in order, and how many clusters it asks for."""
    rows = labelled.rows(job.split)
    if job.images is not None and job.images < len(rows):
        rows = np.sort(rows[np.random.default_rng(0).permutation(len(rows))[: job.images]])
    if job.imbalance is not None:
        rows = rows[long_tailed(labelled.codes[rows], job.imbalance, job.seed)]
    codes = labelled.codes[rows]
    return rows, job.n_clusters or len(np.unique(codes[codes >= 0]))
