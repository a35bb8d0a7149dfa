"""`Source`: the common form of all kinds of input, before any pixel is decoded."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ilk.images.collection import BadFile

MAX_MEMBER_BYTES = 512 << 20  # of an item in an archive or table


class Unreadable(Exception):
    """An item that `Source.read` cannot read; the message is the reason."""


@dataclass
class Source:
    """n items in a fixed order; `read(i)` gives item i to the decoder.

    `read`: returns a path, encoded bytes, a Pillow image or a uint8 array (c, h, w); raises Unreadable.
    `stamp`: changes when any item changes; None if only reading everything would tell.
    `restamp`: computes the stamp again, to compare it when all has been read.
    `sequential`: items must be read in order and by one thread (compressed tar, Parquet, Dataset).
    `array`: (n, c, h, w) of any accepted dtype, if the items are one array already.
    `labels`: the labels that the source itself has, one per item; with `label_names`, indices of these.
    `folders`: relative paths to take labels from, if the source has folders.
    `ignored`: files of other kinds. `left_out`: what else was not taken, counted by reason (`choose_files.NOUNS`).
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
    left_out: Mapping[str, int] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.ids)


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with `#2`, `#3`, ... appended to repeated ones."""
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
    """Whether a file is one that systems add to folders: a dot file, `__MACOSX`, `Thumbs.db`."""
    parts = [part for part in re.split(r"[/\\]", path) if part not in (".", "..")]
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db") for part in parts)


def member_path(archive: str, member: str) -> str:
    """How a member of an archive is written as a path."""
    return f"{archive}::{member}"


def file_stamp(paths: Iterable[str], *identity: Any) -> bytes:
    """A hash of `identity` and of the sizes, times of change and permissions of files, which may be missing."""
    digest = hashlib.blake2b(digest_size=32)
    for part in identity:
        digest.update(repr(part).encode() + b"\0")
    for path in paths:
        try:
            stat = os.stat(path)
            # With the permissions, a file that could not be opened is tried again after a chmod.
            digest.update(f"{stat.st_size} {stat.st_mtime_ns} {stat.st_mode}\n".encode())
        except OSError as error:
            digest.update(f"missing {error.errno}\n".encode())
    return digest.digest()
