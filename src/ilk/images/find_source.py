"""Recognises a source of images: a folder, an archive, an array and so on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ilk.images.archives import TAR_ENDINGS, ZIP_ENDINGS, tar_source, zip_source
from ilk.images.arrays import array_source, dataset_source, images_source, numpy_file_source
from ilk.images.choose_files import ChosenFiles, FileChoice, part_of_archive
from ilk.images.collection import Images
from ilk.images.parquet import parquet_source
from ilk.images.picture_files import REMOTE, TABLE_EXTENSIONS, chosen_list, folder_source, list_source, walk
from ilk.images.source import Source
from ilk.system.own_folders import written_by_ilk
from ilk.system.text import did_you_mean

ACCEPTED = (
    "a folder, an image file, a list of paths or pictures, an array or tensor (n, h, w) or (n, h, w, c), "
    "a map-style Dataset, or a .npy, .npz, .zip, .tar(.gz) or .parquet file"
)
ALL_FILES = FileChoice()


def find_source(given: Any) -> Source:
    """`given` as a source. Raises TypeError or ValueError, which list what is accepted, for anything else."""
    if isinstance(given, ChosenFiles):
        return _chosen_source(given.source, given.choice)
    if isinstance(given, (str, os.PathLike)):
        return _path_source(os.fsdecode(os.fspath(given)))
    if isinstance(given, Images):
        return images_source(given)
    if isinstance(given, torch.Tensor):
        return array_source(given, title="tensor")
    if isinstance(given, np.ndarray) and (given.dtype.kind not in "UOS" or given.ndim != 1):
        return array_source(given)
    if isinstance(given, (Image.Image, bytes, bytearray)):
        return list_source([given])
    if isinstance(given, (list, tuple)):
        return list_source(given)
    if isinstance(given, Iterator):
        return list_source(list(given))
    if getattr(given, "ndim", None) == 1 and hasattr(given, "tolist"):  # paths in an array or a pandas Series
        return list_source(given.tolist())
    if isinstance(given, torch.utils.data.IterableDataset):
        raise TypeError(
            f"{type(given).__name__} is an IterableDataset, which has no fixed order; images need one. "
            "Give a map-style Dataset (with __len__ and __getitem__), or list(dataset) if it is small."
        )
    if hasattr(given, "columns") and hasattr(given, "shape"):
        raise TypeError(f"a {type(given).__name__} is a table. Give its column of paths, such as list(df['path']).")
    indexable = hasattr(given, "__len__") and hasattr(given, "__getitem__")
    if isinstance(given, (Mapping, set, frozenset)) or not indexable:
        raise TypeError(f"a {type(given).__name__} is not a source of images. Give {ACCEPTED}.")
    return dataset_source(given)


def _chosen_source(given: Any, choice: FileChoice) -> Source:
    """The files of a folder, archive or list of paths that `choice` takes. Raises ValueError for any other source."""
    if isinstance(given, (str, os.PathLike)):
        text = os.fsdecode(os.fspath(given))
        if Path(text).expanduser().is_dir():
            return _path_source(text, choice)
        return part_of_archive(_path_source(text), choice)
    if not isinstance(given, (list, tuple)) and getattr(given, "ndim", None) == 1 and hasattr(given, "tolist"):
        given = given.tolist()
    if isinstance(given, (list, tuple)):
        return chosen_list(given, choice)
    return part_of_archive(find_source(given), choice)


def _path_source(text: str, choice: FileChoice = ALL_FILES) -> Source:
    """A path as a source, by what it is and how its name ends; `choice` is for folders."""
    if REMOTE.match(text):
        raise ValueError(
            f"{text!r} is a remote address; images are read from local disks. Download it, or give {ACCEPTED}."
        )
    if not text.strip():
        raise ValueError(f"the source is an empty string. Give {ACCEPTED}.")
    path = Path(text).expanduser()
    if not path.exists():
        raise FileNotFoundError(_missing(path))
    if path.is_dir():
        if written_by_ilk(path, _names_in(path)) == "run":
            raise ValueError(
                f"'{path}' is a run that ilk wrote: its pictures are thumbnails and plots of the images it was made of."
                " Give the folder with those images."
            )
        listing = walk(path, choice)
        if not listing.pictures and listing.tables and not choice:
            return parquet_source([path / name for name in listing.tables], path)
        return folder_source(path, listing, choice)
    if not path.is_file():  # reading from a pipe or a device may never end
        raise ValueError(f"'{path}' is neither a folder nor a plain file. Give {ACCEPTED}.")
    name = path.name.lower()
    if name.endswith(ZIP_ENDINGS):
        return zip_source(path)
    if name.endswith(TAR_ENDINGS):
        return tar_source(path)
    if name.endswith((".npy", ".npz")):
        return numpy_file_source(path)
    if name.endswith(tuple(TABLE_EXTENSIONS)):
        return parquet_source([path], path)
    if name.endswith((".csv", ".tsv", ".json", ".jsonl", ".txt", ".h5", ".hdf5", ".pkl", ".pt", ".pth")):
        raise ValueError(f"'{path}' is not a source of images. Give {ACCEPTED}.")
    return list_source([path])


def _names_in(folder: Path) -> set[str]:
    """The names of what is in a folder, none where it cannot be read, which `walk` reports."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _missing(path: Path) -> str:
    """The sentence for a missing path: its first missing part, and the nearest name beside that."""
    part = path.absolute()
    while not part.parent.exists():
        part = part.parent
    try:
        beside = os.listdir(part.parent)
    except OSError:
        beside = []
    place = "" if part == path.absolute() else f", not even '{part}'"
    hint = did_you_mean(part.name, beside, shown=lambda name: str(part.parent / name))
    return f"'{path}' does not exist{place}.{hint or ' Check the spelling and the current folder.'}"
