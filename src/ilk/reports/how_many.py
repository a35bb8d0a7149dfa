"""How many clusters: the scores of each number that was tried, and the levels of the tree of clusters."""

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
from ilk.runs.tables import OversizedTable, refuse_oversized
from ilk.system.files import read_limited
from ilk.system.text import safe_text

CURVE, LEVELS = "k_curve.csv", "hierarchy.parquet"
MOST_CURVE = 2**20  # bytes; a thousand numbers take a tenth of that
MOST_LEVELS = 2_000  # the largest number of clusters that is read
MOST_SENTENCE = 2_000  # characters
CRITERIA = ("stability", "views", "neighbours", "generalisation", "silhouette")
SURE = ("low", "medium", "high")
TYPICAL = 8  # images kept for each of the finest clusters
MEAN_OF = 5_000  # images that the mean embedding of a finest cluster is computed from


@dataclass(frozen=True)
class Levels:
    """Nested clusterings into 2 to k clusters.

    The k finest clusters stand in a line in which a cluster of any level is a stretch: when there are j clusters,
    cluster c < j goes from `start[c]` to the next larger one of start[0], ..., start[j - 1].
    """

    start: np.ndarray  # (k,) the place in the line where cluster c begins
    leaf: np.ndarray  # (n,) the place in the line of each image's finest cluster

    @property
    def k(self) -> int:
        """The number of finest clusters."""
        return len(self.start)

    @property
    def sizes(self) -> np.ndarray:
        """The number of images at each place of the line, (k,)."""
        return np.bincount(self.leaf, minlength=self.k)


def how_many_payload(
    files: RunFiles, notes: list[str], rows: np.ndarray | None = None, pictured: int | None = None
) -> dict[str, Any] | None:
    """The choice, the curve and the levels for the images `rows`; None for a run that has neither file.

    `pictured`: how many of the first of `rows` have a thumbnail; these are preferred as examples. A damaged file costs
    a sentence in `notes`; the others are shown.
    """
    folder, results = files.folder, files.results
    curve = attempt(lambda: read_curve(folder / CURVE), None, notes)
    levels = None
    if results is not None and rows is not None:
        tree = attempt(lambda: read_levels(folder / LEVELS, results.ids), None, notes)
        levels = None if tree is None else levels_payload(tree, results, rows, pictured)
    if curve is None and levels is None:
        return None
    choice = attempt(lambda: read_choice(files.config.get("number"), folder / "config.json"), None, notes)
    if choice is None:
        best = None if curve is None else curve.pop("best")
        choice = {"asked": None, "chosen": best, "range": None, "sure": None, "sentence": None}
    if curve is not None:
        curve.pop("best", None)
    return {**choice, "curve": curve, "levels": levels}


def read_choice(setting: Any, file: Path) -> dict[str, Any] | None:
    """How the number was chosen, from the setting `number`; None without it. Raises ValueError for a damaged one."""
    if setting is None:
        return None
    try:
        asked, chosen, span, sure, sentence = (setting[key] for key in ("asked", "chosen", "range", "sure", "sentence"))
        low, high = span
        whole = all(type(k) is int and 1 <= k <= MOST_LEVELS for k in (low, chosen, high))
        words = isinstance(sentence, str) and len(sentence) <= MOST_SENTENCE and len(str(asked)) <= MOST_SENTENCE
        if not (whole and low <= chosen <= high and sure in SURE and words):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"'{file}' does not say as ilk does how the number of clusters was chosen, so that is not shown."
        ) from None
    return {"asked": str(asked), "chosen": chosen, "range": [low, high], "sure": sure, "sentence": sentence}


