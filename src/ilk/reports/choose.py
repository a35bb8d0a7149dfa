"""Which images are shown where a run has more than fit: a sample that can be stated in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ilk.runs.tables import Cluster

EXAMPLES = 24  # typical and uncertain images of each cluster that a report shows


def choose_rows(
    clusters: Sequence[Cluster], most: int, *, always: Iterable[int] = (), among: np.ndarray | None = None
) -> np.ndarray:
    """Up to `most` rows, ascending; of every cluster its most typical and its least certain images are in.

    `always`: rows that come next. The rest are drawn from all, so that large clusters keep their share;
    the draw is the same every time. `among`: the rows there are to choose from, None for all.
    """
    used = [one for one in clusters if one.size]
    rows = np.sort(np.concatenate([one.rows for one in used])) if among is None else np.sort(np.asarray(among))
    if len(rows) <= most:
        return rows
    each = max(1, min(EXAMPLES, most // (4 * len(used))))
    wanted = [one.rows[rank : rank + 1] for rank in range(each) for one in used]  # best of each cluster first
    wanted += [one.uncertain[rank : rank + 1] for rank in range(each) for one in used]
    first = np.concatenate([*wanted, np.asarray(list(always), dtype=np.int64)])
    drawn = np.random.default_rng(0).permutation(rows)
    order = np.concatenate([first[np.isin(first, rows)], drawn])
    _, places = np.unique(order, return_index=True)
    return np.sort(order[np.sort(places)][:most])


def sample_note(shown: int, n: int) -> str | None:
    """What to say when not all images are shown."""
    if shown >= n:
        return None
    return (
        f"{shown:,} of the {n:,} images are shown: of every cluster the most typical and the least certain ones,"
        " the others drawn at random; sizes and scores count all images."
    )
