"""Scores of a clustering: against labels, and without. NumPy only; no score here ever steers a training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


def contingency(labels: ArrayLike, clusters: ArrayLike) -> Integers:
    """How many images of each label (rows) are in each cluster (columns); codes from 0, gaps allowed.

    Raises ValueError for unequal lengths, no images, or negative codes.
    """
    y, c = np.asarray(labels), np.asarray(clusters)
    if y.shape != c.shape or y.ndim != 1:
        raise ValueError(f"labels and clusters must be two lists of one length; got shapes {y.shape} and {c.shape}.")
    if len(y) == 0:
        raise ValueError("There are no labelled images to score.")
    if y.min() < 0 or c.min() < 0:
        raise ValueError("Label and cluster codes must not be negative; leave images without a label out.")
    table = np.zeros((int(y.max()) + 1, int(c.max()) + 1), dtype=np.int64)
    np.add.at(table, (y, c), 1)
    return table


def best_matching(labels: ArrayLike, clusters: ArrayLike) -> dict[int, int]:
    """The one-to-one map of clusters to labels that agrees on most images (rectangular Hungarian)."""
    rows, columns = linear_sum_assignment(contingency(labels, clusters), maximize=True)
    return {int(column): int(row) for row, column in zip(rows, columns, strict=True)}


def accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """The part of images whose cluster is matched to their label, in [0, 1]; clusters left over count as wrong."""
    table = contingency(labels, clusters)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def nmi(labels: ArrayLike, clusters: ArrayLike, average: str = "arithmetic") -> float:
    """Normalised mutual information in [0, 1]; `average` of the two entropies: arithmetic or geometric."""
    return float(normalized_mutual_info_score(labels, clusters, average_method=average))


def ari(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Adjusted Rand index: 0 for chance, 1 for equal partitions, may be negative."""
    return float(adjusted_rand_score(labels, clusters))


def purity(labels: ArrayLike, clusters: ArrayLike) -> float:
    """The part of images that carry the commonest label of their cluster; grows with the number of clusters."""
    table = contingency(labels, clusters)
    return float(table.max(0).sum() / table.sum())


def effective_clusters(clusters: ArrayLike) -> float:
    """exp(entropy of the sizes): k for k equal clusters, 1 when all images are in one."""
    share = np.bincount(np.asarray(clusters)).astype(float)
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def score(labels: ArrayLike, clusters: ArrayLike) -> dict[str, float | int]:
    """All scores against labels, and how many images they rest on."""
    return {
        "images": len(np.asarray(labels)),
        "accuracy": accuracy(labels, clusters),
        "nmi_arithmetic": nmi(labels, clusters),
        "nmi_geometric": nmi(labels, clusters, "geometric"),
        "ari": ari(labels, clusters),
        "purity": purity(labels, clusters),
    }


class Bin(NamedTuple):
    """Some images of like confidence: what they were promised to be, and how many were right."""

    low: float
    high: float
    confidence: float
    accuracy: float
    images: int


def right(labels: ArrayLike, cluster: ArrayLike) -> Booleans:
    """Whether the cluster of each image is matched to its label, as for accuracy, (n,). `labels`: codes from 0."""
    y, c = np.asarray(labels), np.asarray(cluster)
    names = best_matching(y, c)
    found: Booleans = np.array([names.get(int(one), -1) for one in range(int(c.max()) + 1)])[c] == y
    return found


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> list[Bin]:
    """The reliability curve: images by rising confidence in `bins` bins of equal mass (fewer for fewer images).

    Equal mass, not equal width: confidences crowd near 1, and most bins of equal width would be nearly empty.
    Raises ValueError for unequal lengths, no images, or a confidence outside [0, 1].
    """
    p, ok = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if p.ndim != 1 or p.shape != ok.shape or len(p) == 0:
        raise ValueError(f"There must be one confidence an image, and an image; got shapes {p.shape} and {ok.shape}.")
    if not (p.min() >= 0 and p.max() <= 1 + 1e-5):
        raise ValueError(f"A confidence is a number between 0 and 1; got {p.min()} to {p.max()}.")
    if bins < 1:
        raise ValueError(f"There must be at least 1 bin; got {bins}.")
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return [
        Bin(float(p[rows[0]]), float(p[rows[-1]]), float(p[rows].mean()), float(ok[rows].mean()), len(rows))
        for rows in parts
    ]


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """How far confidence and accuracy are apart, averaged over the images of the bins of `reliability`, in [0, 1]."""
    curve = reliability(confidence, correct, bins)
    return sum(abs(one.confidence - one.accuracy) * one.images for one in curve) / sum(one.images for one in curve)
