"""Stores for decoded images: memory, or a cache folder from which they are memory-mapped.

A cache folder `images-<fingerprint>/` holds `images.npy` (n, c, size, size) and `index.json`. While it is built
it is called `images-<fingerprint>.part/` and also holds `plan.json` and `done.jsonl`, with one line for each chunk
that is safely on disk; after a kill the build continues with the missing chunks. Items that cannot be read keep
an unused row, so that row i always belongs to item i of the source.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ilk.images.cache_folder import to_disk
from ilk.images.collection import to_channels
from ilk.system.files import is_full, need_room, no_room, write_json
from ilk.system.lock import locked

FORMAT = 1
CHUNK = 1024
CHUNK_BYTES = 64 << 20
OTHER_DISK = "or choose another disk with ILK_CACHE or --cache-dir"


@dataclass(frozen=True)
class Plan:
    """What to build: `count` rows of `channels` x `size` x `size`; `original_size` is the median (height, width)."""

    count: int
    channels: int
    size: int
    original_size: tuple[int, int] | None

    @property
    def row_bytes(self) -> int:
        return self.channels * self.size * self.size

    @property
    def nbytes(self) -> int:
        return self.count * self.row_bytes

    def chunks(self) -> list[tuple[int, int]]:
        """(start, stop) of each piece that is decoded and saved at once."""
        step = max(1, min(CHUNK, CHUNK_BYTES // self.row_bytes))
        return [(start, min(start + step, self.count)) for start in range(0, self.count, step)]


@dataclass(frozen=True)
class Stored:
    """Decoded pixels, one row per item of the source. `bad`: the reason for each item that could not be read."""

    pixels: np.ndarray
    bad: dict[int, str]
    original_size: tuple[int, int] | None


class MemoryStore:
    """A store in memory; the methods are those of DiskStore."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pixels = np.zeros((plan.count, plan.channels, plan.size, plan.size), dtype=np.uint8)
        self.bad: dict[int, str] = {}
        self.coloured = False

    def missing(self) -> list[tuple[int, int]]:
        """(start, stop) of the chunks that are not decoded yet."""
        return self.plan.chunks()

    def write(self, start: int, block: np.ndarray, bad: dict[int, str], coloured: bool) -> None:
        self.pixels[start : start + len(block)] = block
        self.bad |= bad
        self.coloured |= coloured

    def discard(self) -> None:
        """Nothing to do: memory is freed with the object."""

    def finish(self, collapse: bool) -> Stored:
        """The decoded images; with one channel if `collapse` and no image is coloured."""
        if collapse and not self.coloured:
            self.pixels = to_channels(self.pixels, 1)
        return Stored(self.pixels, self.bad, self.plan.original_size)


