"""A tree of clusters: points are divided into many fine clusters, which are merged two at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sparse
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from ilk.analysis.hierarchy.space import Floats, Integers
from ilk.analysis.kmeans import kmeans

NEIGHBOURS = 15  # edges of each point in the neighbour graph, at least
WALK = 3  # steps of the random walk over fine clusters that measures their ties
APART = 1e-4  # scale of the tie of unconnected clusters, so that they merge by their cosine


class Tree(NamedTuple):
    """Fine clusters of n points, and how they merge."""

    fine: Integers  # (n,) the fine cluster of each point
    centres: Floats  # (m, d) of the fine clusters
    graph: Any  # (n, n) sparse, symmetric affinities in [0, 1]
    merges: NDArray[np.float64]  # (m - 1, 4), scipy's linkage matrix; heights never decrease
    names: Integers  # (m, m): row k - 1 is the cluster of each fine cluster when there are k


def neighbours(x: Floats, of: Floats, count: int) -> tuple[Floats, Integers]:
    """The distances to the `count` rows of `x` nearest to each row of `of`, and their numbers, both (m, count)."""
    nearest: tuple[Floats, Integers] = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(x).kneighbors(of)
    return nearest


def affinities(x: Floats) -> Any:
    """The neighbour graph of `x`, (n, d): a sparse symmetric matrix (n, n) of affinities in [0, 1].

    exp(-(distance - nearest distance) / mean), with the mean over the point's 15 neighbours of the exponent's
    numerator; a + b - ab makes it symmetric. As in UMAP (McInnes et al. 2018), except that UMAP searches the width.
    The scale is that of each point, so dense and sparse clusters are connected equally well.
    """
    n, count = len(x), min(NEIGHBOURS, len(x) - 1)
    distance, index = neighbours(x, x, count + 1)
    own = index == np.arange(n)[:, None]
    own[~own.any(1), -1] = True  # a point with many copies may not be among its own neighbours
    distance, index = distance[~own].reshape(n, count), index[~own].reshape(n, count)
    beyond = distance - distance[:, :1]
    weight = np.exp(-beyond / np.maximum(beyond.mean(1, keepdims=True), 1e-9))
    a = sparse.csr_matrix((weight.ravel(), (np.repeat(np.arange(n), count), index.ravel())), shape=(n, n))
    return (a + a.T - a.multiply(a.T)).tocsr()


def membership(labels: Integers, count: int) -> Any:
    """The one-hot matrix of `labels`, (n, count), sparse."""
    return sparse.csr_matrix((np.ones(len(labels)), (np.arange(len(labels)), labels)), shape=(len(labels), count))


def build_tree(x: Floats, fine: int, seed: int) -> Tree:
    """The tree of `x`, (n, d): about `fine` k-means cells, merged one pair at a time.

    The two clusters that merge next have the strongest tie: how often a short random walk on the neighbour graph
    leads from one to the other, divided by its expectation for clusters of their degrees (average linkage). With one
    step of the walk, wide clusters, whose far ends have no common edge, would be split before two clusters that
    touch; a walk of three steps first spreads within the wide cluster. Ward's method on the centres splits wide and
    curved clusters too.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = kmeans(torch.from_numpy(x), fine, generator=generator, restarts=1, steps=30)[0]
    present, labels = np.unique(cells.labels.numpy(), return_inverse=True)
    labels = labels.reshape(-1).astype(np.int64)
    centres = cells.centres.numpy()[present]
    graph = affinities(x)
    merges = link(graph, labels, centres)
    return Tree(labels, centres, graph, merges, name_levels(merges, np.bincount(labels)))


def link(graph: Any, labels: Integers, centres: Floats) -> NDArray[np.float64]:
    """scipy's linkage matrix, (m - 1, 4), of the fine clusters.

    `graph`: (n, n) affinities of the points. `labels`: (n,) their fine clusters. `centres`: (m, d).
    """
    m = len(centres)
    member = membership(labels, m)
    edges = np.asarray((member.T @ graph @ member).todense())
    degree = np.maximum(edges.sum(1), 1e-9)
    walk = np.linalg.matrix_power(edges / degree[:, None], WALK) / degree  # (m, m), symmetric but for rounding
    tie = (walk + walk.T) / 2 * degree.sum()  # ratio to chance
    length = np.maximum(np.linalg.norm(centres, axis=1), 1e-9)
    tie += APART * (1 + centres @ centres.T / np.outer(length, length)) / 2 + APART * 1e-3
    np.fill_diagonal(tie, -1)
    leaves, number = np.ones(m), np.arange(m)
    merges, top = np.empty((m - 1, 4)), float(tie.max())
    for step in range(m - 1):
        a, b = divmod(int(tie.argmax()), m)
        pair = sorted((number[a], number[b]))
        merges[step] = *pair, max(0.0, np.log(top / tie[a, b])), leaves[a] + leaves[b]
        joint = (degree[a] * tie[a] + degree[b] * tie[b]) / (degree[a] + degree[b])
        joint[[a, b]] = -1
        joint[tie[a] < 0] = -1  # merged away earlier
        tie[a], tie[:, a], tie[b], tie[:, b] = joint, joint, -1, -1
        degree[a] += degree[b]
        leaves[a] += leaves[b]
        number[a] = m + step
    merges[:, 2] = np.maximum.accumulate(
        merges[:, 2]
    )  # corrects rounding only, since an average never exceeds its largest term
    return merges


def name_levels(merges: NDArray[np.float64], sizes: Integers) -> Integers:
    """The cluster of each fine cluster at every level, (m, m): row k - 1 is for k clusters.

    `sizes`: (m,) points in each fine cluster. A cluster keeps its number from level to level; when it is split, the
    larger part keeps the number and the smaller part gets the next one, k - 1.
    """
    m = len(merges) + 1
    leaves: list[list[int]] = [[leaf] for leaf in range(m)]
    size = sizes.tolist()
    for a, b, _, _ in merges:
        leaves.append(leaves[int(a)] + leaves[int(b)])
        size.append(size[int(a)] + size[int(b)])
    names = np.zeros((m, m), dtype=np.int64)
    for k in range(2, m + 1):
        a, b, _, _ = merges[m - k]
        small = min((int(a), int(b)), key=lambda node: (size[node], -node))
        names[k - 1] = names[k - 2]
        names[k - 1, leaves[small]] = k - 1
    return names
