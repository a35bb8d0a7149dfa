"""The files of a run folder, read without torch; a damaged file costs a note in the report, not the report."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ilk.runs.config import summary
from ilk.runs.entries import refuse_odd_entries
from ilk.runs.tables import Cluster, read_embeddings, read_table, summarise
from ilk.system.files import read_json, read_json_lines
from ilk.system.text import safe_text


@dataclass(frozen=True)
class Results:
    """The results of a run: one row per image, in the order of the source."""

    ids: list[str]
    paths: list[str]
    cluster: np.ndarray  # (n,) int64
    confidence: np.ndarray  # (n,) float32
    second: np.ndarray  # (n,) int64
    margin: np.ndarray  # (n,) float32
    label: np.ndarray | None  # (n,) int64, an index into `label_names`, -1 = unknown
    label_names: list[str]
    known: np.ndarray  # (n,) bool, whether the training used the label; scores leave these images out
    cluster_names: list[str]  # of the first clusters, which known labels name
    embedding: np.ndarray  # (n, d) float16, memory-mapped
    clusters: list[Cluster]  # by number, also empty ones

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def scored(self) -> np.ndarray:
        """Which images count in scores against labels, (n,) bool."""
        return np.zeros(len(self), dtype=bool) if self.label is None else (self.label >= 0) & ~self.known


@dataclass(frozen=True)
class RunFiles:
    """A run folder; `results` is None while the run has not finished."""

    folder: Path
    config: dict[str, Any]
    log: list[dict[str, Any]]
    results: Results | None
    bad: list[dict[str, str]]
    notes: list[str] = field(default_factory=list)  # sentences about files that could not be read

    def section(self, name: str) -> dict[str, Any]:
        """A section of the settings; empty where there is none."""
        section = self.config.get(name)
        return section if isinstance(section, dict) else {}


def read_run(folder: str | os.PathLike[str]) -> RunFiles:
    """The files of a run folder, except its pictures.

    Raises FileNotFoundError or ValueError for a folder that is not a run or has damaged settings, assignments or
    embeddings. For other files that cannot be read there is a sentence in `notes`.
    """
    place = Path(folder)
    config = read_config(place)
    notes: list[str] = []
    log = attempt(lambda: read_log(place / "log.jsonl"), [], notes)
    bad = attempt(lambda: read_bad_files(place / "bad_files.csv"), [], notes)
    results = None
    if (place / "assignments.parquet").is_file():
        results = read_results(place, config)
    return RunFiles(place, config, log, results, bad, notes)


def attempt(read: Any, otherwise: Any, notes: list[str]) -> Any:
    """`read()`; if it fails, `otherwise`, and the error's sentence is added to `notes`."""
    try:
        return read()
    except (OSError, ValueError) as error:
        notes.append(str(error))
        return otherwise


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of a run. Raises FileNotFoundError or ValueError for a folder that is not a run.

    Links, pipes and devices inside it are refused here, before any other file of it is opened.
    """
    file = folder / "config.json"
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no run folder '{folder}'. Make one with: ilk fit SOURCE --clusters K")
    if not file.is_file():
        raise FileNotFoundError(f"'{folder}' is not a run folder: it has no config.json.")
    refuse_odd_entries(folder)
    return summary(read_json(file), file)


def read_log(file: Path) -> list[dict[str, Any]]:
    """The records of the epochs in order, the last one of each epoch; a half-written last line is ignored."""
    if not file.is_file():
        return []
    records: dict[int, dict[str, Any]] = {}
    for record in read_json_lines(file):
        if not isinstance(record.get("epoch"), int):
            raise ValueError(f"'{file}' holds a line without an epoch. The report does not show the training.")
        records[record["epoch"]] = record
    return [records[epoch] for epoch in sorted(records)]


def read_bad_files(file: Path) -> list[dict[str, str]]:
    """The `id`, `path` ("" in old tables) and `reason` of each file that could not be read."""
    if not file.is_file():
        return []
    try:
        with open(file, encoding="utf-8", newline="") as stream:
            return [
                {"id": row["id"] or "", "path": row.get("path") or "", "reason": row["reason"] or ""}
                for row in csv.DictReader(stream)
            ]
    except (KeyError, UnicodeDecodeError, csv.Error):
        raise ValueError(f"'{file}' is damaged, so files that could not be read are not listed.") from None


def read_results(folder: Path, config: dict[str, Any]) -> Results:
    """The tables of a finished run. Raises ValueError for tables that are damaged or disagree."""
    table = read_table(folder / "assignments.parquet")
    file, n = folder / "assignments.parquet", table.num_rows
    if n == 0:
        raise ValueError(f"'{file}' has no rows, so there is nothing to show.")
    try:
        cluster, second = (table[name].to_numpy().astype(np.int64) for name in ("cluster", "second_cluster"))
        confidence, margin = (table[name].to_numpy().astype(np.float32) for name in ("confidence", "margin"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{file}' is damaged: {error}.") from None
    if not (np.isfinite(confidence).all() and np.isfinite(margin).all()) or cluster.min() < 0:
        raise ValueError(f"'{file}' is damaged: it holds confidences or clusters that are no numbers.")
    label, label_names = label_codes(table["label"].to_pylist(), names_in(config, "labels"))
    known = np.zeros(n, dtype=bool)
    if "known" in table.column_names:
        known = np.array(table["known"].to_pylist(), dtype=bool)
    named = [safe_text(str(name)) for name in names_in(config, "known_labels")]
    embedding = read_embeddings(folder / "embeddings.npy", n)
    k = max(config["n_clusters"], int(cluster.max()) + 1)
    ids, paths = ([safe_text(text or "") for text in table[name].to_pylist()] for name in ("id", "path"))
    return Results(
        ids, paths, cluster, confidence, second, margin, label, label_names, known, named, embedding,
        summarise(cluster, confidence, margin, embedding, k),
    )  # fmt: skip


def names_in(config: dict[str, Any], section: str) -> list[Any]:
    """The list `names` of a section of the settings; empty where there is none."""
    table = config.get(section)
    names = table.get("names") if isinstance(table, dict) else None
    return names if isinstance(names, list) else []


def label_codes(labels: list[str | None], known: list[Any]) -> tuple[np.ndarray | None, list[str]]:
    """A code per image (-1 for no label) and the names, in the order of `known` if it has all of them, else sorted."""
    present = {safe_text(text) for text in labels if text is not None}
    if not present:
        return None, []
    names = [safe_text(str(name)) for name in known]
    names = names if present <= set(names) else sorted(present)
    code = {name: number for number, name in enumerate(names)}
    return np.array([-1 if text is None else code[safe_text(text)] for text in labels], dtype=np.int64), names


def number(value: Any) -> float | None:
    """`value` if it is a finite number, else None; JSON has no NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value
