"""How many clusters: the evidence for each number, and the tree's levels, as far as a run was asked to find it."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ilk.reports.folder import Results, RunFiles, attempt
from ilk.runs.tables import Bomb, refuse_bomb
from ilk.system.files import read_limited
from ilk.system.text import safe_text

CURVE, LEVELS = "k_curve.csv", "hierarchy.parquet"
MOST_CURVE = 2**20  # bytes; a thousand numbers have a tenth of that
MOST_LEVELS = 2_000  # the largest number of clusters that is read; a tree is grown from 8,000 images
MOST_SENTENCE = 2_000  # characters
CRITERIA = ("stability", "views", "neighbours", "generalisation", "silhouette")
SURE = ("low", "medium", "high")
TYPICAL = 8  # images kept for each of the finest clusters
MEAN_OF = 5_000  # images that the mean of a finest cluster is taken from


@dataclass(frozen=True)
class Levels:
    """Nested clusters for each number of them, 2 to k: a line of the k finest ones, cut at one more place each time.

    The line is such that a cluster of any level is a stretch of it: cluster c, when there are j > c, goes from
    `start[c]` to the next start among those of the clusters below j.
    """

    start: np.ndarray  # (k,) where in the line cluster c begins
    leaf: np.ndarray  # (n,) the place in the line of each image's finest cluster

    @property
    def k(self) -> int:
        return len(self.start)

    @property
    def sizes(self) -> np.ndarray:
        """The images at each place of the line, (k,)."""
        return np.bincount(self.leaf, minlength=self.k)


def how_many_payload(
    files: RunFiles, notes: list[str], rows: np.ndarray | None = None, pictured: int | None = None
) -> dict[str, Any] | None:
    """The choice, the curve and the levels of the images `rows`; None for a run that has neither file.

    `pictured`: how many of `rows`, the first ones, have a thumbnail; these are taken as examples where there are any.
    A sentence in `notes` for a file that is damaged; the others are shown.
    """
    folder, results = files.folder, files.results
    curve = attempt(lambda: read_curve(folder / CURVE), None, notes)
    levels = None
    if results is not None and rows is not None:
        found = attempt(lambda: read_levels(folder / LEVELS, results.ids), None, notes)
        levels = None if found is None else levels_payload(found, results, rows, pictured)
    if curve is None and levels is None:
        return None
    choice = attempt(lambda: read_choice(files.config.get("number"), folder / "config.json"), None, notes)
    if choice is None:
        best = None if curve is None else curve.pop("best")
        choice = {"asked": None, "chosen": best, "range": None, "sure": None, "sentence": None}
    if curve is not None:
        curve.pop("best", None)
    return {**choice, "curve": curve, "levels": levels}


def read_choice(found: Any, file: Path) -> dict[str, Any] | None:
    """What the settings say of the choice, None where they say nothing. Raises ValueError, a sentence."""
    if found is None:
        return None
    try:
        asked, chosen, span, sure, sentence = (found[key] for key in ("asked", "chosen", "range", "sure", "sentence"))
        low, high = span
        whole = all(type(one) is int and 1 <= one <= MOST_LEVELS for one in (low, chosen, high))
        words = isinstance(sentence, str) and len(sentence) <= MOST_SENTENCE and len(str(asked)) <= MOST_SENTENCE
        if not (whole and low <= chosen <= high and sure in SURE and words):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"'{file}' does not say as ilk does how the number of clusters was chosen, so that is not shown."
        ) from None
    return {"asked": str(asked), "chosen": chosen, "range": [low, high], "sure": sure, "sentence": sentence}


def read_curve(file: Path) -> dict[str, Any] | None:
    """The table of the numbers that were tried, as columns, and the `best` of them; None where there is none.

    Criteria without a value are left out. Raises ValueError, a sentence, for a damaged table.
    """
    if not file.is_file():
        return None
    try:
        text = read_limited(file, MOST_CURVE).decode("utf-8")
        lines = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        ks = [int(line["k"]) for line in lines]
        score, error = ([finite(line[name]) for line in lines] for name in ("score", "error"))
        criteria = {name: [finite(line[name]) if line[name] else None for line in lines] for name in CRITERIA}
        best = [k for k, line in zip(ks, lines, strict=True) if line["chosen"] == "True"]
        fits = len(best) == 1 and ks[0] >= 1 and ks[-1] <= MOST_LEVELS and min(error) >= 0
        if not fits or any(b <= a for a, b in pairwise(ks)):
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError, csv.Error):
        raise ValueError(f"'{file}' is damaged, so the scores of the numbers of clusters are not shown.") from None
    known = {name: values for name, values in criteria.items() if any(value is not None for value in values)}
    return {"k": ks, "score": score, "error": error, "criteria": known, "best": best[0]}


def finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > 1e6:
        raise ValueError
    return round(value, 5)


def read_levels(file: Path, ids: Sequence[str]) -> Levels | None:
    """The levels of the images `ids`, read one column at a time; None where a run has none.

    Raises ValueError, a sentence, for a file that is damaged, is of other images or whose levels are not nested.
    """
    if not file.is_file():
        return None
    import pyarrow.parquet as pq

    try:
        refuse_bomb(file, pq.read_metadata(file))
        table = pq.ParquetFile(file)
        k = levels_in(table, len(ids), file)
        if [safe_text(one or "") for one in column(table, "id").to_pylist()] != list(ids):
            refuse(file, "names other images than the assignments")
        return nested(table, k, file)
    except Bomb as error:
        raise ValueError(f"'{file}' {error}; it was not written by ilk.") from None
    except ValueError as error:
        if "so the levels" in str(error):
            raise
        refuse(file, "cannot be read as Parquet")
    except Exception:  # pyarrow raises several kinds for a damaged or foreign file
        refuse(file, "cannot be read as Parquet")


def refuse(file: Path, what: str) -> NoReturn:
    raise ValueError(f"'{file}' {what}, so the levels of the tree are not shown.")


def levels_in(table: Any, n: int, file: Path) -> int:
    """The largest number of clusters that the table has a column for."""
    names = table.schema_arrow.names
    k = len(names) - 1  # id, fine, k2 to k
    if not 2 <= k <= MOST_LEVELS or set(names) != {"id", "fine", *(f"k{level}" for level in range(2, k + 1))}:
        refuse(file, "has not the columns id, fine, k2, k3 and so on")
    if table.metadata.num_rows != n:
        refuse(file, f"has {table.metadata.num_rows:,} rows and the assignments have {n:,}")
    return k


def column(table: Any, name: str) -> Any:
    found = table.read(columns=[name])
    found.validate(full=True)
    return found[name]


def nested(table: Any, k: int, file: Path) -> Levels:
    """The levels as one line; each must part one cluster of the one before and call the new part by the next number."""
    import pyarrow.types as types

    before = np.zeros(table.metadata.num_rows, dtype=np.int64)
    line = [0]
    for level in range(2, k + 1):
        found = column(table, f"k{level}")
        if not types.is_integer(found.type) or found.null_count:
            refuse(file, f"holds something else than numbers in column k{level}")
        now = found.to_numpy().astype(np.int64)
        moved = now != before
        parents = np.unique(before[moved])
        if len(parents) > 1 or (now[moved] != level - 1).any():
            refuse(file, f"has levels that are not nested (k{level})")
        # an empty new cluster is that of a fine one which no image is nearest to
        line.insert(line.index(parents[0]) + 1 if len(parents) else len(line), level - 1)
        before = now
    start = np.empty(k, dtype=np.int64)
    start[line] = np.arange(k)
    return Levels(start, start[before])


def levels_payload(levels: Levels, results: Results, rows: np.ndarray, pictured: int | None) -> dict[str, Any]:
    """`start` and `sizes` (of all images) as they are in `Levels`, `leaf` of the images shown, a few typical of each.

    `leaf` is base64 of bytes, or of two bytes each for more than 256 clusters.
    """
    kind = "uint8" if levels.k <= 256 else "uint16"
    leaf = levels.leaf[rows]
    packed = np.ascontiguousarray(leaf, dtype="<u1" if kind == "uint8" else "<u2").tobytes()
    return {
        "start": levels.start.tolist(),
        "sizes": levels.sizes.tolist(),
        "leaf": base64.b64encode(packed).decode(),
        "dtype": kind,
        "typical": typical_images(levels, results.embedding, rows, len(rows) if pictured is None else pictured),
    }


def typical_images(levels: Levels, embedding: np.ndarray, rows: np.ndarray, pictured: int) -> list[list[int]]:
    """For each place of the line, the images shown that are nearest to its mean embedding; those with a picture first.

    The mean is that of up to 5,000 images, evenly spaced, and the direction is all that counts.
    """
    order = np.argsort(levels.leaf, kind="stable")
    ends = np.cumsum(levels.sizes)
    shown = levels.leaf[rows]
    found: list[list[int]] = []
    for place, (end, size) in enumerate(zip(ends, levels.sizes, strict=True)):
        there = np.flatnonzero(shown == place)
        if len(there) == 0:
            found.append([])
            continue
        some = order[end - size : end]
        some = some[np.linspace(0, size - 1, min(size, MEAN_OF)).round().astype(np.int64)]
        mean = embedding[np.sort(some)].astype(np.float32).mean(0)
        own = embedding[rows[there]].astype(np.float32)
        near = own @ mean / np.maximum(np.linalg.norm(own, axis=1), 1e-12)
        found.append(there[np.lexsort((-near, there >= pictured))][:TYPICAL].tolist())
    return found
