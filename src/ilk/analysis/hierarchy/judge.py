"""From the evidence to one number of clusters, and how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ilk.analysis.hierarchy.evidence import Doubles

# Nats of information add up. Three witnesses speak with less weight, since each is wrong in a known way: a linear
# classifier cannot follow a curved cluster, a silhouette prefers groups of kinds to kinds, and so do views, since a
# crop moves an image further than its neighbours lie.
WEIGHTS = {"stability": 1.0, "views": 0.3, "neighbours": 1.0, "generalisation": 0.3, "silhouette": 0.3}
LEAST_GAIN = 0.03  # nats of stability, without settling, that a collection without clusters does not reach
LEAST_EXCESS = 0.1  # so with this share, on average over few clusters, above what shuffled features agree on
FEW = 20
NEAR = 0.25  # a witness agrees when its best k is this near, relative to the chosen
CLOSE = 0.08  # ks whose score lacks less than this part of the best are nearly as good, whatever the error
WIDE = 2.5  # times the lower end of the range: beyond, the evidence does not choose
FIRM = 0.95  # share of the clusters that neighbours agree on: below, clusters touch
MIDDLE = 1.25  # how far from the middle of a wide range the choice may be


@dataclass(frozen=True)
class Level:
    """The evidence for one number of clusters. Gains are in nats above what arbitrary cuts would share."""

    k: int
    score: float  # the weighted sum of the criteria; the largest is chosen
    error: float  # standard error of the score over the resamplings
    stability: float  # two resamplings find the same clusters
    neighbours: float  # neighbours are in the same cluster
    generalisation: float  # a linear classifier predicts the clusters of images it has not seen
    silhouette: float  # in [-1, 1], along the neighbour graph
    flatter: float  # the score if arbitrary cuts shared a tenth less than the fine clusters do
    steeper: float  # the score if they shared a twentieth more
    plain: float  # stability without settling, which `stability` has where clusters touch
    excess: float  # share of the clusters that two resamplings agree on, less that of shuffled features
    firm: float  # share of the clusters that neighbours agree on
    views: float | None = None  # two views of an image are in the same cluster


class Verdict(NamedTuple):
    chosen: int
    range: tuple[int, int]
    sure: str  # low, medium or high
    sentence: str
    clear: bool  # whether there are clusters at all


def make_curve(ks: Sequence[int], found: dict[str, Doubles], chance: Doubles) -> list[Level]:
    """One `Level` for each k.

    `found`: criterion -> (resamplings, slopes, ks), with stability as `plain` and `settled`; `firm` and `agreed` ->
    (resamplings, ks). `chance`: (ks,) what `agreed` is for shuffled features.
    Stability is the settled one only where clusters touch: thin ones, of a few images each, would flow into one
    another.
    Views that gain nothing at any number say only that they differ, and are left out of the score.
    """
    firm = found["firm"].mean(0)
    touching = firm[: max(1, FEW + 1 - ks[0])].mean() < FIRM
    found = {**found, "stability": found["settled" if touching else "plain"]}
    criteria = {name: found[name] for name in WEIGHTS if name in found}
    means = {name: values[:, 0].mean(0) for name, values in criteria.items()}
    heard = [name for name in criteria if name != "views" or means[name].max() > 0]
    total = np.sum([WEIGHTS[name] * criteria[name] for name in heard], axis=0)  # (resamplings, slopes, ks)
    columns = {
        **means,
        "plain": found["plain"][:, 0].mean(0),
        "firm": firm,
        "excess": found["agreed"].mean(0) - chance,
        "error": total[:, 0].std(0, ddof=1) / np.sqrt(len(total)),
        **dict(zip(("score", "flatter", "steeper"), total.mean(0), strict=True)),
    }
    return [Level(k=k, **{name: float(values[i]) for name, values in columns.items()}) for i, k in enumerate(ks)]


def judge(curve: Sequence[Level]) -> Verdict:
    """The k with the largest score, those nearly as good, and how far to trust it.

    Nearly as good: within one standard error of the best, or 8 % of it; and what lies between these and the best
    ones of the flatter and the steeper slope. Where that is wide and the clusters touch, `lean` chooses.
    high: clear, a narrow range, and at least two thirds of the criteria have their own best k within a quarter of
    the chosen one. low: no clear clusters, a wide range, the upper end of the ks asked for, or fewer than a third
    of the criteria agree. medium: the rest.
    """
    best = max(curve, key=lambda level: level.score)
    least = best.score - max(best.error, CLOSE * abs(best.score))
    near = [level.k for level in curve if level.score >= least]
    near += [max(curve, key=lambda level: getattr(level, slope)).k for slope in ("flatter", "steeper")]
    low, high = min(near), max(near)
    few = [level.excess for level in curve if level.k <= FEW] or [curve[0].excess]
    clear = best.plain > LEAST_GAIN or float(np.mean(few)) > LEAST_EXCESS
    wide = high > WIDE * low
    chosen = lean(curve, best, low, high) if clear and wide else best
    own = {name: max(curve, key=lambda level: getattr(level, name)).k for name in heard(curve)}
    agree = [name for name in own if abs(own[name] - chosen.k) <= max(1, NEAR * chosen.k)]
    at_end = chosen.k == curve[-1].k and len(curve) > 1
    if not clear or at_end or wide or 3 * len(agree) < len(own):
        sure = "low"
    elif 3 * len(agree) >= 2 * len(own) and high <= max(low + 1, 1.5 * low):
        sure = "high"
    else:
        sure = "medium"
    sentence = say(chosen, best, (low, high), clear, at_end, own, agree)
    return Verdict(chosen.k, (low, high), sure, sentence, clear)


def heard(curve: Sequence[Level]) -> list[str]:
    """The criteria that have a say: all there are, but for views that gain nothing anywhere."""
    there = [name for name in WEIGHTS if getattr(curve[0], name) is not None]
    return [name for name in there if name != "views" or max(getattr(level, name) for level in curve) > 0]


def lean(curve: Sequence[Level], best: Level, low: int, high: int) -> Level:
    """The best level near the (geometric) middle of a wide range, if the clusters of `best` touch and are fewer.

    Then a few groups of kinds and many parts of kinds have the same score for different reasons, and which is
    ahead is an accident of the slope. The middle is wrong by the least factor, and two clusters are easier to merge
    than one is to cut.
    """
    middle = (low * high) ** 0.5
    if best.firm >= FIRM or middle <= best.k:
        return best
    around = [level for level in curve if middle / MIDDLE <= level.k <= middle * MIDDLE]
    return max(around, key=lambda level: level.score, default=best)


def say(
    chosen: Level,
    best: Level,
    span: tuple[int, int],
    clear: bool,
    at_end: bool,
    own: dict[str, int],
    agree: Sequence[str],
) -> str:
    """One sentence on the choice."""
    if not clear:
        return (
            f"No clear clusters: halves of the collection do not find the same ones at any number; "
            f"{chosen.k} is the least bad of those tried."
        )
    if chosen is not best:
        return (
            f"{chosen.k} clusters, a guess: the clusters touch, and anything from {span[0]} to {span[1]} can be "
            f"defended. The score alone would say {best.k}; more are chosen, since merging is easier than cutting."
        )
    others = [f"{name} alone would say {k}" for name, k in own.items() if name not in agree]
    text = f"{best.k} clusters: {len(agree)} of {len(own)} criteria have their best within a quarter of that"
    if others:
        text += f" ({', '.join(others)})"
    if span[0] < span[1]:
        text += f", and {span[0]} to {span[1]} are nearly as good"
    if at_end:
        text += "; it is the largest number tried, so there may be more"
    return text + "."
