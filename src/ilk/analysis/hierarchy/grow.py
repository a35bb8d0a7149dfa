"""The tree of clusters of a collection, with a score for every number of clusters and one number chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ilk.analysis.hierarchy.evidence import (
    SLOPES,
    Doubles,
    Evidence,
    agreement,
    linear_scores,
    neighbour_scores,
    prediction,
    settled_agreement,
    silhouettes,
)
from ilk.analysis.hierarchy.judge import Level, judge, make_curve
from ilk.analysis.hierarchy.space import Floats, Integers, Space, checked, find_space, nearest_centre, place
from ilk.analysis.hierarchy.tree import Tree, affinities, build_tree, neighbours

Progress = Callable[[int, int, str], None]

TREE_ROWS = 8_000  # at most so many images grow the tree; the others join the nearest fine cluster
JUDGED_ROWS = 5_000  # at most so many images are used to score the numbers of clusters
REPEATS = 6  # pairs of resamplings
SHUFFLES = 2  # pairs of resamplings of shuffled features, which have no clusters
PART = 0.8  # of those images in each resampling; half of them would break up sparse clusters
MEMBERS = 5  # images in a fine cluster, on average, at least
LEAST_IMAGES = 20
USUAL, MOST = 60, 240  # largest k tried by default; doubled, up to MOST, while the choice is at the end of the range
END = 0.9  # from this fraction of the largest k on, a choice is at the end


@dataclass(frozen=True)
class Hierarchy:
    """Fine clusters of n images, how they merge into a tree, and the chosen number of clusters."""

    fine: Integers  # (n,) fine clusters, numbered as the leaves of `merges`
    merges: NDArray[np.float64]  # scipy's linkage matrix; heights: log(strongest tie / tie of the merged clusters)
    curve: list[Level]  # the evidence for each k that was tried
    chosen: int
    range: tuple[int, int]  # numbers of clusters that are nearly as good
    sure: str  # low, medium or high
    sentence: str  # the choice and its reasons, for people
    names: Integers = field(repr=False)  # row k - 1: the cluster of each fine cluster when there are k

    def levels(self, k: int) -> Integers:
        """The cluster of each image when there are `k`, (n,).

        Levels are nested: each cluster is a union of finer clusters. When a cluster is split, the larger part keeps
        its number and the smaller part gets number k - 1. Raises ValueError for a `k` that the tree does not have.
        """
        if not 1 <= k <= len(self.names):
            raise ValueError(f"This tree has between 1 and {len(self.names)} clusters; {k} were asked for.")
        cluster: Integers = self.names[k - 1][self.fine]
        return cluster

    def rows(self) -> list[dict[str, Any]]:
        """The curve as one plain dict per k, for a table or a figure; `chosen` is true for one of them."""
        return [{**asdict(level), "chosen": level.k == self.chosen} for level in self.curve]


def grow_tree(
    features: Any,
    *,
    views: Any = None,
    k_low: int = 2,
    k_high: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Hierarchy:
    """The tree of clusters of `features`, (n, d) of any scale, and a number of clusters from `k_low` to `k_high`.

    `views`: (n, v, d) features of v random views of each image, if available; a single view is compared with
    `features`. `k_high`: by default 60, or a tenth of the images if that is less, doubled up to 240 while the chosen
    number is near the end of the range. `progress(done, total, what)` is called as each step begins; the total grows
    when the range is doubled.
    The tree is grown from at most 8,000 images and the numbers of clusters are scored on at most 5,000 of them, drawn
    by `seed`; then every image gets a cluster. No n x n matrix is held in memory.
    Raises ValueError for fewer than 20 images, a range that does not fit, or features that are not finite.
    """
    features = checked(features)
    views = None if views is None else checked(views, "views", 3)
    open_ended = k_high is None
    k_low, k_high, most = checked_range(features, views, k_low, k_high)
    steps = Steps(progress)
    random = np.random.default_rng(seed)
    sample = np.sort(random.permutation(len(features))[:TREE_ROWS])
    space = find_space(features[sample], seed)
    x = place(features[sample], space)
    judged = np.sort(random.permutation(len(x))[:JUDGED_ROWS])
    placed_views = None if views is None else place_views(features[sample[judged]], views[sample[judged]], space)
    steps.total = REPEATS + 2
    while True:
        curve = score_all(x[judged], placed_views, range(k_low, k_high + 1), random, steps)
        verdict = judge(curve)
        more = min(2 * k_high, most, MOST)
        if not (open_ended and more > k_high and verdict.chosen >= END * k_high and verdict.clear):
            break
        k_high = more
        steps.total += REPEATS
    steps("growing the tree")
    tree = build_tree(x, fine_count(len(x), k_high), seed)
    steps("sorting all images")
    fine = nearest_centre(place(features, space), tree.centres)
    steps("done")
    return Hierarchy(fine, tree.merges, curve, *verdict[:4], names=tree.names)


def score_all(
    x: Floats, placed_views: Floats | None, ks: Sequence[int], random: np.random.Generator, steps: Steps
) -> list[Level]:
    """The evidence for each of `ks`, from `REPEATS` pairs of resamplings.

    `x`: (n, d) images in the space. `placed_views`: (n, v, d) their views in the space, or None.
    """
    graph = affinities(x)
    evidence: dict[str, list[Doubles]] = {}
    for repeat in range(REPEATS):
        steps(f"resampling {repeat + 1} of {REPEATS}, up to {ks[-1]} clusters")
        for name, values in resample(x, graph, placed_views, ks, random).items():
            evidence.setdefault(name, []).append(values)
    chance = np.mean([shuffled_agreement(x, ks, random) for _ in range(SHUFFLES)], axis=0)
    return make_curve(ks, {name: np.stack(values) for name, values in evidence.items()}, chance)


class Steps:
    """Counts the steps for `progress`; each call says which step begins."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def __call__(self, what: str) -> None:
        if self.progress:
            self.progress(self.done, self.total, what)
        self.done += 1


