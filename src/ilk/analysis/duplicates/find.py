"""Near-duplicates and exact copies, found without comparing all with all.

The sketches name candidates; the pixels decide. What one collection shows once, another shows a thousand times: two
equal-looking photographs are copies, two equal-looking handwritten ones are not. So a group must also stand
apart from the other images (`stand_alone`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ilk.analysis.duplicates.sketches import (
    BATCH_BYTES,
    ImageSet,
    Progress,
    averaging,
    candidates,
    distinct,
    sketch_all,
    unit_rows,
)

SIDE = 48  # pixels at which two images are compared, where they are not smaller
BLANK = 3.0  # levels of 255; below that standard deviation there is nothing to compare
LOOSE, ALIKE = 0.75, 0.85  # correlation of pixels that are worth weighing, and of copies
MIN_COSINE = 0.5  # copies have 0.95 even after a few epochs; this keeps only plain contradictions out
MOST_CONTRAST = 2.0  # times the other's: an image and its all but black copy are not the same to look at
FLOOR = 0.0005  # of the side; rounding moves copies that far


@dataclass(frozen=True)
class Standard:
    """What a group must be. `apart`: how many times farther others must be; `others`: how many need not."""

    shift: float  # of the side: how far the content of one image may seem to be moved in the other
    apart: float
    others: int


# Flowers, recompressed, cropped and brightened: 99 % found, every pair among the originals right. Handwritten digits
# and catalogue pictures are a continuum, of which the plain standard takes a few chance pairs in a thousand images.
PLAIN, STRICT = Standard(0.018, 1.6, 1), Standard(0.0125, 3.0, 0)


@dataclass(frozen=True)
class DuplicateGroup:
    """ImageSet that show the same. The first in the source's order is the one to keep."""

    rows: np.ndarray  # (size,) ascending
    exact: np.ndarray  # (size,) bool, whether its pixels equal those of the first
    similarity: np.ndarray  # (size,) float32, correlation with the pixels of the first

    @property
    def kind(self) -> str:
        return "exact" if self.exact.all() else "near"

    @property
    def kinds(self) -> list[str]:
        """What each image is to the first; the first itself is what the group is."""
        return [self.kind, *("exact" if one else "near" for one in self.exact[1:])]


def find_duplicates(
    images: ImageSet, embedding: np.ndarray | None = None, *, progress: Progress | None = None
) -> list[DuplicateGroup]:
    """Groups of images that show the same, in the order of their first images; blank images are in none.

    Copies may differ in format, size, quality, brightness, contrast, a little in colour, and by a crop of about
    2 %; they may not be turned or mirrored. `embedding`: (n, d), which near-duplicates must not contradict.
    Memory grows by about a kilobyte an image; every image is read once, and again where it has a candidate.
    """
    if embedding is not None and len(embedding) != len(images):
        raise ValueError(f"{len(embedding):,} embeddings were given for {len(images):,} images. Give one for each.")
    found = sketch_all(images, progress)
    filled = np.flatnonzero(found.spread >= BLANK)
    _, first, same = np.unique(found.digest[filled], return_index=True, return_inverse=True)
    rows = filled[first]  # one of each, the earliest
    pairs = candidates(found, rows)
    shift, alike = compare(images, pairs)
    light = found.spread[pairs]
    alike = np.where(light.max(1) > MOST_CONTRAST * light.min(1), 0.0, alike)
    if embedding is not None:
        alike = np.where(cosines(embedding, pairs) < MIN_COSINE, 0.0, alike)
    near = [compact(images, np.sort(rows)) for rows in near_groups(pairs, shift, alike, len(images))]
    copies = np.split(filled[np.argsort(same, kind="stable")], np.cumsum(np.bincount(same.ravel()))[:-1])
    copies_of = {int(part[0]): part for part in copies if len(part)}
    used = {row for group in near for row in group}
    groups = [np.sort(np.concatenate([copies_of[row] for row in group])) for group in near if group]
    groups += [part for row, part in copies_of.items() if len(part) > 1 and row not in used]
    return [make_group(images, found.digest, rows) for rows in sorted(groups, key=lambda rows: int(rows[0]))]


def compact(images: ImageSet, rows: np.ndarray) -> list[int]:
    """Those of `rows` that are near to the first itself; none where a chain of look-alikes only leads away from it."""
    shift, alike = compare(images, np.stack([np.full(len(rows), rows[0]), rows], axis=1))
    close = (shift <= 2 * PLAIN.shift) & (alike >= LOOSE)
    return rows[close].tolist() if close.sum() > max(1, len(rows) / 2) else []


def make_group(images: ImageSet, digest: np.ndarray, rows: np.ndarray) -> DuplicateGroup:
    exact = digest[rows] == digest[rows[0]]
    _, alike = compare(images, np.stack([np.full(len(rows), rows[0]), rows], axis=1))
    return DuplicateGroup(rows, exact, np.where(exact, 1.0, alike).astype(np.float32))


