"""Images in arrays, tensors, .npy and .npz files, and PyTorch Datasets."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ilk.images.archive_limits import check_expansion
from ilk.images.collection import Images, check_unique, position_ids
from ilk.images.columns import LABEL_COLUMNS
from ilk.images.open_picture import explain
from ilk.images.source import Source, Unreadable, file_stamp
from ilk.system.text import safe_text

IMAGE_KEYS = ("image", "img", "images", "pixel_values", "x")
CHUNK_BYTES = 64 << 20
MOST_CHANNELS = 4  # a longer axis is height or width


def channel_axis(shape: tuple[int, ...], default: int | None) -> int:
    """The axis of (n, ?, ?, ?) that holds the channels: 1 or 3.

    If only one of the two has at most 4 entries, it is that one; else, if the other two axes are equal, the one that
    differs; else `default`. Raises ValueError if that is None.
    """
    first, middle, last = shape[1:]
    if (first <= MOST_CHANNELS) != (last <= MOST_CHANNELS):
        return 1 if first <= MOST_CHANNELS else 3
    if first == middle != last:
        return 3
    if middle == last != first:
        return 1
    if default is None:
        raise ValueError(
            f"a tensor of shape {tuple(shape)} could be (n, c, h, w) or (n, h, w, c). "
            "Give it as a NumPy array in the order (n, h, w, c)."
        )
    return default


def as_array(data: Any) -> np.ndarray:
    """A tensor or array as a NumPy array, without a copy if possible."""
    if hasattr(data, "detach"):
        data = data.detach().cpu()
        if str(data.dtype) == "torch.bfloat16":
            data = data.float()
        array: np.ndarray = data.numpy()
        return array
    return data if isinstance(data, np.ndarray) else np.asarray(data)


def array_source(data: Any, *, kind: str = "array", title: str = "array") -> Source:
    """The images of an array or tensor (n, h, w), (n, h, w, c) or (n, c, h, w); `channel_axis` tells which.

    Values: uint8, bool, floats in [0, 1], or other integers in 0..255. Raises ValueError or TypeError otherwise.
    """
    is_tensor = hasattr(data, "detach")
    array = as_array(data)
    if array.ndim not in (3, 4):
        raise ValueError(
            f"the {title} has the shape {array.shape}; images need (n, h, w) or (n, h, w, c). "
            "For a single image give image[None]."
        )
    if min(array.shape) == 0:
        raise ValueError(f"the {title} has the shape {array.shape}, which holds no images. Give at least one.")
    if array.ndim == 3:
        array = array[:, None]
    elif channel_axis(array.shape, None if is_tensor else 3) == 3:
        array = array.transpose(0, 3, 1, 2)
    check_range(array, f"the {title}")
    return Source(
        kind=kind,
        title=title,
        ids=position_ids(len(array)),
        paths=[""] * len(array),
        read=lambda i: to_uint8(array[i]),
        array=array,
        in_memory=getattr(array, "_mmap", None) is None,
    )


def check_range(array: np.ndarray, what: str) -> None:
    """Raises ValueError or TypeError unless all values can be converted to 0..255; reads the array in pieces."""
    if array.dtype in (np.uint8, np.bool_):
        return
    is_float = array.dtype.kind == "f"
    if not is_float and array.dtype.kind not in "iu":
        raise TypeError(f"{what} has the dtype {array.dtype}; use uint8, bool, floats in [0, 1] or integers in 0..255.")
    top = 1 if is_float else 255
    step = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        part = array[start : start + step]
        low, high = part.min(), part.max()
        if low >= 0 and high <= top:
            continue
        if np.isnan(low):
            raise ValueError(f"{what} holds NaN; every value must be a number. Replace them, e.g. by np.nan_to_num(x).")
        value = high if high > top else low
        raise ValueError(f"{what} holds the value {value:g}; {_range_advice(is_float, value)}")


def _range_advice(is_float: bool, value: Any) -> str:
    """What to do about a value out of range, a sentence and a half."""
    if not is_float:
        return "integers must be in 0..255. Scale 16-bit images by (x // 257).astype('uint8')."
    if value < 0:
        return "floats must be in [0, 1]. Give the images before normalisation, or (x - x.min()) / np.ptp(x)."
    if value <= 255:
        return "floats must be in [0, 1]. If these are 0..255, give x.astype('uint8')."
    return "floats must be in [0, 1]. Give (x - x.min()) / np.ptp(x)."


def to_uint8(array: np.ndarray) -> np.ndarray:
    """An array that passed `check_range`, as uint8; True and 1.0 become 255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        white: np.ndarray = np.where(array, np.uint8(255), np.uint8(0))
        return white
    if array.dtype.kind == "f":
        return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    return array.astype(np.uint8)


def all_to_uint8(array: np.ndarray) -> np.ndarray:
    """`to_uint8` of (n, c, h, w), in pieces: a float copy of the whole could be too large."""
    if array.dtype == np.uint8:
        return array
    result = np.empty(array.shape, dtype=np.uint8)
    step = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        result[start : start + step] = to_uint8(array[start : start + step])
    return result


def item_to_uint8(item: Any, what: str) -> np.ndarray:
    """An image (h, w), (h, w, c) or (c, h, w) as uint8 (c, h, w). Raises ValueError for values out of range."""
    is_tensor = hasattr(item, "detach")
    array = as_array(item)
    if array.ndim not in (2, 3) or min(array.shape) == 0:
        raise ValueError(
            f"{what} has the shape {array.shape}; an image is (h, w), (h, w, c) or, as a tensor, (c, h, w)."
        )
    if array.ndim == 2:
        array = array[None]
    elif channel_axis((1, *array.shape), 1 if is_tensor else 3) == 3:
        array = array.transpose(2, 0, 1)
    check_range(array, what)
    return to_uint8(array)


