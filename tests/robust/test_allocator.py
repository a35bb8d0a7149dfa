"""The C library's allocator keeps freed memory, unless someone else has set it up."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ilk.system.allocator import keep_freed_memory
from places import ROOT

HEAP = """
import ctypes
import torch
from ilk.system.allocator import keep_freed_memory

class Info(ctypes.Structure):  # glibc's own account of its heap, in the form that every version has
    _fields_ = [(name, ctypes.c_int) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

mallinfo = ctypes.CDLL(None).mallinfo
mallinfo.restype = Info
torch.set_num_threads(1)
print(keep_freed_memory())
before = mallinfo()
tensor = torch.ones(7_000_000)  # larger than what glibc by itself takes from its heap
mapped = mallinfo().hblkhd - before.hblkhd
del tensor
print(mapped, before.fordblks, mallinfo().fordblks)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, which is left alone")


def heap(**environment: str) -> tuple[str, int, int, int]:
    """What was said, bytes mapped for a tensor of 28 MB, and free bytes of the heap before it and after it."""
    out = subprocess.run(
        [sys.executable, "-c", HEAP],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "PYTHONPATH": str(ROOT / "src"), **environment},
    ).stdout.split()
    return out[0], int(out[1]), int(out[2]), int(out[3])


@glibc
def test_freed_memory_is_kept_for_the_next_step_unless_someone_has_set_the_allocator_up() -> None:
    done, mapped, _, free = heap()
    assert done == "True" and mapped == 0 and free >= 28_000_000
    done, mapped, before, free = heap(MALLOC_ARENA_MAX="8")
    assert done == "False" and mapped >= 28_000_000 and free - before < 1_000_000


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
