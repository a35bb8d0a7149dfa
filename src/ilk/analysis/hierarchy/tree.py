"""From points to many fine clusters, and from those to a tree."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sparse
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from ilk.analysis.hierarchy.space import Floats, Integers
from ilk.analysis.kmeans import kmeans

NEIGHBOURS = 15
WALK = 3  # steps of a random walk over the fine clusters that their ties are measured by
APART = 1e-4  # tie of two clusters without a common edge, so that they too merge in a sensible order


class Tree(NamedTuple):
    fine: Integers  # (n,) the fine cluster of each point
    centres: Floats  # (m, d)
    graph: Any  # (n, n) sparse, symmetric affinities in [0, 1]
    merges: NDArray[np.float64]  # (m - 1, 4), scipy's linkage matrix; heights are never falling
    names: Integers  # (m, m): row k - 1 is the cluster of each fine cluster when there are k


def neighbours(x: Floats, of: Floats, count: int) -> tuple[Floats, Integers]:
    """Distances and numbers of the nearest `count` rows of `x` for each row of `of`."""
    result: tuple[Floats, Integers] = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(x).kneighbors(of)
    return result


def affinities(x: Floats) -> Any:
    """A sparse symmetric graph (n, n): how much two points are neighbours, measured by each one's own density.

    exp(-(distance - nearest) / mean of the others), joined by the probabilistic or, as in UMAP (McInnes et
    al. 2018) but with the mean for its searched width. So dense and thin clusters are connected alike.
    """
    n, count = len(x), min(NEIGHBOURS, len(x) - 1)
    distance, index = neighbours(x, x, count + 1)
    own = index == np.arange(n)[:, None]
    own[~own.any(1), -1] = True  # among many copies of itself a point may not find itself
    distance, index = distance[~own].reshape(n, count), index[~own].reshape(n, count)
    beyond = distance - distance[:, :1]
    weight = np.exp(-beyond / np.maximum(beyond.mean(1, keepdims=True), 1e-9))
    a = sparse.csr_matrix((weight.ravel(), (np.repeat(np.arange(n), count), index.ravel())), shape=(n, n))
    return (a + a.T - a.multiply(a.T)).tocsr()


def membership(labels: Integers, count: int) -> Any:
    """(n, count) sparse, one 1 a row."""
    return sparse.csr_matrix((np.ones(len(labels)), (np.arange(len(labels)), labels)), shape=(len(labels), count))


def build_tree(x: Floats, fine: int, seed: int) -> Tree:
    """`x` in about `fine` k-means cells, merged one pair at a time.

    The two clusters that merge next are those with the strongest tie: how often a short random walk on the
    neighbour graph leads from one to the other, compared with chance for clusters of their degrees. That is average
    linkage. One step, the plain edges, would cut wide clusters, whose far ends share none, before it parts
    two that touch; a walk gets around in the wide one first. Ward's method on the centres cuts wide and
    curved clusters too.
    """
    generator = torch.Generator().manual_seed(seed)
    found = kmeans(torch.from_numpy(x), fine, generator=generator, restarts=1, steps=30)[0]
    present, labels = np.unique(found.labels.numpy(), return_inverse=True)
    labels = labels.reshape(-1).astype(np.int64)
    centres = found.centres.numpy()[present]
    graph = affinities(x)
    merges = link(graph, labels, centres)
    return Tree(labels, centres, graph, merges, name_levels(merges, np.bincount(labels)))


def link(graph: Any, labels: Integers, centres: Floats) -> NDArray[np.float64]:
    """scipy's linkage matrix of the clusters `labels` of the points of `graph`."""
    m = len(centres)
    member = membership(labels, m)
    edges = np.asarray((member.T @ graph @ member).todense())
    degree = np.maximum(edges.sum(1), 1e-9)
    walk = np.linalg.matrix_power(edges / degree[:, None], WALK) / degree  # (m, m), symmetric but for rounding
    tie = (walk + walk.T) / 2 * degree.sum()  # times as often as by chance
    length = np.maximum(np.linalg.norm(centres, axis=1), 1e-9)
    tie += APART * (1 + centres @ centres.T / np.outer(length, length)) / 2 + APART * 1e-3
    np.fill_diagonal(tie, -1)
    leaves, number = np.ones(m), np.arange(m)
    merges, top = np.empty((m - 1, 4)), float(tie.max())
    for step in range(m - 1):
        a, b = divmod(int(tie.argmax()), m)
        pair = sorted((number[a], number[b]))
        merges[step] = *pair, max(0.0, np.log(top / tie[a, b])), leaves[a] + leaves[b]
        both = (degree[a] * tie[a] + degree[b] * tie[b]) / (degree[a] + degree[b])
        both[[a, b]] = -1
        both[tie[a] < 0] = -1  # merged away earlier
        tie[a], tie[:, a], tie[b], tie[:, b] = both, both, -1, -1
        degree[a] += degree[b]
        leaves[a] += leaves[b]
        number[a] = m + step
    merges[:, 2] = np.maximum.accumulate(merges[:, 2])  # rounding only: an average is never above the largest
    return merges


def name_levels(merges: NDArray[np.float64], sizes: Integers) -> Integers:
    """(m, m): row k - 1 gives each fine cluster its cluster when there are k.

    `sizes`: (m,) points in each fine cluster. A cluster keeps its number from level to level; when one
    is cut, the larger part keeps it and the smaller takes the next free number, k - 1. So 0 descends from
    the whole through the larger parts.
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
