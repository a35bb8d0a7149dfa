"""Criteria for the number of clusters: agreement of two partitions, in nats, and a silhouette.

Every criterion but the silhouette compares two partitions of the same points at each level of the tree, by their mean
entropy H and their mutual information I. Splitting a cluster along a real boundary adds the same to H and to I;
splitting it at random adds more to H than to I. How much random splits add to I is measured on the fine clusters,
which are far too many by design: there it is I_fine / H_fine. That ratio is the slope of a straight line from one
cluster to all fine clusters, and the *gain* of a level is how far its I lies above the line, in nats. One cluster has
gain 0. The slope is an estimate, so gains are computed for a flatter and a steeper slope too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import dijkstra

from ilk.analysis.hierarchy.space import Floats, Integers
from ilk.analysis.hierarchy.tree import Tree, membership

Doubles = NDArray[np.float64]

LEAST_SLOPE = 0.5  # a split must add to I at least half of what it adds to H
SLOPES = (1.0, 0.9, 1.05)  # factors on the measured slope: as measured, flatter, steeper; all plausible
SETTLING = 10  # steps of the lazy random walk along the neighbour graph
FOLDS = 3
RIDGE = 1e-3  # of the mean diagonal of the Gram matrix, added to its diagonal in the linear classifier


class Evidence(NamedTuple):
    """What one criterion says about each number of clusters."""

    gain: Doubles  # (len(SLOPES), ks) in nats
    share: Doubles  # (ks,) I / H, in [0, 1]: the share of the entropy on which both partitions agree; 0 for k = 1


def information(table: Doubles) -> tuple[float, float]:
    """Mutual information of the two partitions of a contingency table, and their mean entropy, in nats."""
    share = table / table.sum()
    both, rows, columns = (entropy(part) for part in (share.ravel(), share.sum(1), share.sum(0)))
    return rows + columns - both, (rows + columns) / 2


def entropy(share: Doubles) -> float:
    """The entropy of a distribution, in nats."""
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def contingency(rows: Integers, columns: Integers, shape: tuple[int, int]) -> Doubles:
    """How many points have each pair of clusters, of `shape`. `rows`, `columns`: (n,) two partitions."""
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def evidence_of(points: Sequence[tuple[float, float]], end: tuple[float, float]) -> Evidence:
    """The gains and shares of levels with these (I, H); `end` is the (I, H) of the fine clusters."""
    shared, whole = np.array(points).T
    slopes = [max(LEAST_SLOPE, factor * end[0] / max(end[1], 1e-12)) for factor in SLOPES]
    return Evidence(np.stack([shared - slope * whole for slope in slopes]), shared / np.maximum(whole, 1e-12))


def merged(fine_table: Doubles, rows: Integers, columns: Integers) -> Doubles:
    """The contingency table of one level, from that of the fine clusters.

    `rows`, `columns`: the cluster, at that level, of each fine cluster.
    """
    left, right = (membership(names, int(names.max()) + 1) for names in (rows, columns))
    return np.asarray(left.T @ fine_table @ right)


def agreement(a: Integers, tree_a: Tree, b: Integers, tree_b: Tree, ks: Sequence[int]) -> Evidence:
    """Evidence from two partitions of the same points. `a`, `b`: (n,) fine clusters of `tree_a` and `tree_b`."""
    table = contingency(a, b, (len(tree_a.centres), len(tree_b.centres)))
    points = [information(merged(table, tree_a.names[k - 1], tree_b.names[k - 1])) for k in ks]
    return evidence_of(points, information(table))


def settled(graph: Any, fine: Integers, total: int) -> Doubles:
    """The distribution over fine clusters of where a short random walk from each point ends, (n, total).

    `graph`: (n, n) sparse affinities. `fine`: (n,) in [0, total).
    """
    degree = np.maximum(np.asarray(graph.sum(1)), 1e-9)
    walk = graph.multiply(1 / degree).tocsr()
    scores = np.asarray(membership(fine, total).todense())
    for _ in range(SETTLING):
        scores = (scores + walk @ scores) / 2
    return scores


def settled_agreement(graph: Any, a: Integers, tree_a: Tree, b: Integers, tree_b: Tree, ks: Sequence[int]) -> Evidence:
    """The evidence of `agreement`, after each point has moved to the cluster that is most common around it in `graph`.

    Where clusters touch, the borders of k-means cells lie elsewhere in each tree, even if both trees find the same
    clusters. Settling removes that noise, which would count against levels with many borders.
    """
    shape = len(tree_a.centres), len(tree_b.centres)
    scores_a, scores_b = settled(graph, a, shape[0]), settled(graph, b, shape[1])
    both = zip(levels_of(scores_a, tree_a, max(ks)), levels_of(scores_b, tree_b, max(ks)), strict=True)
    points = {k: information(contingency(left.argmax(1), right.argmax(1), (k, k))) for (k, left), (_, right) in both}
    return evidence_of([points[k] for k in ks], information(contingency(scores_a.argmax(1), scores_b.argmax(1), shape)))


def levels_of(columns: Doubles, tree: Tree, most: int) -> Iterator[tuple[int, Doubles]]:
    """For k = 1 to `most`: k, and the sums of `columns`, (n, fine), over each cluster of level k, (n, k).

    Each level differs from the one before by one split, so only two sums change. The array is reused: copy what is
    to be kept.
    """
    sums = np.zeros((len(columns), most))
    sums[:, 0] = columns.sum(1)
    yield 1, sums[:, :1]
    for k in range(2, most + 1):
        split_off = np.flatnonzero(tree.names[k - 1] == k - 1)
        sums[:, k - 1] = columns[:, split_off].sum(1)
        sums[:, tree.names[k - 2][split_off[0]]] -= sums[:, k - 1]
        yield k, sums[:, :k]


def prediction(scores: Doubles, tree: Tree, ks: Sequence[int]) -> Evidence:
    """Evidence from clusters that are predicted for each point, compared with the clusters of the tree.

    `scores`: (n, fine), of each fine cluster; the score of a cluster is the sum over its fine clusters.
    """
    most = len(tree.names)
    points = {
        k: information(contingency(tree.names[k - 1][tree.fine], sums.argmax(1), (k, k)))
        for k, sums in levels_of(scores, tree, max(ks))
    }
    end = information(contingency(tree.names[-1][tree.fine], tree.names[-1][scores.argmax(1)], (most, most)))
    return evidence_of([points[k] for k in ks], end)


def neighbour_scores(tree: Tree) -> Doubles:
    """The sum of the affinities of each point to the points of each fine cluster, (n, fine)."""
    return np.asarray((tree.graph @ membership(tree.fine, len(tree.centres))).todense())


def linear_scores(x: Floats, tree: Tree, random: np.random.Generator) -> Doubles:
    """Scores of fine clusters by a linear classifier that was fitted to other points (3 folds), (n, fine).

    Least squares with a small ridge penalty: linear in its targets, so one fit serves all levels. TURTLE (Gadetsky et
    al., ICML 2024) too judges a labelling by how well a linear classifier generalises.
    """
    fold = random.integers(0, FOLDS, len(x))
    inputs = np.column_stack([x / max(float(x.std()), 1e-9), np.ones(len(x))]).astype(np.float64)
    targets = membership(tree.fine, len(tree.centres)).toarray()
    scores = np.zeros_like(targets)
    for number in range(FOLDS):
        test = fold == number
        gram = inputs[~test].T @ inputs[~test]
        gram += np.eye(len(gram)) * RIDGE * np.trace(gram) / len(gram)
        scores[test] = inputs[test] @ np.linalg.solve(gram, inputs[~test].T @ targets[~test])
    held_out: Doubles = scores
    return held_out


def silhouettes(tree: Tree, ks: Sequence[int]) -> Doubles:
    """Mean silhouette for each of `ks`, with shortest paths along the neighbour graph as distances; (ks,) in [-1, 1].

    A path follows a curved cluster. The distance to a cluster is the mean of those to the best connected point of
    each of its fine clusters, weighted by their sizes. Points without a path between them are 1.5 times the longest
    path apart.
    """
    length = tree.graph.copy()
    length.data = 1 - np.log(np.clip(length.data, 1e-6, 1))
    degree = np.asarray(tree.graph.sum(1)).ravel()
    order = np.lexsort((-degree, tree.fine))
    first = order[np.searchsorted(tree.fine[order], np.arange(len(tree.centres)))]
    path = dijkstra(length, directed=False, indices=first).T  # (n, m)
    path[~np.isfinite(path)] = 1.5 * path[np.isfinite(path)].max()
    size = np.bincount(tree.fine)
    means = {}
    for k, sums in levels_of(path * size, tree, max(ks)):
        names = tree.names[k - 1]
        mean = sums / np.bincount(names, weights=size)
        at = np.arange(len(mean)), names[tree.fine]
        own = mean[at]
        mean[at] = np.inf
        other = mean.min(1)
        means[k] = float(((other - own) / np.maximum(np.maximum(own, other), 1e-9)).mean()) if k > 1 else 0.0
    return np.array([means[k] for k in ks])
