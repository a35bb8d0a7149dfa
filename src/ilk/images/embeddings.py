"""Embeddings that were computed elsewhere: reads them, checks them and puts them in the order of the images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ilk.images.collection import Images
from ilk.images.columns import ID_COLUMNS
from ilk.images.load import load_images
from ilk.system.text import in_short, safe_text

STAND_INS = "embeddings"  # the source kind of `stand_ins`, which has no pictures to look at
LIMIT = 6e4  # about the largest float16; larger values are scaled down, which keeps all angles


def read_embeddings(source: Any, images: Images | None) -> np.ndarray:
    """Embeddings, (n, d) float32, one row per image in the order of `images`, or all rows if that is None.

    `source`: an array or tensor, a .npy file, or a .parquet file with a column of lists of numbers and perhaps a
    column of ids (see `ID_COLUMNS`), by which the rows are then matched to the images.
    Raises ValueError, TypeError or FileNotFoundError.
    """
    ids: list[str] | None = None
    name = "the embeddings"
    if isinstance(source, (str, os.PathLike)):
        path, name = Path(source).expanduser(), f"'{source}'"
        if not path.is_file():
            raise FileNotFoundError(f"There is no file of embeddings {name}.")
        if path.suffix.lower() == ".npy":
            rows = from_npy(path)
        elif path.suffix.lower() == ".parquet":
            rows, ids = from_parquet(path)
        else:
            raise ValueError(f"Embeddings come as .npy or .parquet; {name} is neither.")
    elif isinstance(source, torch.Tensor):
        rows = source.detach().cpu().float().numpy()
    else:
        rows = np.asarray(source)
    rows = checked(rows, name)
    if images is None:
        return rows
    if ids is not None:
        return by_id(rows, ids, images, name)
    if len(rows) != len(images):
        left = f" ({len(images.bad)} that could not be read are left out)" if images.bad else ""
        raise ValueError(
            f"{name} has {len(rows):,} rows and {images.name} has {len(images):,} images{left}. Give one row per image,"
            " or a Parquet file with a column id."
        )
    return rows


def from_npy(path: Path) -> np.ndarray:
    """The array in a .npy file, memory-mapped. Raises ValueError."""
    try:
        rows: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, which raises errors of many types
        raise ValueError(f"'{path}' cannot be read as .npy: {in_short(error)}") from None
    if not isinstance(rows, np.ndarray):
        raise ValueError(f"'{path}' holds several arrays; give one array of shape (images, features) as .npy.")
    return rows


def from_parquet(path: Path) -> tuple[np.ndarray, list[str] | None]:
    """(the only column of lists of numbers, the column of ids or None). Raises ValueError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as Parquet: {in_short(error)}") from None
    lists = [field.name for field in table.schema if is_list(field.type)]
    if len(lists) != 1:
        raise ValueError(f"'{path}' must have one column of lists of numbers, the embeddings; it has {len(lists)}.")
    column = table[lists[0]].combine_chunks()
    lengths = {len(row) if row is not None else 0 for row in column}
    if len(lengths) != 1:
        raise ValueError(f"The embeddings of '{path}' have different lengths: {sorted(lengths)[:5]}.")
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
    ids = next((name for name in table.column_names if name.lower() in ID_COLUMNS), None)
    texts = None if ids is None else [str(value) for value in table[ids].to_pylist()]
    return flat.reshape(len(table), -1), texts


def is_list(kind: Any) -> bool:
    """Whether a type of pyarrow is a list of numbers."""
    import pyarrow as pa

    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(listed) and bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def checked(rows: np.ndarray, name: str) -> np.ndarray:
    """The rows as float32 within the range of float16. Raises ValueError for another shape and for NaN or infinity."""
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] == 0 or rows.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold numbers of shape (images, features); got {rows.dtype} of {rows.shape}.")
    values = np.array(rows, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        raise ValueError(f"{name} holds numbers that are not finite, {len(bad):,} rows of them (the first: {bad[0]}).")
    most = float(np.abs(values).max())
    return values * (LIMIT / most) if most > LIMIT else values


def by_id(rows: np.ndarray, ids: Sequence[str], images: Images, name: str) -> np.ndarray:
    """The rows of the images, matched by id, path or else file name. Raises ValueError if one is missing."""
    position_of = {text: position for position, text in enumerate(ids)}
    if len(position_of) != len(ids):
        raise ValueError(f"The ids in {name} are not unique.")
    positions = []
    for image, path in zip(images.ids, images.paths, strict=True):
        keys = (image, safe_text(image), path, os.path.basename(image))
        position = next((position_of[key] for key in keys if key in position_of), None)
        if position is None:
            raise ValueError(f"{name} has no row for the image {image!r}. Give one row per image.")
        positions.append(position)
    if len(set(positions)) < len(positions):
        raise ValueError(
            f"In {name} one row fits several images: file names alone do not tell them apart. Use their ids."
        )
    return rows[positions]


def stand_ins(n: int) -> Images:
    """n gray squares, for embeddings whose images are not given."""
    return load_images(np.full((n, 8, 8), 200, dtype=np.uint8))._replace(title="embeddings", source_kind=STAND_INS)


def fingerprint(rows: np.ndarray) -> str:
    """A hash of the embeddings."""
    return hashlib.blake2b(np.ascontiguousarray(rows).data, digest_size=16).hexdigest()
