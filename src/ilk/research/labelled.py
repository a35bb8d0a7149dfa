"""Labelled image sets, perhaps with a published split, on which methods are measured."""

from __future__ import annotations

import importlib.util
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilk.images import Images, load_images
from ilk.images.labels import folder_labels, split_folders
from ilk.pipeline.request import MAX_SIZE
from ilk.system.progress import Watch
from ilk.system.text import in_short

__all__ = ["SPLITS", "Labelled", "load_digits", "load_program", "open_labelled", "short_name"]

SPLITS = ("train+test", "train", "test")
DIGITS = "digits"  # scikit-learn's, which need no file
FINEST = 256  # largest side of the images of an archive of which a part is used
PROGRAM = re.compile(r"^(?P<file>.+\.py):(?P<name>[^:/\\]+)$")


@dataclass(frozen=True)
class Labelled:
    """A source with the label of each image, and which images its publishers test with."""

    source: str
    images: Images
    is_test: np.ndarray | None  # (n,) bool
    array: np.ndarray | None = None  # the images as they were given, if as an array
    cache_dir: str | os.PathLike[str] | None = None

    @property
    def codes(self) -> np.ndarray:
        """(n,) int64, indices into `names`, -1 for an image without a label."""
        assert self.images.labels is not None  # `open_labelled` refuses a source without labels
        return self.images.labels

    @property
    def names(self) -> list[str]:
        return self.images.label_names

    def rows(self, split: str) -> np.ndarray:
        """The positions of the images of a split. Raises ValueError where the source has no split."""
        if split == "train+test":
            return np.arange(len(self.images))
        if self.is_test is None:
            raise ValueError(
                f"'{self.source}' has no split, so its {split} images are not known. Give it top-level folders train/"
                " and test/ (or is_test in the .npz), or take all images with split train+test."
            )
        return np.flatnonzero(self.is_test == (split == "test"))

    def given(self, rows: np.ndarray) -> tuple[Any, Any]:
        """A source of only those images and their labels, from which they can be opened at any size."""
        texts = [self.names[code] if code >= 0 else None for code in self.codes[rows]]
        whole = len(rows) == len(self.images)
        if self.array is not None:
            return (self.array if whole else self.array[rows]), texts
        if whole:
            return self.source, dict(zip(self.images.ids, texts, strict=True))
        if all(os.path.isfile(path) for path in self.images.paths):
            return [self.images.paths[row] for row in rows], texts
        finer = load_images(self.source, max_image_size=FINEST, cache_dir=self.cache_dir)
        return finer.subset(rows), texts


def short_name(source: str) -> str:
    """`usps` of `data/usps.npz` and of `sets.py:usps`, for tables and folder names."""
    program = PROGRAM.match(source)
    text = program["name"] if program else Path(source).expanduser().resolve().name
    for ending in (".npz", ".npy", ".zip", ".tar", ".tar.gz", ".tgz", ".parquet"):
        text = text.removesuffix(ending)
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "images"


