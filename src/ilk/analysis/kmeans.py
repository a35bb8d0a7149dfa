"""k-means on a sample of features: seeded, bit-reproducible on one device, restarts side by side."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Partition", "kmeans"]


class Partition(NamedTuple):
    labels: Tensor  # (n,) int64
    centres: Tensor  # (k, d)
    inertia: float  # sum of squared distances to the own centre


def kmeans(
    x: Tensor, k: int, *, generator: torch.Generator, restarts: int = 10, steps: int = 100, tolerance: float = 0.0
) -> list[Partition]:
    """One `Partition` a restart, each from its own k-means++ start, best (lowest inertia) first.

    `x`: (n, d) finite floats, n >= k; half precision is widened. A restart ends after `steps`, or when at most
    the part `tolerance` of the rows changes its cluster. scikit-learn's k-means sums its threads in
    the order they finish, so its last digits change from run to run; this one repeats itself, which resuming
    a training needs.
    Source: Arthur and Vassilvitskii 2007 for the start, Lloyd for the rest.
    """
    if k < 1 or len(x) < k:
        raise ValueError(f"{k} clusters need at least {max(k, 1)} rows; there are {len(x)}.")
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if not torch.isfinite(x).all():
        raise ValueError("k-means was given numbers that are not finite.")
    found = [lloyd(x, plus_plus(x, k, generator), steps, tolerance) for _ in range(restarts)]
    return sorted(found, key=lambda partition: partition.inertia)


class Rows(NamedTuple):
    """Rows seen from their mean: far from the origin their squares would eat all digits of a distance."""

    x: Tensor  # (n, d)
    square: Tensor  # (n,)
    origin: Tensor  # (d,)

    def nearest(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        """The squared distance to the nearest of `centres`, seen from the same origin, and which it is; both (n,)."""
        score, which = torch.addmm(centres.square().sum(1), self.x, centres.T, alpha=-2).min(1)
        return (score + self.square).clamp_min(0), which

    def distance_to(self, row: int) -> Tensor:
        """The squared distance to one of the rows, (n,); exactly 0 for rows that are equal to it."""
        return (self.x - self.x[row]).square().sum(1)


def seen_from_mean(x: Tensor) -> Rows:
    origin = x.mean(0)
    x = x - origin
    return Rows(x, x.square().sum(1), origin)


def plus_plus(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k rows of `x` as first centres, each drawn by its squared distance to those before it, (k, d)."""
    rows = seen_from_mean(x)
    chosen = [int(torch.randint(len(x), (1,), generator=generator, device=generator.device))]
    distance = rows.distance_to(chosen[0])
    for _ in range(k - 1):
        weight = distance.double()
        weight = torch.where(weight.sum() > 0, weight, torch.ones_like(weight))  # all rows are equal
        spot = torch.rand(1, generator=generator, device=generator.device, dtype=torch.float64) * weight.sum()
        chosen.append(min(int(torch.searchsorted(weight.cumsum(0), spot)), len(x) - 1))
        distance = torch.minimum(distance, rows.distance_to(chosen[-1]))
    return x[chosen].clone()


def lloyd(x: Tensor, centres: Tensor, steps: int, tolerance: float = 0.0) -> Partition:
    """Alternates nearest centres and means until hardly any row moves; an empty cluster takes the worst-served row."""
    rows = seen_from_mean(x)
    centres = centres - rows.origin
    labels = torch.full((len(x),), -1, device=x.device)
    empty = labels[:0]
    for _ in range(steps):
        distance, nearest = rows.nearest(centres)
        moved = int((nearest != labels).sum())
        if moved <= tolerance * len(x) and not len(empty):  # the row just taken may have been alone
            break
        labels = nearest
        member = torch.nn.functional.one_hot(labels, len(centres)).to(x.dtype)  # (n, k)
        count = member.sum(0)
        centres = member.T @ rows.x / count.clamp_min(1)[:, None]
        empty = (count == 0).nonzero()[:, 0]
        if len(empty):
            centres[empty] = rows.x[distance.topk(len(empty)).indices]
    distance, labels = rows.nearest(centres)
    return Partition(labels, centres + rows.origin, float(distance.double().sum()))


def squared_distance(x: Tensor, centres: Tensor) -> Tensor:
    """(n, k), never below zero. Seen from the mean of the centres: far from the origin the squares eat all digits."""
    origin = centres.mean(0)
    x, centres = x - origin, centres - origin
    square = x.square().sum(1, keepdim=True) - 2 * x @ centres.T + centres.square().sum(1)
    return square.clamp_min(0)


def merge_and_split(x: Tensor, labels: Tensor, k: int, min_size: int, generator: torch.Generator) -> Tensor:
    """`labels` without small clusters: their members join the nearest others, and large ones are halved instead.

    `x`: (n, d), rows of length 1. `labels`: (n,) int64 in [0, k). A cluster is small below `min_size`
    members. Members of a small one go to the other cluster with the largest centroid . x; then, for
    each emptied cluster in turn, the largest cluster is cut in two by 2-means (at random if that fails).
    Returned unchanged when no cluster is small, or all are.
    Source: ODC (Zhan et al. 2020), `deal_with_small_clusters`, which SCL takes over. Centroids are plain means.
    """
    small = torch.bincount(labels, minlength=k) < min_size
    if not small.any() or small.all():
        return labels
    labels = labels.clone()
    large = (~small).nonzero()[:, 0]
    centroids = torch.stack([x[labels == cluster].mean(0) for cluster in large])
    lost = small[labels]
    labels[lost] = large[(x[lost] @ centroids.T).argmax(1)]
    for empty in small.nonzero()[:, 0]:
        members = (labels == torch.bincount(labels, minlength=k).argmax()).nonzero()[:, 0]
        if len(members) < 2:
            break  # fewer images than clusters
        part = kmeans(x[members], 2, generator=generator, restarts=1, steps=20)[0].labels == 1
        if part.all() or not part.any():
            part = torch.randperm(len(members), generator=generator, device=x.device) < len(members) // 2
        labels[members[part]] = empty
    return labels
