"""The C library's allocator keeps freed memory, unless someone else has set it up."""

from __future__ import annotations

import platform
import subprocess
import sys

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


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is False
    keep_freed_memory.cache_clear()
