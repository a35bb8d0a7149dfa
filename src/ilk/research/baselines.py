"""Classical clusterings by scikit-learn to compare methods with: seeded, on pixels or on embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ilk.system.allocator import memory
from ilk.system.text import did_you_mean

PCA_PARTS = 50
NEIGHBOURS = 10  # of each image, in the graph of spectral clustering
COPIES = 3  # of the features that scikit-learn has in memory at a time


@dataclass(frozen=True)
class Baseline:
    """One clustering. `most`: the most images it takes, and `why`; `random`: whether the seed matters."""

    about: str
    most: int
    why: str
    cluster: Callable[[np.ndarray, int, int], np.ndarray]  # (x, k, seed) -> (n,)
    random: bool = True
    pairs: bool = False  # whether it keeps the distances of all pairs in memory


def kmeans(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The clusters of k-means, best of ten starts."""
    from sklearn.cluster import KMeans

    return np.asarray(KMeans(k, n_init=10, random_state=seed).fit_predict(x))


def mini_batch_kmeans(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    return np.asarray(MiniBatchKMeans(k, n_init=10, random_state=seed).fit_predict(x))


def spectral(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import SpectralClustering

    near = min(NEIGHBOURS, len(x))
    model = SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=near, random_state=seed)
    with warnings.catch_warnings():  # a graph in pieces is what one hopes for: each piece is a cluster
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        return np.asarray(model.fit_predict(x))


def agglomerative(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering

    return np.asarray(AgglomerativeClustering(k, linkage="ward").fit_predict(x))


def pca_kmeans(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    return kmeans(PCA(min(PCA_PARTS, *x.shape), random_state=seed).fit_transform(x), k, seed)


def nmf_kmeans(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    if x.min() < 0:
        raise ValueError("nmf+kmeans needs numbers that are not negative, and some are. Use pca+kmeans.")
    model = NMF(k, init="nndsvda" if k <= min(x.shape) else "random", max_iter=400, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # 400 iterations define this baseline
        return kmeans(model.fit_transform(x), k, seed)


BASELINES: dict[str, Baseline] = {
    "kmeans": Baseline("k-means, 10 starts", 500_000, "ten starts would take very long", kmeans),
    "mini-batch-kmeans": Baseline(
        "k-means on batches, 10 starts", 5_000_000, "all features must be in memory", mini_batch_kmeans
    ),
    "spectral": Baseline(
        f"spectral clustering of the graph of {NEIGHBOURS} nearest neighbours", 20_000,
        "the eigenvectors of its graph would take very long", spectral,
    ),
    "agglomerative": Baseline(
        "Ward's hierarchical clustering", 20_000, "the distances of all pairs would not fit into memory", agglomerative,
        random=False, pairs=True,
    ),
    "nmf+kmeans": Baseline(
        "non-negative matrix factors, one per cluster, then k-means", 100_000, "the factorisation would take very long",
        nmf_kmeans,
    ),
    "pca+kmeans": Baseline(
        f"{PCA_PARTS} principal components, then k-means", 500_000, "ten starts would take very long",
        pca_kmeans,
    ),
}  # fmt: skip


def get_baseline(name: str) -> Baseline:
    """The baseline called `name`. Raises ValueError with the nearest name."""
    if name not in BASELINES:
        raise ValueError(f"Unknown baseline '{name}'.{did_you_mean(name, BASELINES)} Known: {', '.join(BASELINES)}.")
    return BASELINES[name]


def refuse_large(name: str, n: int, d: int) -> None:
    """Raises ValueError, with the reason, where n images of d features are too many for the baseline."""
    baseline = get_baseline(name)
    if n > baseline.most:
        smaller = f"Take fewer (--images {baseline.most}), or another baseline."
        raise ValueError(
            f"{name} takes at most {baseline.most:,} images, and there are {n:,}: {baseline.why}. {smaller}"
        )
    needed = 4 * COPIES * n * d + (4 * n * n if baseline.pairs else 0)
    if needed > memory() / 2:
        raise ValueError(
            f"{name} would take about {needed / 1e9:.1f} GB for {n:,} images of {d:,} features; this machine has"
            f" {memory() / 1e9:.1f} GB. Take fewer (--images) or smaller images (--image-size)."
        )


def baseline_clusters(name: str, x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The cluster of each row of `x` (n, d), (n,) numbers from 0. Raises ValueError for too many or too few rows."""
    refuse_large(name, *x.shape)
    if len(x) < k:
        raise ValueError(f"{k} clusters need at least {k} images; there are {len(x)}.")
    return get_baseline(name).cluster(np.asarray(x, dtype=np.float32), k, seed).astype(np.int64)