def numpy_file_source(file: Path) -> Source:
    """The images of a .npy file, or of an .npz with `x` or `images` and perhaps `y` or `labels`, and `ids`."""
    data, present = _numpy_arrays(file)
    key = next((key for key in ("x", "images") if key in data), None)
    if key is None:
        raise ValueError(f"'{file}' holds {', '.join(present) or 'nothing'}; the images must be named 'x' or 'images'.")

    def stamp() -> bytes:
        return file_stamp([os.fspath(file)], os.path.abspath(file))

    source = array_source(data[key], kind=file.suffix.lower().removeprefix("."), title=safe_text(file.name))
    source.stamp, source.restamp = stamp(), stamp
    source.labels = next((data[key] for key in ("y", "labels") if key in data), None)
    if "ids" in data:
        source.ids = [str(item) for item in data["ids"].ravel()]
        if len(source.ids) != len(source.paths):
            raise ValueError(
                f"'{file}' holds {len(source.paths):,} images and {len(source.ids):,} ids; give one for each."
            )
        check_unique(source.ids)
    return source


def _numpy_arrays(file: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """(the arrays with a known name, the names of all arrays in the file). Pickles are refused."""
    try:
        loaded = np.load(file, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}, ["x"]
        with loaded:
            wanted = [key for key in loaded.files if key in ("x", "images", "y", "labels", "ids")]
            infos = {info.filename: info for info in loaded.zip.infolist()}
            for info in (infos.get(f"{key}.npy", infos.get(key)) for key in wanted):
                if info is not None:
                    _check_npz_member(loaded.zip, info)
            return {key: np.asarray(loaded[key]) for key in wanted}, loaded.files
    except Exception as error:  # zlib.error, struct.error and others if damaged, MemoryError for a false header
        raise ValueError(
            f"'{file}' cannot be read as a NumPy file ({explain(error)}). "
            "Save plain number arrays with np.save or np.savez."
        ) from error


def _check_npz_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Raises ValueError if a member is smaller than its array, before memory for the array is allocated."""
    check_expansion(info.file_size, info.compress_size)
    with archive.open(info) as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise ValueError(f"its member '{info.filename}' is not an array")
        version = stream.read(2)
        read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        needed = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and needed > info.file_size:
            raise ValueError(f"its member '{info.filename}' claims {needed:,} bytes and holds {info.file_size:,}")


def images_source(images: Images) -> Source:
    """The images of an `Images` as a source, to be resized."""
    source = Source(
        kind=images.source_kind,
        title=images._title,
        ids=images.ids,
        paths=images.paths,
        read=lambda i: images[i].numpy(),
        stamp=images.fingerprint.encode(),
        in_memory=images.in_memory(),
        labels=images.labels,
        label_names=images.label_names,
        folders=images.ids,
        bad=images.bad,
        ignored=images.ignored,
        left_out=images.left_out,
    )
    return source


def dataset_source(dataset: Any) -> Source:
    """The images of a map-style Dataset whose items are an image, (image, label), or a dict with both.

    The items are read once, in order, by one thread; give a Dataset without random augmentation.
    """
    count = len(dataset)
    title = type(dataset).__name__
    if count == 0:
        raise ValueError(f"the dataset {title} is empty. Give one with at least one image.")
    labels: list[Any] = [None] * count

    def read(i: int) -> Any:
        try:
            item = dataset[i]
        except Exception as error:  # a foreign __getitem__ can raise anything
            raise Unreadable(explain(error)) from error
        image, labels[i] = split_item(item)
        if isinstance(image, (Image.Image, bytes)):
            return image
        if isinstance(image, (str, os.PathLike)):
            return os.path.abspath(image)
        return item_to_uint8(image, f"item {i:,} of {title}")

    return Source(
        kind="dataset",
        title=title,
        ids=position_ids(count),
        paths=[""] * count,
        read=read,
        sequential=True,
        in_memory=True,
        labels=labels,
        label_names=_class_names(dataset),
    )


def split_item(item: Any) -> tuple[Any, Any]:
    """(image, label or None) of a Dataset item. Only numbers and text count as labels. Raises ValueError."""
    if isinstance(item, Mapping):
        key = _first_key(item, IMAGE_KEYS)
        if key is None:
            raise ValueError(
                f"a dataset item has the keys {', '.join(map(repr, item))}; the image must be under "
                "'image', 'img' or 'pixel_values'."
            )
        label = _first_key(item, LABEL_COLUMNS)
        return item[key], None if label is None else _label(item[label])
    if isinstance(item, (tuple, list)):
        if not item:
            raise ValueError("a dataset item is an empty tuple; it must be (image,) or (image, label).")
        return item[0], _label(item[1]) if len(item) > 1 else None
    return item, None


def _label(value: Any) -> Any:
    """`value` if it can be a label, else None."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    return value if isinstance(value, (int, float, str, bytes)) else None


def _first_key(item: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first of `keys` that the item has, or None."""
    return next((key for key in keys if key in item), None)


def _class_names(dataset: Any) -> list[str] | None:
    """The names that integer labels stand for: torchvision's `classes`, or Hugging Face's ClassLabel."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        key: Callable[[Any], Any] = features.get
        names = next((key(k).names for k in LABEL_COLUMNS if hasattr(key(k), "names")), None)
    else:
        names = getattr(dataset, "classes", None)
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else None
