"""Embeddings that were computed elsewhere: read, checked, and put in the order of the images."""

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
from ilk.system.text import safe_text

STAND_INS = "embeddings"  # the kind of source that has no pictures to look at
LIMIT = 6e4  # what float16 holds; larger numbers are scaled down, which changes no angle


def read_given(source: Any, images: Images | None) -> np.ndarray:
    """Embeddings, (n, d) float32, one row an image in the order of `images`.

    `source`: an array or tensor, a .npy file, or a .parquet file with a column of lists of numbers and
    perhaps a column of ids (`id`, `path`, ...), by which rows are then found. Without `images` all rows count.
    Raises ValueError, TypeError or FileNotFoundError with a sentence.
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
            f"{name} has {len(rows):,} rows and {images.name} has {len(images):,} images{left}. Give one row an image,"
            " or a Parquet file with a column id."
        )
    return rows


def from_npy(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads the header with Python's own parser, which raises many kinds
        said = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"'{path}' cannot be read as .npy: {said or type(error).__name__}") from None
    if not isinstance(found, np.ndarray):
        raise ValueError(f"'{path}' holds several arrays; give one array of shape (images, features) as .npy.")
    return found


def from_parquet(path: Path) -> tuple[np.ndarray, list[str] | None]:
    """The only column of lists of numbers, and the column of ids if there is one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as Parquet: {str(error).splitlines()[0]}") from None
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
    import pyarrow as pa

    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return listed and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def checked(rows: np.ndarray, name: str) -> np.ndarray:
    """The rows as float32 within what float16 holds. Raises ValueError for another shape or numbers that are not."""
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] == 0 or rows.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold numbers of shape (images, features); got {rows.dtype} of {rows.shape}.")
    found = np.array(rows, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(found).all(1))
    if len(bad):
        raise ValueError(f"{name} holds numbers that are not finite, {len(bad):,} rows of them (the first: {bad[0]}).")
    most = float(np.abs(found).max())
    return found * (LIMIT / most) if most > LIMIT else found


def by_id(rows: np.ndarray, ids: Sequence[str], images: Images, name: str) -> np.ndarray:
    """The rows of the images, found by id, path or, where those fail, file name."""
    at = {text: position for position, text in enumerate(ids)}
    if len(at) != len(ids):
        raise ValueError(f"The ids in {name} are not unique.")
    found = []
    for own, path in zip(images.ids, images.paths, strict=True):
        known = next((at[key] for key in (own, safe_text(own), path, os.path.basename(own)) if key in at), None)
        if known is None:
            raise ValueError(f"{name} has no row for the image {own!r}. Give one row an image.")
        found.append(known)
    if len(set(found)) < len(found):
        raise ValueError(
            f"In {name} one row fits several images: file names alone do not tell them apart. Use their ids."
        )
    return rows[found]


def stand_ins(n: int) -> Images:
    """Gray squares in the place of n images that nobody has; only their embeddings count."""
    return load_images(np.full((n, 8, 8), 200, dtype=np.uint8))._replace(title="embeddings", source_kind=STAND_INS)


def fingerprint(rows: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(rows).data, digest_size=16).hexdigest()