def open_labelled(
    source: str, *, labels: str | None = None, cache_dir: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> Labelled:  # fmt: skip
    """The labelled images of `source`: "digits", a folder of class folders, an .npz with x and y, FILE.py:NAME, ...

    FILE.py is run; its `load(NAME)` returns something with `images`, `labels` and perhaps `is_test`. A folder
    whose top-level folders are train and test, or an .npz with `is_test` or `split`, has a split. `labels`: as for
    `load_images`; None for folder names, or the labels that the source has.
    Raises ValueError or FileNotFoundError, also for a source without labels.
    """
    watch = watch or Watch()
    if labels == "none":
        raise ValueError("Methods are compared by labels, so --labels none leaves nothing to compare. Leave it out.")
    program = PROGRAM.match(source)
    if source == DIGITS or program:
        pictures, codes, split = (
            load_digits() if program is None else load_program(Path(program["file"]), program["name"])
        )
        own = labels is None or labels == "folders"
        images = load_images(
            pictures, labels=codes if own else labels, max_image_size=MAX_SIZE["cpu"], cache_dir=cache_dir
        )  # fmt: skip
        return Labelled(source, images, None if split is None else checked_split(split, len(images), source), pictures)
    path = Path(source).expanduser()
    images = load_images(
        source, labels=None if labels == "folders" else labels, max_image_size=MAX_SIZE["cpu"], cache_dir=cache_dir,
        progress=watch.progress,
    )  # fmt: skip
    is_test: np.ndarray | None = None
    array: np.ndarray | None = None
    if path.suffix.lower() == ".npz":
        array, is_test = from_npz(path, len(images))
    else:
        is_test = folder_split(images.ids)
    if images.labels is None or labels == "folders":
        below = [name.split("/", 1)[1] for name in images.ids] if is_test is not None and array is None else images.ids
        try:
            images = images.with_labels(folder_labels(below))
        except ValueError:
            raise ValueError(
                f"'{source}' has no labels to score with. Give a folder with one sub-folder a class, an .npz with x and"
                " y, or --labels FILE (a CSV or Parquet table with columns id and label)."
            ) from None
        if is_test is None:
            refuse_splits(source, images)
    if not (images.labels is not None and (images.labels >= 0).any()):
        raise ValueError(f"None of the images of '{source}' has a label. Give them with --labels FILE.")
    if images.bad:
        watch.warn(f"{source}: {len(images.bad):,} files cannot be read and are left out")
    return Labelled(source, images, is_test, array, cache_dir)


def load_digits() -> tuple[np.ndarray, np.ndarray, None]:
    """scikit-learn's 1,797 handwritten digits, 8 x 8."""
    from sklearn.datasets import load_digits as load

    digits = load()
    return (digits.images * (255 / 16)).round().astype(np.uint8), digits.target, None


def load_program(file: Path, name: str) -> tuple[np.ndarray, Any, Any]:
    """Images, labels and split (or None) that the function `load(name)` of a Python file returns.

    Raises FileNotFoundError without the file, ValueError where it cannot be run or returns something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no file '{file}' to load '{name}' from.")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"'{file}' cannot be run: {in_short(error)}") from error
    if not callable(getattr(module, "load", None)):
        raise ValueError(f"'{file}' has no function load(NAME) that returns images and labels.")
    try:
        loaded = module.load(name)
    except Exception as error:  # another person's function may raise anything
        raise ValueError(f"load({name!r}) of '{file}' failed: {in_short(error)}") from error
    if not (hasattr(loaded, "images") and hasattr(loaded, "labels")):
        raise ValueError(f"load({name!r}) of '{file}' must return something with .images and .labels.")
    return np.asarray(loaded.images), loaded.labels, getattr(loaded, "is_test", None)


def from_npz(path: Path, n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The images and the split of an .npz file that `load_images` could read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            array = np.asarray(stored["x" if "x" in stored.files else "images"])
            key = next((name for name in ("is_test", "split") if name in stored.files), None)
            split = None if key is None else np.asarray(stored[key])
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"'{path}' is damaged ({in_short(error)}). Make or download it again.") from error
    return array, None if split is None else checked_split(split, n, str(path))


def checked_split(values: Any, n: int, source: str) -> np.ndarray:
    """Which images are for testing, (n,) bool, from true and false, 1 and 0, or test and train."""
    split = np.asarray(values)
    if split.shape != (n,):
        raise ValueError(f"The split of '{source}' has the shape {split.shape}; give one value per image, ({n},).")
    if split.dtype.kind in "US" and set(np.unique(split.astype(str))) <= {"train", "test"}:
        return np.asarray(split.astype(str) == "test")
    if split.dtype.kind in "biu" and set(np.unique(split).tolist()) <= {0, 1}:
        return split.astype(bool)
    raise ValueError(f"The split of '{source}' must be true where an image is for testing, or 'train' and 'test'.")


def refuse_splits(source: str, images: Images) -> None:
    """Raises ValueError where the top-level folders are splits other than train/ and test/ as they are known here."""
    names = [name.lower() for name in split_folders(images.ids)]
    if names and any(name.count("/") > 1 for name in images.ids):
        raise ValueError(
            f"The top-level folders of '{source}' ({', '.join(names)}) are splits, not classes. Only train/ and"
            " test/ are known as a split, with every image in a class folder below them; give one of these folders as"
            " the source, or --labels FILE."
        )


def folder_split(ids: list[str]) -> np.ndarray | None:
    """Which images are below test/, (n,) bool, if all are in class folders below train/ and test/; else None."""
    first = np.array([name.split("/", 1)[0] if name.count("/") > 1 else "" for name in ids])
    return first == "test" if set(first) == {"train", "test"} else None
