"""From the evidence to one number of clusters, and how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ilk.hierarchy.evidence import Doubles

# Nats of information add up. Two witnesses speak with less weight, since each is wrong in a known way:
# a linear classifier cannot follow a curved cluster, and a silhouette prefers groups of kinds to kinds.
WEIGHTS = {"stability": 1.0, "views": 1.0, "neighbours": 1.0, "generalisation": 0.3, "silhouette": 0.3}
LEAST_GAIN = 0.03  # nats of stability below which there are no clear clusters
NEAR = 0.25  # a witness agrees when its best k is this near, relative to the chosen
CLOSE = 0.08  # ks whose score lacks less than this part of the best are nearly as good, whatever the error


@dataclass(frozen=True)
class Level:
    """The evidence for one number of clusters. Gains are in nats above what arbitrary cuts would share."""

    k: int
    score: float  # the weighted sum of the others; the largest is chosen
    error: float  # standard error of the score over the resamplings
    stability: float  # two resamplings find the same clusters
    neighbours: float  # neighbours are in the same cluster
    generalisation: float  # a linear classifier predicts the clusters of images it has not seen
    silhouette: float  # in [-1, 1], along the neighbour graph
    views: float | None = None  # two views of an image are in the same cluster


class Verdict(NamedTuple):
    chosen: int
    range: tuple[int, int]
    sure: str  # low, medium or high
    sentence: str
    clear: bool  # whether there are clusters at all


def make_curve(ks: Sequence[int], found: dict[str, Doubles]) -> list[Level]:
    """One `Level` for each k; `found`: criterion -> (resamplings, ks)."""
    total = sum(WEIGHTS[name] * values for name, values in found.items())
    total = np.asarray(total)
    error = total.std(0, ddof=1) / np.sqrt(len(total))
    means = {name: values.mean(0) for name, values in found.items()}
    return [
        Level(
            k=k,
            score=float(total.mean(0)[i]),
            error=float(error[i]),
            **{name: float(values[i]) for name, values in means.items()},
        )
        for i, k in enumerate(ks)
    ]


def judge(curve: Sequence[Level]) -> Verdict:
    """The k with the largest score, those nearly as good, and how far to trust it.

    Nearly as good: within one standard error of the best, or 8 % of it.
    high: clear, a narrow range, and at least two thirds of the criteria have their own best k within a
    quarter of the chosen one. low: no clear clusters, a range wider than a factor of two, the upper end of the ks
    asked for, or fewer than a third of the criteria agree. medium: the rest.
    """
    best = max(curve, key=lambda level: level.score)
    least = best.score - max(best.error, CLOSE * abs(best.score))
    near = [level.k for level in curve if level.score >= least]
    low, high = min(near), max(near)
    names = [name for name in WEIGHTS if getattr(best, name) is not None]
    own = {name: max(curve, key=lambda level: getattr(level, name)).k for name in names}
    agree = [name for name in names if abs(own[name] - best.k) <= max(1, NEAR * best.k)]
    clear = best.stability > LEAST_GAIN
    at_end = best.k == curve[-1].k and len(curve) > 1
    if not clear or at_end or high > 2 * low or 3 * len(agree) < len(names):
        sure = "low"
    elif 3 * len(agree) >= 2 * len(names) and high <= max(low + 1, 1.5 * low):
        sure = "high"
    else:
        sure = "medium"
    return Verdict(best.k, (low, high), sure, say(best, (low, high), clear, at_end, own, agree), clear)


def say(
    best: Level, span: tuple[int, int], clear: bool, at_end: bool, own: dict[str, int], agree: Sequence[str]
) -> str:
    """One sentence on the choice."""
    if not clear:
        return (
            f"No clear clusters: halves of the collection do not find the same ones at any number; "
            f"{best.k} is the least bad of those tried."
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
