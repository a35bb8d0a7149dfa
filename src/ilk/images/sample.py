"""A cheap look at a source: a few of its images, decoded into memory."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from ilk.images.cache_folder import default_cache_dir
from ilk.images.collection import Images
from ilk.images.decode_source import decode_source
from ilk.images.find_source import find_source
from ilk.images.load import without_resizing
from ilk.images.source import Source

MOST_PIXELS = 256  # a side that shows what kind of pictures they are


def sample_images(source: Any, *, count: int = 500, image_size: int | None = None, max_image_size: int = 64) -> Images:
    """Up to `count` evenly spaced images of a source, or its first ones where items must be read in order.

    Sizes as in `load_images`, at most 256 pixels. Nothing is cached. Raises what `load_images` raises.
    """
    found = find_source(source)
    try:
        rows = sample_rows(len(found), count, in_order=found.sequential)
        if isinstance(source, Images):
            return source.subset(rows)
        part = items_of(found, rows)
        size, largest = image_size and min(image_size, MOST_PIXELS), min(max_image_size, MOST_PIXELS)
        images, _ = without_resizing(part, size, largest) or decode_source(
            part, size, largest, "squash", where=default_cache_dir(), cache=False,
            threads=min(32, os.cpu_count() or 1), progress=None,
        )  # fmt: skip
        return images
    finally:
        found.close()


def sample_rows(n: int, count: int, *, in_order: bool) -> np.ndarray:
    """Positions of at most `count` of n items: evenly spaced, or the first ones."""
    if in_order:
        return np.arange(min(n, count))
    return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(np.int64))


def items_of(found: Source, rows: np.ndarray) -> Source:
    """The source that has those items only, without labels."""
    return replace(
        found, ids=[found.ids[row] for row in rows], paths=[found.paths[row] for row in rows],
        read=lambda place: found.read(int(rows[place])), array=None if found.array is None else found.array[rows],
        stamp=None, restamp=None, labels=None, label_names=None, folders=None, bad=[],
    )  # fmt: skip
