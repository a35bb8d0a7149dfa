"""Scores of a clustering, most of them against labels. NumPy only; no training uses them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score, normalized_mutual_info_score

__all__ = [
    "accuracy",
    "ari",
    "best_matching",
    "contingency",
    "effective_clusters",
    "expected_calibration_error",
    "fowlkes_mallows",
    "matches_label",
    "nmi",
    "purity",
    "recalls",
    "reliability",
    "score",
]

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Doubles = NDArray[np.float64]


def contingency(labels: ArrayLike, clusters: ArrayLike) -> Integers:
    """How many images of each label (rows) are in each cluster (columns), (C, k).

    `labels`, `clusters`: (n,) codes from 0; codes that do not occur are allowed.
    Raises ValueError for unequal lengths, no images, or negative codes.
    """
    y, c = np.asarray(labels), np.asarray(clusters)
    if y.shape != c.shape or y.ndim != 1:
        raise ValueError(f"labels and clusters must be lists of one length; got shapes {y.shape} and {c.shape}.")
    if len(y) == 0:
        raise ValueError("There are no labelled images to score.")
    if y.min() < 0 or c.min() < 0:
        raise ValueError("Label and cluster codes must not be negative; leave images without a label out.")
    table = np.zeros((int(y.max()) + 1, int(c.max()) + 1), dtype=np.int64)
    np.add.at(table, (y, c), 1)
    return table


def best_matching(labels: ArrayLike, clusters: ArrayLike) -> dict[int, int]:
    """The one-to-one map {cluster: label} that agrees on most images (Hungarian; leftover clusters are not in it)."""
    rows, columns = linear_sum_assignment(contingency(labels, clusters), maximize=True)
    return {int(column): int(row) for row, column in zip(rows, columns, strict=True)}


def accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """The fraction of images whose cluster is matched to their label, in [0, 1].

    Clusters and labels are matched one to one; images of a cluster without a label count as wrong.
    """
    table = contingency(labels, clusters)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def nmi(labels: ArrayLike, clusters: ArrayLike, average: str = "arithmetic") -> float:
    """Normalised mutual information, in [0, 1]; `average`: "arithmetic" or "geometric" mean of the two entropies."""
    return float(normalized_mutual_info_score(labels, clusters, average_method=average))


def ari(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Adjusted Rand index, at most 1: 0 on average for random partitions, 1 for equal ones, may be negative."""
    return float(adjusted_rand_score(labels, clusters))


def fowlkes_mallows(labels: ArrayLike, clusters: ArrayLike) -> float:
    """The geometric mean of pair precision and pair recall, in [0, 1]; 0 if no pair is together in both.

    Source: Fowlkes and Mallows 1983; column F of CC's tables.
    """
    return float(fowlkes_mallows_score(labels, clusters))


def purity(labels: ArrayLike, clusters: ArrayLike) -> float:
    """The fraction of images that have the most common label of their cluster, in [0, 1].

    Grows with the number of clusters.
    """
    table = contingency(labels, clusters)
    return float(table.max(0).sum() / table.sum())


def effective_clusters(clusters: ArrayLike) -> float:
    """exp(entropy of the cluster sizes): k for k clusters of equal size, 1 if all images are in one cluster."""
    share = np.bincount(np.asarray(clusters)).astype(float)
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def score(labels: ArrayLike, clusters: ArrayLike) -> dict[str, float | int]:
    """All scores against labels, by name, and the number of images."""
    return {
        "images": len(np.asarray(labels)),
        "accuracy": accuracy(labels, clusters),
        "nmi_arithmetic": nmi(labels, clusters),
        "nmi_geometric": nmi(labels, clusters, "geometric"),
        "ari": ari(labels, clusters),
        "purity": purity(labels, clusters),
        "fowlkes_mallows": fowlkes_mallows(labels, clusters),
    }


