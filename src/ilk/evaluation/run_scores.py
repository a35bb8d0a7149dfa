"""The scores of a finished run that take seconds: sizes, confidence, and scores against labels where there are any."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ilk.analysis.metrics import effective_clusters, expected_calibration_error, matches_label, score
from ilk.evaluation.evaluated_images import find_labels
from ilk.evaluation.provenance import read_selection
from ilk.images.labels import encode_labels
from ilk.runs.folder import Run
from ilk.runs.tables import read_known_labels, read_table
from ilk.system.files import write_json


def score_run(run: Run, labels: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The scores of a run, also written to its `scores.json`.

    `labels`: None for those recorded with the run (if any), "none", "folders" for the first folder of each id, or a
    CSV or Parquet file with columns id and label. Images without a label are left out of the scores that need one,
    and counted. Images whose label was given to the training are scored apart, in `known`.
    Raises ValueError where labels are given and no image has one.
    """
    table = read_table(run.open() / "assignments.parquet")
    plan, clusters = run.config, table["cluster"].to_numpy()
    known = np.zeros(len(clusters), dtype=bool)
    if "known" in table.column_names:
        known = np.array(table["known"].to_pylist(), dtype=bool)
    names = find_labels(table, labels)
    scores: dict[str, Any] = {
        "images": len(clusters),
        "n_clusters": plan.n_clusters,
        "clusters_used": len(np.unique(clusters)),
        "effective_clusters": effective_clusters(clusters),
        "mean_confidence": float(table["confidence"].to_numpy().mean()),
        "selection": read_selection(run),
        "labels": None,
        "known": known_scores(run, plan.cluster_names, table, known) if known.any() else None,
    }
    if names is not None:
        codes, _ = encode_labels(names, len(names))
        if not (codes >= 0).any():
            raise ValueError("None of the images has a label, so there is nothing to score against.")
        scored = (codes >= 0) & ~known
        if scored.any():
            scores["labels"] = {
                "classes": len(np.unique(codes[scored])),
                "unlabelled": int((codes < 0).sum()),
                **score(codes[scored], clusters[scored]),
                "calibration_error": expected_calibration_error(
                    table["confidence"].to_numpy()[scored], matches_label(codes[scored], clusters[scored])
                ),
            }
    write_json(run / "scores.json", scores)
    return scores


def known_scores(run: Run, names: Sequence[str | None], table: Any, known: np.ndarray) -> dict[str, Any]:
    """How many of the images whose label was given to the training are in the cluster with that name.

    `names`: the class of each cluster, None for one without. `known`: (n,) bool, in the order of the table.
    """
    label_of = read_known_labels(run / "known_labels.csv")
    ids, clusters = table["id"].to_pylist(), table["cluster"].to_pylist()
    correct = [
        clusters[row] < len(names) and names[clusters[row]] == label_of.get(ids[row], "")
        for row in np.flatnonzero(known)
    ]
    return {"images": len(correct), "accuracy": float(np.mean(correct))}
