"""A second opinion: classical clusterings of the same embeddings, compared with the clusters of the heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilk.analysis.metrics import ari
from ilk.analysis.neighbours import unit_floats
from ilk.evaluation.intervals import RESAMPLES, score_with_intervals

MOST_MEANS = 50_000  # most images that k-means is fitted to; the others join the nearest centre
MOST_TREE = 5_000  # most images of the agglomerative clustering, which keeps all pairwise distances in memory
BLOCK = 16_384
STARTS = 5


def by_kmeans(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The clusters of scikit-learn's k-means on rows scaled to length 1, (n,): best of five starts."""
    from sklearn.cluster import KMeans

    rows = np.arange(len(features))
    if len(features) > MOST_MEANS:
        rows = np.sort(np.random.default_rng(seed).permutation(len(features))[:MOST_MEANS])
    model = KMeans(k, n_init=STARTS, random_state=seed).fit(unit_floats(features[rows], "embeddings").numpy())
    blocks = (features[start : start + BLOCK] for start in range(0, len(features), BLOCK))
    clusters = [model.predict(unit_floats(block, "embeddings").numpy()) for block in blocks]
    return np.concatenate(clusters).astype(np.int64)


def by_tree(features: np.ndarray, k: int) -> np.ndarray:
    """The clusters of scikit-learn's agglomerative clustering (Ward) on rows scaled to length 1, (n,)."""
    from sklearn.cluster import AgglomerativeClustering

    x = unit_floats(features, "embeddings").numpy()
    return np.asarray(AgglomerativeClustering(k, linkage="ward").fit_predict(x), dtype=np.int64)


def second_opinions(
    features: np.ndarray, cluster: np.ndarray, codes: np.ndarray, k: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Clusters by k-means and by Ward's method: agreement (ARI) with the heads, and scores of both against labels.

    `features`: (n, d); `cluster`: (n,) by the heads; `codes`: (n,) label codes, -1 for none; `k`: how many clusters.
    Heads and second opinion are scored on the same images. Raises ValueError for fewer images than clusters.
    """
    n = len(features)
    if n < k:
        raise ValueError(f"{k} clusters need at least {k} images; there are {n}.")
    sample = np.arange(n)
    if n > MOST_TREE:
        sample = np.sort(np.random.default_rng(seed).permutation(n)[:MOST_TREE])
    if len(sample) < k:
        raise ValueError(f"{k} clusters are more than the {len(sample):,} images of the agglomerative clustering.")
    opinions: dict[str, Any] = {}
    for name, rows, clusters in (
        ("k-means", np.arange(n), by_kmeans(features, k, seed)),
        ("agglomerative", sample, by_tree(features[sample], k)),
    ):
        which = "all" if len(rows) == n else f"a random {len(rows):,} of {n:,}"
        opinion = {"images": len(rows), "which": which, "agreement": ari(cluster[rows], clusters)}
        scored = codes[rows] >= 0
        if scored.any():
            labels, heads = codes[rows][scored], cluster[rows][scored]
            options = {"resamples": resamples, "seed": seed}
            opinion["scores"] = without_recall(score_with_intervals(labels, clusters[scored], **options))
            opinion["heads"] = without_recall(score_with_intervals(labels, heads, **options))
        opinions[name] = opinion
    return opinions


def without_recall(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name != "recall"}
