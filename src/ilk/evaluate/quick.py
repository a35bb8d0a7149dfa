"""The quick scores of a finished run, against labels where there are some."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilk.analysis.metrics import effective_clusters, expected_calibration_error, right, score
from ilk.evaluate.basis import read_selection
from ilk.images.labels import encode_labels, folder_labels, labels_from_file
from ilk.runs.folder import Run
from ilk.runs.tables import read_known_labels, read_table
from ilk.system.files import write_json


def score_run(run: Run, labels: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The scores of a run, also written to its `scores.json`.

    `labels`: None for those the run was made with (if any), "folders" for the first folder of each
    id, or a CSV or Parquet file with columns id and label. Images without a label are left out of
    the scores that need one, and counted. So are images whose label was given to the training: they
    have a block of their own, `known`.
    """
    table = read_table(run.open() / "assignments.parquet")
    config, clusters = run.config, table["cluster"].to_numpy()
    given = np.zeros(len(clusters), dtype=bool)
    if "known" in table.column_names:
        given = np.array(table["known"].to_pylist(), dtype=bool)
    names = find_labels(table, labels)
    scores: dict[str, Any] = {
        "images": len(clusters),
        "n_clusters": config["n_clusters"],
        "clusters_used": len(np.unique(clusters)),
        "effective_clusters": effective_clusters(clusters),
        "mean_confidence": float(table["confidence"].to_numpy().mean()),
        "selection": read_selection(run),
        "labels": None,
        "known": known_scores(run, config, table, given) if given.any() else None,
    }
    if names is not None:
        codes, _ = encode_labels(names, len(names))
        if not (codes >= 0).any():
            raise ValueError("None of the images has a label, so there is nothing to score against.")
        rows = (codes >= 0) & ~given
        if rows.any():
            scores["labels"] = {
                "classes": len(np.unique(codes[rows])),
                "unlabelled": int((codes < 0).sum()),
                **score(codes[rows], clusters[rows]),
                "calibration_error": expected_calibration_error(
                    table["confidence"].to_numpy()[rows], right(codes[rows], clusters[rows])
                ),
            }
    write_json(run / "scores.json", scores)
    return scores


def known_scores(run: Run, config: dict[str, Any], table: Any, given: np.ndarray) -> dict[str, Any]:
    """How many of the images whose label the training was given are in the cluster of that name."""
    names = (config.get("known_labels") or {}).get("names", [])
    label_of = read_known_labels(run / "known_labels.csv")
    ids, clusters = table["id"].to_pylist(), table["cluster"].to_pylist()
    found = [
        clusters[row] < len(names) and names[clusters[row]] == label_of.get(ids[row]) for row in np.flatnonzero(given)
    ]
    return {"images": len(found), "accuracy": float(np.mean(found))}


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