def most_clusters(n: int) -> int:
    """The largest number of clusters that can be tried for `n` images; 0 if there are too few images to choose."""
    return min(n, TREE_ROWS) // (2 * MEMBERS) if n >= LEAST_IMAGES else 0


def checked_range(features: Any, views: Any, k_low: int, k_high: int | None) -> tuple[int, int, int]:
    """The smallest and largest k to try, and the largest that could be tried. Raises ValueError if they do not fit."""
    n = len(features)
    if n < LEAST_IMAGES:
        raise ValueError(
            f"{n} images are too few to find the number of clusters; give the number, or {LEAST_IMAGES} or more images."
        )
    if views is not None and (len(views) != n or views.shape[2] != features.shape[1]):
        raise ValueError(
            f"views must have the shape ({n}, views, {features.shape[1]}) to go with the features; got {views.shape}."
        )
    most = most_clusters(n)
    k_high = min(USUAL, most) if k_high is None else k_high
    if not 2 <= k_low <= k_high <= most:
        raise ValueError(
            f"The numbers of clusters to try, {k_low} to {k_high}, must be between 2 and {most} for {n} images."
        )
    return k_low, k_high, most


def fine_count(n: int, k_high: int) -> int:
    """The number of fine clusters: three times `k_high`, at least 60, at most a fifth of the images."""
    return min(max(3 * k_high, 60), n // MEMBERS)


def place_views(features: Any, views: Any, space: Space) -> Floats:
    """The views in the space, (n, v, width); a single view gets the image itself as second view.

    Each view is shifted to have the mean of the images, since a crop shifts the features of all images equally.
    """
    n, v, d = views.shape
    placed = place(views.reshape(n * v, d), space).reshape(n, v, -1)
    whole = place(features, space)
    placed = np.concatenate([placed, whole[:, None]], 1) if v == 1 else placed
    centred: Floats = placed - placed.mean(0) + whole.mean(0)
    return centred


def resample(
    x: Floats, graph: Any, placed_views: Floats | None, ks: Sequence[int], random: np.random.Generator
) -> dict[str, Doubles]:
    """The gain of each criterion, (slopes, ks), from two trees that are grown from random parts of `x`.

    Stability is computed twice: `plain`, and `settled` (see `settled_agreement`). Also two shares, (ks,): `agreed`,
    of the two trees, and `firm`, of neighbours.
    """
    pair = [grow_part(x, ks, random) for _ in range(2)]
    (_, a, fine_a), (_, b, fine_b) = pair
    each: dict[str, list[Doubles]] = {}
    for part, tree, _ in pair:
        usable = [min(k, len(tree.centres)) for k in ks]
        near = prediction(neighbour_scores(tree), tree, usable)
        values = {
            "neighbours": near.gain,
            "firm": near.share,
            "generalisation": prediction(linear_scores(x[part], tree, random), tree, usable).gain,
            "silhouette": np.tile(silhouettes(tree, usable), (len(SLOPES), 1)),
        }
        if placed_views is not None:
            values["views"] = view_agreement(placed_views, tree, usable).gain
        for name, value in values.items():
            each.setdefault(name, []).append(value)
    usable = [min(k, len(a.centres), len(b.centres)) for k in ks]
    plain = agreement(fine_a, a, fine_b, b, usable)
    return {
        **{name: np.mean(both, axis=0) for name, both in each.items()},
        "settled": settled_agreement(graph, fine_a, a, fine_b, b, usable).gain,
        "agreed": plain.share,
        "plain": plain.gain,
    }


def grow_part(x: Floats, ks: Sequence[int], random: np.random.Generator) -> tuple[Integers, Tree, Integers]:
    """The rows of a random part of `x`, its tree, and the fine cluster of every row of `x`."""
    part = np.sort(random.permutation(len(x))[: int(PART * len(x))])
    tree = build_tree(x[part], max(fine_count(len(part), ks[-1]), ks[-1]), int(random.integers(2**31)))
    return part, tree, fine_clusters(x, part, tree)


def shuffled_agreement(x: Floats, ks: Sequence[int], random: np.random.Generator) -> Doubles:
    """The share on which two trees agree, (ks,), after each column of `x` is shuffled independently.

    Shuffled points have the same distribution in each direction, and no clusters except those in a single direction.
    """
    x = np.column_stack([random.permutation(column) for column in x.T])
    (_, a, fine_a), (_, b, fine_b) = (grow_part(x, ks, random) for _ in range(2))
    return agreement(fine_a, a, fine_b, b, [min(k, len(a.centres), len(b.centres)) for k in ks]).share


def fine_clusters(x: Floats, part: Integers, tree: Tree) -> Integers:
    """The fine cluster of every row of `x`, (n,): from the tree for the rows `part`, of the nearest such row else."""
    fine = np.empty(len(x), dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(x)), part)
    fine[part] = tree.fine
    fine[rest] = tree.fine[neighbours(x[part], x[rest], 1)[1][:, 0]]
    return fine


