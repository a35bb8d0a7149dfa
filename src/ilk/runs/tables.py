"""The tables that come out: which image is in which cluster, and what each cluster is like."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ilk.runs.config import MOST_CLUSTERS
from ilk.runs.unfinished import predicted_with, why_no_results
from ilk.system.files import read_json, replacing, write_text
from ilk.system.text import safe_text

COLUMNS = ("id", "path", "cluster", "confidence", "second_cluster", "margin", "label")
CHUNK = 65_536  # rows looked at together
EXAMPLES = 5  # typical and uncertain ids named for each cluster


@dataclass(frozen=True)
class Cluster:
    """What one cluster is like; rows are positions in the assignments table."""

    number: int
    rows: np.ndarray  # (size,) most typical first
    uncertain: np.ndarray  # (size,) least certain first
    confidence: float  # mean, nan for an empty cluster

    @property
    def size(self) -> int:
        return len(self.rows)


def assignments_table(
    ids: Sequence[str],
    paths: Sequence[str],
    cluster: np.ndarray,
    confidence: np.ndarray,
    second: np.ndarray,
    margin: np.ndarray,
    labels: Sequence[str | None] | None,
    known: np.ndarray | None = None,
    uncertain: np.ndarray | None = None,
) -> Any:
    """The assignments as a pyarrow table with `COLUMNS`, one row an image in the source's order.

    `labels`: names, None for an image without one. `known`: whether an image's label was given to the
    training, a further column if any was. `uncertain`: whether it belongs nowhere clearly, a further column
    where that was asked. Raises ValueError if the columns contradict each other.
    """
    import pyarrow as pa

    n = len(ids)
    names = [safe_text(text) for text in ids]
    if len(set(names)) != n:
        raise ValueError("The ids of the images are not unique; the table would be ambiguous.")
    if not n == len(paths) == len(cluster) == len(confidence) == len(second) == len(margin):
        raise ValueError("The columns of the assignments have different lengths.")
    if labels is not None and len(labels) != n:
        raise ValueError(f"There are {len(labels):,} labels for {n:,} images.")
    if n and not (np.all(confidence >= 0) and np.all(confidence <= 1 + 1e-5) and np.all(np.isfinite(margin))):
        raise ValueError("A confidence is not a probability; the model's weights are damaged.")
    table = pa.table(
        {
            "id": pa.array(names, pa.string()),
            "path": pa.array([safe_text(text) for text in paths], pa.string()),
            "cluster": pa.array(cluster, pa.int32()),
            "confidence": pa.array(confidence, pa.float32()),
            "second_cluster": pa.array(second, pa.int32()),
            "margin": pa.array(margin, pa.float32()),
            "label": pa.array(
                [None] * n if labels is None else [None if text is None else safe_text(text) for text in labels],
                pa.string(),
            ),
        }
    )
    if uncertain is not None:
        table = table.append_column("uncertain", pa.array(uncertain, pa.bool_()))
    if known is not None and known.any():
        table = table.append_column("known", pa.array(known, pa.bool_()))
    return table


def write_table(table: Any, folder: Path, stem: str) -> None:
    """Writes `stem.parquet` and `stem.csv` into `folder`."""
    write_csv_table(folder / f"{stem}.csv", table)
    write_parquet(folder / f"{stem}.parquet", table)


def write_csv_table(path: Path, table: Any) -> None:
    """Writes a pyarrow table as CSV; see `write_csv`."""
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    write_csv(path, table.column_names, rows)


def write_parquet(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def write_csv(path: Path, columns: Sequence[str], rows: Any) -> None:
    """A CSV file with a header; floats with six digits, None as an empty cell."""
    buffer = io.StringIO()
    plain = csv.writer(buffer, lineterminator="\n")
    quoted = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(columns)
    for row in rows:
        cells = [f"{value:.6g}" if isinstance(value, float) else value for value in row]
        # csv would leave a bare "\r" unquoted, and readers would take it for the end of the line
        (quoted if any(isinstance(cell, str) and "\r" in cell for cell in cells) else plain).writerow(cells)
    write_text(path, buffer.getvalue())


def read_table(path: Path) -> Any:
    """The assignments of a run. Raises FileNotFoundError or ValueError with a sentence.

    What it holds is looked at: the type of each column, no gaps but in labels, clusters that the run has.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(f"'{path.parent}' has no results (no {path.name}). {why_no_results(path.parent)}")
    try:
        refuse_bomb(path, pq.read_metadata(path))
        table = pq.ParquetFile(path).read()  # of this file alone; read_table would take names for partitions
        table.validate(full=True)
    except Bomb as error:
        raise ValueError(f"'{path}' {error}; it was not written by ilk.") from None
    except Exception as error:  # pyarrow raises several kinds for a damaged or foreign file
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ValueError(f"'{path}' cannot be read as Parquet: {said[:200]}") from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"'{path}' lacks the columns {', '.join(missing)}; it was not written by ilk.")
    check_columns(path, table)
    return table


