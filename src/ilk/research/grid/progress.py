"""What is told of many jobs while they run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ilk.research.grid.job import Job
from ilk.system.progress import Watch, epoch_line, spell

SAY_EVERY = 60.0  # seconds between lines about one training


class GridProgress(Watch):
    """Tells a face of many jobs as of one piece of work: one bar over all, a line for each, and the time left."""

    def __init__(self, watch: Watch, jobs: Sequence[Job]) -> None:
        self.watch, self.jobs, self.number, self.said = watch, jobs, 0, time.monotonic()
        self.spent: dict[tuple[str, str], list[float]] = {}
        self.job: Job | None = None

    def begin(self, job: Job) -> None:
        self.job, self.said = job, time.monotonic()
        self.watch.say(f"{self.number + 1} of {len(self.jobs)}: {job.title}")

    def end(self, job: Job, row: dict[str, Any]) -> None:
        self.number += 1
        self.spent.setdefault((job.source, job.method), []).append(row["seconds"])
        left = self.jobs[self.number :]
        tail = f"; about {spell(sum(map(self.expected, left)))} left" if left else ""
        result = "failed" if row["error"] else f"accuracy {row['accuracy']:.3f}"
        self.watch.say(f"  {result} after {spell(row['seconds'])}{tail}")
        self.watch.progress(self.number, len(self.jobs), "training")

    def expected(self, job: Job) -> float:
        """Seconds that a job will take: as one of its source and method did, or of its method, or of any kind."""
        own = self.spent.get((job.source, job.method), [])
        method = [one for (_, name), values in self.spent.items() if name == job.method for one in values]
        alike = own or method or [one for values in self.spent.values() for one in values]
        return sum(alike) / len(alike)

    def warn(self, text: str) -> None:
        first = text.split(". ")[0]  # the advice behind it is for one training, here it would be read many times
        self.watch.warn(f"{self.job.title}: {first}" if self.job else text)

    def progress(self, done: int, total: int, what: str) -> None:
        if what == "training":
            self.watch.progress(1000 * self.number + 1000 * done // max(total, 1), 1000 * len(self.jobs), what)

    def epoch(self, record: dict[str, Any]) -> None:
        if time.monotonic() - self.said > SAY_EVERY:
            self.watch.say(f"  {epoch_line(record)}")
            self.said = time.monotonic()
