"""The rows of finished jobs, one JSON line each, in a file that stays readable if the process is killed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ilk.research.grid.task import Task
from ilk.system.files import read_json_lines, room_for

TEXTS = ("key", "read_out", "scored", "source", "method", "on", "select", "split")  # fields of every row
NUMBERS = ("accuracy", "nmi_arithmetic", "nmi_geometric", "ari", "n_clusters", "n_images", "seconds")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows so far. A half line at the end, left by a killed process, is removed from the file.

    Only for the one process that writes to the file. Raises ValueError where another line is damaged.
    """
    if not path.is_file():
        return []
    rows = read_json_lines(path)
    data = path.read_bytes()
    tail = data.rpartition(b"\n")[2]
    if tail:
        with room_for(path), open(path, "r+b") as file:
            if whole(tail):
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
            else:
                file.truncate(len(data) - len(tail))
    return rows


def whole(line: bytes) -> bool:
    """Whether a line is complete JSON of one row."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one row; it is on the disk when this returns."""
    with room_for(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, default=str) + "\n")
        file.flush()
        os.fsync(file.fileno())


class RowFile:
    """The rows of a grid's folder; of several rows of a job, the last counts. Needs the folder's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = read_rows(path)
        usable = [row for row in rows if is_usable(row)]
        self.unusable = len(rows) - len(usable)
        self.row_of = {row_identity(row): row for row in usable}

    def has(self, task: Task) -> bool:
        row = self.row_of.get((task.key, task.read_out, task.scored))
        return row is not None and not row["error"]

    def of(self, task: Task) -> dict[str, Any]:
        return self.row_of[task.key, task.read_out, task.scored]

    def append(self, row: dict[str, Any]) -> None:
        append_row(self.path, row)
        self.row_of[row_identity(row)] = row


def row_identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two rows those of the same task."""
    return row["key"], row["read_out"], row["scored"]


def is_usable(row: dict[str, Any]) -> bool:
    """Whether a row has the fields that tables need; rows of other programs or of very old versions may not."""
    if not all(isinstance(row.get(name), str) for name in TEXTS) or not isinstance(row.get("versions"), dict):
        return False
    if not {"error", "run", "seed", "images", "imbalance", "machine", "threads"} <= row.keys():
        return False
    return bool(row["error"]) or all(type(row.get(name)) in (int, float) for name in NUMBERS)
