"""Whether an image's nearest images have its label: precision among the nearest, and mean average precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ilk.analysis.neighbours import unit_floats
from ilk.evaluation.intervals import RESAMPLES, mean_with_interval

RANKS = (1, 2, 10, 50, 100)
QUERIES = 2_000
CELLS = 1 << 23  # similarities in memory at a time
FLOATS = 1 << 22  # numbers of the gallery in memory as float32 at a time
SHOWN = 10  # nearest images that are kept for a picture


@dataclass(frozen=True)
class Ranking:
    """The ranking of the gallery for each query, in the order of the queries."""

    average_precision: np.ndarray  # (q,) nan for a query whose label no other image of the gallery has
    precision: dict[int, np.ndarray]  # (q,) at each rank that the gallery has
    near: np.ndarray  # (q, SHOWN) rows of the gallery, nearest first
    cosine: np.ndarray  # (q, SHOWN)


def rank_gallery(
    query: np.ndarray, gallery: np.ndarray, query_codes: np.ndarray, gallery_codes: np.ndarray, *,
    own: np.ndarray | None = None, ranks: Sequence[int] = RANKS, progress: Callable[[int, int], None] | None = None,
) -> Ranking:  # fmt: skip
    """The whole gallery ranked by cosine for each query, a block of queries at a time to bound memory.

    `query`, `gallery`: (q, d) and (n, d) features, with label codes; codes below 0 match nothing. `own`: (q,) the row
    of the gallery that is the query itself and is left out, -1 for none. Ties are in gallery order.
    Average precision is the mean of the precision at the rank of each image with the query's label.
    """
    q, n = len(query), len(gallery)
    own = np.full(q, -1) if own is None else own
    kept = min(SHOWN, n - int((own >= 0).any()))
    ranking = Ranking(
        np.full(q, np.nan), {k: np.full(q, np.nan) for k in ranks if k <= n - int((own >= 0).any())},
        np.zeros((q, kept), dtype=np.int64), np.zeros((q, kept), dtype=np.float32),
    )  # fmt: skip
    step = max(1, CELLS // max(n, 1))
    codes = torch.from_numpy(np.asarray(gallery_codes, dtype=np.int64))
    for start in range(0, q, step):
        rows = slice(start, min(start + step, q))
        cosine = similarities(query[rows], gallery)
        mine = torch.from_numpy(np.asarray(own[rows], dtype=np.int64))
        itself = (mine >= 0).nonzero()[:, 0]
        cosine[itself, mine[itself]] = -torch.inf  # ranked last, and the last rank is not kept
        value, order = cosine.sort(dim=1, descending=True, stable=True)
        wanted = torch.from_numpy(np.asarray(query_codes[rows], dtype=np.int64))
        hit = (codes[order] == wanted[:, None]) & (wanted >= 0)[:, None] & (value > -torch.inf)
        fill(ranking, rows, hit)
        ranking.near[rows], ranking.cosine[rows] = order[:, :kept].numpy(), value[:, :kept].numpy()
        if progress is not None:
            progress(rows.stop, q)
    return ranking


def similarities(query: np.ndarray, gallery: np.ndarray) -> torch.Tensor:
    """The cosines of all queries with the gallery, (q, n) float32; the gallery is read in blocks."""
    x, step = unit_floats(query, "queries"), max(1, FLOATS // gallery.shape[1])
    cosine = torch.empty(len(query), len(gallery))
    for start in range(0, len(gallery), step):
        cosine[:, start : start + step] = x @ unit_floats(gallery[start : start + step], "gallery").T
    return cosine


def fill(ranking: Ranking, rows: slice, hit: torch.Tensor) -> None:
    """Sets precision and average precision of the queries `rows`. `hit`: (b, n) bool, by rank, the right images."""
    right = hit.cumsum(1)
    partners = right[:, -1]
    precision = right / torch.arange(1, hit.shape[1] + 1)
    average = torch.where(hit, precision, 0.0).double().sum(1) / partners
    alone = (partners == 0).numpy()
    ranking.average_precision[rows] = np.where(alone, np.nan, average.numpy())
    for k, values in ranking.precision.items():
        values[rows] = np.where(alone, np.nan, precision[:, k - 1].numpy())


def chosen_queries(n: int, most: int, seed: int) -> np.ndarray:
    """Sorted positions of the queries: all n, or a seeded sample of `most`."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).permutation(n)[:most])


def retrieval_scores(ranking: Ranking, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Mean average precision and precision at each rank, with intervals over queries.

    Queries whose label no other image of the gallery has cannot succeed; they are left out and counted. Raises
    ValueError where no query is left.
    """
    scored = ~np.isnan(ranking.average_precision)
    if not scored.any():
        raise ValueError("No query has another image with its label in the gallery, so retrieval cannot be scored.")
    options = {"resamples": resamples, "seed": seed}
    return {
        "queries": int(scored.sum()),
        "without_partner": int((~scored).sum()),
        "mean_average_precision": mean_with_interval(ranking.average_precision[scored], **options),
        "precision": {str(k): mean_with_interval(values[scored], **options) for k, values in ranking.precision.items()},
    }


def picture_rows(ranking: Ranking, query_codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which queries to show: `count` evenly spaced over labels, and the `count` worst of the others, worst first.

    The worst have the lowest average precision; without labels, the least cosine with their nearest image.
    """
    by_label = np.lexsort((np.arange(len(query_codes)), query_codes))
    even = by_label[np.unique(np.linspace(0, len(by_label) - 1, min(count, len(by_label))).round().astype(int))]
    scored = not np.isnan(ranking.average_precision).all()
    quality = ranking.average_precision if scored else ranking.cosine[:, 0].astype(np.float64)
    worst = [row for row in np.argsort(quality, kind="stable") if row not in even and not np.isnan(quality[row])]
    return even, np.array(worst[:count], dtype=np.int64)
