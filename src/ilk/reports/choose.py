"""Which images a report shows when a run has more than fit: a sample that one sentence describes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ilk.runs.tables import Cluster

EXAMPLES = 24  # typical and uncertain images of each cluster that a report shows


def choose_rows(
    clusters: Sequence[Cluster], most: int, *, always: Iterable[int] = (), among: np.ndarray | None = None
) -> np.ndarray:
    """Up to `most` rows, ascending: each cluster's most typical and least certain images, then others.

    `always`: rows that are chosen next. The others are drawn at random from all images, always the same ones, so that
    large clusters keep their share. `among`: the rows to choose from, None for all.
    """
    used = [cluster for cluster in clusters if cluster.size]
    rows = np.sort(np.concatenate([cluster.rows for cluster in used])) if among is None else np.sort(np.asarray(among))
    if len(rows) <= most:
        return rows
    each = max(1, min(EXAMPLES, most // (4 * len(used))))
    wanted = [cluster.rows[rank : rank + 1] for rank in range(each) for cluster in used]  # best of each first
    wanted += [cluster.uncertain[rank : rank + 1] for rank in range(each) for cluster in used]
    first = np.concatenate([*wanted, np.asarray(list(always), dtype=np.int64)])
    drawn = np.random.default_rng(0).permutation(rows)
    order = np.concatenate([first[np.isin(first, rows)], drawn])
    _, places = np.unique(order, return_index=True)
    return np.sort(order[np.sort(places)][:most])


def sample_note(shown: int, n: int) -> str | None:
    """A sentence that describes the sample; None when all images are shown."""
    if shown >= n:
        return None
    return (
        f"{shown:,} of the {n:,} images are shown: of every cluster the most typical and the least certain ones,"
        " the others drawn at random; sizes and scores count all images."
    )
