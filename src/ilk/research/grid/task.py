"""`Task`: a job with the images of its source; equal tasks are done once."""

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
    """A job on images with labels. Two tasks are equal if run, read-out and labels are.

    `key` names the run: a hash of the job, the images, the number of clusters, and the labels where they affect the
    training (a long tail is cut by them; with oracle_acc they choose). `scored`: a hash of the labels.
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
    """The task of a job on the opened images of its source."""
    scored = short_hash(labelled.codes.astype("<i8").tobytes())
    try:
        k = chosen_images(job, labelled)[1]
    except ValueError:  # no such split, or a tail of one class: the message comes when the job runs
        k = None
    labels_matter = job.imbalance is not None or (job.select == ORACLE and not job.is_baseline)
    key = short_hash(json.dumps([job.key, labelled.images.fingerprint, k, scored if labels_matter else None]).encode())
    return Task(job, labelled, key, job.read_out, scored)


def short_hash(data: bytes) -> str:
    """A short hash of bytes."""
    return hashlib.blake2b(data, digest_size=5).hexdigest()


def chosen_images(job: Job, labelled: Labelled) -> tuple[np.ndarray, int]:
    """The sorted positions of the images of a job, and its number of clusters."""
    rows = labelled.rows(job.split)
    if job.images is not None and job.images < len(rows):
        rows = np.sort(rows[np.random.default_rng(0).permutation(len(rows))[: job.images]])
    if job.imbalance is not None:
        rows = rows[long_tailed(labelled.codes[rows], job.imbalance, job.seed)]
    codes = labelled.codes[rows]
    return rows, job.n_clusters or len(np.unique(codes[codes >= 0]))
