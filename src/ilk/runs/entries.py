"""What may lie in a run folder: plain files and folders, and which of them are leftovers of killed processes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ilk.system.files import TEMPORARY
from ilk.system.lock import FILE as LOCK

INNER = ("thumbnails", "parts", "evaluation")  # sub-folders whose files are read with the run; others are runs
# every file that ilk writes into a run folder, whose temporary file a killed process may leave behind
WRITTEN = re.compile(
    r"config\.json|log\.jsonl|checkpoint\.pt|model\.safetensors|moments\.npz|map\.npz|selected\.\w+|selection\.json"
    r"|calibration\.json|assignments\.(csv|parquet)|clusters\.(csv|png)|bad_files\.csv|duplicates\.csv|flags\.csv"
    r"|known_labels\.csv|k_curve\.csv|hierarchy\.parquet|embeddings\.npy|scores\.json|evaluation\.json"
    r"|retrieval\.png|report\.html|index\.json|(sheet|large)-\d+\.webp|parts\.json|\d{10}\.npz"
)
MOST_LOCK = 1024  # bytes; a lock on a file system without locks holds a process number and a host
KINDS = (
    (stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def refuse_odd_entries(folder: Path) -> None:
    """Raises ValueError, naming the entry, for a link, pipe, socket or device among the files of a run.

    Reading one may never end or fill the memory, and what is written or exported through a link is somewhere else.
    `folder` itself may be reached through a link.
    """
    for place in entries(folder):
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:  # another process has just removed it
            continue
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = next((name for is_kind, name in KINDS if is_kind(mode)), "a special file")
            raise ValueError(f"'{place}' is {kind}; a run holds plain files and folders only. Remove it.")


def entries(folder: Path) -> Iterator[Path]:
    """The entries of a run folder, and those of its sub-folders that are read with it."""
    for place in sorted(folder.iterdir()):
        yield place
        if place.name in INNER and place.is_dir() and not place.is_symlink():
            yield from sorted(place.iterdir())


def is_leftover(place: Path) -> bool:
    """Whether a killed process of ilk may have left what is at `place`: a lock, or half of a file of a run."""
    if place.is_symlink() or not place.is_file():
        return False
    if place.name == LOCK:
        return is_lock(place)
    temporary = TEMPORARY.search(place.name)
    return temporary is not None and WRITTEN.fullmatch(place.name[: temporary.start()]) is not None


def is_lock(file: Path) -> bool:
    """Whether a file is empty, as locks are, or holds the process number that a lock has where systems have none."""
    if file.stat().st_size > MOST_LOCK:
        return False
    data = file.read_bytes()
    return not data or data.split(b"\n")[0].strip().isdigit()
