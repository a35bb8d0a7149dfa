"""Labels from a sequence, a table on disk, or the names of folders."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ilk.images.columns import ID_COLUMNS, LABEL_COLUMNS

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev"})


def encode_labels(values: Any, count: int) -> tuple[np.ndarray, list[str]]:
    """(int64 codes, (count,), -1 where unknown; the sorted names that the codes are indices of).

    None, NaN and "" mean unknown, and so does -1 if all labels are integers. Names that are all integers are sorted
    as numbers. Raises ValueError for another number of labels.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise ValueError(
            f"labels have the shape {values.shape}; one label per image is needed, shape ({count},). "
            "For one-hot labels give labels.argmax(1)."
        )
    values = list(values)
    if len(values) != count:
        raise ValueError(f"{len(values):,} labels were given for {count:,} images. Give one for each image, in order.")
    texts = [_text(value) for value in values]
    names = {text for text in texts if text is not None}
    if all(_is_integer(name) for name in names):
        names.discard("-1")
        ordered = sorted(names, key=lambda name: (int(name), name))
    else:
        ordered = sorted(names)
    code = {name: i for i, name in enumerate(ordered)}
    codes = np.array([-1 if text is None else code.get(text, -1) for text in texts], dtype=np.int64)
    return codes, ordered


def _text(value: Any) -> str | None:
    """The name of a label, None if it is unknown."""
    if isinstance(value, np.generic) or hasattr(value, "detach"):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if text else None


def _is_integer(text: str) -> bool:
    """Whether `text` is an integer in ASCII digits."""
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def folder_labels(names: Sequence[str]) -> list[str | None]:
    """The first folder of each relative path, None without one.

    Where the first folders, or those below the only one, are names of splits (train/, val/, ...), the folder below
    them is the label. Raises ValueError if no path has a folder, or only folders that are splits.
    """
    below = [name.partition("/")[2] for name in names]
    if splits := split_folders(names):
        if not any("/" in name for name in below):
            raise ValueError(
                f"labels='folders' finds only the folders {', '.join(splits)}, which are parts of a split and not"
                " classes. Leave labels out, or give a table with columns id and label."
            )
        return folder_labels(below)
    if len({name.split("/", 1)[0] for name in names if "/" in name}) == 1 and split_folders(below):
        return folder_labels(below)
    labels = [name.split("/", 1)[0] if "/" in name else None for name in names]
    if not any(labels):
        raise ValueError(
            f"labels='folders' needs images in sub-folders, but none of the {len(names):,} is in one "
            f"(the first is {names[0]!r}). Leave labels out, or give a table with columns id and label."
        )
    return labels


def split_folders(names: Sequence[str]) -> list[str]:
    """The sorted first folders of the relative paths if all are names of splits (train, val, ...), else none."""
    first = {name.split("/", 1)[0] for name in names if "/" in name}
    return sorted(first) if first and all(folder.lower() in SPLITS for folder in first) else []


def labels_from_file(file: Path, ids: Sequence[str], paths: Sequence[str]) -> list[str | None]:
    """The label of each image in a CSV or Parquet table, None where it has none.

    A row belongs to the image whose id, path (also relative to the table), file name or file name without extension
    it holds; the last two count only where a single image has them. Raises ValueError.
    """
    return match_labels(read_labels(file), ids, paths, file)[0]


def match_labels(
    table: Mapping[str, Any], ids: Sequence[str], paths: Sequence[str], file: Path | None = None
) -> tuple[list[Any], list[str]]:
    """(the label of each image, None where the table has none; the keys of the table that belong to no image).

    Matching is that of `labels_from_file`; `file` is where the table comes from. Raises ValueError if no row matches.
    """
    names = [
        PurePosixPath((path or id_).replace("\\", "/").rsplit("::", 1)[-1])
        for id_, path in zip(ids, paths, strict=True)
    ]
    name_uses, stem_uses = Counter(n.name for n in names), Counter(n.stem for n in names)
    beside = {} if file is None else {_absolute(file.parent, key): key for key in table}
    labels: list[Any] = []
    used: set[str] = set()
    for id_, path, name in zip(ids, paths, names, strict=True):
        keys = [
            id_,
            path,
            name.name if name_uses[name.name] == 1 else "",
            name.stem if stem_uses[name.stem] == 1 else "",
        ]
        matches = [key for key in keys if key and key in table]
        if not matches and path in beside:
            matches = [beside[path]]
        used.update(matches)
        labels.append(table[matches[0]] if matches else None)
    if not used:
        where = "the table" if file is None else f"'{file}'"
        raise ValueError(
            f"no row of {where} matches an image: the table's first is {next(iter(table), '(no rows)')!r}, "
            f"the first image is {ids[0]!r}. The first column should hold these ids, or paths."
        )
    return labels, [key for key in table if key not in used]


def _absolute(folder: Path, key: str) -> str:
    """A path relative to `folder` as an absolute path."""
    return str((folder / key).absolute())


def read_labels(file: Path) -> dict[str, str | None]:
    """{id, path or file name: label} in a CSV or Parquet file. Raises ValueError."""
    if file.suffix.lower() in (".parquet", ".pq"):
        columns, rows = _parquet_rows(file)
    else:
        columns, rows = _csv_rows(file)
    key = next((c for c in ID_COLUMNS if c in columns), None)
    label = next((c for c in LABEL_COLUMNS if c in columns), None)
    if key is None or label is None:
        raise ValueError(
            f"'{file}' has the columns {', '.join(columns) or '(none)'}; it needs a column 'id' "
            "(or 'path' or 'filename') and a column 'label'."
        )
    table: dict[str, str | None] = {}
    for row in rows:
        name, text = str(row[key]).replace("\\", "/").removeprefix("./"), _text(row[label])
        if name in table and table[name] != text:
            raise ValueError(f"'{file}' gives {name!r} two labels, {table[name]!r} and {text!r}. Keep one of them.")
        table[name] = text
    return table


def _csv_rows(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """(the column names in lower case, the rows) of a CSV file. Raises ValueError."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = [{(key or "").strip().lower(): value for key, value in row.items()} for row in reader]
            return [name.strip().lower() for name in reader.fieldnames or []], rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{file}' cannot be read as a CSV table ({error}). Save it as UTF-8 CSV.") from error


def _parquet_rows(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """(the names of the needed columns in lower case, the rows) of a Parquet file. Raises ValueError."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

    try:
        wanted = [c for c in pq.read_schema(file).names if c.lower() in ID_COLUMNS + LABEL_COLUMNS]
        table = pq.read_table(file, columns=wanted)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{file}' cannot be read as a Parquet table ({error}).") from error
    columns = [name.lower() for name in table.column_names]
    return columns, table.rename_columns(columns).to_pylist()