def recalls(table: Integers) -> Doubles:
    """The fraction of each label's images that are in the cluster matched to it, (C,), in [0, 1].

    0 for a label without a matched cluster, nan for a label without images. `table`: the result of `contingency`.
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    correct = np.zeros(len(table))
    correct[rows] = table[rows, columns]
    total = table.sum(1)
    recall: Doubles = np.where(total > 0, correct / np.maximum(total, 1), np.nan)
    return recall


def scores_of_tables(tables: Integers) -> dict[str, Doubles]:
    """The scores of `score` for many contingency tables at once, {name: (B,)}.

    `tables`: (B, C, k), each with at least one image. Everything but the matching is vectorised over tables.
    """
    t = np.asarray(tables, dtype=np.float64)
    n, by_label, by_cluster = t.sum((1, 2)), t.sum(2), t.sum(1)
    matched = [table[linear_sum_assignment(table, maximize=True)].sum() for table in t]
    h_label, h_cluster = entropies(by_label), entropies(by_cluster)
    shared = np.maximum(h_label + h_cluster - entropies(t.reshape(len(t), -1)), 0)
    both = pairs(t.reshape(len(t), -1))
    in_label, in_cluster, in_all = pairs(by_label), pairs(by_cluster), n * (n - 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, chance = (in_label + in_cluster) / 2, in_label * in_cluster / np.maximum(in_all, 1)
        adjusted = (both - chance) / (mean - chance)
        fowlkes = both / np.sqrt(in_label * in_cluster)
        means = {"arithmetic": (h_label + h_cluster) / 2, "geometric": np.sqrt(h_label * h_cluster)}
        trivial = np.maximum(h_label, h_cluster) < 1e-12  # one label, one cluster: equal partitions
        nmis = {name: np.where(trivial, 1.0, np.where(shared < 1e-12, 0.0, shared / h)) for name, h in means.items()}
    return {
        "accuracy": np.array(matched) / n,
        "nmi_arithmetic": nmis["arithmetic"],
        "nmi_geometric": nmis["geometric"],
        "ari": np.where(np.isclose(mean, chance, rtol=1e-12, atol=0), 1.0, adjusted),
        "purity": t.max(1).sum(1) / n,
        "fowlkes_mallows": np.where(both > 0, fowlkes, 0.0),
    }


def entropies(counts: Doubles) -> Doubles:
    """The entropy of each row of counts, in nats, (B,). `counts`: (B, m)."""
    share = counts / counts.sum(1, keepdims=True)
    entropy: Doubles = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return entropy


def pairs(counts: Doubles) -> Doubles:
    """How many pairs of images share a cell, for each row of counts, (B,). `counts`: (B, m)."""
    total: Doubles = (counts * (counts - 1) / 2).sum(1)
    return total


class Bin(NamedTuple):
    """Images of similar confidence: their range and mean of confidence, and the fraction that is correct."""

    low: float
    high: float
    confidence: float
    accuracy: float
    images: int


def matches_label(labels: ArrayLike, cluster: ArrayLike) -> Booleans:
    """Whether the cluster of each image is matched to its label, as for `accuracy`, (n,). `labels`: codes from 0."""
    y, c = np.asarray(labels), np.asarray(cluster)
    label_of = best_matching(y, c)
    correct: Booleans = np.array([label_of.get(number, -1) for number in range(int(c.max()) + 1)])[c] == y
    return correct


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> list[Bin]:
    """The reliability curve: `bins` bins with equally many images each, in order of confidence.

    `confidence`: (n,) in [0, 1]. `correct`: (n,) bool. Fewer than `bins` images make one bin each. Bins of equal
    width would be nearly empty for the most part, since most confidences are near 1.
    Raises ValueError for unequal lengths, no images, or a confidence outside [0, 1].
    """
    p, ok = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if p.ndim != 1 or p.shape != ok.shape or len(p) == 0:
        raise ValueError(
            f"confidence and correct must be lists of one length, at least 1; got shapes {p.shape} and {ok.shape}."
        )
    if not (p.min() >= 0 and p.max() <= 1 + 1e-5):
        raise ValueError(f"Confidences must be between 0 and 1; got {p.min()} to {p.max()}.")
    if bins < 1:
        raise ValueError(f"There must be at least 1 bin; got {bins}.")
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return [
        Bin(float(p[rows[0]]), float(p[rows[-1]]), float(p[rows].mean()), float(ok[rows].mean()), len(rows))
        for rows in parts
    ]


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """The mean difference of confidence and accuracy over the bins of `reliability`, weighted by images; in [0, 1]."""
    curve = reliability(confidence, correct, bins)
    return sum(abs(b.confidence - b.accuracy) * b.images for b in curve) / sum(b.images for b in curve)