class DiskStore:
    """A store in a folder, which continues an interrupted build of the same plan."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.done: dict[int, dict[str, Any]] = {}
        if not self._resume():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(folder / "plan.json", asdict(plan))
            self._check_space()
            shape = (plan.count, plan.channels, plan.size, plan.size)
            np.lib.format.open_memmap(self._array, mode="w+", dtype=np.uint8, shape=shape)
            (folder / "done.jsonl").touch()
        self._offset = os.path.getsize(self._array) - plan.nbytes

    @property
    def _array(self) -> Path:
        return self.folder / "images.npy"

    def _resume(self) -> bool:
        """Whether the folder holds a usable part of a build of this plan; its finished chunks are then in `done`."""
        plan = self.plan
        try:
            if json.loads((self.folder / "plan.json").read_text()) != json.loads(json.dumps(asdict(plan))):
                return False
            if np.load(self._array, mmap_mode="r").shape != (plan.count, plan.channels, plan.size, plan.size):
                return False
            lines = (self.folder / "done.jsonl").read_text().splitlines()
        except (OSError, ValueError, EOFError):
            return False
        chunks = dict(plan.chunks())
        for line in lines:
            try:
                note = json.loads(line)
                if chunks[note["start"]] == note["stop"] and {"bad", "coloured"} <= note.keys():
                    self.done[note["start"]] = note
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # the line that was being written when the process died
        return True

    def discard(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_space(self) -> None:
        need_room(self.folder.parent, self.plan.nbytes, what="image cache", advice=OTHER_DISK)

    def missing(self) -> list[tuple[int, int]]:
        """(start, stop) of the chunks that are not on disk yet."""
        return [(start, stop) for start, stop in self.plan.chunks() if start not in self.done]

    def write(self, start: int, block: np.ndarray, bad: dict[int, str], coloured: bool) -> None:
        """Saves a chunk. It is written, not memory-mapped: a full disk kills a process that writes to a map."""
        note = {"start": start, "stop": start + len(block), "bad": list(bad.items()), "coloured": coloured}
        try:
            with open(self._array, "r+b") as stream:
                stream.seek(self._offset + start * self.plan.row_bytes)
                stream.write(np.ascontiguousarray(block).data)
                to_disk(stream)
            with open(self.folder / "done.jsonl", "a") as stream:
                stream.write("\n" * bool(stream.tell()) + json.dumps(note))
                to_disk(stream)
        except OSError as error:
            if is_full(error):
                raise no_room(self.folder.parent, self.plan.nbytes, what="image cache", advice=OTHER_DISK) from error
            raise
        self.done[start] = note

    def finish(self, collapse: bool) -> Stored:
        """The decoded images; with one channel if `collapse` and no image is coloured."""
        bad = {int(i): str(reason) for note in self.done.values() for i, reason in note["bad"]}
        if collapse and not any(note["coloured"] for note in self.done.values()):
            self._collapse()
        pixels = np.load(self._array, mmap_mode="r")
        return Stored(pixels, bad, self.plan.original_size)

    def _collapse(self) -> None:
        """Replaces the array by one with a single channel."""
        gray = self.folder / "gray.npy"
        coloured = np.load(self._array, mmap_mode="r")
        shape = (self.plan.count, 1, self.plan.size, self.plan.size)
        target = np.lib.format.open_memmap(gray, mode="w+", dtype=np.uint8, shape=shape)
        for start, stop in self.plan.chunks():
            target[start:stop] = to_channels(coloured[start:stop], 1)
        target.flush()
        del target, coloured
        os.replace(gray, self._array)


def cached(
    folder: Path,
    ids: list[str],
    plan: Callable[[], Plan],
    fill: Callable[[Plan], Stored],
    settled: Callable[[Stored], bool],
    waiting: Callable[[], None] | None = None,
) -> Stored:
    """The images cached in `folder` if they were decoded from `ids`; else what `fill` builds, moved there.

    `fill(plan)` builds in `part_folder(folder)`. A second process waits for the first and then reads; `waiting`
    is called once if that takes more than 2 s. `settled`: whether another build would give the same; if not,
    this one is used only once.
    """
    with locked(folder.with_name(folder.name + ".lock"), waiting=waiting):
        stored = open_cache(folder, ids)
        if stored is not None:
            return stored
        part = part_folder(folder)
        built = fill(plan())
        index = {
            "format": FORMAT,
            "shape": built.pixels.shape,
            "original_size": built.original_size,
            "bad": list(built.bad.items()),
            "ids": ids,
            "settled": settled(built),
        }
        del built
        write_json(part / "index.json", index, compact=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    stored = open_cache(folder, ids, unsettled=True)
    if stored is None:
        raise OSError(f"the cache '{folder}' could not be read back. Check that disk, or give another --cache-dir.")
    return stored


def planned(folder: Path, plan: Plan) -> Plan:
    """`plan`, but in colour if the build begun in `folder` met a coloured image after a gray sample."""
    try:
        begun = json.loads((folder / "plan.json").read_text())
        if begun == json.loads(json.dumps(asdict(replace(plan, channels=3)))) and plan.channels == 1:
            return replace(plan, channels=3)
    except (OSError, ValueError):
        pass
    return plan


def part_folder(folder: Path) -> Path:
    """The folder in which the cache `folder` is built."""
    return folder.with_name(folder.name + ".part")


def open_cache(folder: Path, ids: list[str], *, unsettled: bool = False) -> Stored | None:
    """The finished cache in `folder`; None if it is missing, damaged, of other ids, or (by default) not settled."""
    try:
        index = json.loads((folder / "index.json").read_text())
        pixels = np.load(folder / "images.npy", mmap_mode="r")
        size = index["original_size"]
        whole = index["format"] == FORMAT and index["ids"] == ids and list(pixels.shape) == index["shape"]
        whole = whole and (unsettled or index.get("settled", True) is True)
        if not whole or pixels.dtype != np.uint8 or pixels.ndim != 4 or len(pixels) != len(ids):
            return None
        bad = {int(i): str(reason) for i, reason in index["bad"]}
        return Stored(pixels, bad, None if size is None else (int(size[0]), int(size[1])))
    except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError):
        return None
