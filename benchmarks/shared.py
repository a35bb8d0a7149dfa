"""What the scripts here have in common: opening a set by its name, and lines of finished runs that are not repeated."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ilk import load_images
from ilk.images import Images
from ilk.pipeline.request import MAX_SIZE
from ilk.research.grid import append_row, read_rows
from ilk.research.labelled import digits, from_program
from ilk.research.score_tables import spread, summary


def pixels_of(name: str, data: Path) -> tuple[np.ndarray, Any]:
    """The pictures and labels of scikit-learn's digits, or of a set that `sets.py` in `data` loads."""
    return (digits() if name == "digits" else from_program(data / "sets.py", name))[:2]


def open_set(name: str, data: Path) -> Images:
    """The labelled set called `name`, or its first N images for `name:N`."""
    name, _, first = name.partition(":")
    if first:
        whole = open_set(name, data)
        labels = [whole.label_names[code] for code in whole.labels[: int(first)]]
        return load_images(whole[: int(first)], labels=labels)
    if name != "digits" and (data / name).is_dir():
        return load_images(data / name, labels="folders", max_image_size=MAX_SIZE["cpu"])
    if name == "digits" or (data / "sets.py").is_file():
        pixels, labels = pixels_of(name, data)
        return load_images(pixels, labels=labels)
    return load_images(data / f"{name}.npz")


def add_common(parser: argparse.ArgumentParser, out: str) -> None:
    """The options that all scripts have."""
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path(out))


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return arguments


class Lines:
    """Rows of finished runs in a file of JSON lines, told apart by the fields `by`."""

    def __init__(self, path: Path, by: Sequence[str]) -> None:
        self.path, self.by, self.rows = path, by, read_rows(path)

    def has(self, *values: Any) -> bool:
        return any(tuple(row[name] for name in self.by) == values for row in self.rows)

    def add(self, row: dict[str, Any], shown: Sequence[str]) -> None:
        """Keeps a row and prints the fields that tell it apart and those `shown`."""
        append_row(self.path, row)
        self.rows.append(row)
        print(json.dumps({name: row[name] for name in (*self.by, *shown)}), flush=True)

    def means(self, by: Sequence[str], scores: Sequence[str]) -> list[tuple[dict[str, Any], list[str]]]:
        """One group of runs each: what `summary` says of it, and the cells of the scores."""
        groups = summary(self.rows, by, (*scores, "minutes"))
        return [(one, [spread(one[name], one[f"{name}_sd"] or 0) for name in scores]) for one in groups]
