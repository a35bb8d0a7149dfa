"""The tables of a run folder: the cluster of each image, the clusters, duplicates, flags, bad files, embeddings."""

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
CHUNK = 65_536  # rows checked at a time
EXAMPLES = 5  # typical and uncertain ids listed for each cluster


@dataclass(frozen=True)
class Cluster:
    """The images of one cluster, as rows of the assignments table, and its mean confidence."""

    number: int
    rows: np.ndarray  # (size,) most typical first
    uncertain: np.ndarray  # (size,) least certain first
    confidence: float  # mean, nan for an empty cluster

    @property
    def size(self) -> int:
        """The number of images."""
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
    """The assignments as a pyarrow table with `COLUMNS`, one row per image in the order of the source.

    `labels`: the name of each label, None for an image without one. `known`: (n,) bool, whether the label was used in
    training; a column of its own if any was. `uncertain`: (n,) bool, whether the cluster is uncertain; a column of its
    own if given. Raises ValueError for columns of different lengths, ids that are not unique, or values that are not
    probabilities.
    """
    import pyarrow as pa

    n = len(ids)
    names = [safe_text(text) for text in ids]
    if len(set(names)) != n:
        raise ValueError("The ids of the images are not unique, so the table would be ambiguous.")
    if not n == len(paths) == len(cluster) == len(confidence) == len(second) == len(margin):
        raise ValueError("The columns of the assignments have different lengths.")
    if labels is not None and len(labels) != n:
        raise ValueError(f"There are {len(labels):,} labels for {n:,} images.")
    if n and not (np.all(confidence >= 0) and np.all(confidence <= 1 + 1e-5) and np.all(np.isfinite(margin))):
        raise ValueError("Some confidences are not probabilities; the weights of the model are damaged.")
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
    """Writes `table` to `stem.parquet` and `stem.csv` in `folder`."""
    write_csv_table(folder / f"{stem}.csv", table)
    write_parquet(folder / f"{stem}.parquet", table)


def write_csv_table(path: Path, table: Any) -> None:
    """Writes a pyarrow table as CSV; see `write_csv`."""
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    write_csv(path, table.column_names, rows)


def write_parquet(path: Path, table: Any) -> None:
    """Writes a pyarrow table to a Parquet file, under a temporary name first."""
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def write_csv(path: Path, columns: Sequence[str], rows: Any) -> None:
    """Writes a CSV file with a header; floats have six significant digits, None is an empty cell."""
    buffer = io.StringIO()
    plain = csv.writer(buffer, lineterminator="\n")
    quoted = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(columns)
    for row in rows:
        cells = [f"{value:.6g}" if isinstance(value, float) else value for value in row]
        # csv does not quote a single "\r", which readers take for the end of a line
        (quoted if any(isinstance(cell, str) and "\r" in cell for cell in cells) else plain).writerow(cells)
    write_text(path, buffer.getvalue())


def read_table(path: Path) -> Any:
    """The assignments table of a run, from Parquet.

    Raises FileNotFoundError if the run is not finished, and ValueError for a damaged or foreign file: wrong columns or
    types, missing values except in labels, clusters that the run does not have.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(f"'{path.parent}' has no results (no {path.name}). {why_no_results(path.parent)}")
    try:
        refuse_oversized(path, pq.read_metadata(path))
        table = pq.ParquetFile(path).read()  # read_table would read partitions from folder names
        table.validate(full=True)
    except OversizedTable as error:
        raise ValueError(f"'{path}' {error}; it was not written by ilk.") from None
    except Exception as error:  # pyarrow raises many types of errors for damaged or foreign files
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ValueError(f"'{path}' cannot be read as Parquet: {reason[:200]}") from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"'{path}' lacks the columns {', '.join(missing)}; it was not written by ilk.")
    check_columns(path, table)
    return table


class OversizedTable(Exception):
    """A Parquet file whose metadata claim more rows or bytes than a file of its size can hold."""


def refuse_oversized(path: Path, metadata: Any) -> None:
    """Raises OversizedTable if the Parquet `metadata` claim far more data than a table of that size can hold."""
    size = path.stat().st_size
    unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if metadata.num_rows > size or unpacked > max(200 * size, 2**26):
        raise OversizedTable(f"says that it holds {metadata.num_rows:,} rows in {size:,} bytes")


def check_columns(path: Path, table: Any) -> None:
    """Raises ValueError unless every column has its type and its values are in range."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    def refuse(name: str, problem: str) -> NoReturn:
        raise ValueError(f"'{path}' is damaged or was not written by ilk: its column {name} {problem}.")

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
            refuse(name, "occurs twice")
        column = table[name]
        if not is_type(column.type) and not (name == "label" and column.null_count == len(column)):
            refuse(name, f"holds {column.type} instead of {what}")
        if name != "label" and column.null_count:
            refuse(name, "has missing values")
        if len(column) == 0 or what not in ("whole numbers", "numbers"):
            continue
        low, high = pc.min_max(column).as_py().values()
        if what == "whole numbers" and not 0 <= low <= high < k:
            refuse(name, f"has clusters from {low} to {high}; the run has clusters 0 to {k - 1}")
        if what == "numbers" and not (pc.all(pc.is_finite(column)).as_py() and 0 <= low <= high <= 1 + 1e-5):
            refuse(name, "holds values that are not probabilities")


def clusters_of(folder: Path) -> int:
    """The number of clusters of the run in `folder`, or the largest allowed number if its config does not say."""
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else None
    k = config.get("n_clusters") if isinstance(config, dict) else None
    return k if isinstance(k, int) and 1 <= k <= MOST_CLUSTERS else MOST_CLUSTERS


