"""Jobs one after the other: each trains a run or runs a baseline, and adds a row."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ilk.analysis.metrics import effective_clusters, score
from ilk.evaluation.long_tail import ratio_reached
from ilk.images import load_images
from ilk.methods import get_method
from ilk.pipeline.fitting import fit
from ilk.pipeline.request import MAX_SIZE
from ilk.research.baselines import baseline_clusters, get_baseline, kmeans, refuse_large
from ilk.research.grid.grid_progress import GridProgress
from ilk.research.grid.job import Job
from ilk.research.grid.row_file import RowFile
from ilk.research.grid.run_embeddings import embeddings_for
from ilk.research.grid.task import Task, chosen_images, task_of
from ilk.research.labelled import Labelled, open_labelled
from ilk.research.options import PIXELS
from ilk.research.oracle import rule_of
from ilk.runs.folder import Run
from ilk.runs.tables import read_embeddings, read_table
from ilk.system.files import DiskFull, sweep
from ilk.system.lock import held
from ilk.system.own_folders import ROWS
from ilk.system.progress import Watch
from ilk.system.ranks import world
from ilk.system.text import in_short
from ilk.system.versions import versions

OURS = (f"{ROWS}.", "results.")  # how the files that we write into the folder of the trainings begin


def run_jobs(
    jobs: Sequence[Job],
    folder: str | os.PathLike[str],
    *,
    labels: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
    report: bool = False,
    then: Callable[[list[dict[str, Any]]], None] | None = None,
    opened: Mapping[str, Labelled] | None = None,
) -> list[dict[str, Any]]:
    """One row for each job, in order. Jobs with a row in `folder` are not repeated; failed ones are tried again.

    `labels`: as for `open_labelled`. `report`: whether each run gets a report.html. `then`: called with the rows while
    the folder is still locked. A row is valid as long as the images and their labels are the same. A job that fails
    gets a row with `error`, a sentence (None in other rows), and does not stop the others. `run` of a row is relative
    to `folder`. `opened`: sources, by name, that the caller has opened already, with the same `labels`.
    Raises ValueError or FileNotFoundError, before anything is trained, where a source cannot be used.
    """
    folder, watch = Path(folder), watch or Watch()
    if world() > 1:
        raise ValueError("Many trainings run in one process, one after the other. Start the command without torchrun.")
    with held(folder):
        sweep(folder, only=lambda file: file.name.startswith(OURS))
        rows = RowFile(folder / ROWS)
        if rows.unusable:
            watch.warn(f"{rows.unusable:,} rows of '{rows.path}' lack fields that every row has, and are ignored")
        sources = {
            name: (opened or {}).get(name) or open_labelled(name, labels=labels, cache_dir=cache_dir, watch=watch)
            for name in dict.fromkeys(job.source for job in jobs)
        }
        tasks = [task_of(job, sources[job.source]) for job in jobs]
        waiting = [task for task in dict.fromkeys(tasks) if not rows.has(task)]
        progress = GridProgress(watch, [task.job for task in waiting])
        for task in waiting:
            progress.begin(task.job)
            row = run_task(task, folder, labels, cache_dir, progress, report)
            rows.append(row)
            progress.end(task.job, row)
        results = [rows.of(task) for task in tasks]
        if then is not None:
            then(results)
    warn_of_failures(jobs, results, watch)
    return results


def warn_of_failures(jobs: Sequence[Job], rows: Sequence[Mapping[str, Any]], watch: Watch) -> None:
    """Warns of each job that failed, and says how to try again."""
    failed = {row["key"]: job.title for job, row in zip(jobs, rows, strict=True) if row["error"]}
    for key, title in failed.items():
        error = next(row["error"] for row in rows if row["key"] == key and row["error"])
        watch.warn(f"{title} failed: {error}")
    if failed:
        count = sum(row["error"] is not None for row in rows)
        watch.warn(f"{count} of {len(jobs)} jobs failed; the same command tries them, and only them, again")


def run_task(
    task: Task, folder: Path, labels: str | None, cache_dir: Any, watch: Watch, report: bool
) -> dict[str, Any]:
    """The row of a task, whether it succeeds or fails."""
    job = task.job
    row = {**asdict(job), "key": task.key, "scored": task.scored, "labels": labels, "error": None, "run": None}
    began = time.monotonic()
    try:
        if not job.is_baseline:
            get_method(job.method)
            row["run"] = f"runs/{task.folder}"
        make_row = baseline_row if job.is_baseline else trained_row
        row |= make_row(task, folder, cache_dir, watch, report)
    except DiskFull:
        raise  # the next job would fail in the same way
    except Exception as error:  # a loss that diverges, a wrong setting, no memory: other jobs may still succeed
        sentence = isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("ilk.")
        row["error"] = str(error) if sentence else f"{type(error).__name__}: {in_short(error)}"
    if row["run"] is not None and not (folder / row["run"]).is_dir():
        row["run"] = None  # refused before anything was written
    now = versions()
    return {
        **row, "seconds": round(time.monotonic() - began, 2), "threads": torch.get_num_threads(),
        "machine": now["machine"], "versions": now,
    }  # fmt: skip


def scores_of(codes: np.ndarray, clusters: np.ndarray, k: int) -> dict[str, Any]:
    """The scores in a row: `clusters` (n,) against label `codes` (n,), -1 for none; `k` clusters were asked for."""
    if len(codes) != len(clusters):
        raise ValueError(
            f"There are {len(clusters):,} clustered images and {len(codes):,} labels: some file could be read at one"
            " time and not at another. Start again with another --out."
        )
    known = codes >= 0
    if not known.any():
        raise ValueError("None of these images has a label, so there is nothing to score against.")
    scores = score(codes[known], clusters[known])
    names = ("accuracy", "nmi_arithmetic", "nmi_geometric", "ari")
    used = {"effective_clusters": effective_clusters(clusters), "n_images": len(clusters), "n_clusters": k}
    return {name: scores[name] for name in names} | used


def tail_of(task: Task, rows: np.ndarray, watch: Watch) -> dict[str, Any]:
    """The imbalance that was reached, for the row; warns where it is smaller than was asked for."""
    asked = task.job.imbalance
    if asked is None:
        return {"imbalance_reached": None}
    reached = ratio_reached(task.labelled.codes[rows])
    if reached < 0.95 * asked:
        watch.warn(f"the largest class has {reached:.4g} times the images of the smallest, not {asked:.4g}: there are"
                   " too few images")  # fmt: skip
    return {"imbalance_reached": round(reached, 3)}


def trained_row(task: Task, folder: Path, cache_dir: Any, watch: Watch, report: bool) -> dict[str, Any]:
    """The row of a training: a new run, a resumed one, or the finished run of another read-out."""
    job, labelled = task.job, task.labelled
    if job.on != PIXELS:
        raise ValueError(f"{job.method} is trained on images; only baselines take the embeddings of a run.")
    rows, k = chosen_images(job, labelled)
    run, (source, names) = Run(folder / "runs" / task.folder), labelled.given(rows)
    resumed = run.exists
    fit(
        job.request(k), source, run, labels=names, resume=True, cache_dir=cache_dir, report=report, watch=watch,
        command=["ilk.research.grid", task.folder], choose=rule_of(job.select, labelled.codes[rows]),
    )  # fmt: skip
    plan, last = run.config, run.log()[-1]
    clusters = read_table(run / "assignments.parquet")["cluster"].to_numpy()
    if job.read_out == "kmeans":
        embeddings = read_embeddings(run / "embeddings.npy", len(clusters))
        refuse_large("kmeans", *embeddings.shape)
        clusters = kmeans(np.asarray(embeddings, dtype=np.float32), k, job.seed)
    loss = last.get("loss")
    return {
        **scores_of(labelled.codes[rows], clusters, k), **tail_of(task, rows, watch),
        "training_seconds": last["seconds"], "epochs": plan.train.epochs, "resumed": resumed,
        "loss": loss if loss is not None and math.isfinite(loss) else None, "backbone": plan.backbone,
        "views": plan.views.name, "image_size": plan.images.size,
        "fingerprint": plan.source.fingerprint,
    }  # fmt: skip


def baseline_row(task: Task, folder: Path, cache_dir: Any, watch: Watch, report: bool) -> dict[str, Any]:
    """The row of a baseline on pixels in [0, 1], or on the embeddings of a run."""
    job, labelled = task.job, task.labelled
    get_baseline(job.method)
    rows, k = chosen_images(job, labelled)
    codes, size = labelled.codes[rows], None
    if job.on == PIXELS:
        refuse_large(job.method, len(rows), 1)  # before any image is decoded
        source, _ = labelled.given(rows)
        images = load_images(
            source, image_size=job.image_size, max_image_size=MAX_SIZE["cpu"], labels="none", cache_dir=cache_dir
        )
        refuse_large(job.method, len(images), math.prod(images.shape))
        x, size = images[:].flatten(1).numpy().astype(np.float32) / 255, images.shape[1]
    else:
        x = embeddings_for(Run(job.on), labelled, rows, cache_dir)
    began = time.monotonic()
    clusters = baseline_clusters(job.method, x, k, job.seed)
    seconds = round(time.monotonic() - began, 3)
    return {
        **scores_of(codes, clusters, k),
        **tail_of(task, rows, watch),
        "training_seconds": seconds,
        "image_size": size,
        "epochs": None,
        "loss": None,
    }
