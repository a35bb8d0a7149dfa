"""The figures of merit of a run, each with what it means, and the tables behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ilk.analysis.metrics import ari, best_matching, contingency, effective_clusters, nmi, purity
from ilk.reports.folder import Results, number
from ilk.reports.neighbours import unit_rows

BINS, RELIABILITY_BINS = 20, 10
SAMPLE = 2_000  # images that the silhouette rests on
UNCERTAIN = 0.5
MOST_ROWS = 200  # of the confusion matrix, clusters and labels

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
    """The scores, those that used labels first.

    Labels in the table count; without any, the scores that `ilk score` left in scores.json do.
    """
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
    if (found := silhouette(results, sample)) is not None:
        values["silhouette"] = found
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
    if key == "effective_clusters":
        return f"{value:.1f} of {k}"
    return f"{value:.1%}" if key == "uncertain" else f"{value:.3f}"


def stored_scores(file: Path) -> tuple[dict[str, float], int]:
    """What `ilk score --labels` found, and on how many images; nothing where it was not asked or is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["labels"]
        values = {key: number(found[name]) for key, name in STORED.items()}
        return {key: value for key, value in values.items() if value is not None}, int(found["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, 0


def silhouette_sample(n: int) -> np.ndarray:
    return np.arange(n) if n <= SAMPLE else np.sort(np.random.default_rng(0).choice(n, SAMPLE, replace=False))


def silhouette(results: Results, sample: np.ndarray) -> float | None:
    """The mean silhouette of the sample by cosine; None with fewer than two clusters, or one each."""
    from sklearn.metrics import silhouette_score

    clusters = results.cluster[sample]
    if not 2 <= len(np.unique(clusters)) < len(sample):
        return None
    return number(float(silhouette_score(unit_rows(results.embedding[sample]), clusters, metric="cosine")))


def matching_of(results: Results) -> dict[int, int] | None:
    """The best one-to-one map of clusters to labels; None where there are none to score against."""
    if results.label is None or not results.scored.any():
        return None
    return best_matching(results.label[results.scored], results.cluster[results.scored])


def matched(cluster: np.ndarray, matching: dict[int, int]) -> np.ndarray:
    """The label that the cluster of each image stands for; -1 for clusters left over."""
    table = np.full(int(cluster.max()) + 1, -1, dtype=np.int64)
    for one, label in matching.items():
        if one < len(table):
            table[one] = label
    return table[cluster]


def confusion_payload(results: Results, matching: dict[int, int] | None, notes: list[str]) -> dict[str, Any] | None:
    """Clusters (rows) against labels (columns) so that the matched pairs are the diagonal; what is left over, last."""
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
    """How many images have which confidence, and with labels how often that was right."""
    confidence = results.confidence.astype(np.float64).clip(0, 1)
    counts, edges = np.histogram(confidence, BINS, (0.0, 1.0))
    reliability = None
    if matching is not None and results.label is not None:
        rows = results.scored
        sure = confidence[rows]
        right = matched(results.cluster[rows], matching) == results.label[rows]
        place = np.minimum((sure * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
        count = np.bincount(place, minlength=RELIABILITY_BINS)
        some = count > 0
        reliability = {
            "mean_confidence": mean_of(place, sure, count)[some].round(4).tolist(),
            "accuracy": mean_of(place, right, count)[some].round(4).tolist(),
            "count": count[some].tolist(),
        }
    return {"edges": edges.round(6).tolist(), "counts": counts.tolist(), "reliability": reliability}


def mean_of(place: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.bincount(place, weights=values, minlength=len(count)) / np.maximum(count, 1)