class Bomb(Exception):
    """A table that says it holds more than a file of its size can."""


def refuse_bomb(path: Path, found: Any) -> None:
    """Raises Bomb if the metadata `found` promise far more than the ids of so many images would take."""
    size = path.stat().st_size
    unpacked = sum(found.row_group(i).total_byte_size for i in range(found.num_row_groups))
    if found.num_rows > size or unpacked > max(200 * size, 2**26):
        raise Bomb(f"says that it holds {found.num_rows:,} rows in {size:,} bytes")


def check_columns(path: Path, table: Any) -> None:
    """Raises ValueError, a sentence, unless every column is of its type and range."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    def refuse(name: str, what: str) -> NoReturn:
        raise ValueError(f"'{path}' is damaged or was not written by ilk: its column {name} {what}.")

    k = clusters_of(path.parent)
    for name, is_type, what in (
        ("id", types.is_string, "text"), ("path", types.is_string, "text"), ("label", types.is_string, "text"),
        ("cluster", types.is_integer, "whole numbers"), ("second_cluster", types.is_integer, "whole numbers"),
        ("confidence", types.is_floating, "numbers"), ("margin", types.is_floating, "numbers"),
        ("known", types.is_boolean, "true and false"),
    ):  # fmt: skip
        if name == "known" and name not in table.column_names:
            continue
        if table.column_names.count(name) > 1:
            refuse(name, "is there twice")
        column = table[name]
        if not is_type(column.type) and not (name == "label" and column.null_count == len(column)):
            refuse(name, f"holds {column.type} instead of {what}")
        if name != "label" and column.null_count:
            refuse(name, "has gaps")
        if len(column) == 0 or what not in ("whole numbers", "numbers"):
            continue
        low, high = pc.min_max(column).as_py().values()
        if what == "whole numbers" and not 0 <= low <= high < k:
            refuse(name, f"has clusters from {low} to {high}; the run has {k}, from 0")
        if what == "numbers" and not (pc.all(pc.is_finite(column)).as_py() and 0 <= low <= high <= 1 + 1e-5):
            refuse(name, "holds values that are no probabilities")


def clusters_of(folder: Path) -> int:
    """How many clusters the run in `folder` has; where nothing says so, the most that a run may have."""
    file = folder / "config.json"
    found = read_json(file) if file.is_file() else None
    k = found.get("n_clusters") if isinstance(found, dict) else None
    return k if isinstance(k, int) and 1 <= k <= MOST_CLUSTERS else MOST_CLUSTERS


def summarise(
    cluster: np.ndarray, confidence: np.ndarray, margin: np.ndarray, embedding: np.ndarray, n_clusters: int
) -> list[Cluster]:
    """What each cluster is like, by number. Sizes are checked to add up to n.

    Typical images are those nearest to the mean embedding of their cluster, weighted by their
    confidence; uncertain ones have the smallest margin to another cluster.
    """
    found = []
    for number in range(n_clusters):
        rows = np.flatnonzero(cluster == number)
        if len(rows) == 0:
            found.append(Cluster(number, rows, rows, float("nan")))
            continue
        own = embedding[rows].astype(np.float32)
        centre = own.mean(0)
        typical = own @ centre / max(float(np.linalg.norm(centre)), 1e-12) * confidence[rows]
        found.append(
            Cluster(
                number,
                rows[np.argsort(-typical, kind="stable")],
                rows[np.argsort(margin[rows], kind="stable")],
                float(confidence[rows].mean()),
            )
        )
    if sum(one.size for one in found) != len(cluster):
        raise ValueError("Cluster sizes do not add up to the number of images.")
    return found


def write_clusters(
    path: Path, clusters: Sequence[Cluster], ids: Sequence[str], names: Sequence[str] | None = None
) -> None:
    """`clusters.csv`: size, mean confidence, the ids of the most typical and of the least certain images.

    `names` of the first clusters, where known labels gave them, make a further column `name`.
    """
    columns = ["cluster", "size", "mean_confidence"]
    columns += [f"{kind}_{i + 1}" for kind in ("typical", "uncertain") for i in range(EXAMPLES)]
    columns += [] if names is None else ["name"]

    def examples(rows: np.ndarray) -> list[str]:
        chosen = [safe_text(ids[row]) for row in rows[:EXAMPLES]]
        return chosen + [""] * (EXAMPLES - len(chosen))

    def row_of(one: Cluster) -> list[Any]:
        row: list[Any] = [one.number, one.size, one.confidence if one.size else None]
        row += [*examples(one.rows), *examples(one.uncertain)]
        if names is None:
            return row
        return [*row, safe_text(names[one.number]) if one.number < len(names) else ""]

    write_csv(path, columns, map(row_of, clusters))


def write_known_labels(path: Path, ids: Sequence[str], labels: Sequence[str | None]) -> None:
    """`known_labels.csv`: the labels that were given to the training."""
    pairs = zip(ids, labels, strict=True)
    write_csv(path, ["id", "label"], ([safe_text(key), safe_text(name)] for key, name in pairs if name is not None))


def read_known_labels(path: Path) -> dict[str, str]:
    """{id: label} of `known_labels.csv`. Raises FileNotFoundError or ValueError with a sentence."""
    if not path.is_file():
        raise FileNotFoundError(f"'{path.parent}' has lost its {path.name}, the labels that were used in training.")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            found = {row["id"]: row["label"] for row in csv.DictReader(file, strict=True)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{path}' is damaged ({error}).") from None
    if None in found or None in found.values():
        raise ValueError(f"'{path}' is damaged (a line has no label).")
    return found


def write_bad_files(path: Path, bad: Sequence[Any]) -> None:
    """`bad_files.csv`: what was left out, and why."""
    write_csv(path, ["id", "path", "reason"], ([safe_text(one.id), safe_text(one.path), one.reason] for one in bad))


def write_duplicates(path: Path, groups: Sequence[Any], ids: Sequence[str]) -> None:
    """`duplicates.csv`: one row an image that is in a group; the first of each group is the one to keep."""
    rows = (
        [number, safe_text(ids[row]), kind, float(similarity), "yes" if place == 0 else "no"]
        for number, group in enumerate(groups, 1)
        for place, (row, kind, similarity) in enumerate(zip(group.rows, group.kinds, group.similarity, strict=True))
    )
    write_csv(path, ["group", "id", "kind", "similarity", "kept"], rows)


def write_flags(path: Path, flags: Sequence[Any], ids: Sequence[str]) -> None:
    """`flags.csv`: images that look blank, broken or unlike the others, each with one reason and what was measured."""
    rows = ([safe_text(ids[one.row]), one.flag, one.value, one.sentence] for one in flags)
    write_csv(path, ["id", "flag", "value", "sentence"], rows)


def read_embeddings(path: Path, n: int) -> np.ndarray:
    """The embeddings of a run's n images, memory-mapped. Raises FileNotFoundError or ValueError with a sentence."""
    if not path.is_file():
        model = predicted_with(path.parent) or path.parent
        raise FileNotFoundError(
            f"'{path}' is missing. Make results with all their tables in another folder: ilk predict {model} SOURCE"
            " --out FOLDER"
        )
    try:
        embedding: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads the header with Python's own parser, which raises many kinds
        said = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"'{path}' is damaged: {said or type(error).__name__}") from None
    shape: tuple[int, ...] = getattr(embedding, "shape", ())  # a zip of arrays has none
    if len(shape) != 2 or shape[0] != n or shape[1] == 0 or embedding.dtype.kind != "f":
        raise ValueError(f"'{path}' has shape {shape} and does not fit the {n:,} rows of the assignments.")
    for start in range(0, n, CHUNK):
        if not np.isfinite(embedding[start : start + CHUNK]).all():
            raise ValueError(f"'{path}' is damaged: it holds values that are no numbers.")
    return embedding


def write_embeddings(path: Path, embedding: np.ndarray) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, embedding.astype(np.float16))
