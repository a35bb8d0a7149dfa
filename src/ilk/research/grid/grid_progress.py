"""Progress of many jobs as one piece of work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ilk.research.grid.job import Job
from ilk.system.progress import Watch, epoch_line, spell

SAY_EVERY = 60.0  # seconds between lines about one training


class GridProgress(Watch):
    """Passes on the progress of many jobs: one bar over all of them, a line for each, and the time left."""

    def __init__(self, watch: Watch, jobs: Sequence[Job]) -> None:
        self.watch, self.jobs, self.number, self.said = watch, jobs, 0, time.monotonic()
        self.spent: dict[tuple[str, str], list[float]] = {}
        self.job: Job | None = None

    def begin(self, job: Job) -> None:
        """Says which job starts."""
        self.job, self.said = job, time.monotonic()
        self.watch.say(f"{self.number + 1} of {len(self.jobs)}: {job.title}")

    def end(self, job: Job, row: dict[str, Any]) -> None:
        """Says how the job ended and how long the others will take."""
        self.number += 1
        self.spent.setdefault((job.source, job.method), []).append(row["seconds"])
        left = self.jobs[self.number :]
        tail = f"; about {spell(sum(map(self.expected, left)))} left" if left else ""
        result = "failed" if row["error"] else f"accuracy {row['accuracy']:.3f}"
        self.watch.say(f"  {result} after {spell(row['seconds'])}{tail}")
        self.watch.progress(self.number, len(self.jobs), "training")

    def expected(self, job: Job) -> float:
        """The seconds a job will take: the mean of its source and method, else of its method, else of all so far."""
        own = self.spent.get((job.source, job.method), [])
        method = [seconds for (_, name), each in self.spent.items() if name == job.method for seconds in each]
        similar = own or method or [seconds for each in self.spent.values() for seconds in each]
        return sum(similar) / len(similar)

    def warn(self, text: str) -> None:
        first = text.split(". ")[0]  # the advice after it is for one training; here it would be repeated for each job
        self.watch.warn(f"{self.job.title}: {first}" if self.job else text)

    def progress(self, done: int, total: int, what: str) -> None:
        if what == "training":
            self.watch.progress(1000 * self.number + 1000 * done // max(total, 1), 1000 * len(self.jobs), what)

    def epoch(self, record: dict[str, Any]) -> None:
        if time.monotonic() - self.said > SAY_EVERY:
            self.watch.say(f"  {epoch_line(record)}")
            self.said = time.monotonic()
