"""The tree of a collection, every number of clusters scored, one chosen."""

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

TREE_ROWS = 8_000  # images that the tree is grown from; the others join the nearest fine cluster
JUDGED_ROWS = 5_000  # images that the numbers of clusters are judged by
REPEATS = 6  # pairs of resamplings
SHUFFLES = 2  # pairs of resamplings of shuffled features, which have no clusters
PART = 0.8  # of those images in each resampling: halves would tear thin clusters
MEMBERS = 5  # images a fine cluster has on average, at the least
LEAST_IMAGES = 20
USUAL, MOST = 60, 240  # clusters tried where nobody says; if one of the last tenth wins, twice as many, up to MOST
END = 0.9


@dataclass(frozen=True)
class Hierarchy:
    """Fine clusters, the tree above them, and the number of clusters chosen."""

    fine: Integers  # (n,) fine clusters, numbered as the leaves of `merges`
    merges: NDArray[np.float64]  # scipy's linkage matrix; heights: log of how much weaker than the strongest tie
    curve: list[Level]  # the evidence for each k in the range asked for
    chosen: int
    range: tuple[int, int]  # the ks nearly as good
    sure: str  # low, medium or high
    sentence: str
    names: Integers = field(repr=False)  # row k - 1: the cluster of each fine cluster when there are k

    def levels(self, k: int) -> Integers:
        """The cluster of each image when there are `k`, (n,).

        Levels are nested: each cluster is a union of finer ones. When a cluster is cut, the larger part keeps
        its number and the smaller is called k - 1.
        """
        if not 1 <= k <= len(self.names):
            raise ValueError(f"This tree has between 1 and {len(self.names)} clusters; {k} were asked for.")
        result: Integers = self.names[k - 1][self.fine]
        return result

    def rows(self) -> list[dict[str, Any]]:
        """The curve as plain rows, one a k, for a table or a figure; `chosen` is true for one of them."""
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
    """The tree of `features`, (n, d) of any scale, and the number of clusters between `k_low` and `k_high`.

    `views`: (n, v, d) features of v random views of each image, if there are; with one view it is compared with
    `features`. `k_high`: by default 60, or a tenth of the images if that is less; and twice as many, up to 240, as
    long as the best lies at the end. `progress(done, total, what)`; the total grows when that happens.
    The tree is grown from at most 8,000 images and the numbers are judged by at most 5,000 of them, drawn by `seed`;
    all images then get a cluster. Never a matrix of all images by all.
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
    seen = None if views is None else look(features[sample[judged]], views[sample[judged]], space)
    steps.total = REPEATS + 2
    while True:
        curve = score_all(x[judged], seen, range(k_low, k_high + 1), random, steps)
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
    x: Floats, seen: Floats | None, ks: Sequence[int], random: np.random.Generator, steps: Steps
) -> list[Level]:
    """The curve of `ks`, from `REPEATS` pairs of resamplings."""
    graph = affinities(x)
    found: dict[str, list[Doubles]] = {}
    for repeat in range(REPEATS):
        steps(f"resampling {repeat + 1} of {REPEATS}, up to {ks[-1]} clusters")
        for name, values in resample(x, graph, seen, ks, random).items():
            found.setdefault(name, []).append(values)
    chance = np.mean([shuffled(x, ks, random) for _ in range(SHUFFLES)], axis=0)
    return make_curve(ks, {name: np.stack(values) for name, values in found.items()}, chance)


class Steps:
    """Counts calls for `progress`: each says what begins now."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def __call__(self, what: str) -> None:
        if self.progress:
            self.progress(self.done, self.total, what)
        self.done += 1


def most_clusters(n: int) -> int:
    """The most clusters that can be tried for `n` images, 0 where they are too few to choose at all."""
    return min(n, TREE_ROWS) // (2 * MEMBERS) if n >= LEAST_IMAGES else 0