def summarise(
    cluster: np.ndarray, confidence: np.ndarray, margin: np.ndarray, embedding: np.ndarray, n_clusters: int
) -> list[Cluster]:
    """The clusters, in order of their numbers.

    `cluster`, `confidence`, `margin`: (n,). `embedding`: (n, d). The most typical images have the largest product of
    confidence and cosine to the cluster's mean embedding (for rows of length 1); the least certain ones have the
    smallest margin to another cluster. Raises ValueError if the sizes do not add up to n.
    """
    clusters = []
    for number in range(n_clusters):
        rows = np.flatnonzero(cluster == number)
        if len(rows) == 0:
            clusters.append(Cluster(number, rows, rows, float("nan")))
            continue
        members = embedding[rows].astype(np.float32)
        centre = members.mean(0)
        typical = members @ centre / max(float(np.linalg.norm(centre)), 1e-12) * confidence[rows]
        clusters.append(
            Cluster(
                number,
                rows[np.argsort(-typical, kind="stable")],
                rows[np.argsort(margin[rows], kind="stable")],
                float(confidence[rows].mean()),
            )
        )
    if sum(entry.size for entry in clusters) != len(cluster):
        raise ValueError("Cluster sizes do not add up to the number of images.")
    return clusters


def write_clusters(
    path: Path, clusters: Sequence[Cluster], ids: Sequence[str], names: Sequence[str] | None = None
) -> None:
    """Writes `clusters.csv`: size, mean confidence, and the ids of the most typical and the least certain images.

    `names`: those of the first clusters, from known labels; they make another column, `name`.
    """
    columns = ["cluster", "size", "mean_confidence"]
    columns += [f"{kind}_{i + 1}" for kind in ("typical", "uncertain") for i in range(EXAMPLES)]
    columns += [] if names is None else ["name"]

    def examples(rows: np.ndarray) -> list[str]:
        chosen = [safe_text(ids[row]) for row in rows[:EXAMPLES]]
        return chosen + [""] * (EXAMPLES - len(chosen))

    def row_of(cluster: Cluster) -> list[Any]:
        row: list[Any] = [cluster.number, cluster.size, cluster.confidence if cluster.size else None]
        row += [*examples(cluster.rows), *examples(cluster.uncertain)]
        if names is None:
            return row
        return [*row, safe_text(names[cluster.number]) if cluster.number < len(names) else ""]

    write_csv(path, columns, map(row_of, clusters))


def write_known_labels(path: Path, ids: Sequence[str], labels: Sequence[str | None]) -> None:
    """Writes `known_labels.csv`: the labels that were used in training; None for an image without one."""
    pairs = zip(ids, labels, strict=True)
    write_csv(path, ["id", "label"], ([safe_text(key), safe_text(name)] for key, name in pairs if name is not None))


def read_known_labels(path: Path) -> dict[str, str]:
    """The labels in `known_labels.csv`, {id: label}. Raises FileNotFoundError, or ValueError for a damaged file."""
    if not path.is_file():
        raise FileNotFoundError(f"'{path.parent}' has lost its {path.name}, the labels that were used in training.")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            label_of = {row["id"]: row["label"] for row in csv.DictReader(file, strict=True)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{path}' is damaged ({error}).") from None
    if None in label_of or None in label_of.values():
        raise ValueError(f"'{path}' is damaged (a line has no label).")
    return label_of


def write_bad_files(path: Path, bad: Sequence[Any]) -> None:
    """Writes `bad_files.csv`: the images that were left out, and the reasons."""
    write_csv(path, ["id", "path", "reason"], ([safe_text(file.id), safe_text(file.path), file.reason] for file in bad))


def write_duplicates(path: Path, groups: Sequence[Any], ids: Sequence[str]) -> None:
    """Writes `duplicates.csv`: one row per image of each group; the first of each group is the one to keep."""
    rows = (
        [number, safe_text(ids[row]), kind, float(similarity), "yes" if place == 0 else "no"]
        for number, group in enumerate(groups, 1)
        for place, (row, kind, similarity) in enumerate(zip(group.rows, group.kinds, group.similarity, strict=True))
    )
    write_csv(path, ["group", "id", "kind", "similarity", "kept"], rows)


def write_flags(path: Path, flags: Sequence[Any], ids: Sequence[str]) -> None:
    """Writes `flags.csv`: images that look blank, broken or unusual, each with one reason and the measured value."""
    rows = ([safe_text(ids[flag.row]), flag.flag, flag.value, flag.sentence] for flag in flags)
    write_csv(path, ["id", "flag", "value", "sentence"], rows)


def read_embeddings(path: Path, n: int) -> np.ndarray:
    """The embeddings of a run's n images, (n, d), memory-mapped.

    Raises FileNotFoundError, or ValueError for a damaged file or one of another shape.
    """
    if not path.is_file():
        model = predicted_with(path.parent) or path.parent
        raise FileNotFoundError(
            f"'{path}' is missing. Make results with all their tables in another folder: ilk predict {model} SOURCE"
            " --out FOLDER"
        )
    try:
        embedding: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, which raises many types of errors
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"'{path}' is damaged: {reason or type(error).__name__}") from None
    shape: tuple[int, ...] = getattr(embedding, "shape", ())  # an .npz file has none
    if len(shape) != 2 or shape[0] != n or shape[1] == 0 or embedding.dtype.kind != "f":
        raise ValueError(f"'{path}' has shape {shape} and does not fit the {n:,} rows of the assignments.")
    for start in range(0, n, CHUNK):
        if not np.isfinite(embedding[start : start + CHUNK]).all():
            raise ValueError(f"'{path}' is damaged: it holds values that are not finite.")
    return embedding


def write_embeddings(path: Path, embedding: np.ndarray) -> None:
    """Writes the embeddings, (n, d), as float16."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, embedding.astype(np.float16))
