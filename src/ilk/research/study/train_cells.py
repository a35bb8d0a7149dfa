"""Trains the cells of studies, seed by seed, and writes their pages after each seed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilk.analysis.neighbours import nearest_rows
from ilk.evaluation.probe import vote
from ilk.images import Images
from ilk.research.grid import Job, run_jobs
from ilk.research.grid.task import chosen_images
from ilk.research.labelled import Labelled, open_labelled
from ilk.research.study.definition import KNN, Cell, Study, cost_line, job_of
from ilk.research.study.pages import write_all, write_study
from ilk.research.study.setting import DIGITS, StudySetting
from ilk.runs.tables import read_embeddings, read_table
from ilk.system.progress import Watch


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may change in every study. `epochs`, `images`: instead of what the study says."""

    source: str = DIGITS
    seeds: int = 3
    epochs: int | None = None
    images: int | None = None
    labels: str | None = None
    cache_dir: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}.")

    @property
    def changed(self) -> dict[str, Any]:
        asked = {"epochs": self.epochs, "images": self.images}
        return {name: value for name, value in asked.items() if value is not None}

    def setting(self, folder: Path, domain: str = "") -> StudySetting:
        return StudySetting(self.source, domain, self.seeds, self.changed, self.labels, folder)


def run_study(study: Study, folder: Path, options: Options, watch: Watch | None = None) -> list[dict[str, Any]]:
    """One row for each cell and seed; trains what is missing and writes the study's pages after each seed.

    Trainings that `folder` has already, of this study or another, are not repeated.
    """
    return run_studies([study], folder, options, watch)[study.name]


def run_studies(
    chosen: Sequence[Study], folder: Path, options: Options, watch: Watch | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The rows of each study by name; for several studies, their common page is written after each of them."""
    watch = watch or Watch()
    folder.mkdir(parents=True, exist_ok=True)
    labelled = open_labelled(options.source, labels=options.labels, cache_dir=options.cache_dir, watch=watch)
    domain = domain_of(labelled.images)
    setting = options.setting(folder, domain)
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for number, study in enumerate(chosen, 1):
        watch.say(f"study {number} of {len(chosen)}: {study.name}, {cost_line(study, options.seeds)}")
        rows_of[study.name] = []
        for seed in range(options.seeds):
            jobs = [job_for(study, cell, seed, options, labelled, domain) for cell in study.cells]
            rows = run_jobs(
                jobs, folder, labels=options.labels, cache_dir=options.cache_dir, watch=watch,
                opened={options.source: labelled},
            )  # fmt: skip
            rows_of[study.name] += [
                row_of(study, cell.name, row, folder) for cell, row in zip(study.cells, rows, strict=True)
            ]
            write_study(study, rows_of[study.name], folder, setting, watch)
        if len(chosen) > 1:
            write_all(chosen, rows_of, folder, setting)
    return rows_of


def job_for(study: Study, cell: Cell, seed: int, options: Options, labelled: Labelled, domain: str) -> Job:
    """The training of a cell, with the settings that depend on the number of images and classes."""

    def job_with(of: Cell, **more: Any) -> Job:
        job: Job = job_of(Job, of.training, options.source, domain, seed=seed, **{**options.changed, **more})
        return job

    job = job_with(cell)
    more: dict[str, Any] = {}
    if cell.as_many_as is not None and (options.source != DIGITS or options.images is not None):
        rows, _ = chosen_images(job_with(study.whole[cell.as_many_as]), labelled)
        more["images"] = len(rows)
    if cell.per_cluster is not None:
        _, k = chosen_images(job, labelled)
        more["settings"] = {**cell.training["settings"], "batch_size": cell.per_cluster * k}
    return job_with(cell, **more) if more else job


def domain_of(images: Images) -> str:
    """The name of the views that suit the images, which T stands for."""
    from ilk.sampling import spaced
    from ilk.views import choose_views

    return choose_views(images[spaced(len(images), 500)])[0]


def row_of(study: Study, cell: str, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A row of the grid as a row of the study, with the score that the grid does not have."""
    extended = {"study": study.name, "cell": cell, **row}
    if study.score == KNN and not row["error"]:
        extended[KNN] = nearest_neighbours(folder / row["run"])
    return extended


def nearest_neighbours(run: Path, k: int = 5) -> float:
    """The share of labelled images whose `k` nearest other images, by a run's embeddings, mostly have their label."""
    table = read_table(run / "assignments.parquet")
    texts = np.array([text or "" for text in table["label"].to_pylist()])
    rows = texts != ""
    x = read_embeddings(run / "embeddings.npy", len(table))[rows]
    _, codes = np.unique(texts[rows], return_inverse=True)
    near, cosine = nearest_rows(x, x, min(k, len(x) - 1), own=np.arange(len(x)))
    return float((vote(near, cosine, codes, codes.max() + 1, weighted=False) == codes).mean())
