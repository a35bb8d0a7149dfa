"""How far a score would move with other images of the same sort: seeded bootstrap intervals, 95 %, over images."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilk.analysis.metrics import contingency, recalls, scores_of_tables

LEVEL = 95  # per cent
RESAMPLES = 1000
CELLS = 1 << 22  # numbers of resampled tables held at a time


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values; those that are not defined are left out."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def described(value: float, resampled: np.ndarray) -> dict[str, float | None]:
    """A score and its interval, for JSON."""
    low, high = interval(resampled)
    return {name: None if np.isnan(one) else float(one) for name, one in
            (("value", value), ("low", low), ("high", high))}  # fmt: skip


def resampled_tables(table: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Tables of as many images drawn with replacement from those of `table`, (resamples, C, k) int64.

    To draw images and count them is to draw the counts from a multinomial over the cells, which is what is done.
    """
    cells = np.flatnonzero(table)
    n = int(table.sum())
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel()[cells] / n, size=resamples)
    found = np.zeros((resamples, table.size), dtype=np.int64)
    found[:, cells] = drawn
    return found.reshape(resamples, *table.shape)


def score_with_intervals(
    labels: np.ndarray, clusters: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """All scores against labels with their intervals, and the recall of every label by its code.

    `labels`, `clusters`: (n,) codes from 0. The matching is made anew in each resample. An interval says how far
    the score of this clustering moves with the images; not how far another training would be.
    """
    table = contingency(labels, clusters)
    present = np.flatnonzero(table.sum(1))
    table = table[present][:, table.sum(0) > 0]
    step = max(1, CELLS // table.size)
    scores: dict[str, list[np.ndarray]] = {}
    by_class: list[np.ndarray] = []
    for number, start in enumerate(range(0, resamples, step)):
        tables = resampled_tables(table, min(step, resamples - start), seed * 1_000_003 + number)
        for name, values in scores_of_tables(tables).items():
            scores.setdefault(name, []).append(values)
        by_class += [recalls(one) for one in tables]
    points, recall = scores_of_tables(table[None]), recalls(table)
    return {
        "images": int(table.sum()),
        "classes": len(present),
        "clusters": table.shape[1],
        **{name: described(float(points[name][0]), np.concatenate(scores[name])) for name in points},
        "recall": {
            int(code): described(float(recall[i]), np.array([one[i] for one in by_class]))
            for i, code in enumerate(present)
        },
    }


def mean_with_interval(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, float | None]:
    """The mean of one number an image, with its interval. Raises ValueError for none."""
    if len(values) == 0:
        raise ValueError("There are no images to take a mean over.")
    x, draws = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    levels, counts = np.unique(x, return_counts=True)  # right or wrong are two: the draw is one of two counts
    step = max(1, CELLS // len(levels))
    means = [
        draws.multinomial(len(x), counts / len(x), size=min(step, resamples - start)) @ levels / len(x)
        for start in range(0, resamples, step)
    ]
    return described(float(x.mean()), np.concatenate(means))
