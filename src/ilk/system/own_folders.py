"""Which folders ilk itself wrote: runs, predictions, comparisons and exports. They are no source of images.

The names are here, on the ground, because reading a source needs them as much as writing a run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from ilk.system.files import MOST_JSON, read_json
from ilk.system.lock import FILE as LOCK

CONFIG = "config.json"  # of a run, from which a folder counts as one
MANIFEST = "ilk-export.json"  # of an export into folders
ROWS = "rows.jsonl"  # of a comparison or study
REPRESENTATION = "representation"  # a run inside a run, from which the number of clusters is found
EARLY = {LOCK, REPRESENTATION, "parts", "hierarchy.parquet", "k_curve.csv", "known_labels.csv"}  # before CONFIG
RUN_FIELDS = {"format", "method", "method_config", "n_clusters"}  # in the config.json of every version
ROW_FIELDS = {"key", "method", "read_out", "scored"}
ARCHIVE_MARKS = frozenset({MANIFEST, CONFIG, "log.jsonl", "assignments.parquet"})

Own = Literal["run", "comparison", "export"]


def written_by_ilk(folder: str | os.PathLike[str], names: Collection[str]) -> Own | None:
    """What ilk made in `folder`, whose entries are called `names`; None for any other folder."""
    if MANIFEST in names:
        return "export"
    if CONFIG in names and _has_fields(os.path.join(folder, CONFIG), RUN_FIELDS):
        return "run"
    if REPRESENTATION in names and _has_fields(os.path.join(folder, REPRESENTATION, CONFIG), RUN_FIELDS):
        return "run"
    if LOCK in names and len(names) > 1 and EARLY.issuperset(names):  # a run that has just begun
        return "run"
    if ROWS in names and _has_fields(os.path.join(folder, ROWS), ROW_FIELDS, first_line=True):
        return "comparison"
    return None


def written_in_archive(names: Collection[str]) -> Own | None:
    """As `written_by_ilk`, by the names of the files alone, for a folder in an archive."""
    if MANIFEST in names:
        return "export"
    return "run" if CONFIG in names and not {"log.jsonl", "assignments.parquet"}.isdisjoint(names) else None


def _has_fields(file: str, fields: Collection[str], *, first_line: bool = False) -> bool:
    """Whether a file, or its first line, is a JSON object with these fields."""
    if not os.path.isfile(file):  # reading from a pipe may never end
        return False
    try:
        if first_line:
            with open(file, "rb") as stream:
                value = json.loads(stream.readline(MOST_JSON))
        else:
            value = read_json(Path(file))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and set(fields) <= value.keys()
