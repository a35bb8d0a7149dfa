"""What the scripts here share: opening a set by its name, clusters of a model, and rows of finished runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ilk import Images, Method, Run, load_images
from ilk.research.grid import append_row, read_rows
from ilk.research.labelled import load_digits, load_program
from ilk.research.score_tables import spread, summary
from ilk.views import plain

MOST_PIXELS = 48  # sides of the images of a folder are reduced to this


def pixels_of(name: str, data: Path) -> tuple[np.ndarray, Any]:
    """The pictures and labels of scikit-learn's digits, or of a set that `sets.py` in `data` loads."""
    return (load_digits() if name == "digits" else load_program(data / "sets.py", name))[:2]


def open_set(name: str, data: Path) -> Images:
    """The labelled set called `name`, or its first N images for `name:N`."""
    name, _, first = name.partition(":")
    if first:
        whole = open_set(name, data)
        labels = [whole.label_names[code] for code in whole.labels[: int(first)]]
        return load_images(whole[: int(first)], labels=labels)
    if name != "digits" and (data / name).is_dir():
        return load_images(data / name, labels="folders", max_image_size=MOST_PIXELS)
    if name == "digits" or (data / "sets.py").is_file():
        pixels, labels = pixels_of(name, data)
        return load_images(pixels, labels=labels)
    return load_images(data / f"{name}.npz")


def config_of(run: Run) -> dict[str, Any]:
    """The config.json of a run."""
    config: dict[str, Any] = json.loads((run / "config.json").read_text(encoding="utf-8"))
    return config


def probabilities(model: Method, images: Images, batch_size: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each cluster, (n, k), and the embedding, (n, d), of all images by a model on the CPU."""
    outputs = []
    with torch.inference_mode():
        for rows in torch.arange(len(images)).split(batch_size):
            outputs.append(model.assign_and_embed(plain(images[rows])))
    y, z = (torch.cat(column).float().numpy() for column in zip(*outputs, strict=True))
    return y, z


def add_common(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds the options that all scripts have."""
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
    """Rows of finished runs in a file of JSON lines, identified by the fields `by`."""

    def __init__(self, path: Path, by: Sequence[str]) -> None:
        self.path, self.by, self.rows = path, by, read_rows(path)

    def has(self, *values: Any) -> bool:
        return any(tuple(row[name] for name in self.by) == values for row in self.rows)

    def add(self, row: dict[str, Any], shown: Sequence[str]) -> None:
        """Adds a row, and prints the fields that identify it and those `shown`."""
        append_row(self.path, row)
        self.rows.append(row)
        print(json.dumps({name: row[name] for name in (*self.by, *shown)}), flush=True)

    def means(self, by: Sequence[str], scores: Sequence[str]) -> list[tuple[dict[str, Any], list[str]]]:
        """For each group of runs, its `summary` and the table cells of its scores."""
        groups = summary(self.rows, by, (*scores, "minutes"))
        return [(group, [spread(group[name], group[f"{name}_sd"] or 0) for name in scores]) for group in groups]
