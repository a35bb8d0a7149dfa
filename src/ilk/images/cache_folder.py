"""Places to keep files, locks, and writing so that a kill leaves no half a file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ilk.system.lock import try_lock


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Waits for, then holds, a lock that the system frees when its holder dies, however it dies."""
    with open(file, "a+b") as stream:
        while not try_lock(stream):
            time.sleep(0.1)
        yield  # closing the file frees the lock


def default_cache_dir() -> Path:
    """$ILK_CACHE, or `ilk` in the place where this platform keeps caches."""
    if os.environ.get("ILK_CACHE"):
        return Path(os.environ["ILK_CACHE"]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ilk" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ilk"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ilk"


def check_writable(folder: Path) -> None:
    """OSError unless files can be made and locked in `folder`, which is made first."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as stream:
        try_lock(stream)


def no_space(folder: Path, needed: int, free: int) -> str:
    return (
        f"the image cache in '{folder}' needs {needed:,} bytes and the disk has {free:,} left. "
        "Free some space, or choose another disk with ILK_CACHE or --cache-dir."
    )


def write_json(file: Path, content: Any) -> None:
    part = file.with_suffix(".tmp")
    with open(part, "w") as stream:
        json.dump(content, stream)
        to_disk(stream)
    os.replace(part, file)


def to_disk(stream: IO[Any]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
