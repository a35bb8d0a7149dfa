"""The space in which distances are measured: features without length and offset, in a few dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

DIMENSIONS = 50  # more add noise to the neighbours of 384-wide features, fewer cannot separate 50 classes
CHUNK = 8192  # rows converted to float32 at a time
WIDE = 1024  # wider features get a randomised SVD; their covariance would take minutes


class Space(NamedTuple):
    """The parameters of `place`: rows are normalised, minus `mean`, normalised again, minus `middle`, times `basis`."""

    mean: Floats  # (d,)
    middle: Floats  # (d,)
    basis: Floats  # (d, at most DIMENSIONS)


def checked(features: Any, what: str = "features", axes: int = 2) -> Any:
    """`features` as a NumPy array of the same precision (float32 for bfloat16) with `axes` axes.

    `what`: the name in error messages. Raises ValueError for another shape, or rows that are not finite.
    """
    array = features.detach().cpu() if isinstance(features, torch.Tensor) else np.asarray(features)
    if isinstance(array, torch.Tensor):
        array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    if array.ndim != axes or 0 in array.shape[1:]:
        shape = {2: "(images, width)", 3: "(images, views, width)"}[axes]
        raise ValueError(f"{what} must have the shape {shape}; got {array.shape}.")
    for _ in chunks(array):
        pass  # all rows, before a sample is drawn, so that the error names the right row
    return array


def chunks(array: Any) -> Iterator[tuple[slice, Floats]]:
    """The rows of `array` as float32, `CHUNK` at a time, with their slices. Raises ValueError for non-finite rows."""
    for start in range(0, len(array), CHUNK):
        rows = np.asarray(array[start : start + CHUNK], dtype=np.float32)
        if not np.isfinite(rows).all():
            row = start + int(np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(1))[0])
            raise ValueError(
                f"The features of image {row} are not finite. Leave the image out, or compute its features again."
            )
        yield slice(start, start + len(rows)), rows


def unit(rows: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays 0."""
    normalised: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return normalised


def find_space(sample: Any, seed: int) -> Space:
    """The space of a `sample`, (n, d): its main directions after removing length and mean.

    The mean is removed because encoder features all point in a similar direction, and pixels are all positive, so
    their cosines are all near 1. Rows are normalised before that, since two images that differ in length only would
    end up on opposite sides of the mean.
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
    """The coordinates of `features`, (n, d), in the space, (n, at most DIMENSIONS)."""
    coordinates = np.empty((len(features), space.basis.shape[1]), dtype=np.float32)
    for rows, x in chunks(features):
        coordinates[rows] = (unit(unit(x) - space.mean) - space.middle) @ space.basis
    return coordinates


def nearest_centre(x: Floats, centres: Floats) -> Integers:
    """The number of the centre nearest to each row, (n,). `x`: (n, d), `centres`: (m, d)."""
    half = (centres**2).sum(1) / 2
    return np.concatenate([(half - rows @ centres.T).argmin(1) for _, rows in chunks(x)]).astype(np.int64)
