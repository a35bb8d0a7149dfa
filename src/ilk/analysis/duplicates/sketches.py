"""Sketches of images, 16 x 16 gray and 64 bits of their low frequencies, and which of them are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Progress = Callable[[int, int], None]

SKETCH, BITS, LOOSE_BITS = 16, 64, 16  # side of a sketch; bits of its hash, of which so many may differ
TABLES, PAIRS, FEWEST, MOST = 16, 500_000, 4, 1_000  # orders of the hashes; pairs a table, neighbours an image
SKETCH_ALIKE = 0.85  # correlation; crops of 2 % on two sides leave 0.88 in 99 of 100 photographs
BATCH_BYTES = 16 << 20


class ImageSet(Protocol):
    """n images behind one index: `images[index]` is a uint8 tensor, (b, c, h, w)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class Sketches:
    """What is kept of every image, about 300 bytes each."""

    digest: np.ndarray  # (n,) 16 bytes, equal for equal pixels
    spread: np.ndarray  # (n,) standard deviation in levels
    small: np.ndarray  # (n, 256) int8, 16 x 16 gray as a unit vector times 127 x 4
    frequencies: np.ndarray  # (n, 64) float16


def blocks(images: ImageSet) -> Iterator[tuple[int, np.ndarray]]:
    """All images in order, a few megabytes at a time: where the block starts, uint8 (b, c, h, w)."""
    step = max(1, BATCH_BYTES // (4 * int(np.prod(images.shape))))  # 4: they become float32
    for start in range(0, len(images), step):
        yield start, images[start : start + step].numpy()


def sketch_all(images: ImageSet, progress: Progress | None) -> Sketches:
    n, (_, height, width) = len(images), images.shape
    digest, spread = np.zeros((n, 2), dtype=np.uint64), np.zeros(n, dtype=np.float32)
    small, frequencies = np.zeros((n, SKETCH**2), dtype=np.int8), np.zeros((n, BITS), dtype=np.float16)
    down, across, cosine = averaging(height, SKETCH), averaging(width, SKETCH), cosine_basis(SKETCH)
    low = np.argsort(np.add.outer(np.arange(SKETCH), np.arange(SKETCH)).ravel(), kind="stable")[1 : BITS + 1]
    for start, block in blocks(images):
        here = slice(start, start + len(block))
        digest[here] = [np.frombuffer(hashlib.blake2b(one.tobytes(), digest_size=16).digest(), "<u8") for one in block]
        values = block.astype(np.float32)
        spread[here] = spread_of(values)
        unit = unit_rows(down @ values.mean(1) @ across.T)
        small[here] = (unit * 508).clip(-127, 127).round()
        waves = cosine @ unit.reshape(-1, SKETCH, SKETCH) @ cosine.T
        frequencies[here] = waves.reshape(len(block), -1)[:, low]
        if progress:
            progress(here.stop, n)
    return Sketches(digest.view("V16").ravel(), spread, small, frequencies)


def spread_of(values: np.ndarray) -> np.ndarray:
    """The standard deviation over the places of (b, c, h, w), root mean square of the channels; (b,)."""
    result: np.ndarray = np.sqrt(values.var(axis=(2, 3)).mean(1))
    return result


def averaging(side: int, size: int) -> np.ndarray:
    """(size, side): the mean over each of `size` equal parts of `side` pixels; rows sum to 1."""
    edges = np.linspace(0, side, size + 1)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (overlap.clip(0) * size / side).astype(np.float32)


def cosine_basis(size: int) -> np.ndarray:
    """(size, size): row u is the u-th cosine of the discrete cosine transform."""
    return np.cos(np.pi / size * np.outer(np.arange(size), np.arange(size) + 0.5)).astype(np.float32)


def unit_rows(values: np.ndarray) -> np.ndarray:
    """(b, ...) as rows (b, m) with mean 0 and length 1."""
    flat = values.reshape(len(values), -1)
    flat = flat - flat.mean(1, keepdims=True)
    result: np.ndarray = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return result


def candidates(found: Sketches, rows: np.ndarray) -> np.ndarray:
    """Pairs of `rows` whose sketches are alike, (m, 2), smaller first: each with its next ones in 16 orders.

    Bits are cut at the collection's medians, so that each parts it in two halves. An order is that of the hashes
    after a random permutation of their bits: copies, which differ in a few bits, are next to each other in some.
    """
    n = len(rows)
    if n < 2:
        return np.zeros((0, 2), dtype=np.int64)
    wave = found.frequencies[rows]
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
            alike = sketch_correlation(found.small, a, b) >= SKETCH_ALIKE
            keys.append(np.minimum(a, b)[alike] * len(found.spread) + np.maximum(a, b)[alike])
        keys = [distinct(np.concatenate(keys))]
    return np.stack(np.divmod(keys[0], len(found.spread)), axis=1)


def sketch_correlation(small: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found = np.empty(len(a), dtype=np.float32)
    for start in range(0, len(a), 1 << 14):
        here = slice(start, start + (1 << 14))
        one, other = small[a[here]].astype(np.float32), small[b[here]].astype(np.float32)
        size = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other))
        found[here] = np.einsum("ij,ij->i", one, other) / np.maximum(size, 1e-6)
    return found


def distinct(values: np.ndarray) -> np.ndarray:
    """The values, each once, ascending; `np.unique` hashes integers, which took five times as long."""
    ordered = np.sort(values, axis=None)
    result: np.ndarray = ordered[np.diff(ordered, prepend=-1) != 0]
    return result
