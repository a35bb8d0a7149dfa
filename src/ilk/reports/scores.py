"""The scores of a run with their meaning, the confusion matrix, and how reliable confidences are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ilk.analysis.metrics import ari, best_matching, contingency, effective_clusters, nmi, purity
from ilk.reports.folder import Results, number
from ilk.reports.neighbours import unit_rows

BINS, RELIABILITY_BINS = 20, 10
SAMPLE = 2_000  # images that the silhouette is computed from
UNCERTAIN = 0.5
MOST_ROWS = 200  # clusters, and labels, in the confusion matrix

MEANINGS = {
    "accuracy": "The part of the {labelled} labelled images whose cluster is the one best matched to their label.",
    "nmi": "How much cluster and label tell of each other: 0 for nothing, 1 for all (normalised mutual information).",
    "ari": "How many pairs of images are together or apart in both clusters and labels: 0 for chance, 1 for all.",
    "purity": "The part of labelled images with the commonest label of their cluster; it grows with more clusters.",
    "effective_clusters": "How many clusters of equal size would be as varied as these; far below {k} means that few"
    " clusters hold nearly all images.",
    "mean_confidence": "The estimate, made without labels, of how often the cluster of an image is the right one.",
    "silhouette": "How much nearer images are to their own cluster than to the next one, by the cosine of their"
    " embeddings: 1 for well apart, 0 for touching, below 0 for mixed up ({sample} images).",
    "uncertain": "The part of images with a confidence below one half; a person should look at these first.",
}
NAMES = {
    "accuracy": "Accuracy", "nmi": "NMI", "ari": "ARI", "purity": "Purity",
    "effective_clusters": "Effective clusters", "mean_confidence": "Mean confidence", "silhouette": "Silhouette",
    "uncertain": "Uncertain images",
}  # fmt: skip
STORED = {"accuracy": "accuracy", "nmi": "nmi_arithmetic", "ari": "ari", "purity": "purity"}


def scores_payload(results: Results, folder: Path, matching: dict[int, int] | None) -> list[dict[str, Any]]:
    """The scores, first those that used labels: of the labels in the run, or else those in scores.json."""
    values: dict[str, float] = {}
    labelled = 0
    if matching is not None and results.label is not None:
        y, c = results.label[results.scored], results.cluster[results.scored]
        labelled = len(y)
        right = float(np.mean(matched(c, matching) == y))
        values = {"accuracy": right, "nmi": nmi(y, c), "ari": ari(y, c), "purity": purity(y, c)}
    else:
        values, labelled = stored_scores(folder / "scores.json")
    with_labels = set(values)
    sample = silhouette_sample(len(results))
    values["effective_clusters"] = effective_clusters(results.cluster)
    values["mean_confidence"] = float(results.confidence.mean())
    if (mean := silhouette(results, sample)) is not None:
        values["silhouette"] = mean
    values["uncertain"] = float(np.mean(results.confidence < UNCERTAIN))
    words = {"labelled": f"{labelled:,}", "k": f"{len(results.clusters):,}", "sample": f"{len(sample):,}"}
    return [
        {
            "key": key, "name": NAMES[key], "value": round(value, 6), "shown": spelt(key, value, words["k"]),
            "meaning": MEANINGS[key].format(**words), "labels": key in with_labels,
        }
        for key, value in values.items()
    ]  # fmt: skip


def spelt(key: str, value: float, k: str) -> str:
    """A score as it is shown."""
    if key == "effective_clusters":
        return f"{value:.1f} of {k}"
    return f"{value:.1%}" if key == "uncertain" else f"{value:.3f}"


def stored_scores(file: Path) -> tuple[dict[str, float], int]:
    """The scores that `ilk score --labels` has written and the number of images; none where there is no such file."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))["labels"]
        values = {key: number(stored[name]) for key, name in STORED.items()}
        return {key: value for key, value in values.items() if value is not None}, int(stored["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, 0


def silhouette_sample(n: int) -> np.ndarray:
    """The rows that the silhouette is computed from, ascending; always the same ones."""
    return np.arange(n) if n <= SAMPLE else np.sort(np.random.default_rng(0).choice(n, SAMPLE, replace=False))


def silhouette(results: Results, sample: np.ndarray) -> float | None:
    """The mean silhouette of the sample by cosine; None for one cluster, or as many clusters as images."""
    from sklearn.metrics import silhouette_score

    clusters = results.cluster[sample]
    if not 2 <= len(np.unique(clusters)) < len(sample):
        return None
    return number(float(silhouette_score(unit_rows(results.embedding[sample]), clusters, metric="cosine")))


def matching_of(results: Results) -> dict[int, int] | None:
    """The best one-to-one matching, cluster to label; None for a run without labels to score against."""
    if results.label is None or not results.scored.any():
        return None
    return best_matching(results.label[results.scored], results.cluster[results.scored])


def matched(cluster: np.ndarray, matching: dict[int, int]) -> np.ndarray:
    """The label matched to the cluster of each image; -1 for clusters without one."""
    table = np.full(int(cluster.max()) + 1, -1, dtype=np.int64)
    for number_of_cluster, label in matching.items():
        if number_of_cluster < len(table):
            table[number_of_cluster] = label
    result: np.ndarray = table[cluster]
    return result


def confusion_payload(results: Results, matching: dict[int, int] | None, notes: list[str]) -> dict[str, Any] | None:
    """Images by cluster (rows) and label (columns): matched pairs on the diagonal, then clusters and labels without."""
    if matching is None or results.label is None:
        return None
    table = contingency(results.label[results.scored], results.cluster[results.scored]).T  # (clusters, labels)
    labels = [code for code in range(table.shape[1]) if table[:, code].any()]
    pairs = sorted((label, cluster) for cluster, label in matching.items() if label in labels and table[cluster].any())
    clusters = [cluster for _, cluster in pairs]
    clusters += [cluster for cluster in range(len(table)) if table[cluster].any() and cluster not in clusters]
    columns = [label for label, _ in pairs]
    columns += [label for label in labels if label not in columns]
    if len(clusters) > MOST_ROWS or len(columns) > MOST_ROWS:
        notes.append(
            f"The confusion matrix is left out: {len(clusters):,} clusters and {len(columns):,} labels are too many."
        )
        return None
    return {"matrix": table[np.ix_(clusters, columns)].tolist(), "clusters": clusters, "labels": columns}


def confidence_payload(results: Results, matching: dict[int, int] | None) -> dict[str, Any]:
    """A histogram of confidences and, with labels, the accuracy of images by confidence."""
    confidence = results.confidence.astype(np.float64).clip(0, 1)
    counts, edges = np.histogram(confidence, BINS, (0.0, 1.0))
    reliability = None
    if matching is not None and results.label is not None:
        rows = results.scored
        sure = confidence[rows]
        right = matched(results.cluster[rows], matching) == results.label[rows]
        place = np.minimum((sure * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
        count = np.bincount(place, minlength=RELIABILITY_BINS)
        filled = count > 0
        reliability = {
            "mean_confidence": mean_of(place, sure, count)[filled].round(4).tolist(),
            "accuracy": mean_of(place, right, count)[filled].round(4).tolist(),
            "count": count[filled].tolist(),
        }
    return {"edges": edges.round(6).tolist(), "counts": counts.tolist(), "reliability": reliability}


def mean_of(place: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean of the values in each bin; `place` is the bin of each value."""
    result: np.ndarray = np.bincount(place, weights=values, minlength=len(count)) / np.maximum(count, 1)
    return result
