"""The folder in which decoded images are cached."""

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


def to_disk(stream: IO[Any]) -> None:
    """Waits until what was written to `stream` is safe on the disk."""
    stream.flush()
    os.fsync(stream.fileno())
