"""How much memory this machine has, and a setting of glibc that keeps freed memory for the next training step."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # the numbers of glibc's malloc.h
KEPT = 1 << 30  # bytes that may lie free at the end of the heap before glibc returns them to the system
OLD_MOST = 32 << 20  # the largest M_MMAP_THRESHOLD that older versions of glibc accept


def memory() -> float:
    """The bytes of memory of this machine; infinity where the system does not say."""
    if not hasattr(os, "sysconf"):  # Windows
        return float("inf")
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@functools.cache
def keep_freed_memory() -> bool:
    """Makes glibc keep freed tensors instead of returning them to the system; True if it does now.

    Otherwise every large tensor of every step is mapped anew and faulted in page by page, which took 14 % of a
    step on gray images of 28 pixels and 25 % on colour images of 48 (small net, one core). The process keeps up
    to 1 GB of free memory.

    Nothing is changed where the user has configured the allocator (MALLOC_..., GLIBC_TUNABLES, LD_PRELOAD),
    where the C library is not glibc, and where it refuses a higher M_MMAP_THRESHOLD: setting only the other two
    values would fix that threshold at 128 kB, which glibc otherwise raises by itself.
    """
    configured = [name for name in os.environ if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD")]
    if configured or sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl
        return False
    if not any(mallopt(MMAP_THRESHOLD, size) == 1 for size in (KEPT, OLD_MOST)):
        return False
    return all([mallopt(option, size) == 1 for option, size in ((TRIM_THRESHOLD, KEPT), (TOP_PAD, 64 << 20))])
