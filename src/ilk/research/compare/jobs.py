"""The trainings and clusterings of a comparison, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ilk.research.baselines import BASELINES
from ilk.research.grid import PIXELS, Job, refuse_unknown
from ilk.runs.folder import Run

TRAINING_OPTIONS = ("preset", "settings", "views", "backbone", "balance", "epochs", "minutes", "select")
DEFAULTS = {"preset": "default", "select": "last"}
BASELINE_OPTIONS = ("image_size", "n_clusters", "images", "imbalance")


def comparison_jobs(
    sources: Sequence[str], methods: Sequence[str], seeds: int, *, on: Sequence[str] = (PIXELS,), **options: Any
) -> list[Job]:
    """The jobs of a comparison: every method on every source with the seeds 0, 1, ...

    Baselines run on each of `on` ("pixels", or run folders for their embeddings), and once if they have no randomness.
    `options`: fields of `Job`. Raises ValueError for unknown names, for options that no method uses, and for settings
    that every method refuses; FileNotFoundError where `on` names no run.
    """
    if seeds < 1:
        raise ValueError(f"There must be at least 1 seed; got {seeds}.")
    if not methods:
        raise ValueError("Name at least one method or baseline with --methods.")
    for method in methods:
        refuse_unknown(method)
    if not on:
        raise ValueError("Say what baselines cluster with --on: pixels, or run folders; or leave --on out.")
    refuse_unused(methods, on, options)
    for folder in on:
        if folder != PIXELS:
            Run(folder).open()
    jobs = []
    for source in dict.fromkeys(sources):
        for method in dict.fromkeys(methods):
            if method in BASELINES:
                jobs += baseline_jobs(source, method, seeds, on, options)
            else:
                jobs += [Job(source=source, method=method, seed=seed, **options) for seed in range(seeds)]
    refuse_impossible(jobs)
    return jobs


def baseline_jobs(
    source: str, method: str, seeds: int, on: Sequence[str], options: Mapping[str, Any]
) -> list[Job]:  # fmt: skip
    """The jobs of one baseline on one source, with the options that baselines have."""
    taken: dict[str, Any] = {name: options.get(name) for name in BASELINE_OPTIONS}
    repeats = seeds if BASELINES[method].random or taken["imbalance"] is not None else 1
    split = options.get("split", "train+test")
    return [
        Job(source=source, method=method, seed=seed, on=place, split=split, **taken)
        for place in dict.fromkeys(on)
        for seed in range(repeats)
    ]


def refuse_unused(methods: Sequence[str], on: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raises ValueError for options that none of the methods uses."""
    if all(method in BASELINES for method in methods):
        unused = [name for name in TRAINING_OPTIONS if options.get(name) not in (None, {}, DEFAULTS.get(name))]
        names = ", ".join("--set" if name == "settings" else f"--{name}" for name in unused)
        if unused:
            raise ValueError(f"Only baselines are asked for, and they do not use {names}. Leave that out.")
    if not any(method in BASELINES for method in methods) and any(place != PIXELS for place in on):
        raise ValueError(
            "--on says what baselines cluster, and none is asked for. Add one to --methods, such as kmeans."
        )


def refuse_impossible(jobs: Sequence[Job]) -> None:
    """Raises the first ValueError if every method that is to be trained refuses its settings."""
    first, trained = None, {job.method: job for job in jobs if not job.is_baseline}
    for job in trained.values():
        try:
            job.request(2).resolved_preset()
            return
        except ValueError as error:
            first = first or error
    if first is not None:
        raise first
