"""Encoded images in a column of Parquet files, the Hugging Face layout among them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ilk.images.collection import position_ids
from ilk.images.columns import LABEL_COLUMNS, OWN_ID_COLUMNS
from ilk.images.source import MAX_MEMBER_BYTES, Source, Unreadable, file_stamp, member_path
from ilk.system.text import safe_text

IMAGE_COLUMNS = ("image", "img", "images", "x", "photo", "picture", "bytes", "jpg", "png", "data", "content")
BATCH_ROWS, BATCH_BYTES = 64, 64 << 20  # at most, of what is unpacked at once


def parquet_source(files: Sequence[Path], root: Path) -> Source:
    """The images in one or more Parquet files with the same columns, in the order of their rows.

    The image column is bytes or a struct {bytes, path}; it is found by its name or else by its type. Ids are those of
    the first id column without gaps and repeats, else the paths in the struct if they are, else positions.
    Raises ValueError.
    """
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

    try:
        opened = [pq.ParquetFile(file) for file in files]
        _check_columns(opened, files)
        table = _Rows(opened, *_image_column(opened[0].schema_arrow, root))
        if table.count == 0:
            raise ValueError(f"'{root}' has no rows. Give a Parquet file with at least one image.")
        ids, labels, names = _columns(table, opened)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"'{root}' cannot be read as Parquet ({error}). All files must have the same columns."
        ) from error
    folder = files[0].parent
    positions = position_ids(table.count)
    paths = [
        member_path(safe_text(os.path.abspath(file)), row)
        for file, parquet in zip(files, opened, strict=True)
        for row in position_ids(parquet.metadata.num_rows)
    ]

    def read(i: int) -> bytes | str:
        try:
            data, path = table.row(i)
        except Exception as error:  # a damaged page; the rest of its row group is lost too
            raise Unreadable(f"cannot be read from the table: {error or 'damaged before'}") from error
        if isinstance(data, bytes) and data:
            if len(data) > MAX_MEMBER_BYTES:
                raise Unreadable(f"too large: {len(data):,} bytes, more than {MAX_MEMBER_BYTES:,}")
            return data
        if not isinstance(path, str) or not path:
            raise Unreadable("empty: the row holds no bytes")
        return os.path.join(folder, path)

    def close() -> None:
        for parquet in opened:
            parquet.close()

    def stamp() -> bytes:
        return file_stamp([os.fspath(file) for file in files], os.path.abspath(root), [os.fspath(f) for f in files])

    return Source(
        kind="parquet",
        title=safe_text(root.name) + ("/" if root.is_dir() else ""),
        ids=ids or positions,
        paths=paths,
        read=read,
        stamp=stamp(),
        restamp=stamp,
        sequential=True,
        labels=labels,
        label_names=names,
        close=close,
    )


def _image_column(schema: Any, root: Path) -> tuple[str, bool]:
    """(name of the column of encoded images, whether it is a struct {bytes, path}). Raises ValueError."""
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

    def kind(data_type: Any) -> bool | None:
        if pa.types.is_struct(data_type):
            inner = data_type.get_field_index("bytes")
            return True if inner >= 0 and kind(data_type.field(inner).type) is False else None
        plain = pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type)
        return False if plain or pa.types.is_fixed_size_binary(data_type) else None

    fits = {field.name: kind(field.type) for field in schema if kind(field.type) is not None}
    declared = [name for name, feature in _features(schema).items() if feature.get("_type") == "Image"]
    named = [name for known in IMAGE_COLUMNS for name in fits if name.lower() == known]
    for name in [*declared, *named, *fits]:
        if name in fits:
            return name, bool(fits[name])
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise ValueError(
        f"'{root}' has no column of encoded images; it has {columns or 'no columns'}. "
        "A column of bytes (JPEG, PNG, ...), or of {bytes, path} as Hugging Face writes, is needed."
    )


def _check_columns(opened: Sequence[Any], files: Sequence[Path]) -> None:
    """Raises ValueError if a file lacks a column of the first."""
    first = opened[0].schema_arrow.names
    for file, parquet in zip(files, opened, strict=True):
        missing = set(first) - set(parquet.schema_arrow.names)
        if missing:
            raise ValueError(
                f"'{file}' lacks the column {sorted(missing)[0]!r} that '{files[0]}' has. "
                "Give a folder of Parquet files with the same columns, or one file."
            )


def _features(schema: Any) -> dict[str, Any]:
    """The description of the columns that the datasets library wrote, {} without a valid one."""
    try:
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = info["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _columns(table: _Rows, opened: Sequence[Any]) -> tuple[list[str] | None, list[Any] | None, list[str] | None]:
    """(ids, labels, names of integer labels), each None if the files have none."""
    schema = opened[0].schema_arrow
    by_name = {name.lower(): name for name in reversed(schema.names) if name != table.column}
    candidates = [by_name[name] for name in OWN_ID_COLUMNS if name in by_name]
    if table.is_struct and schema.field(table.column).type.get_field_index("path") >= 0:
        candidates.append(f"{table.column}.path")
    ids = None
    for candidate in candidates:
        values = _read_column(opened, candidate)
        if None not in values and len({str(value) for value in values}) == len(values):
            ids = [safe_text(str(value)) for value in values]
            break
    label = next((by_name[name] for name in LABEL_COLUMNS if name in by_name), None)
    if label is None:
        return ids, None, None
    names = _features(schema).get(label, {}).get("names")
    names = [str(name) for name in names] if isinstance(names, list) else None
    return ids, _read_column(opened, label), names


def _read_column(opened: Sequence[Any], column: str) -> list[Any]:
    """The values of a column in all files; of a struct, its paths."""
    values: list[Any] = []
    for parquet in opened:
        part = parquet.read(columns=[column]).column(0).to_pylist()
        values.extend(value.get("path") if isinstance(value, dict) else value for value in part)
    return values


class _Rows:
    """The rows of several files as one, read forward in small batches.

    Asking for an earlier row, or for one in another row group, starts again at the beginning of its row group.
    """

    def __init__(self, opened: Sequence[Any], column: str, is_struct: bool) -> None:
        self.column, self.is_struct = column, is_struct
        self.groups: list[tuple[int, Any, int]] = []  # first row, file, row group
        self.count = 0
        for parquet in opened:
            for group in range(parquet.num_row_groups):
                self.groups.append((self.count, parquet, group))
                self.count += parquet.metadata.row_group(group).num_rows
        self._group = -1
        self._start = self._stop = 0
        self._batch: Any = None
        self._batches: Iterator[Any] = iter(())

    def row(self, i: int) -> tuple[bytes | None, str | None]:
        """(bytes, path) of row i."""
        group = self._group_of(i)
        if group != self._group or i < self._start:
            self._group = group
            self._start = self._stop = self.groups[group][0]
            _, parquet, number = self.groups[group]
            rows = self._batch_rows(parquet.metadata.row_group(number))
            self._batches = parquet.iter_batches(rows, row_groups=[number], columns=[self.column])
        while i >= self._stop:
            self._batch = next(self._batches).column(0)
            self._start, self._stop = self._stop, self._stop + len(self._batch)
        value = self._batch[i - self._start].as_py()
        if self.is_struct:
            return (value or {}).get("bytes"), (value or {}).get("path")
        return value, None

    def _batch_rows(self, group: Any) -> int:
        """The number of rows to unpack at once, so few that they fit in memory even if each is as large as the column.

        A large value that is stored once but used in every row has that effect.
        """
        columns = [group.column(i) for i in range(group.num_columns)]
        size = sum(int(c.total_uncompressed_size) for c in columns if c.path_in_schema.split(".")[0] == self.column)
        return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, size)))

    def _group_of(self, i: int) -> int:
        """The row group of row i, searched forward from the present one if possible."""
        group = self._group if self._group >= 0 and self.groups[self._group][0] <= i else 0
        while group + 1 < len(self.groups) and self.groups[group + 1][0] <= i:
            group += 1
        return group
