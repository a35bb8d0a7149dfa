"""Nearest neighbours of images, and matrices of the cosine similarity of images and of clusters."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from ilk.runs.tables import Cluster

RANKS = (1, 2, 10, 50, 100)
CELLS = 1 << 22  # similarities in memory at a time
SAMPLES = 500  # images in the matrix of samples
MOST_CLUSTERS = 200  # in the matrix of clusters
LEVELS = 32  # shades of a matrix
# matplotlib's viridis (CC0) at ten even steps; its lightness rises all the way, in gray and to the colour-blind too
VIRIDIS = "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725"


def unit_rows(embedding: np.ndarray) -> np.ndarray:
    """The rows scaled to length 1, float32."""
    rows = np.asarray(embedding, dtype=np.float32)
    result: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result


def nearest(z: np.ndarray, ranks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of each row at those ranks (1 = the nearest other row) and their cosines, both (n, ranks).

    `z`: (n, d) float32, rows of length 1. Each rank is less than n. The search is exact, a few rows at a time; of rows
    that are equally near, the earlier one comes first.
    """
    n, top = len(z), max(ranks)
    index = np.zeros((n, len(ranks)), dtype=np.int64)
    cosine = np.zeros((n, len(ranks)), dtype=np.float32)
    places = np.asarray(ranks) - 1
    step = max(1, CELLS // n)
    for start in range(0, n, step):
        similar = z[start : start + step] @ z.T  # (step, n)
        own = np.arange(len(similar))
        similar[own, start + own] = -2.0
        if top < n - 1:
            near = np.sort(np.argpartition(similar, n - top, axis=1)[:, n - top :], axis=1)
        else:
            near = np.broadcast_to(np.arange(n), similar.shape)
        values = np.take_along_axis(similar, near, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, places]
        index[start : start + step] = np.take_along_axis(near, order, axis=1)
        cosine[start : start + step] = np.take_along_axis(values, order, axis=1)
    return index, cosine.clip(-1, 1)


def neighbours_payload(z: np.ndarray) -> dict[str, Any] | None:
    """The neighbours of every image at ranks 1, 2, 10, 50 and 100, or those of them that are less than n."""
    ranks = [rank for rank in RANKS if rank < len(z)]
    if not ranks:
        return None
    index, cosine = nearest(z, ranks)
    kind = "uint16" if len(z) <= 1 << 16 else "uint32"
    return {
        "ranks": ranks,
        "data": packed(index.astype("<u2" if kind == "uint16" else "<u4")),
        "dtype": kind,
        "similarity": packed(np.rint((cosine + 1) * 127.5).astype(np.uint8)),
    }


def packed(array: np.ndarray) -> str:
    """The bytes of an array as base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def cluster_cosines(embedding: np.ndarray, clusters: Sequence[Cluster]) -> np.ndarray:
    """The cosine similarity of the mean embeddings of clusters, (k, k); 0 for empty clusters."""
    means = np.zeros((len(clusters), embedding.shape[1]), dtype=np.float32)
    for cluster in clusters:
        if cluster.size:
            means[cluster.number] = unit_rows(embedding[cluster.rows]).mean(0)
    means = unit_rows(means)
    result: np.ndarray = (means @ means.T).clip(-1, 1)
    return result


def near_clusters(cosines: np.ndarray, clusters: Sequence[Cluster], number: int) -> list[dict[str, Any]]:
    """The three clusters nearest to cluster `number`, nearest first; none for an empty cluster."""
    others = [cluster.number for cluster in clusters if cluster.size and cluster.number != number]
    if not clusters[number].size:
        return []
    others.sort(key=lambda other: -cosines[number, other])
    return [{"number": other, "similarity": round(float(cosines[number, other]), 3)} for other in others[:3]]


def affinity_payload(embedding: np.ndarray, cosines: np.ndarray, clusters: Sequence[Cluster]) -> dict[str, Any]:
    """Similarities of sampled images and of clusters, with clusters in the same order in both."""
    order = similar_together(cosines, clusters)
    return {
        "samples": sample_matrix(embedding, [clusters[number] for number in order]),
        "clusters": {"matrix": np.round(cosines[np.ix_(order, order)].astype(float), 3).tolist(), "order": order},
    }


def similar_together(cosines: np.ndarray, clusters: Sequence[Cluster]) -> list[int]:
    """The numbers of clusters with images, the largest first, then always the one most similar to the one before.

    Only the 200 largest where there are more.
    """
    left = sorted((cluster.number for cluster in clusters if cluster.size), key=lambda number: -clusters[number].size)
    left = left[:MOST_CLUSTERS]
    order = [left.pop(0)]
    while left:
        order.append(left.pop(int(np.argmax(cosines[order[-1], left]))))
    return order


def sample_matrix(embedding: np.ndarray, clusters: Sequence[Cluster]) -> dict[str, Any]:
    """Cosine similarities of up to 500 images as a small picture; each cluster has its share, typical images first."""
    total = sum(cluster.size for cluster in clusters)
    most = min(SAMPLES, total)
    counts = np.maximum(1, np.floor(most * np.array([cluster.size for cluster in clusters]) / total)).astype(int)
    rows: list[np.ndarray] = []
    bounds: list[int] = []
    for cluster, count in zip(clusters, counts, strict=True):
        bounds.append(sum(len(part) for part in rows))
        rows.append(cluster.rows[np.linspace(0, cluster.size - 1, min(count, cluster.size)).round().astype(int)])
    z = unit_rows(embedding[np.concatenate(rows)])
    similar = z @ z.T
    low, high = float(similar.min()), float(similar.max())
    levels = np.rint((similar - low) / max(high - low, 1e-12) * (LEVELS - 1)).astype(np.uint8)
    return {"png": png(levels), "bounds": bounds, "count": len(z), "low": round(low, 3), "high": round(high, 3)}


def png(levels: np.ndarray) -> str:
    """A PNG data address of a matrix of 0 to 31, in the colours of viridis."""
    colours = np.array([[int(text[i : i + 2], 16) for i in (0, 2, 4)] for text in VIRIDIS.split()], dtype=float)
    at = np.linspace(0, len(colours) - 1, LEVELS)
    table = np.stack([np.interp(at, np.arange(len(colours)), colours[:, i]) for i in range(3)], axis=1)
    picture = Image.fromarray(levels)
    picture.putpalette(np.rint(table).astype(np.uint8).tobytes())
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
