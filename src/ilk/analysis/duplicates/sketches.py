"""Sketches of images (16 x 16 gray pixels and a 64-bit hash of their low frequencies), and pairs of similar ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Progress = Callable[[int, int], None]

SKETCH, BITS, LOOSE_BITS = 16, 64, 16  # pixels, side of a sketch; bits of its hash; bits that may differ in a pair
TABLES, PAIRS = 16, 500_000  # orders of the hashes; pairs that are compared in each
FEWEST, MOST = 4, 1_000  # next images, in each order, that an image is compared with
SKETCH_ALIKE = 0.85  # least correlation; 99 % of photographs have 0.88 after crops of 2 % on two sides
BATCH_BYTES = 16 << 20  # float32 pixels in memory at a time


class ImageSet(Protocol):
    """n images behind one index: `images[index]` is a uint8 tensor, (b, c, h, w)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class Sketches:
    """The sketches of n images, about 300 bytes each."""

    digest: np.ndarray  # (n,) 16 bytes, equal for equal pixels
    spread: np.ndarray  # (n,) standard deviation in levels
    small: np.ndarray  # (n, 256) int8, 16 x 16 gray as a unit vector times 127 x 4
    frequencies: np.ndarray  # (n, 64) float16


def blocks(images: ImageSet) -> Iterator[tuple[int, np.ndarray]]:
    """All images in blocks of a few megabytes: the number of the first image, and uint8 (b, c, h, w)."""
    step = max(1, BATCH_BYTES // (4 * int(np.prod(images.shape))))  # 4 bytes, as float32
    for start in range(0, len(images), step):
        yield start, images[start : start + step].numpy()


def sketch_all(images: ImageSet, progress: Progress | None) -> Sketches:
    """The sketches of all images; `progress(done, n)` is called after each block."""
    n, (_, height, width) = len(images), images.shape
    digest, spread = np.zeros((n, 2), dtype=np.uint64), np.zeros(n, dtype=np.float32)
    small, frequencies = np.zeros((n, SKETCH**2), dtype=np.int8), np.zeros((n, BITS), dtype=np.float16)
    down, across, cosine = averaging(height, SKETCH), averaging(width, SKETCH), cosine_basis(SKETCH)
    low = np.argsort(np.add.outer(np.arange(SKETCH), np.arange(SKETCH)).ravel(), kind="stable")[1 : BITS + 1]
    for start, block in blocks(images):
        part = slice(start, start + len(block))
        digest[part] = [
            np.frombuffer(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), "<u8") for image in block
        ]
        values = block.astype(np.float32)
        spread[part] = spread_of(values)
        unit = unit_rows(down @ values.mean(1) @ across.T)
        small[part] = (unit * 508).clip(-127, 127).round()
        waves = cosine @ unit.reshape(-1, SKETCH, SKETCH) @ cosine.T
        frequencies[part] = waves.reshape(len(block), -1)[:, low]
        if progress:
            progress(part.stop, n)
    return Sketches(digest.view("V16").ravel(), spread, small, frequencies)


def spread_of(values: np.ndarray) -> np.ndarray:
    """The standard deviation over the pixels of each image, root mean square over channels, (b,).

    `values`: (b, c, h, w) floats.
    """
    spread: np.ndarray = np.sqrt(values.var(axis=(2, 3)).mean(1))
    return spread


def averaging(side: int, size: int) -> np.ndarray:
    """The matrix (size, side) that averages over `size` equal parts of `side` pixels; rows sum to 1."""
    edges = np.linspace(0, side, size + 1)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (overlap.clip(0) * size / side).astype(np.float32)


def cosine_basis(size: int) -> np.ndarray:
    """The matrix (size, size) of the discrete cosine transform; row u is the u-th cosine."""
    return np.cos(np.pi / size * np.outer(np.arange(size), np.arange(size) + 0.5)).astype(np.float32)


def unit_rows(values: np.ndarray) -> np.ndarray:
    """`values`, (b, ...), as rows (b, m) with mean 0 and length 1."""
    flat = values.reshape(len(values), -1)
    flat = flat - flat.mean(1, keepdims=True)
    normalised: np.ndarray = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return normalised


def candidates(sketches: Sketches, rows: np.ndarray) -> np.ndarray:
    """Pairs of `rows` with similar sketches, (m, 2), the smaller row first.

    A bit of a hash says whether a frequency is above its median over the collection. The hashes are sorted 16 times,
    each time with their bits in another random order, and each image is compared with those next to it. Copies differ
    in only a few bits, so they are next to each other in some of these orders.
    """
    n = len(rows)
    if n < 2:
        return np.zeros((0, 2), dtype=np.int64)
    wave = sketches.frequencies[rows]
    bits = wave > np.median(wave, axis=0)
    packed = np.packbits(bits, axis=1).view(np.uint16)  # (n, 4)
    ones = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)
    reach = min(n - 1, max(FEWEST, min(MOST, PAIRS // n)))
    random, keys = np.random.default_rng(0), []
    for _ in range(TABLES if reach < n - 1 else 1):
        key = np.packbits(np.ascontiguousarray(bits[:, random.permutation(BITS)]), axis=1).view(">u8").ravel()
        order = np.argsort(key, kind="stable")
        sorted_bits, ordered = packed[order], rows[order]
        for step in range(1, reach + 1):
            near: np.ndarray | slice = slice(None)
            if reach < n - 1:
                differing = sum(ones[sorted_bits[step:, i] ^ sorted_bits[:-step, i]] for i in range(4))
                near = np.flatnonzero(differing <= LOOSE_BITS)
            a, b = ordered[:-step][near], ordered[step:][near]
            alike = sketch_correlation(sketches.small, a, b) >= SKETCH_ALIKE
            keys.append(np.minimum(a, b)[alike] * len(sketches.spread) + np.maximum(a, b)[alike])
        keys = [distinct(np.concatenate(keys))]
    return np.stack(np.divmod(keys[0], len(sketches.spread)), axis=1)


def sketch_correlation(small: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The correlation of the sketches of rows `a` and `b`, (m,). `small`: (n, 256) int8; `a`, `b`: (m,)."""
    correlation = np.empty(len(a), dtype=np.float32)
    for start in range(0, len(a), 1 << 14):
        part = slice(start, start + (1 << 14))
        first, second = small[a[part]].astype(np.float32), small[b[part]].astype(np.float32)
        size = np.sqrt(np.einsum("ij,ij->i", first, first) * np.einsum("ij,ij->i", second, second))
        correlation[part] = np.einsum("ij,ij->i", first, second) / np.maximum(size, 1e-6)
    return correlation


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct `values`, (m,), ascending. Five times as fast as `np.unique`, which hashes integers."""
    ordered = np.sort(values, axis=None)
    unique: np.ndarray = ordered[np.diff(ordered, prepend=-1) != 0]
    return unique
