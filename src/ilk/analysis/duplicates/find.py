"""Exact copies and near-duplicates, found without comparing all images with all.

Sketches of the images give candidate pairs, which are then compared by their pixels. Similar pixels are not enough:
two photographs that look equal are copies, but two handwritten digits that look equal may be different images among
thousands of similar ones. So a group of duplicates must also be isolated from the other images (`isolated_groups`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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

SIDE = 48  # pixels; larger images are reduced to this side to be compared
BLANK = 3.0  # levels of 255; an image with a smaller standard deviation is blank
LOOSE, ALIKE = 0.75, 0.85  # least correlation of the pixels of a pair that is considered, and of copies
MIN_COSINE = 0.5  # of embeddings; copies have 0.95 even after a few epochs, so only clear contradictions are lower
MOST_CONTRAST = 2.0  # largest ratio of standard deviations; an image and a nearly black copy of it look different
FLOOR = 0.0005  # of the side; rounding alone shifts copies by that much


@dataclass(frozen=True)
class Standard:
    """What isolates a group of duplicates.

    `shift`: largest shift between images that are joined, as a fraction of the side. `apart`: other images must be so
    many times further away, except for `others` of them.
    """

    shift: float
    apart: float
    others: int


# Of photographs of flowers, recompressed, cropped and brightened, 99 % are found, without a wrong pair among the
# originals. Handwritten digits and catalogue pictures form a continuum, in which the plain standard finds a few wrong
# pairs per thousand images; the strict standard is for those.
PLAIN, STRICT = Standard(0.018, 1.6, 1), Standard(0.0125, 3.0, 0)


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that show the same. The first is the one to keep."""

    rows: np.ndarray  # (size,) in the order of the source, or as `find_duplicates` was told to order them
    exact: np.ndarray  # (size,) bool, whether the pixels equal those of the first image
    similarity: np.ndarray  # (size,) float32, correlation with the pixels of the first image

    @property
    def kind(self) -> str:
        """ "exact" if all pixels are equal, else "near"."""
        return "exact" if self.exact.all() else "near"

    @property
    def kinds(self) -> list[str]:
        """Whether each image is an "exact" or "near" copy of the first; for the first, the kind of the group."""
        return [self.kind, *("exact" if exact else "near" for exact in self.exact[1:])]


def find_duplicates(
    images: ImageSet, embedding: np.ndarray | None = None, *, progress: Progress | None = None,
    best_first: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
) -> list[DuplicateGroup]:  # fmt: skip
    """Groups of images that show the same, in the order of their earliest images; blank images are left out.

    Duplicates may differ in format, size, quality, brightness, contrast, slightly in colour, and by a crop of about
    2 %; rotated or mirrored copies are not found. `embedding`: (n, d); near-duplicates must have a cosine of at least
    0.5. Needs about 1 kB of memory per image; every image is read once, and again if it is in a candidate pair.
    `best_first`: puts the ascending rows of a group into the order in which to keep them.
    Raises ValueError for another number of embeddings than images.
    """
    if embedding is not None and len(embedding) != len(images):
        raise ValueError(f"There are {len(embedding):,} embeddings for {len(images):,} images; give one for each.")
    sketches = sketch_all(images, progress)
    filled = np.flatnonzero(sketches.spread >= BLANK)
    _, first, same = np.unique(sketches.digest[filled], return_index=True, return_inverse=True)
    rows = filled[first]  # the first of each group of exact copies
    pairs = candidates(sketches, rows)
    shift, alike = compare(images, pairs)
    spread = sketches.spread[pairs]
    alike = np.where(spread.max(1) > MOST_CONTRAST * spread.min(1), 0.0, alike)
    if embedding is not None:
        alike = np.where(cosines(embedding, pairs) < MIN_COSINE, 0.0, alike)
    near = [compact(images, np.sort(rows)) for rows in near_groups(pairs, shift, alike, len(images))]
    copies = np.split(filled[np.argsort(same, kind="stable")], np.cumsum(np.bincount(same.ravel()))[:-1])
    copies_of = {int(part[0]): part for part in copies if len(part)}
    used = {row for group in near for row in group}
    groups = [np.sort(np.concatenate([copies_of[row] for row in group])) for group in near if group]
    groups += [part for row, part in copies_of.items() if len(part) > 1 and row not in used]
    return [
        make_group(images, sketches.digest, best_first(rows)) for rows in sorted(groups, key=lambda rows: int(rows[0]))
    ]


def compact(images: ImageSet, rows: np.ndarray) -> list[int]:
    """Those of `rows` that are near the first row; none unless more than half are, as in a chain of similar images."""
    shift, alike = compare(images, np.stack([np.full(len(rows), rows[0]), rows], axis=1))
    close = (shift <= 2 * PLAIN.shift) & (alike >= LOOSE)
    return rows[close].tolist() if close.sum() > max(1, len(rows) / 2) else []


def make_group(images: ImageSet, digest: np.ndarray, rows: np.ndarray) -> DuplicateGroup:
    """The group of these ascending `rows`. `digest`: (n,) hashes of the pixels of all images."""
    exact = digest[rows] == digest[rows[0]]
    _, alike = compare(images, np.stack([np.full(len(rows), rows[0]), rows], axis=1))
    return DuplicateGroup(rows, exact, np.where(exact, 1.0, alike).astype(np.float32))