def view_agreement(placed_views: Floats, tree: Tree, ks: Sequence[int]) -> Evidence:
    """Evidence from the clusters of two views of an image, over all pairs of views. `placed_views`: (n, v, width)."""
    n, v, width = placed_views.shape
    fine = nearest_centre(placed_views.reshape(n * v, width), tree.centres).reshape(n, v)
    pairs = list(combinations(range(v), 2))
    a, b = (np.concatenate([fine[:, pair[side]] for pair in pairs]) for side in (0, 1))
    return agreement(np.concatenate([a, b]), tree, np.concatenate([b, a]), tree, ks)


def table(hierarchy: Hierarchy, ids: Sequence[Any], *, k_max: int | None = None) -> pa.Table:
    """A table with one row per image: `id`, `fine`, and one column per level, `k2` to `k_max` (the largest tried)."""
    if len(ids) != len(hierarchy.fine):
        raise ValueError(f"There are {len(ids)} ids for {len(hierarchy.fine)} images; give one id for each image.")
    k_max = hierarchy.curve[-1].k if k_max is None else k_max
    levels = {f"k{k}": pa.array(hierarchy.levels(k).astype(np.int32)) for k in range(2, k_max + 1)}
    return pa.table({"id": list(ids), "fine": pa.array(hierarchy.fine.astype(np.int32)), **levels})
