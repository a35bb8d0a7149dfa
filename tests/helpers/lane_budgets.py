"""Hooks that measure each test and fail one that is too slow for its lane.

A test of `tests/unit` may take one second and one of `tests/training` five: processor time of the test's own call,
child processes included, fixtures not. Processor time, because other programs on the machine hardly change it. On a
slower machine the limits are longer: by the factor `ILK_TEST_SLOWDOWN` if it is set, otherwise by how long a short loop
takes here. The time of each test is also written to the JUnit XML file, as the property `cpu_seconds`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

LIMITS = {"unit": 1.0, "training": 5.0}  # seconds; the robust lane has no limit
ADVICE = {
    "unit": "Make it faster, or move it to tests/training or tests/robust if it trains or starts processes.",
    "training": "Share a fitted run, train on less, or move it to tests/robust if it starts processes.",
}
LOOP_SECONDS = 0.02  # processor time of `loop` on the machine of the limits (a 2-core cloud machine of 2024)
CPU_SECONDS = pytest.StashKey[float]()


def processor_time() -> float:
    """Seconds of processor time of this process, all its threads, and its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def loop() -> int:
    total = 0
    for i in range(300_000):
        total += i * i % 7
    return total


def slowdown() -> float:
    """How many times slower than the machine of the limits this one is, at least 1."""
    if given := os.environ.get("ILK_TEST_SLOWDOWN"):
        return float(given)
    times = []
    for _ in range(5):
        began = time.process_time()
        loop()
        times.append(time.process_time() - began)
    return max(1.0, sorted(times)[2] / LOOP_SECONDS)


def lane_of(path: Path) -> str | None:
    """The lane of a test's file: the folder below the innermost folder called tests."""
    folders = path.parent.parts[::-1]
    place = folders.index("tests") if "tests" in folders else 0
    return folders[place - 1] if place else None


def complaint(lane: str | None, seconds: float) -> str | None:
    """A sentence if a test took longer than its lane allows on this machine."""
    if lane not in LIMITS or (seconds <= LIMITS[lane] and "ILK_TEST_SLOWDOWN" not in os.environ):
        return None  # without the tenth of a second that measuring the machine takes
    factor = slowdown()
    if seconds <= LIMITS[lane] * factor:
        return None
    return (
        f"The test passed but took {seconds:.1f} s of processor time; the {lane} lane allows {LIMITS[lane]:.0f} s"
        f"{f' x {factor:.1f} on this machine' if factor != 1 else ''}. {ADVICE[lane]} "
        f"On a slow machine, set ILK_TEST_SLOWDOWN to the factor to allow."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    began = processor_time()
    try:
        return (yield)
    finally:
        item.stash[CPU_SECONDS] = seconds = processor_time() - began
        item.user_properties.append(("cpu_seconds", f"{seconds:.3f}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, pytest.TestReport]:
    report: pytest.TestReport = yield
    if report.when == "call" and report.passed and item.get_closest_marker("slow") is None:
        sentence = complaint(lane_of(item.path), item.stash.get(CPU_SECONDS, 0.0))
        if sentence:
            report.outcome, report.longrepr = "failed", sentence
    return report
