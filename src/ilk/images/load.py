"""`load_images`: any source of pictures -> `Images`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilk.images.arrays import all_to_uint8
from ilk.images.cache_folder import default_cache_dir
from ilk.images.choose_files import Patterns, choose_files
from ilk.images.collection import Images, check_unique
from ilk.images.decode import RESIZES
from ilk.images.decode_source import MEMORY_BYTES, Progress, decode_source, fingerprint_of, to_images
from ilk.images.find_source import find_source
from ilk.images.labels import encode_labels, folder_labels, labels_from_file
from ilk.images.source import Source
from ilk.system.text import did_you_mean

MAX_SIDE = 4096  # pixels


def load_images(
    source: Any,
    *,
    image_size: int | None = None,
    max_image_size: int = 64,
    resize: str = "squash",
    channels: int | None = None,
    labels: str | os.PathLike[str] | Sequence[Any] | np.ndarray | Mapping[str, Any] | None = None,
    ids: Sequence[str] | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Images:
    """The images of a source at one square size, decoded once and cached, with ids and perhaps labels.

    `source`: a folder, an image file, a list of paths, an array or tensor (n, h, w[, c]), a torch Dataset, an archive
    (zip, tar), a .npz, .npy or Parquet file, or `Images`.
    `image_size`: side in pixels; None takes the median short side, at most `max_image_size`.
    `resize`: "squash" scales both sides, "crop" cuts the centre, "pad" adds the border's colour.
    `channels`: 1 or 3 to convert to gray or RGB; None takes one channel if every image is gray.
    `labels`: "folders" (the first sub-folder, below train/, val/ and test/), a CSV or Parquet file with columns id and
    label, one label per item of the source, a mapping from ids, "none", or None for those of the source itself.
    `include`, `exclude`: patterns for the files of a folder, archive or list of paths, such as "cats/*" or "*.jpg",
    compared with relative paths and the folders in them; `include` takes only those that match one.
    `ids`: a name for each item, in place of paths or positions. `workers`: threads that decode; None: one per core.
    `cache_dir`: the folder for decoded images; default $ILK_CACHE or the platform's cache folder.
    `cache`: False keeps nothing on disk; nor is a source kept that cannot be recognised when it comes again.
    `progress`: called as progress(done, total, what) now and then, in this thread.

    Sub-folders that ilk wrote (runs, exports) and those where systems keep thumbnails or deleted files are left out
    and counted in `.left_out`. Items that cannot be read are listed in `.bad`. Raises ValueError if none can be read,
    TypeError for an unknown kind of source, FileNotFoundError for a missing path, OSError for a full disk.
    """
    _check_options(image_size, max_image_size, resize, workers)
    threads = workers or min(32, os.cpu_count() or 1)
    source = choose_files(source, include, exclude)
    items = find_source(source)
    images: Images
    try:
        _refuse_labels(items, labels)
        if ids is not None:
            ids = _checked_ids(ids, len(items))
        unchanged = isinstance(source, Images) and image_size in (None, source.shape[1])
        if unchanged:
            images, kept = source, np.arange(len(source))
        else:
            direct = without_resizing(items, image_size, max_image_size)
            where = Path(cache_dir).expanduser() if cache_dir is not None else default_cache_dir()
            images, kept = direct or decode_source(
                items,
                image_size,
                max_image_size,
                resize,
                where=where,
                cache=cache,
                threads=threads,
                progress=progress,
            )
            if isinstance(source, Images):
                images = images.with_channels(source.shape[0])
        if ids is not None:
            images = images._replace(ids=[ids[i] for i in kept])
        if channels is not None:
            images = images.with_channels(channels)
        if unchanged and labels is None:
            return images
        return _with_labels(images, items, kept, labels)
    finally:
        items.close()


def _check_options(image_size: int | None, max_image_size: int, resize: str, workers: int | None) -> None:
    for name, value in (("image_size", image_size), ("max_image_size", max_image_size)):
        if value is None and name == "image_size":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= MAX_SIDE:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of pixels from 1 to {MAX_SIDE:,}.")
    if resize not in RESIZES:
        hint = did_you_mean(str(resize), RESIZES)
        raise ValueError(f"resize is {resize!r}; it must be one of {', '.join(RESIZES)}.{hint}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers!r}; it must be at least 1, or None for one per processor.")


def _checked_ids(ids: Sequence[str], count: int) -> list[str]:
    """The ids as text. Raises ValueError unless there is one for each image and all differ."""
    texts = [str(item) for item in ids]
    if len(texts) != count:
        raise ValueError(
            f"{len(texts):,} ids were given for {count:,} images. Give one for each, in the source's order."
        )
    check_unique(texts)
    return texts


def without_resizing(source: Source, image_size: int | None, largest: int) -> tuple[Images, np.ndarray] | None:
    """`Images` of an array that needs no resizing, without a copy if it is uint8; None for other sources."""
    array = source.array
    if array is None:
        return None
    count, channels, height, width = array.shape
    if height != width or height != (image_size or min(height, largest)):
        return None
    if array.dtype != np.uint8 and not source.in_memory and array.size > MEMORY_BYTES:
        return None
    pixels = all_to_uint8(array)
    if channels == 3 and _all_gray(pixels):
        pixels = pixels[:, :1]
    return to_images(source, pixels, np.arange(count), {}, (height, width), fingerprint_of(source, height, "none"))


def _all_gray(pixels: np.ndarray) -> bool:
    """Whether the three channels are equal in every image."""
    step = max(1, (4 << 20) // pixels[0].size)
    for start in range(0, len(pixels), step):
        part = pixels[start : start + step]
        if not (np.array_equal(part[:, 0], part[:, 1]) and np.array_equal(part[:, 0], part[:, 2])):
            return False
    return True


def _refuse_labels(source: Source, labels: Any) -> None:
    """Raises ValueError or FileNotFoundError, before anything is decoded, for labels that are not there."""
    if not isinstance(labels, (str, os.PathLike)) or labels == "none":
        return
    if labels != "folders":
        _labels_path(labels)
    elif source.folders is None:
        raise ValueError(
            f"labels='folders' needs a folder, an archive or a list of paths, not '{source.title}'. "
            "Give the labels as a sequence, or as a table with columns id and label."
        )


def _with_labels(images: Images, source: Source, kept: np.ndarray, labels: Any) -> Images:
    """`images` with `labels` as `load_images` takes them; None takes those of the source."""
    count = len(source)
    if labels is None:
        if source.labels is None or all(value is None for value in source.labels):
            return images
        codes, names = _source_labels(source, count)
    elif isinstance(labels, str) and labels == "none":
        return images.with_labels(None)
    elif isinstance(labels, str) and labels == "folders":
        assert source.folders is not None  # otherwise refused before anything was decoded
        codes, names = encode_labels(folder_labels([source.folders[i] for i in kept]), len(kept))
        return images._replace(labels=codes, label_names=names)
    elif isinstance(labels, (str, os.PathLike)):
        return images.with_labels(labels_from_file(_labels_path(labels), images.ids, images.paths))
    elif isinstance(labels, Mapping):
        return images.with_labels(labels)
    else:
        codes, names = encode_labels(labels, count)
    return images._replace(labels=codes[kept], label_names=names)


def _source_labels(source: Source, count: int) -> tuple[np.ndarray, list[str]]:
    """(codes of all items of the source, names), as they are if the source names its classes."""
    names = source.label_names
    values = [value.item() if hasattr(value, "item") else value for value in source.labels]
    if names is not None and all(value is None or isinstance(value, int) for value in values):
        codes = np.array([-1 if value is None else value for value in values], dtype=np.int64)
        if codes.max(initial=-1) < len(names):
            return np.maximum(codes, -1), names
    return encode_labels(values, count)


def _labels_path(labels: str | os.PathLike[str]) -> Path:
    """The path of a table of labels. Raises FileNotFoundError."""
    path = Path(labels).expanduser()
    if path.is_file():
        return path
    hint = did_you_mean(str(labels), ("folders", "none")) or " Give 'folders', 'none', or a CSV or Parquet file."
    raise FileNotFoundError(f"labels is {str(labels)!r}, and there is no such file.{hint}")
