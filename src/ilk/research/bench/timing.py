"""Reliable timing: cases take turns, each is repeated, and the median is shown with its range."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ilk.system.progress import Watch

LEAST = 0.3  # least seconds of a repeat, so that clock resolution and first cache misses do not matter


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Where and how thoroughly to measure. `folder`: JPEG files; `scratch`: a folder that is deleted afterwards."""

    device: str
    precision: str
    cores: int
    repeats: int
    quick: bool
    seed: int
    folder: Path
    scratch: Path
    watch: Watch

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def smaller(self, many: int, few: int) -> int:
        """`many`, or `few` in quick mode."""
        return few if self.quick else many


@dataclass(kw_only=True)
class Case:
    """One thing to time: a call of `work` processes `count` items. Without `work`, `note` says why.

    `unit`: "images/s" and the like are higher when faster; "s" is lower. `peer`: another library, whose failure is a
    note rather than an error. `after`: called once after the last repeat; returns further values to record.
    `close`: called last, even after a failure.
    """

    name: str
    work: Callable[[], object] | None
    count: float = 1.0
    unit: str = "images/s"
    threads: int | None = None
    peer: bool = False
    note: str = ""
    after: Callable[[], dict[str, Any]] | None = None
    close: Callable[[], object] | None = None


@dataclass(kw_only=True)
class Measurement:
    """The result of one case: a value for each repeat, in `unit`; no values if it could not be measured."""

    part: str
    name: str
    unit: str
    values: list[float]
    note: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """The lowest and the highest value."""
        return (min(self.values), max(self.values)) if self.values else None

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")


def measure_cases(part: str, cases: Sequence[Case], conditions: Conditions) -> list[Measurement]:
    """One measurement for each case. Cases take turns in each repeat, so that a drift of the machine affects all."""
    values: dict[int, list[float]] = {number: [] for number in range(len(cases))}
    inner: dict[int, int] = {}
    notes = [case.note for case in cases]
    more: list[dict[str, Any]] = [{} for _ in cases]
    try:
        for number, case in enumerate(cases):
            if case.work is not None:
                with tolerant(case, number, notes, inner):
                    inner[number] = calls_needed(case, conditions)
        for turn in range(conditions.repeats):
            numbers = list(inner)
            shift = turn % len(numbers) if numbers else 0  # so that no case is always the first
            for done, number in enumerate(numbers[shift:] + numbers[:shift], 1):
                case = cases[number]
                with tolerant(case, number, notes, inner):
                    seconds = timed(case, inner[number], conditions)
                    values[number].append(worth(case, inner[number], seconds))
                conditions.watch.progress(
                    turn * len(numbers) + done, conditions.repeats * len(numbers), f"measuring {part}"
                )
        for number, case in enumerate(cases):
            if number in inner and case.after is not None:
                with threads(case.threads):
                    more[number] = case.after()
    finally:
        for case in cases:
            if case.close is not None:
                case.close()
    kept = [values[number] if number in inner else [] for number in range(len(cases))]
    return [
        Measurement(part=part, name=case.name, unit=case.unit, values=found, note=note, more=other)
        for case, found, note, other in zip(cases, kept, notes, more, strict=True)
    ]


@contextmanager
def tolerant(case: Case, number: int, notes: list[str], inner: dict[int, int]) -> Iterator[None]:
    """Turns the failure of another library into a note, and leaves that case out from then on."""
    try:
        yield
    except Exception as error:  # a failure of another library must not stop the other measurements
        if not case.peer:
            raise
        notes[number] = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        inner.pop(number, None)


def calls_needed(case: Case, conditions: Conditions) -> int:
    """How many calls of `work` make up a repeat, after a warm-up."""
    first = timed(case, 1, conditions)
    least = LEAST / 6 if conditions.quick else LEAST
    if first > 2 * least:
        return 1
    return max(1, math.ceil(least / max(min(first, timed(case, 1, conditions)), 1e-6)))


def timed(case: Case, calls: int, conditions: Conditions) -> float:
    """The seconds of `calls` calls, including the work of the device."""
    assert case.work is not None  # the caller has checked
    with threads(case.threads):
        wait_for_device(conditions)
        began = time.perf_counter()
        for _ in range(calls):
            case.work()
        wait_for_device(conditions)
        return time.perf_counter() - began


def wait_for_device(conditions: Conditions) -> None:
    """Waits until the device has finished its work."""
    if conditions.on_gpu:
        torch.cuda.synchronize(conditions.device)
    elif conditions.device == "mps":
        torch.mps.synchronize()


def worth(case: Case, calls: int, seconds: float) -> float:
    """The value of a repeat in the case's unit: items per second, or seconds per call."""
    return case.count * calls / max(seconds, 1e-9) if case.unit.endswith("/s") else seconds / calls


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """While it lasts, torch computes with `count` threads; None changes nothing."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
