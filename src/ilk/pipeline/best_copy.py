"""Which of several copies of an image is the one to keep: what only links to it is never kept instead of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image


def best_first(rows: np.ndarray, paths: Sequence[str]) -> np.ndarray:
    """The `rows` of copies in the order in which to keep them.

    Files before links to files, and before files in linked folders; then those with more pixels, then older ones, then
    those that come first in the source. `paths`: of every image of the source; one without a file of its own, as in an
    archive, counts as a file of no pixels.
    """
    return np.array(sorted(rows.tolist(), key=lambda row: (*standing(paths[row]), row)), dtype=rows.dtype)


def standing(path: str) -> tuple[int, int, float]:
    """What a file is sorted by: links on the way to it, minus its pixels, the time of its last change in seconds."""
    if not os.path.isfile(path):
        return 0, 0, 0.0
    try:
        changed = os.stat(path).st_mtime
        return links_to(path), -pixels_of(path), changed
    except OSError:
        return 0, 0, 0.0


def links_to(path: str) -> int:
    """How many parts of the path are symbolic links; the linked root of a source counts for all its files alike."""
    place = os.path.abspath(path)
    count = 0
    while place != (parent := os.path.dirname(place)):
        count += os.path.islink(place)
        place = parent
    return count


def pixels_of(path: str) -> int:
    """How many pixels the picture has by its header; 0 where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, of which only the header is read
            with Image.open(path) as picture:
                return int(picture.width * picture.height)
    except Exception:  # decoders raise errors of many types for damaged files
        return 0