def checked_range(features: Any, views: Any, k_low: int, k_high: int | None) -> tuple[int, int, int]:
    """The range to try, and the most clusters that could be tried."""
    n = len(features)
    if n < LEAST_IMAGES:
        raise ValueError(f"{n} images are too few to find the number of clusters; give it, or at least {LEAST_IMAGES}.")
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
    """Three times the most clusters, at least 60, as far as fine clusters keep a few members."""
    return min(max(3 * k_high, 60), n // MEMBERS)


def look(features: Any, views: Any, space: Space) -> Floats:
    """The views in the space, (n, v, width), with the image itself as second view where there is one only.

    Each is moved to the mean of the images: a crop shifts the features of all images alike.
    """
    n, v, d = views.shape
    placed = place(views.reshape(n * v, d), space).reshape(n, v, -1)
    whole = place(features, space)
    placed = np.concatenate([placed, whole[:, None]], 1) if v == 1 else placed
    result: Floats = placed - placed.mean(0) + whole.mean(0)
    return result


def resample(
    x: Floats, graph: Any, seen: Floats | None, ks: Sequence[int], random: np.random.Generator
) -> dict[str, Doubles]:
    """Each criterion's gains, (slopes, ks), from two trees of two random parts of `x`.

    Stability is there twice: `plain`, and `settled`. Beside them two shares, (ks,): `agreed` of the two trees as
    they are, and `firm` of neighbours.
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
        if seen is not None:
            values["views"] = view_agreement(seen, tree, usable).gain
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
    """A random part of `x`, its tree, and the fine cluster of every row of `x`."""
    part = np.sort(random.permutation(len(x))[: int(PART * len(x))])
    tree = build_tree(x[part], max(fine_count(len(part), ks[-1]), ks[-1]), int(random.integers(2**31)))
    return part, tree, join(x, part, tree)


def shuffled(x: Floats, ks: Sequence[int], random: np.random.Generator) -> Doubles:
    """What two trees agree on, as a share, (ks,), when each direction of `x` is shuffled by itself.

    Such points have the widths and the tails of `x`, and no clusters but those that one direction shows alone.
    """
    x = np.column_stack([random.permutation(column) for column in x.T])
    (_, a, fine_a), (_, b, fine_b) = (grow_part(x, ks, random) for _ in range(2))
    return agreement(fine_a, a, fine_b, b, [min(k, len(a.centres), len(b.centres)) for k in ks]).share


def join(x: Floats, part: Integers, tree: Tree) -> Integers:
    """The fine cluster of every row: `tree`'s own for the rows `part`, the nearest one's for the others."""
    fine = np.empty(len(x), dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(x)), part)
    fine[part] = tree.fine
    fine[rest] = tree.fine[neighbours(x[part], x[rest], 1)[1][:, 0]]
    return fine


def view_agreement(seen: Floats, tree: Tree, ks: Sequence[int]) -> Evidence:
    """Of two views of the same image, over all pairs of views."""
    n, v, width = seen.shape
    fine = nearest_centre(seen.reshape(n * v, width), tree.centres).reshape(n, v)
    pairs = list(combinations(range(v), 2))
    a, b = (np.concatenate([fine[:, pair[side]] for pair in pairs]) for side in (0, 1))
    return agreement(np.concatenate([a, b]), tree, np.concatenate([b, a]), tree, ks)


def table(hierarchy: Hierarchy, ids: Sequence[Any], *, k_max: int | None = None) -> pa.Table:
    """`id`, `fine`, and one column a level: `k2`, `k3` up to the largest k that was tried, or `k_max`."""
    if len(ids) != len(hierarchy.fine):
        raise ValueError(f"{len(ids)} ids for {len(hierarchy.fine)} images; give one each.")
    k_max = hierarchy.curve[-1].k if k_max is None else k_max
    levels = {f"k{k}": pa.array(hierarchy.levels(k).astype(np.int32)) for k in range(2, k_max + 1)}
    return pa.table({"id": list(ids), "fine": pa.array(hierarchy.fine.astype(np.int32)), **levels})
