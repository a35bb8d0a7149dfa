"""The two small trainings of the grid that a test kills; a module of its own, so that the child imports the same."""

from __future__ import annotations

from ilk.research.grid import Job


def digits_jobs() -> list[Job]:
    quick = {"cluster_heads": 1, "warm_start": 0}
    return [Job(source="digits", method="cc", seed=seed, images=200, epochs=1, settings=quick) for seed in (0, 1)]
