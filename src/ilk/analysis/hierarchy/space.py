"""Where distances are taken: features of any length and offset as directions in a few dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

DIMENSIONS = 50  # more add noise to the neighbours of 384-wide features, fewer cannot hold 50 kinds apart
CHUNK = 8192
WIDE = 1024  # features wider than this are decomposed at random, or their covariance would cost minutes


class Space(NamedTuple):
    """What `place` needs: rows of length 1, less `mean`, of length 1 again, less `middle`, turned by `basis`."""

    mean: Floats  # (d,)
    middle: Floats  # (d,)
    basis: Floats  # (d, at most DIMENSIONS)


def checked(features: Any, what: str = "features", axes: int = 2) -> Any:
    """`features` as an array of `axes` axes; a tensor is moved to the CPU, nothing is widened.

    Raises ValueError for another shape, and for rows that are not finite.
    """
    array = features.detach().cpu() if isinstance(features, torch.Tensor) else np.asarray(features)
    if isinstance(array, torch.Tensor):
        array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    if array.ndim != axes or 0 in array.shape[1:]:
        shape = {2: "(images, width)", 3: "(images, views, width)"}[axes]
        raise ValueError(f"{what} must have the shape {shape}; got {array.shape}.")
    for _ in chunks(array):
        pass  # before any sample is drawn, so that the error names the row
    return array


def chunks(array: Any) -> Iterator[tuple[slice, Floats]]:
    """Rows of `array` as float32, a few at a time. Raises ValueError for a row that is not finite."""
    for start in range(0, len(array), CHUNK):
        rows = np.asarray(array[start : start + CHUNK], dtype=np.float32)
        if not np.isfinite(rows).all():
            bad = start + int(np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(1))[0])
            raise ValueError(
                f"The features of image {bad} are not finite numbers. Leave it out, or compute them again."
            )
        yield slice(start, start + len(rows)), rows


def unit(rows: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays 0."""
    result: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return result


def find_space(sample: Any, seed: int) -> Space:
    """The space of a sample, (n, d).

    Without the mean taken off, encoder features all point the same way and pixels are all positive, and
    cosines say little. The length has to go before: two images that differ in nothing but length would lie on
    opposite sides of the mean.
    """
    x = unit(np.concatenate([rows for _, rows in chunks(sample)]))
    mean = x.mean(0)
    x = unit(x - mean)
    middle = x.mean(0)
    x -= middle
    width = min(DIMENSIONS, x.shape[1], len(x))
    if x.shape[1] <= WIDE:
        basis = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :width]
    else:
        basis = randomized_svd(x, width, n_iter=4, random_state=seed)[2].T
    return Space(mean, middle, np.ascontiguousarray(basis, dtype=np.float32))


def place(features: Any, space: Space) -> Floats:
    """`features`, (n, d), in that space, (n, at most DIMENSIONS)."""
    out = np.empty((len(features), space.basis.shape[1]), dtype=np.float32)
    for rows, x in chunks(features):
        out[rows] = (unit(unit(x) - space.mean) - space.middle) @ space.basis
    return out


def nearest_centre(x: Floats, centres: Floats) -> Integers:
    """The number of the nearest centre of each row."""
    half = (centres**2).sum(1) / 2
    return np.concatenate([(half - rows @ centres.T).argmin(1) for _, rows in chunks(x)]).astype(np.int64)
