"""The choice of one number of clusters from the evidence, and how reliable the choice is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ilk.analysis.hierarchy.evidence import Doubles

# Gains in nats can be added. Three criteria have less weight, since each has a known bias: a linear classifier cannot
# follow a curved cluster, a silhouette prefers groups of classes to classes, and so do views, since a crop moves an
# image further than the distance to its neighbours.
WEIGHTS = {"stability": 1.0, "views": 0.3, "neighbours": 1.0, "generalisation": 0.3, "silhouette": 0.3}
LEAST_GAIN = 0.03  # nats of stability without settling; a collection without clusters has less
LEAST_EXCESS = 0.1  # mean excess agreement over small k; a collection without clusters has less
FEW = 20  # k up to which excess and touching are averaged
NEAR = 0.25  # a criterion agrees if its best k differs by at most this fraction of the chosen k
CLOSE = 0.08  # a k is nearly as good if its score is lower by at most this fraction, whatever the error
WIDE = 2.5  # a range is wide if its upper end is more than so many times its lower end
FIRM = 0.95  # clusters touch if neighbours agree on less than this share
MIDDLE = 1.25  # in a wide range, the choice is within this factor of the middle


@dataclass(frozen=True)
class Level:
    """The evidence for one number of clusters. Gains are in nats above what random splits would share."""

    k: int
    score: float  # the weighted sum of the criteria; the largest is chosen
    error: float  # standard error of the score over the resamplings
    stability: float  # two resamplings find the same clusters
    neighbours: float  # neighbours are in the same cluster
    generalisation: float  # a linear classifier predicts the clusters of images it has not seen
    silhouette: float  # in [-1, 1], along the neighbour graph
    flatter: float  # the score if random splits shared a tenth less than the fine clusters do
    steeper: float  # the score if they shared a twentieth more
    plain: float  # stability without settling; `stability` is with settling if clusters touch
    excess: float  # share on which two resamplings agree, minus that for shuffled features
    firm: float  # share on which neighbours agree
    views: float | None = None  # two views of an image are in the same cluster


class Verdict(NamedTuple):
    """The chosen number of clusters."""

    chosen: int
    range: tuple[int, int]  # numbers that are nearly as good
    sure: str  # low, medium or high
    sentence: str  # the choice and its reasons, for people
    clear: bool  # whether there are clusters at all


def make_curve(ks: Sequence[int], evidence: dict[str, Doubles], chance: Doubles) -> list[Level]:
    """The `Level` of each k.

    `evidence`: {criterion: (resamplings, slopes, ks)}, with stability both `plain` and `settled`; and {`firm` and
    `agreed`: (resamplings, ks)}. `chance`: (ks,) the value of `agreed` for shuffled features.
    Stability is taken with settling only if clusters touch: clusters of a few images each would merge by it. Views
    without a gain at any k are left out of the score: they only show that views differ.
    """
    firm = evidence["firm"].mean(0)
    touching = firm[: max(1, FEW + 1 - ks[0])].mean() < FIRM
    evidence = {**evidence, "stability": evidence["settled" if touching else "plain"]}
    criteria = {name: evidence[name] for name in WEIGHTS if name in evidence}
    means = {name: values[:, 0].mean(0) for name, values in criteria.items()}
    scored = [name for name in criteria if name != "views" or means[name].max() > 0]
    total = np.sum([WEIGHTS[name] * criteria[name] for name in scored], axis=0)  # (resamplings, slopes, ks)
    columns = {
        **means,
        "plain": evidence["plain"][:, 0].mean(0),
        "firm": firm,
        "excess": evidence["agreed"].mean(0) - chance,
        "error": total[:, 0].std(0, ddof=1) / np.sqrt(len(total)),
        **dict(zip(("score", "flatter", "steeper"), total.mean(0), strict=True)),
    }
    return [Level(k=k, **{name: float(values[i]) for name, values in columns.items()}) for i, k in enumerate(ks)]


def judge(curve: Sequence[Level]) -> Verdict:
    """The k with the largest score, the range of ks that are nearly as good, and how reliable the choice is.

    The range spans the ks whose score is within one standard error, or 8 %, of the best, and the best ks for the
    flatter and the steeper slope. If it is wide and the clusters touch, `middle_of_range` chooses.
    `sure` is "high" if there are clear clusters, the range is narrow, and for at least two thirds of the criteria
    their own best k is within a quarter of the chosen k. It is "low" if there are no clear clusters, the range is
    wide, the chosen k is the largest that was tried, or fewer than a third of the criteria agree. Else "medium".
    """
    best = max(curve, key=lambda level: level.score)
    least = best.score - max(best.error, CLOSE * abs(best.score))
    near = [level.k for level in curve if level.score >= least]
    near += [max(curve, key=lambda level: getattr(level, slope)).k for slope in ("flatter", "steeper")]
    low, high = min(near), max(near)
    excess = [level.excess for level in curve if level.k <= FEW] or [curve[0].excess]
    clear = best.plain > LEAST_GAIN or float(np.mean(excess)) > LEAST_EXCESS
    wide = high > WIDE * low
    chosen = middle_of_range(curve, best, low, high) if clear and wide else best
    best_k = {name: max(curve, key=lambda level: getattr(level, name)).k for name in scored_criteria(curve)}
    agree = [name for name in best_k if abs(best_k[name] - chosen.k) <= max(1, NEAR * chosen.k)]
    at_end = chosen.k == curve[-1].k and len(curve) > 1
    if not clear or at_end or wide or 3 * len(agree) < len(best_k):
        sure = "low"
    elif 3 * len(agree) >= 2 * len(best_k) and high <= max(low + 1, 1.5 * low):
        sure = "high"
    else:
        sure = "medium"
    sentence = describe(chosen, best, (low, high), clear=clear, at_end=at_end, best_k=best_k, agree=agree)
    return Verdict(chosen.k, (low, high), sure, sentence, clear)


def scored_criteria(curve: Sequence[Level]) -> list[str]:
    """The criteria that count for the score: all that were computed, except views without a gain at any k."""
    computed = [name for name in WEIGHTS if getattr(curve[0], name) is not None]
    return [name for name in computed if name != "views" or max(getattr(level, name) for level in curve) > 0]


def middle_of_range(curve: Sequence[Level], best: Level, low: int, high: int) -> Level:
    """The level with the largest score near the geometric middle of the range `low` to `high`, or `best`.

    `best` if its clusters do not touch, or are no fewer than the middle. Otherwise a few groups of classes and many
    parts of classes have similar scores for different reasons, and the slope decides by chance which is larger. The
    middle has the smallest worst-case factor of error, and merging two clusters is easier than splitting one.
    """
    middle = (low * high) ** 0.5
    if best.firm >= FIRM or middle <= best.k:
        return best
    around = [level for level in curve if middle / MIDDLE <= level.k <= middle * MIDDLE]
    return max(around, key=lambda level: level.score, default=best)


def describe(
    chosen: Level,
    best: Level,
    span: tuple[int, int],
    *,
    clear: bool,
    at_end: bool,
    best_k: dict[str, int],
    agree: Sequence[str],
) -> str:
    """One sentence about the choice and its reasons, for people."""
    if not clear:
        return (
            f"No clear clusters: random parts of the collection have different clusters at every number; "
            f"{chosen.k} has the best score of those tried."
        )
    if chosen is not best:
        return (
            f"{chosen.k} clusters, a guess: the clusters touch, and any number from {span[0]} to {span[1]} is "
            f"plausible. The score alone would choose {best.k}; more are chosen, as merging is easier than splitting."
        )
    others = [f"{name} alone would choose {k}" for name, k in best_k.items() if name not in agree]
    text = f"{best.k} clusters: {len(agree)} of {len(best_k)} criteria have their best number within a quarter of that"
    if others:
        text += f" ({', '.join(others)})"
    if span[0] < span[1]:
        text += f", and {span[0]} to {span[1]} are nearly as good"
    if at_end:
        text += "; it is the largest number tried, so there may be more"
    return text + "."
