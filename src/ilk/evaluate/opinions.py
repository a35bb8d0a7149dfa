"""A second opinion: what plain clustering algorithms make of the same embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilk.analysis.metrics import ari
from ilk.analysis.neighbours import unit_floats
from ilk.evaluate.intervals import RESAMPLES, score_with_intervals

MOST_MEANS = 50_000  # images that k-means is fitted to, at most; the others join the nearest centre
MOST_TREE = 5_000  # images of the agglomerative clustering, at most: it holds a distance for every two of them
BLOCK = 16_384
STARTS = 5


def by_kmeans(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The clusters of scikit-learn's k-means on the rows brought to length 1, (n,): best of five starts."""
    from sklearn.cluster import KMeans

    draws = np.random.default_rng(seed)
    rows = np.arange(len(features)) if len(features) <= MOST_MEANS else np.sort(
        draws.permutation(len(features))[:MOST_MEANS]
    )  # fmt: skip
    model = KMeans(k, n_init=STARTS, random_state=seed).fit(unit_floats(features[rows], "embeddings").numpy())
    parts = range(0, len(features), BLOCK)
    return np.concatenate([
        model.predict(unit_floats(features[start : start + BLOCK], "embeddings").numpy()) for start in parts
    ]).astype(np.int64)  # fmt: skip


def by_tree(features: np.ndarray, k: int) -> np.ndarray:
    """The clusters of scikit-learn's agglomerative clustering (Ward) on the rows brought to length 1, (n,)."""
    from sklearn.cluster import AgglomerativeClustering

    x = unit_floats(features, "embeddings").numpy()
    return np.asarray(AgglomerativeClustering(k, linkage="ward").fit_predict(x), dtype=np.int64)


def second_opinions(
    features: np.ndarray, cluster: np.ndarray, codes: np.ndarray, k: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """What k-means and Ward's clustering find, how far they agree with the heads, and each against labels.

    `cluster`: (n,) that of the heads; `codes`: (n,) labels, -1 for none; `k` for both. Heads and opinion are
    scored on the same images, so that they can be compared. Raises ValueError for fewer images than clusters.
    """
    n = len(features)
    if n < k:
        raise ValueError(f"{k} clusters need at least {k} images; there are {n}.")
    sample = np.arange(n)
    if n > MOST_TREE:
        sample = np.sort(np.random.default_rng(seed).permutation(n)[:MOST_TREE])
    if len(sample) < k:
        raise ValueError(f"{k} clusters are more than the {len(sample):,} images that a tree is grown from.")
    found: dict[str, Any] = {}
    for name, rows, said in (
        ("k-means", np.arange(n), by_kmeans(features, k, seed)),
        ("agglomerative", sample, by_tree(features[sample], k)),
    ):
        which = "all" if len(rows) == n else f"a random {len(rows):,} of {n:,}"
        found[name] = {"images": len(rows), "which": which, "agreement": ari(cluster[rows], said)}
        scored = codes[rows] >= 0
        if scored.any():
            options = {"resamples": resamples, "seed": seed}
            found[name]["scores"] = without_recall(score_with_intervals(codes[rows][scored], said[scored], **options))
            found[name]["heads"] = without_recall(
                score_with_intervals(codes[rows][scored], cluster[rows][scored], **options)
            )
    return found


def without_recall(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name != "recall"}
