"""The rows of finished jobs, one JSON line each, in a file that any kill leaves readable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ilk.research.grid.task import Task
from ilk.system.files import read_json_lines, room_for

ROWS = "rows.jsonl"
TEXTS = ("key", "read_out", "scored", "source", "method", "on", "select", "split")  # that each row has
NUMBERS = ("accuracy", "nmi_arithmetic", "nmi_geometric", "ari", "n_clusters", "n_images", "seconds")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows so far; the half line that a killed process left is taken away, so that the next has one of its own.

    Only for who alone writes to the file. Raises ValueError, a sentence, where another line is damaged.
    """
    if not path.is_file():
        return []
    found = read_json_lines(path)
    data = path.read_bytes()
    tail = data.rpartition(b"\n")[2]
    if tail:
        with room_for(path), open(path, "r+b") as file:
            if whole(tail):
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
            else:
                file.truncate(len(data) - len(tail))
    return found


def whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one row, which is on the disk when this returns."""
    with room_for(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, default=str) + "\n")
        file.flush()
        os.fsync(file.fileno())


class Rows:
    """The rows of a grid's folder; the last of a job counts. Only for who holds the folder's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        there = read_rows(path)
        sound = [row for row in there if sound_row(row)]
        self.unusable = len(there) - len(sound)
        self.found = {identity(row): row for row in sound}

    def has(self, task: Task) -> bool:
        row = self.found.get((task.key, task.read_out, task.scored))
        return row is not None and not row["error"]

    def of(self, task: Task) -> dict[str, Any]:
        return self.found[task.key, task.read_out, task.scored]

    def append(self, row: dict[str, Any]) -> None:
        append_row(self.path, row)
        self.found[identity(row)] = row


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["key"], row["read_out"], row["scored"]


def sound_row(row: dict[str, Any]) -> bool:
    """Whether a row has what tables are made of; not so what someone else, or a much older ilk, has written."""
    if not all(isinstance(row.get(name), str) for name in TEXTS) or not isinstance(row.get("versions"), dict):
        return False
    if not {"error", "run", "seed", "images", "imbalance", "machine", "threads"} <= row.keys():
        return False
    return bool(row["error"]) or all(type(row.get(name)) in (int, float) for name in NUMBERS)
