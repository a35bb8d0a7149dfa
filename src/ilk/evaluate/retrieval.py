"""Are an image's nearest images of its kind? Precision among the nearest, and mean average precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ilk.analysis.neighbours import unit_floats
from ilk.evaluate.intervals import RESAMPLES, mean_with_interval

RANKS = (1, 2, 10, 50, 100)
QUERIES = 2_000
CELLS = 1 << 23  # similarities held at a time
FLOATS = 1 << 22  # numbers of the gallery held as float32 at a time
SHOWN = 10  # nearest images that are kept for a picture


@dataclass(frozen=True)
class Ranking:
    """What came back for each query, in the order in which they were given."""

    average_precision: np.ndarray  # (q,) nan for a query with no partner in the gallery
    precision: dict[int, np.ndarray]  # (q,) for each rank that the gallery has
    near: np.ndarray  # (q, SHOWN) rows of the gallery, nearest first
    cosine: np.ndarray  # (q, SHOWN)


def rank_gallery(
    query: np.ndarray, gallery: np.ndarray, query_codes: np.ndarray, gallery_codes: np.ndarray, *,
    own: np.ndarray | None = None, ranks: Sequence[int] = RANKS, progress: Callable[[int, int], None] | None = None,
) -> Ranking:  # fmt: skip
    """The whole gallery ranked by cosine for each query, a few queries at a time; never all similarities at once.

    `query`, `gallery`: features. Codes below 0 match nothing. `own`: the row of the gallery that is the query
    itself and is left out, -1 for none. Equals come in the order of the gallery.
    Average precision is the mean, over the images of the query's kind, of the precision at the rank of each.
    """
    q, n = len(query), len(gallery)
    own = np.full(q, -1) if own is None else own
    kept = min(SHOWN, n - int((own >= 0).any()))
    found = Ranking(
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
        cosine[itself, mine[itself]] = -torch.inf  # comes last, and last is cut off below
        value, order = cosine.sort(dim=1, descending=True, stable=True)
        wanted = torch.from_numpy(np.asarray(query_codes[rows], dtype=np.int64))
        hit = (codes[order] == wanted[:, None]) & (wanted >= 0)[:, None] & (value > -torch.inf)
        fill(found, rows, hit)
        found.near[rows], found.cosine[rows] = order[:, :kept].numpy(), value[:, :kept].numpy()
        if progress is not None:
            progress(rows.stop, q)
    return found


def similarities(query: np.ndarray, gallery: np.ndarray) -> torch.Tensor:
    """The cosines of queries and gallery, (q, n) float32; the gallery is read block by block."""
    x, step = unit_floats(query, "queries"), max(1, FLOATS // gallery.shape[1])
    found = torch.empty(len(query), len(gallery))
    for start in range(0, len(gallery), step):
        found[:, start : start + step] = x @ unit_floats(gallery[start : start + step], "gallery").T
    return found


def fill(found: Ranking, rows: slice, hit: torch.Tensor) -> None:
    """Writes precision and average precision of those queries; `hit`: (q, n), by rank."""
    right = hit.cumsum(1)
    partners = right[:, -1]
    precision = right / torch.arange(1, hit.shape[1] + 1)
    average = torch.where(hit, precision, 0.0).double().sum(1) / partners
    alone = (partners == 0).numpy()
    found.average_precision[rows] = np.where(alone, np.nan, average.numpy())
    for k, values in found.precision.items():
        values[rows] = np.where(alone, np.nan, precision[:, k - 1].numpy())


def chosen_queries(n: int, most: int, seed: int) -> np.ndarray:
    """Positions of the queries: all of n, or a seeded sample of `most`, in order."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).permutation(n)[:most])


def retrieval_scores(found: Ranking, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Mean average precision and precision at each rank, with intervals over queries.

    Queries of a kind that the gallery has no other image of cannot succeed; they are left out and counted.
    """
    some = ~np.isnan(found.average_precision)
    if not some.any():
        raise ValueError("No query has another image of its kind in the gallery, so retrieval cannot be scored.")
    options = {"resamples": resamples, "seed": seed}
    return {
        "queries": int(some.sum()),
        "without_partner": int((~some).sum()),
        "mean_average_precision": mean_with_interval(found.average_precision[some], **options),
        "precision": {str(k): mean_with_interval(values[some], **options) for k, values in found.precision.items()},
    }


def picture_rows(found: Ranking, query_codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which queries to show: `count` evenly chosen over labels, and the `count` worst of the others, worst first.

    The worst have the lowest average precision; without labels, the nearest image that is least near.
    """
    by_kind = np.lexsort((np.arange(len(query_codes)), query_codes))
    even = by_kind[np.unique(np.linspace(0, len(by_kind) - 1, min(count, len(by_kind))).round().astype(int))]
    scored = not np.isnan(found.average_precision).all()
    badness = found.average_precision if scored else found.cosine[:, 0].astype(np.float64)
    worst = [row for row in np.argsort(badness, kind="stable") if row not in even and not np.isnan(badness[row])]
    return even, np.array(worst[:count], dtype=np.int64)
