"""This machine's memory, and the C library's allocator, told to keep what is freed for the next training step."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # the numbers of glibc's malloc.h
KEPT = 1 << 30  # bytes that may lie free at the end of the heap before they go back to the system
OLD_MOST = 32 << 20  # the largest threshold for mapping that older versions of glibc take


def memory() -> float:
    """Bytes of memory that this machine has; no limit where the system does not say."""
    if not hasattr(os, "sysconf"):  # Windows
        return float("inf")
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@functools.cache
def keep_freed_memory() -> bool:
    """Tells glibc not to give freed tensors back to the system after each use; whether that was done.

    Otherwise each large tensor of each step is mapped anew and faulted in page by page: 14 % of a step on
    gray images of 28 pixels and 25 % on colour ones of 48 (small net, one core). Up to 1 GB that is free
    stays with the process. Left alone where someone has set the allocator up (MALLOC_..., GLIBC_TUNABLES,
    LD_PRELOAD), where the C library is another one, and where it refuses to raise the threshold for mapping:
    the other two alone would fix that at 128 kB, which it otherwise raises by itself.
    """
    chosen = [name for name in os.environ if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD")]
    if chosen or sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl
        return False
    if not any(mallopt(MMAP_THRESHOLD, size) == 1 for size in (KEPT, OLD_MOST)):
        return False
    return all([mallopt(what, size) == 1 for what, size in ((TRIM_THRESHOLD, KEPT), (TOP_PAD, 64 << 20))])
