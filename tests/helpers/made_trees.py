"""The files of a run that was asked for the number of clusters: a tree cut at random, and a curve with one best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ilk.runs.tables import write_csv

SENTENCE = "6 clusters: 3 of 4 criteria have their best within a quarter of that, and 5 to 8 are nearly as good."
CURVE = ["k", "score", "error", "stability", "neighbours", "generalisation", "silhouette", "views", "chosen"]


def nested_levels(n: int, most: int, seed: int = 0) -> np.ndarray:
    """(most, n): row k - 1 is each image's cluster when there are k; each cut takes a part of a large cluster."""
    random = np.random.default_rng(seed)
    levels = np.zeros((most, n), dtype=np.int64)
    for k in range(2, most + 1):
        now = levels[k - 2].copy()
        sizes = np.bincount(now)
        rows = np.flatnonzero(now == sizes.argmax())
        now[random.choice(rows, max(1, int(len(rows) * random.uniform(0.2, 0.5))), replace=False)] = k - 1
        levels[k - 1] = now
    return levels


def tree_table(levels: np.ndarray, ids: Sequence[str]) -> pa.Table:
    columns = {f"k{k}": pa.array(levels[k - 1], pa.int32()) for k in range(2, len(levels) + 1)}
    return pa.table({"id": pa.array(list(ids), pa.string()), "fine": pa.array(levels[-1], pa.int32()), **columns})


def curve_rows(most: int, chosen: int, *, views: bool = False) -> list[list[Any]]:
    """Each k's row: the score is highest at `chosen` and falls on both sides."""
    rows = []
    for k in range(2, most + 1):
        gain = 1 - abs(np.log(k / chosen)) / 2
        rows.append([k, 2.3 * gain, 0.05 + k / 500, gain, 0.9 * gain, 0.8 * gain, 0.5 * gain - 0.01 * k,
                     0.7 * gain if views else None, k == chosen])  # fmt: skip
    return rows


def set_number(folder: Path, **changes: Any) -> None:
    """Writes the choice into the settings."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["number"] = {"asked": "auto", "chosen": 6, "range": [5, 8], "sure": "medium", "sentence": SENTENCE} | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def with_number(folder: Path, *, most: int = 12, chosen: int = 6, views: bool = False) -> np.ndarray:
    """Gives the run in `folder` the files of a run that found its number of clusters; returns the levels."""
    ids = pq.read_table(folder / "assignments.parquet", columns=["id"])["id"].to_pylist()
    levels = nested_levels(len(ids), most)
    pq.write_table(tree_table(levels, ids), folder / "hierarchy.parquet")
    write_csv(folder / "k_curve.csv", CURVE, curve_rows(most, chosen, views=views))
    set_number(folder)
    return levels
