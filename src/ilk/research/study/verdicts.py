"""Whether a published order of cells holds here, judged by the differences over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LEVEL = 0.90
HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
RULE = (
    "A pair of cells is compared seed by seed: the mean of the paired differences, and its 90 % confidence interval"
    " (Student's t, n - 1 degrees of freedom). The order *holds* where the interval is above zero, *does not hold*"
    " where it is below, and *cannot be told* where zero lies in it or fewer than two seeds are done. An order of"
    " several cells holds where each neighbouring pair's does, and does not where one pair's does not."
)


@dataclass(frozen=True)
class Difference:
    """A pair of cells: the mean of paired differences, half the width of its interval (nan below two seeds), seeds."""

    mean: float
    half: float
    n: int

    @property
    def verdict(self) -> str:
        if self.n < 2 or abs(self.mean) <= self.half:
            return OPEN
        return HOLDS if self.mean > 0 else FAILS

    @property
    def text(self) -> str:
        if self.n == 0:
            return "no seed done"
        spread = f" +- {self.half:.3f}" if self.n > 1 else ""
        return f"{self.mean:+.3f}{spread} (n = {self.n})"


def difference(better: dict[int, float], worse: dict[int, float]) -> Difference:
    """How much higher the scores of `better` are, over the seeds that both have. Arguments: {seed: score}."""
    from scipy.stats import t

    seeds = sorted(better.keys() & worse.keys())
    paired = np.array([better[seed] - worse[seed] for seed in seeds])
    n = len(paired)
    if n < 2:
        return Difference(float(paired.mean()) if n else math.nan, math.nan, n)
    error = float(paired.std(ddof=1)) / math.sqrt(n)
    return Difference(float(paired.mean()), float(t.ppf((1 + LEVEL) / 2, n - 1)) * error, n)


def differences(order: Sequence[str], scores: dict[str, dict[int, float]]) -> list[Difference]:
    """The differences of neighbouring pairs in an order, best first. `scores`: {cell: {seed: score}}."""
    return [difference(scores.get(better, {}), scores.get(worse, {})) for better, worse in pairwise(order)]


def verdict(pairs: Sequence[Difference]) -> str:
    """The verdict on an order: it fails if one pair fails, and holds if all pairs hold."""
    verdicts = [pair.verdict for pair in pairs]
    if FAILS in verdicts:
        return FAILS
    return HOLDS if all(each == HOLDS for each in verdicts) else OPEN
