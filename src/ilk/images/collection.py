"""`Images`: n images behind one index, in memory or memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ilk.images.labels import encode_labels

Index = int | slice | Sequence[int] | np.ndarray | torch.Tensor

RED, GREEN, BLUE = 19595, 38470, 7471  # Pillow's weights for "L": 0.299, 0.587, 0.114 times 65536


@dataclass(frozen=True)
class BadFile:
    """An item of the source that could not be read, and the reason."""

    id: str
    path: str
    reason: str


class Images:
    """n images behind one index: `images[index]` is a new uint8 tensor (b, c, h, w).

    `pixels`: uint8 (N, c, h, w), any strides, perhaps memory-mapped; never written to.
    `rows`: the rows of `pixels` that are the images, in order; None for all.
    `channels`: those of `shape` and of the tensors; 1 and 3 are converted into each other when an image is read.
    `labels`: int64 (n,), an index into `label_names`, -1 where unknown; or None.
    `paths`: of each image a file, `archive.zip::member`, or "".
    `ignored`: how many files of other kinds the source has. `left_out`: folders and files that were not taken, counted
    by reason: "own" (folders that ilk wrote), "system" (thumbnails, deleted files), "unchosen" (by patterns).
    """

    def __init__(
        self,
        pixels: np.ndarray,
        *,
        ids: Sequence[str] | None = None,
        rows: np.ndarray | None = None,
        channels: int | None = None,
        paths: Sequence[str] | None = None,
        labels: np.ndarray | None = None,
        label_names: Sequence[str] = (),
        bad: Sequence[BadFile] = (),
        ignored: int = 0,
        left_out: Mapping[str, int] | None = None,
        title: str = "array",
        fingerprint: str = "",
        source_kind: str = "array",
        original_size: tuple[int, int] | None = None,
    ) -> None:
        if pixels.ndim != 4 or pixels.dtype != np.uint8:
            raise TypeError(
                f"pixels is {pixels.dtype} of shape {pixels.shape}; Images needs uint8 (n, c, h, w). "
                "Use load_images(), which converts."
            )
        self._on_disk = getattr(pixels, "_mmap", None) is not None
        self._pixels = pixels.view(np.ndarray)
        self._rows = None if rows is None else np.asarray(rows, dtype=np.int64)
        count = len(pixels) if self._rows is None else len(self._rows)
        self._channels = convertible(pixels.shape[1], channels)
        self._title = title
        self.ids = position_ids(count) if ids is None else list(ids)
        self.paths = [""] * count if paths is None else list(paths)
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.label_names = list(label_names)
        self.bad = list(bad)
        self.ignored = ignored
        self.left_out = dict(left_out or {})
        self.fingerprint = fingerprint or content_hash(self._pixels, self._rows)
        self.source_kind = source_kind
        self.original_size = original_size
        for what, values in (("ids", self.ids), ("paths", self.paths), ("labels", self.labels)):
            if values is not None and len(values) != count:
                raise ValueError(f"{len(values):,} {what} were given for {count:,} images. Give one for each image.")
        check_unique(self.ids)

    @property
    def name(self) -> str:
        """A short description, such as `photos/ (3,353 images)`."""
        return f"{self._title} ({len(self):,} {'image' if len(self) == 1 else 'images'})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        return self._channels, self._pixels.shape[2], self._pixels.shape[3]

    @property
    def nbytes(self) -> int:
        """The bytes of all images as uint8 tensors."""
        channels, height, width = self.shape
        return len(self) * channels * height * width

    def in_memory(self) -> bool:
        """Whether the pixels are in memory, not in a memory-mapped file."""
        return not self._on_disk

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        return f"<Images {self.name}, {channels} x {height} x {width}>"

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Index) -> torch.Tensor:
        """The images as uint8 (b, c, h, w), always a copy; (c, h, w) for a single integer."""
        if isinstance(index, (int, np.integer)):
            return self[[int(index)]][0]
        if isinstance(index, slice) and self._rows is None:
            block = np.array(self._pixels[index], order="C")
        else:
            rows = positions(index, len(self))
            if self._rows is not None:
                rows = self._rows[rows]
            # np.take is the fastest, but copies a transposed array as a whole first.
            contiguous = self._pixels.flags.c_contiguous
            block = np.take(self._pixels, rows, axis=0) if contiguous else np.ascontiguousarray(self._pixels[rows])
        return torch.from_numpy(to_channels(block, self._channels))

    def pictures(self, index: Index) -> list[Image.Image]:
        """The images as RGB Pillow images; of more than three channels, the first three."""
        pixels = self[index].numpy()
        if pixels.shape[1] not in (1, 3):
            pixels = pixels[:, :3] if pixels.shape[1] > 3 else pixels[:, :1]
        arrays = [image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)) for image in pixels]
        return [Image.fromarray(array).convert("RGB") for array in arrays]

    def subset(self, index: Index) -> Images:
        """The chosen images in that order. They share the pixels; `bad` stays that of the source."""
        chosen = positions(index, len(self))
        rows = chosen if self._rows is None else self._rows[chosen]
        digest = hashlib.blake2b(self.fingerprint.encode() + chosen.tobytes(), digest_size=16)
        return self._replace(
            rows=rows,
            ids=[self.ids[i] for i in chosen],
            paths=[self.paths[i] for i in chosen],
            labels=None if self.labels is None else self.labels[chosen],
            fingerprint=digest.hexdigest(),
        )

    def with_labels(self, labels: Sequence[Any] | np.ndarray | torch.Tensor | Mapping[str, Any] | None) -> Images:
        """The same images with other labels: one per image, in order, or a mapping from ids; None removes labels.

        -1, None, NaN and "" mean unknown, as do ids that the mapping lacks. Raises ValueError.
        """
        if labels is None:
            return self._replace(labels=None, label_names=[])
        if isinstance(labels, Mapping):
            if labels and not any(i in labels for i in self.ids):
                raise ValueError(
                    f"no key of labels is an id: the first key is {next(iter(labels))!r}, "
                    f"the first id {self.ids[0]!r}. Use the ids as keys."
                )
            labels = [labels.get(i) for i in self.ids]
        codes, names = encode_labels(labels, len(self))
        return self._replace(labels=codes, label_names=names)

    def with_channels(self, channels: int) -> Images:
        """The same images as gray (1) or RGB (3). Raises ValueError for any other change."""
        return self if channels == self._channels else self._replace(channels=channels)

    def _replace(self, **changes: Any) -> Images:
        """A copy that shares the pixels, with other arguments of the constructor."""
        arguments: dict[str, Any] = {
            "ids": self.ids,
            "rows": self._rows,
            "channels": self._channels,
            "paths": self.paths,
            "labels": self.labels,
            "label_names": self.label_names,
            "bad": self.bad,
            "ignored": self.ignored,
            "left_out": self.left_out,
            "title": self._title,
            "fingerprint": self.fingerprint,
            "source_kind": self.source_kind,
            "original_size": self.original_size,
        }
        copy = Images(self._pixels, **(arguments | changes))
        copy._on_disk = self._on_disk
        return copy


def positions(index: Index, count: int) -> np.ndarray:
    """`index` as int64 positions in 0..count-1. Raises IndexError or TypeError."""
    if isinstance(index, slice):
        return np.arange(count)[index]
    if isinstance(index, torch.Tensor):
        index = index.detach().cpu().numpy()
    given = np.atleast_1d(np.asarray(index))
    if given.size == 0:
        return np.zeros(0, dtype=np.int64)
    if given.dtype == bool:
        if given.shape != (count,):
            raise IndexError(
                f"a mask of shape {given.shape} cannot choose among {count:,} images; it needs ({count},)."
            )
        return np.flatnonzero(given)
    if given.dtype.kind not in "iu" or given.ndim != 1:
        raise TypeError(
            f"images cannot be indexed by {given.dtype} of shape {given.shape}. "
            "Use a slice, integers in one dimension, or a mask."
        )
    given = given.astype(np.int64)
    outside = given[(given >= count) | (given < -count)]
    if outside.size:
        raise IndexError(f"index {outside[0]} is outside the {count:,} images.")
    return np.where(given < 0, given + count, given)


def convertible(present: int, wanted: int | None) -> int:
    """`wanted`, or `present` if that is None. Raises ValueError if `to_channels` cannot make so many channels."""
    if wanted is None or wanted == present or {present, wanted} == {1, 3}:
        return present if wanted is None else wanted
    raise ValueError(
        f"channels={wanted} cannot be made from images with {present} channels. "
        f"Only gray (1) and RGB (3) convert into each other; leave channels out to keep all {present}."
    )


def to_channels(block: np.ndarray, channels: int) -> np.ndarray:
    """uint8 (b, c, h, w) with other channels: 1 to 3 by repeating, 3 to 1 by luminance as in Pillow."""
    if block.shape[1] == channels:
        return block
    if channels == 3:
        return np.repeat(block, 3, axis=1)
    red, green, blue = (
        block[:, 0].astype(np.int32),
        block[:, 1].astype(np.int32),
        block[:, 2].astype(np.int32),
    )
    return ((RED * red + GREEN * green + BLUE * blue + 32768) >> 16).astype(np.uint8)[:, None]


def position_ids(count: int) -> list[str]:
    """Ids `000000`, `000001`, ... of the same length, so that sorting keeps their order."""
    width = max(6, len(str(count - 1)))
    return [f"{i:0{width}d}" for i in range(count)]


def check_unique(ids: Sequence[str]) -> None:
    """Raises ValueError with the first id that occurs twice."""
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for position, item in enumerate(ids):
        if item in seen:
            raise ValueError(f"the id {item!r} is given twice, again at position {position:,}. Ids must be unique.")
        seen.add(item)


def content_hash(pixels: np.ndarray, rows: np.ndarray | None = None) -> str:
    """A hash of the shape and the pixels; of more than 256 MB, of 4,096 evenly spaced images."""
    count = len(pixels) if rows is None else len(rows)
    digest = hashlib.blake2b(repr((count, pixels.shape[1:])).encode(), digest_size=16)
    item = max(1, int(np.prod(pixels.shape[1:])))
    chosen = np.arange(count)
    if count * item > 256 << 20 and count > 4096:
        chosen = np.linspace(0, count - 1, 4096).astype(np.int64)
    if rows is not None:
        chosen = rows[chosen]
    step = max(1, (16 << 20) // item)
    for start in range(0, len(chosen), step):
        digest.update(np.ascontiguousarray(pixels[chosen[start : start + step]]).data)
    return digest.hexdigest()