def compare(images: ImageSet, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How unlike the pixels of each pair are, and their correlation over all channels, both (m,).

    The first is the difference left after brightness and contrast, in units of the pictures' own gradient: how far,
    as a share of the side, one would have to be moved to differ as much. It means the same for photographs and
    for drawings, of which unlike ones correlate highly as long as their strokes overlap.
    """
    _, height, width = images.shape
    down, across = averaging(height, min(height, SIDE)), averaging(width, min(width, SIDE))
    shift, alike = np.zeros(len(pairs), dtype=np.float32), np.zeros(len(pairs), dtype=np.float32)
    step = max(1, BATCH_BYTES // (4 * int(np.prod(images.shape))))
    for start in range(0, len(pairs), step):
        here = pairs[start : start + step]
        rows, at = np.unique(here, return_inverse=True)
        values = down @ images[rows].numpy().astype(np.float32) @ across.T
        unit, detail = unit_rows(values), detail_of(values)
        a, b = at.reshape(here.shape).T
        correlation = np.einsum("ij,ij->i", unit[a], unit[b])
        alike[start : start + step] = correlation
        left = np.sqrt(np.maximum(2 - 2 * correlation, 0))
        shift[start : start + step] = left / np.maximum((detail[a] + detail[b]) / 2, 1e-6)
    return shift, alike


def detail_of(values: np.ndarray) -> np.ndarray:
    """The root mean square gradient of (b, c, h, w), a side, in standard deviations of the picture; (b,)."""
    _, _, height, width = values.shape
    slope = (height * np.diff(values, axis=2)) ** 2
    steep = slope.mean((1, 2, 3)) + ((width * np.diff(values, axis=3)) ** 2).mean((1, 2, 3))
    result: np.ndarray = np.sqrt(steep) / np.maximum(values.reshape(len(values), -1).std(1), 1e-6)
    return result


def cosines(embedding: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    found = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), 1 << 14):
        a, b = (np.asarray(embedding[one], dtype=np.float32) for one in pairs[start : start + (1 << 14)].T)
        size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found[start : start + (1 << 14)] = np.einsum("ij,ij->i", a, b) / np.maximum(size, 1e-12)
    return found


def near_groups(pairs: np.ndarray, shift: np.ndarray, alike: np.ndarray, n: int) -> list[list[int]]:
    """The groups that `stand_alone`, by the strict standard where most near pairs are no copies."""
    worth = alike >= LOOSE
    pairs, shift, alike = pairs[worth], shift[worth], alike[worth]
    shift = np.maximum(np.where(alike < ALIKE, np.maximum(shift, PLAIN.shift * 1.001), shift), FLOOR)
    groups = stand_alone(pairs, shift, PLAIN)
    group_of = np.full(n, -1)
    for number, rows in enumerate(groups):
        group_of[rows] = number
    a, b = group_of[pairs[shift <= PLAIN.shift]].T
    inside = (a >= 0) & (a == b)
    return groups if inside.sum() >= 0.5 * len(inside) else stand_alone(pairs, shift, STRICT)


def stand_alone(pairs: np.ndarray, shift: np.ndarray, standard: Standard) -> list[list[int]]:
    """The largest groups that are joined within `standard.shift` and that hardly anything else is nearly as near to.

    Pairs are joined from the nearest on; a group that was just joined at distance s is kept if it has not grown by more
    than `standard.others` images when all pairs up to s times `standard.apart` are joined.
    """
    members: dict[int, list[int]] = {int(row): [int(row)] for row in distinct(pairs)}  # a list is shared by all in it
    waiting: deque[tuple[float, list[int], int]] = deque()  # lists only grow, so a length says what they were
    kept: list[tuple[int, list[int]]] = []

    def judge(reached: float) -> None:
        while waiting and waiting[0][0] < reached:
            _, group, size = waiting.popleft()
            if len(members[group[0]]) <= size + standard.others:
                kept.append((size, group))

    order = np.argsort(shift, kind="stable")
    for (a, b), distance in zip(pairs[order].tolist(), shift[order].tolist(), strict=True):
        small, large = sorted((members[a], members[b]), key=len)
        if small is large:
            continue
        judge(distance)
        if distance > standard.shift and not waiting:
            break
        large += small
        for row in small:
            members[row] = large
        if distance <= standard.shift:
            waiting.append((distance * standard.apart, large, len(large)))
    judge(np.inf)
    found: list[list[int]] = []
    taken: set[int] = set()
    for size, whole in sorted(kept, key=lambda one: one[0], reverse=True):
        if taken.isdisjoint(group := whole[:size]):
            found.append(group)
            taken.update(group)
    return found
