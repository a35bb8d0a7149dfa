"""What speaks for a number of clusters: joint tables of two opinions, counted in nats, and a silhouette.

Every opinion pair gives, at each level of the tree, the entropy H of the clusters and the information I
that the two opinions share. Cutting a real kind into kinds adds to both alike; cutting at random adds
to H and less to I. What a random cut adds is read off the data: the fine clusters, far too many by
design, share I_fine of H_fine. Their ratio is the slope of a straight line from one cluster to all of them, and
the *gain* of a level is how far its I lies above that line. One cluster gains 0. The slope is an
estimate, so each gain is also counted with a flatter and a steeper one.
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

LEAST_SLOPE = 0.5  # a cluster must be agreed on more than it is disputed, however little the fine ones are
SLOPES = (1.0, 0.9, 1.05)  # times the slope as read: itself, a flatter and a steeper one that are as plausible
SETTLING = 10  # lazy steps along the neighbour graph, after which a point is where its surroundings are
FOLDS = 3
FIRM = 1e-3  # of the mean square, added to the diagonal of the linear classifier


class Evidence(NamedTuple):
    gain: Doubles  # (len(SLOPES), ks) in nats
    share: Doubles  # (ks,) I / H: the part of the clusters that the opinions agree on, 0 for one cluster


def information(table: Doubles) -> tuple[float, float]:
    """Shared information of the two opinions in a table of counts, and their mean entropy, in nats."""
    share = table / table.sum()
    both, rows, columns = (entropy(part) for part in (share.ravel(), share.sum(1), share.sum(0)))
    return rows + columns - both, (rows + columns) / 2


def entropy(share: Doubles) -> float:
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def count(rows: Integers, columns: Integers, shape: tuple[int, int]) -> Doubles:
    """How often each pair of numbers occurs."""
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def weigh(points: Sequence[tuple[float, float]], end: tuple[float, float]) -> Evidence:
    """How far each (I, H) lies above the lines of `SLOPES` to `end`, the (I, H) of the fine clusters."""
    shared, whole = np.array(points).T
    slopes = [max(LEAST_SLOPE, factor * end[0] / max(end[1], 1e-12)) for factor in SLOPES]
    return Evidence(np.stack([shared - slope * whole for slope in slopes]), shared / np.maximum(whole, 1e-12))


def fold(fine_table: Doubles, rows: Integers, columns: Integers) -> Doubles:
    """A table of fine clusters as one of the clusters that `rows` and `columns` name."""
    left, right = (membership(names, int(names.max()) + 1) for names in (rows, columns))
    return np.asarray(left.T @ fine_table @ right)


def agreement(a: Integers, tree_a: Tree, b: Integers, tree_b: Tree, ks: Sequence[int]) -> Evidence:
    """Of two opinions `a` and `b` on the same points, given as fine clusters of two trees (or of one twice)."""
    table = count(a, b, (len(tree_a.centres), len(tree_b.centres)))
    points = [information(fold(table, tree_a.names[k - 1], tree_b.names[k - 1])) for k in ks]
    return weigh(points, information(table))


def settled(graph: Any, fine: Integers, total: int) -> Doubles:
    """(n, total): where a short random walk from each point on the neighbour graph ends, by fine cluster."""
    degree = np.maximum(np.asarray(graph.sum(1)), 1e-9)
    walk = graph.multiply(1 / degree).tocsr()
    scores = np.asarray(membership(fine, total).todense())
    for _ in range(SETTLING):
        scores = (scores + walk @ scores) / 2
    return scores


def settled_agreement(graph: Any, a: Integers, tree_a: Tree, b: Integers, tree_b: Tree, ks: Sequence[int]) -> Evidence:
    """As `agreement`, after each point of `graph` has joined the cluster that surrounds it.

    Where clusters touch, the edges of k-means cells fall elsewhere in each tree, though both have found the
    same clusters; that noise is gone after settling, and levels with more cut places are no longer worse for it.
    """
    shape = len(tree_a.centres), len(tree_b.centres)
    scores_a, scores_b = settled(graph, a, shape[0]), settled(graph, b, shape[1])
    both = zip(levels_of(scores_a, tree_a, max(ks)), levels_of(scores_b, tree_b, max(ks)), strict=True)
    points = {k: information(count(left.argmax(1), right.argmax(1), (k, k))) for (k, left), (_, right) in both}
    return weigh([points[k] for k in ks], information(count(scores_a.argmax(1), scores_b.argmax(1), shape)))


def levels_of(columns: Doubles, tree: Tree, most: int) -> Iterator[tuple[int, Doubles]]:
    """k and (n, k), the sums of the columns (n, fine) over each cluster of level k, for k = 1 to `most`.

    Each level differs from the one before by one cut, so two columns change; the array is reused.
    """
    sums = np.zeros((len(columns), most))
    sums[:, 0] = columns.sum(1)
    yield 1, sums[:, :1]
    for k in range(2, most + 1):
        cut = np.flatnonzero(tree.names[k - 1] == k - 1)
        sums[:, k - 1] = columns[:, cut].sum(1)
        sums[:, tree.names[k - 2][cut[0]]] -= sums[:, k - 1]
        yield k, sums[:, :k]


def prediction(scores: Doubles, tree: Tree, ks: Sequence[int]) -> Evidence:
    """Of predicted clusters and the tree's own.

    `scores`: (n, fine) for each fine cluster; a cluster's score is the sum of its parts'.
    """
    most = len(tree.names)
    points = {
        k: information(count(tree.names[k - 1][tree.fine], sums.argmax(1), (k, k)))
        for k, sums in levels_of(scores, tree, max(ks))
    }
    end = information(count(tree.names[-1][tree.fine], tree.names[-1][scores.argmax(1)], (most, most)))
    return weigh([points[k] for k in ks], end)


def neighbour_scores(tree: Tree) -> Doubles:
    """How much of each point's affinity goes to each fine cluster."""
    return np.asarray((tree.graph @ membership(tree.fine, len(tree.centres))).todense())


def linear_scores(x: Floats, tree: Tree, random: np.random.Generator) -> Doubles:
    """Scores of a linear classifier of the fine clusters, fitted without the point itself.

    Least squares with a small ridge: it is linear in its targets, so one fit serves every level. How well a linear
    classifier generalises is how TURTLE (Gadetsky et al., ICML 2024) judges a labelling.
    """
    part = random.integers(0, FOLDS, len(x))
    inputs = np.column_stack([x / max(float(x.std()), 1e-9), np.ones(len(x))]).astype(np.float64)
    targets = membership(tree.fine, len(tree.centres)).toarray()
    scores = np.zeros_like(targets)
    for number in range(FOLDS):
        here = part == number
        gram = inputs[~here].T @ inputs[~here]
        gram += np.eye(len(gram)) * FIRM * np.trace(gram) / len(gram)
        scores[here] = inputs[here] @ np.linalg.solve(gram, inputs[~here].T @ targets[~here])
    result: Doubles = scores
    return result


def silhouettes(tree: Tree, ks: Sequence[int]) -> Doubles:
    """Mean silhouette along the neighbour graph: shortest paths to the fine clusters, not straight lines.

    A path bends with a curved cluster. Distances to a cluster are those to the best connected points of its
    fine clusters, weighted by their sizes; parts of the graph without a path are 1.5 times the longest path apart.
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
