"""Clusters as dense places, and the images that belong to none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import HDBSCAN

from ilk.analysis.hierarchy.space import Floats, Integers, checked, find_space, place
from ilk.analysis.hierarchy.tree import neighbours

ROWS = 8_000  # images that HDBSCAN sees
WIDTH = 15  # dimensions: density means little in many more
SAMPLES = 5  # neighbours that measure density
FAR = 3.0  # times a cluster's usual distance between neighbours: an image further from its nearest member is none of it


class Density(NamedTuple):
    labels: Integers  # (n,) from 0, the largest cluster first; -1 for none
    probability: Floats  # (n,) how deep inside its cluster, 0 for none


def density_clusters(features: Any, *, min_cluster_size: int | None = None, seed: int = 0) -> Density:
    """HDBSCAN's clusters of `features`, (n, d): dense places, with -1 for the images between them.

    `min_cluster_size`: in images; by default a hundredth of them, at least 10. Of more than 8,000 images a sample
    is clustered (the size scaled alike), and the others take the cluster of their nearest one.
    Departure from Campello et al. 2013 and scikit-learn: an image further than three times the usual distance
    from the next member leaves its cluster. HDBSCAN keeps whatever was connected when the cluster began, and
    that is most strangers where there are few clusters.
    """
    features = checked(features)
    n = len(features)
    size = max(10, n // 100) if min_cluster_size is None else min_cluster_size
    if not 2 <= size <= n:
        raise ValueError(f"min_cluster_size must be between 2 and the {n} images; got {size}.")
    sample = np.sort(np.random.default_rng(seed).permutation(n)[:ROWS])
    space = find_space(features[sample], seed)
    space = space._replace(basis=space.basis[:, :WIDTH])
    x = place(features[sample], space)
    least = max(2, round(size * len(x) / n))
    found = HDBSCAN(min_cluster_size=least, min_samples=min(SAMPLES, len(x)), copy=True).fit(x)
    inside = found.labels_ >= 0
    labels, probability = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.float32)
    if not inside.any():
        return Density(labels, probability)
    core, own, sure = x[inside], found.labels_[inside], found.probabilities_[inside]
    apart = neighbours(core, core, 2)[0][:, 1]
    limit = FAR * np.array([np.median(apart[own == c]) for c in range(own.max() + 1)])
    member = sample[inside]
    kept = apart <= limit[own]
    labels[member], probability[member] = np.where(kept, own, -1), np.where(kept, sure, 0)
    rest = np.setdiff1d(np.arange(n), sample)
    if len(rest):
        distance, index = neighbours(core, place(features[rest], space), 1)
        near = own[index[:, 0]]
        kept = distance[:, 0] <= limit[near]
        labels[rest], probability[rest] = np.where(kept, near, -1), np.where(kept, sure[index[:, 0]], 0)
    return Density(by_size(labels), probability)


def by_size(labels: Integers) -> Integers:
    """The same clusters, the largest called 0."""
    count = np.bincount(labels[labels >= 0])
    rank = np.empty(len(count), dtype=np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(count))
    return np.where(labels >= 0, np.append(rank, -1)[labels], -1)