def read_curve(file: Path) -> dict[str, Any] | None:
    """The scores of the numbers that were tried, as columns, and the `best` number; None for a run without them.

    Criteria without any value are left out. Raises ValueError for a damaged table.
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
    """A number with five decimals. Raises ValueError for one that is not finite or is too large."""
    value = float(text)
    if not math.isfinite(value) or abs(value) > 1e6:
        raise ValueError
    return round(value, 5)


def read_levels(file: Path, ids: Sequence[str]) -> Levels | None:
    """The levels of the images `ids`, read column by column; None for a run without them.

    Raises ValueError for a file that is damaged or of other images, or has levels that are not nested.
    """
    if not file.is_file():
        return None
    import pyarrow.parquet as pq

    try:
        refuse_oversized(file, pq.read_metadata(file))
        table = pq.ParquetFile(file)
        k = levels_in(table, len(ids), file)
        if [safe_text(text or "") for text in column(table, "id").to_pylist()] != list(ids):
            refuse(file, "names other images than the assignments")
        return nested(table, k, file)
    except OversizedTable as error:
        raise ValueError(f"'{file}' {error}; it was not written by ilk.") from None
    except ValueError as error:
        if "so the levels" in str(error):
            raise
        refuse(file, "cannot be read as Parquet")
    except Exception:  # pyarrow raises several kinds for a damaged or foreign file
        refuse(file, "cannot be read as Parquet")


def refuse(file: Path, what: str) -> NoReturn:
    """Raises the ValueError that says what is wrong with the file of levels."""
    raise ValueError(f"'{file}' {what}, so the levels of the tree are not shown.")


def levels_in(table: Any, n: int, file: Path) -> int:
    """The largest number of clusters in the table. Raises ValueError for other columns or rows than expected."""
    names = table.schema_arrow.names
    k = len(names) - 1  # id, fine, k2 to k
    if not 2 <= k <= MOST_LEVELS or set(names) != {"id", "fine", *(f"k{level}" for level in range(2, k + 1))}:
        refuse(file, "has not the columns id, fine, k2, k3 and so on")
    if table.metadata.num_rows != n:
        refuse(file, f"has {table.metadata.num_rows:,} rows and the assignments have {n:,}")
    return k


def column(table: Any, name: str) -> Any:
    """One column of a Parquet file, validated."""
    part = table.read(columns=[name])
    part.validate(full=True)
    return part[name]


def nested(table: Any, k: int, file: Path) -> Levels:
    """The levels as one line. Each must split one cluster of the level before and give the new part the next number."""
    import pyarrow.types as types

    before = np.zeros(table.metadata.num_rows, dtype=np.int64)
    line = [0]
    for level in range(2, k + 1):
        values = column(table, f"k{level}")
        if not types.is_integer(values.type) or values.null_count:
            refuse(file, f"holds something else than numbers in column k{level}")
        now = values.to_numpy().astype(np.int64)
        moved = now != before
        parents = np.unique(before[moved])
        if len(parents) > 1 or (now[moved] != level - 1).any():
            refuse(file, f"has levels that are not nested (k{level})")
        # a new cluster is empty if no image is nearest to it
        line.insert(line.index(parents[0]) + 1 if len(parents) else len(line), level - 1)
        before = now
    start = np.empty(k, dtype=np.int64)
    start[line] = np.arange(k)
    return Levels(start, start[before])


def levels_payload(levels: Levels, results: Results, rows: np.ndarray, pictured: int | None) -> dict[str, Any]:
    """The levels for the page: `start`, `sizes` of all images, `leaf` of the images shown, and typical images.

    `leaf` is base64 of one byte per image, or of two for more than 256 clusters.
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
    """For each place of the line, the shown images nearest to its mean embedding, those with a picture first.

    The mean is that of up to 5,000 evenly spaced images; nearness is cosine similarity.
    """
    order = np.argsort(levels.leaf, kind="stable")
    ends = np.cumsum(levels.sizes)
    shown = levels.leaf[rows]
    typical: list[list[int]] = []
    for place, (end, size) in enumerate(zip(ends, levels.sizes, strict=True)):
        there = np.flatnonzero(shown == place)
        if len(there) == 0:
            typical.append([])
            continue
        members = order[end - size : end]
        members = members[np.linspace(0, size - 1, min(size, MEAN_OF)).round().astype(np.int64)]
        mean = embedding[np.sort(members)].astype(np.float32).mean(0)
        own = embedding[rows[there]].astype(np.float32)
        near = own @ mean / np.maximum(np.linalg.norm(own, axis=1), 1e-12)
        typical.append(there[np.lexsort((-near, there >= pictured))][:TYPICAL].tolist())
    return typical
