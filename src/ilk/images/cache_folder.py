"""Where the cache of decoded images lies, and what to say when its disk is full."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, Any


def default_cache_dir() -> Path:
    """$ILK_CACHE, or the folder `ilk` where this platform keeps caches."""
    if os.environ.get("ILK_CACHE"):
        return Path(os.environ["ILK_CACHE"]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ilk" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ilk"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ilk"


def no_space(folder: Path, needed: int, free: int) -> str:
    """The sentence that says that the disk of `folder` is too full for `needed` bytes."""
    return (
        f"the image cache in '{folder}' needs {needed:,} bytes, and its disk has {free:,} left. "
        "Free some space, or choose another disk with ILK_CACHE or --cache-dir."
    )


def to_disk(stream: IO[Any]) -> None:
    """Waits until what was written to `stream` is safe on the disk."""
    stream.flush()
    os.fsync(stream.fileno())
