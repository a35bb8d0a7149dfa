"""Bootstrap intervals over images, 95 % and seeded: how far a score would move with other images of the same kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilk.analysis.metrics import contingency, recalls, scores_of_tables

LEVEL = 95  # per cent
RESAMPLES = 1000
CELLS = 1 << 22  # numbers of resampled tables in memory at a time


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of resampled values; undefined (nan) values are left out."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def as_score(value: float, resampled: np.ndarray) -> dict[str, float | None]:
    """A score and its interval, for JSON."""
    low, high = interval(resampled)
    named = {"value": value, "low": low, "high": high}
    return {name: None if np.isnan(number) else float(number) for name, number in named.items()}


def resampled_tables(table: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Contingency tables of bootstrap resamples of the images in `table` (C, k); (resamples, C, k) int64.

    The counts of images drawn with replacement follow a multinomial over the cells, which is drawn directly.
    """
    cells = np.flatnonzero(table)
    n = int(table.sum())
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel()[cells] / n, size=resamples)
    tables = np.zeros((resamples, table.size), dtype=np.int64)
    tables[:, cells] = drawn
    return tables.reshape(resamples, *table.shape)


def score_with_intervals(
    labels: np.ndarray, clusters: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """All scores against labels with their intervals, and the recall of every label by its code.

    `labels`, `clusters`: (n,) codes from 0. Clusters are matched to labels anew in each resample. An interval says how
    far the score of this clustering varies with the images, not how far another training would differ.
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
        by_class += [recalls(resampled) for resampled in tables]
    points, recall = scores_of_tables(table[None]), recalls(table)
    return {
        "images": int(table.sum()),
        "classes": len(present),
        "clusters": table.shape[1],
        **{name: as_score(float(points[name][0]), np.concatenate(scores[name])) for name in points},
        "recall": {
            int(code): as_score(float(recall[i]), np.array([values[i] for values in by_class]))
            for i, code in enumerate(present)
        },
    }


def mean_with_interval(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, float | None]:
    """The mean of `values` (n,), one for each image, with its interval. Raises ValueError where there are none."""
    if len(values) == 0:
        raise ValueError("There are no images to take a mean over.")
    x, random = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    levels, counts = np.unique(x, return_counts=True)  # few distinct values: draw their counts, not the images
    step = max(1, CELLS // len(levels))
    means = [
        random.multinomial(len(x), counts / len(x), size=min(step, resamples - start)) @ levels / len(x)
        for start in range(0, resamples, step)
    ]
    return as_score(float(x.mean()), np.concatenate(means))
