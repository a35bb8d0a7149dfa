"""Clusters as dense regions of feature space, and the images outside of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import HDBSCAN

from ilk.analysis.hierarchy.space import Floats, Integers, checked, find_space, place
from ilk.analysis.hierarchy.tree import neighbours

ROWS = 8_000  # at most so many images are given to HDBSCAN
WIDTH = 15  # dimensions; density means little in many more
SAMPLES = 5  # neighbours that measure density
FAR = 3.0  # an image is outside if it is further from the nearest member than so many median neighbour distances


class Density(NamedTuple):
    """The dense cluster of each image."""

    labels: Integers  # (n,) from 0, the largest cluster first; -1 for outside of all
    probability: Floats  # (n,) in [0, 1], how deep inside its cluster; 0 outside


def density_clusters(features: Any, *, min_cluster_size: int | None = None, seed: int = 0) -> Density:
    """HDBSCAN's clusters of `features`, (n, d) of any scale, with -1 for the images between clusters.

    `min_cluster_size`: in images; by default a hundredth of them, at least 10. Of more than 8,000 images a random
    sample is clustered, with the minimum size scaled in proportion, and each other image takes the cluster of its
    nearest image in the sample. Raises ValueError for a minimum size outside 2 to n, or features that are not finite.
    Departure from Campello et al. 2013 and scikit-learn: an image further from the nearest member than three times
    the cluster's median distance between neighbours leaves the cluster. HDBSCAN keeps every image that was connected
    when the cluster appeared, which includes most outliers if there are few clusters.
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
    hdbscan = HDBSCAN(min_cluster_size=least, min_samples=min(SAMPLES, len(x)), copy=True).fit(x)
    inside = hdbscan.labels_ >= 0
    labels, probability = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.float32)
    if not inside.any():
        return Density(labels, probability)
    core, own, depth = x[inside], hdbscan.labels_[inside], hdbscan.probabilities_[inside]
    apart = neighbours(core, core, 2)[0][:, 1]
    limit = FAR * np.array([np.median(apart[own == c]) for c in range(own.max() + 1)])
    member = sample[inside]
    kept = apart <= limit[own]
    labels[member], probability[member] = np.where(kept, own, -1), np.where(kept, depth, 0)
    rest = np.setdiff1d(np.arange(n), sample)
    if len(rest):
        distance, index = neighbours(core, place(features[rest], space), 1)
        near = own[index[:, 0]]
        kept = distance[:, 0] <= limit[near]
        labels[rest], probability[rest] = np.where(kept, near, -1), np.where(kept, depth[index[:, 0]], 0)
    return Density(by_size(labels), probability)


def by_size(labels: Integers) -> Integers:
    """The same clusters, numbered by size: the largest is 0; -1 stays -1. (n,)"""
    count = np.bincount(labels[labels >= 0])
    rank = np.empty(len(count), dtype=np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(count))
    return np.where(labels >= 0, np.append(rank, -1)[labels], -1)
