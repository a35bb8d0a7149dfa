"""The C library's allocator keeps freed memory, unless someone else has set it up."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ilk.allocator import keep_freed_memory

FAULTS = """
import resource
import torch
from ilk.allocator import keep_freed_memory

torch.set_num_threads(1)
print(keep_freed_memory())
for step in range(13):
    if step == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    several = [torch.ones(1_000_000) for _ in range(10)]
    del several
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, which is left alone")


def faults(**environment: str) -> tuple[str, int]:
    """What was said, and the page faults of ten steps, each of which makes ten tensors of 4 MB and frees them."""
    out = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env={"PATH": "", **environment}
    ).stdout.split()
    return out[0], int(out[1])


@glibc
def test_memory_is_not_mapped_anew_in_every_step_unless_someone_has_set_the_allocator_up() -> None:
    (done, few), (left_alone, many) = faults(), faults(MALLOC_ARENA_MAX="8")
    assert (done, left_alone) == ("True", "False")
    assert 5 * few < many


@pytest.mark.parametrize(
    ("most", "done", "asked"),
    [
        (1 << 40, True, [(-3, 1 << 30), (-1, 1 << 30), (-2, 64 << 20)]),
        (32 << 20, True, [(-3, 1 << 30), (-3, 32 << 20), (-1, 1 << 30), (-2, 64 << 20)]),
        (0, False, [(-3, 1 << 30), (-3, 32 << 20)]),
    ],
)
def test_a_c_library_that_refuses_the_threshold_for_mapping_is_asked_for_less_and_then_left_alone(
    monkeypatch: pytest.MonkeyPatch, most: int, done: bool, asked: list[tuple[int, int]]
) -> None:
    calls: list[tuple[int, int]] = []

    def mallopt(what: int, size: int) -> int:
        calls.append((what, size))
        return int(what != -3 or size <= most)

    for name in [name for name in os.environ if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is done and calls == asked
    keep_freed_memory.cache_clear()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is False
    keep_freed_memory.cache_clear()
