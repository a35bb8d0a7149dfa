"""Scores of a finished run, against labels where there are some. Scoring never changes a run's model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilk.files import write_json
from ilk.images.labels import encode_labels, folder_labels, labels_from_file
from ilk.metrics import effective_clusters, score
from ilk.results import read_table
from ilk.runs import Run


def score_run(run: Run, labels: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The scores of a run, also written to its `scores.json`.

    `labels`: None for those the run was made with (if any), "folders" for the first folder of each
    id, or a CSV or Parquet file with columns id and label. Images without a label are left out of
    the scores that need one, and counted.
    """
    table = read_table(run.open() / "assignments.parquet")
    clusters = table["cluster"].to_numpy()
    names = find_labels(table, labels)
    scores: dict[str, Any] = {
        "images": len(clusters),
        "n_clusters": run.config["n_clusters"],
        "clusters_used": len(np.unique(clusters)),
        "effective_clusters": effective_clusters(clusters),
        "mean_confidence": float(table["confidence"].to_numpy().mean()),
        "labels": None,
    }
    if names is not None:
        codes, found = encode_labels(names, len(names))
        known = codes >= 0
        if not known.any():
            raise ValueError("None of the images has a label, so there is nothing to score against.")
        scores["labels"] = {
            "classes": len(found),
            "unlabelled": int((~known).sum()),
            **score(codes[known], clusters[known]),
        }
    write_json(run / "scores.json", scores)
    return scores


def find_labels(table: Any, labels: str | os.PathLike[str] | None) -> Sequence[str | None] | None:
    if labels is None:
        known = table["label"].to_pylist()
        return known if any(name is not None for name in known) else None
    if labels == "none":
        return None
    ids, paths = table["id"].to_pylist(), table["path"].to_pylist()
    if labels == "folders":
        return folder_labels(ids)
    file = Path(labels).expanduser()
    if not file.is_file():
        near = difflib.get_close_matches(str(labels), ("folders", "none"), 1)
        hint = f"Did you mean {near[0]}?" if near else "Give folders, or a CSV or Parquet file with columns id, label."
        raise FileNotFoundError(f"There is no file of labels '{labels}'. {hint}")
    return labels_from_file(file, ids, paths)
