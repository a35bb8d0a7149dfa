"""Scores of a clustering: against labels, and without. NumPy only; no score here ever steers a training."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

Integers = NDArray[np.int64]


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
