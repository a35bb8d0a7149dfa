"""`Source`: what every kind of input is turned into before a pixel is decoded."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ilk.images.collection import BadFile

MAX_MEMBER_BYTES = 512 << 20


class Unreadable(Exception):
    """Raised by `Source.read` for an item that cannot be had; the message is the reason."""


@dataclass
class Source:
    """n items in a fixed order, each of which `read(i)` hands to the decoder.

    `read`: a path, encoded bytes, a Pillow image or a uint8 array (c, h, w); raises Unreadable.
    `stamp`: changes when any item does; None where only reading everything could tell.
    `restamp`: the stamp as it is now, to be compared when all has been read.
    `sequential`: items must be read in order and by one thread (compressed tar, Parquet, Dataset).
    `array`: (n, c, h, w) of any accepted dtype, where the items are one array already.
    `labels`: what the source itself knows, one per item; with `label_names`, indices into these.
    `folders`: relative paths to take labels from, where the source has folders.
    """

    kind: str
    title: str
    ids: list[str]
    paths: list[str]
    read: Callable[[int], Any]
    stamp: bytes | None = None
    restamp: Callable[[], bytes] | None = None
    sequential: bool = False
    in_memory: bool = False
    array: np.ndarray | None = None
    labels: Any = None
    label_names: list[str] | None = None
    folders: list[str] | None = None
    bad: list[BadFile] = field(default_factory=list)
    ignored: int = 0
    close: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.ids)


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with `#2`, `#3`, ... after those that were there before."""
    taken, given, result = set(names), set[str](), []
    for name in names:
        unique, count = name, 1
        while unique in given or (count > 1 and unique in taken):
            count += 1
            unique = f"{name}#{count}"
        given.add(unique)
        result.append(unique)
    return result


def is_hidden(path: str) -> bool:
    """True for what computers add to folders: dot files, `__MACOSX`, `Thumbs.db`."""
    parts = [part for part in re.split(r"[/\\]", path) if part not in (".", "..")]
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db") for part in parts)


def member_path(archive: str, member: str) -> str:
    return f"{archive}::{member}"


def file_stamp(paths: Iterable[str], *identity: Any) -> bytes:
    """A hash of names, sizes, times of change and permissions; a file that is missing counts as such."""
    digest = hashlib.blake2b(digest_size=32)
    for part in identity:
        digest.update(repr(part).encode() + b"\0")
    for path in paths:
        try:
            stat = os.stat(path)
            # The permissions, so that a file that could not be opened is tried again after a chmod.
            digest.update(f"{stat.st_size} {stat.st_mtime_ns} {stat.st_mode}\n".encode())
        except OSError as error:
            digest.update(f"missing {error.errno}\n".encode())
    return digest.digest()