def compare(images: ImageSet, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shift between the images of each pair, and the correlation of their pixels, both (m,). `pairs`: (m, 2).

    The shift is the root mean square difference that remains after matching brightness and contrast, divided by the
    mean gradient of the two images: how far, as a fraction of the side, an image would have to be moved to differ as
    much. It is comparable between photographs and drawings; different drawings correlate highly if strokes overlap.
    """
    _, height, width = images.shape
    down, across = averaging(height, min(height, SIDE)), averaging(width, min(width, SIDE))
    shift, alike = np.zeros(len(pairs), dtype=np.float32), np.zeros(len(pairs), dtype=np.float32)
    step = max(1, BATCH_BYTES // (4 * int(np.prod(images.shape))))
    for start in range(0, len(pairs), step):
        part = pairs[start : start + step]
        rows, position = np.unique(part, return_inverse=True)
        values = down @ images[rows].numpy().astype(np.float32) @ across.T
        unit, detail = unit_rows(values), detail_of(values)
        a, b = position.reshape(part.shape).T
        correlation = np.einsum("ij,ij->i", unit[a], unit[b])
        alike[start : start + step] = correlation
        difference = np.sqrt(np.maximum(2 - 2 * correlation, 0))
        shift[start : start + step] = difference / np.maximum((detail[a] + detail[b]) / 2, 1e-6)
    return shift, alike


def detail_of(values: np.ndarray) -> np.ndarray:
    """The root mean square gradient of each image, in standard deviations of the image per side; (b,).

    `values`: (b, c, h, w) floats.
    """
    _, _, height, width = values.shape
    vertical = (height * np.diff(values, axis=2)) ** 2
    square = vertical.mean((1, 2, 3)) + ((width * np.diff(values, axis=3)) ** 2).mean((1, 2, 3))
    gradient: np.ndarray = np.sqrt(square) / np.maximum(values.reshape(len(values), -1).std(1), 1e-6)
    return gradient


def cosines(embedding: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The cosine of the embeddings of each pair, (m,). `embedding`: (n, d), `pairs`: (m, 2)."""
    cosine = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), 1 << 14):
        a, b = (np.asarray(embedding[rows], dtype=np.float32) for rows in pairs[start : start + (1 << 14)].T)
        size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine[start : start + (1 << 14)] = np.einsum("ij,ij->i", a, b) / np.maximum(size, 1e-12)
    return cosine


def near_groups(pairs: np.ndarray, shift: np.ndarray, alike: np.ndarray, n: int) -> list[list[int]]:
    """The isolated groups of near-duplicates, as lists of rows.

    By the plain standard, or by the strict one if most pairs within the plain shift are not in a group.
    `pairs`: (m, 2) rows; `shift`, `alike`: (m,) from `compare`; `n`: number of images.
    """
    considered = alike >= LOOSE
    pairs, shift, alike = pairs[considered], shift[considered], alike[considered]
    shift = np.maximum(np.where(alike < ALIKE, np.maximum(shift, PLAIN.shift * 1.001), shift), FLOOR)
    groups = isolated_groups(pairs, shift, PLAIN)
    group_of = np.full(n, -1)
    for number, rows in enumerate(groups):
        group_of[rows] = number
    a, b = group_of[pairs[shift <= PLAIN.shift]].T
    inside = (a >= 0) & (a == b)
    return groups if inside.sum() >= 0.5 * len(inside) else isolated_groups(pairs, shift, STRICT)


def isolated_groups(pairs: np.ndarray, shift: np.ndarray, standard: Standard) -> list[list[int]]:
    """The largest groups that are joined within `standard.shift` and isolated from all other images.

    Pairs are joined in order of distance. A group that is completed at distance s is isolated if at most
    `standard.others` images join it when all pairs up to s times `standard.apart` are joined.
    """
    members: dict[int, list[int]] = {int(row): [int(row)] for row in distinct(pairs)}  # one list per group
    waiting: deque[tuple[float, list[int], int]] = deque()  # lists only grow, so a length recalls the group
    kept: list[tuple[int, list[int]]] = []

    def keep_isolated(reached: float) -> None:
        """Keeps the waiting groups that have not grown, now that all pairs below distance `reached` are joined."""
        while waiting and waiting[0][0] < reached:
            _, group, size = waiting.popleft()
            if len(members[group[0]]) <= size + standard.others:
                kept.append((size, group))

    order = np.argsort(shift, kind="stable")
    for (a, b), distance in zip(pairs[order].tolist(), shift[order].tolist(), strict=True):
        small, large = sorted((members[a], members[b]), key=len)
        if small is large:
            continue
        keep_isolated(distance)
        if distance > standard.shift and not waiting:
            break
        large += small
        for row in small:
            members[row] = large
        if distance <= standard.shift:
            waiting.append((distance * standard.apart, large, len(large)))
    keep_isolated(np.inf)
    groups: list[list[int]] = []
    taken: set[int] = set()
    for size, whole in sorted(kept, key=lambda entry: entry[0], reverse=True):
        if taken.isdisjoint(group := whole[:size]):
            groups.append(group)
            taken.update(group)
    return groups
