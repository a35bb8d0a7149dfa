"""k-means on a sample of features: seeded, bit-reproducible on one device, restarts side by side."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Partition", "kmeans"]


class Partition(NamedTuple):
    """A clustering of n rows into k clusters."""

    labels: Tensor  # (n,) int64
    centres: Tensor  # (k, d)
    inertia: float  # sum of the squared distances of the rows to their centres


def kmeans(
    x: Tensor, k: int, *, generator: torch.Generator, restarts: int = 10, steps: int = 100, tolerance: float = 0.0
) -> list[Partition]:
    """One `Partition` per restart, each from its own k-means++ start, lowest inertia first.

    `x`: (n, d) finite floats, n >= k; half precision is widened to float32. A restart ends after `steps` iterations,
    or when at most the fraction `tolerance` of the rows changes cluster. Raises ValueError for n < k, or for numbers
    that are not finite. scikit-learn's k-means adds up the results of its threads in the order in which they finish,
    so its last digits vary from run to run; this one is bit-reproducible, which resuming a training needs.
    Source: Arthur and Vassilvitskii 2007 (start), Lloyd 1982 (iterations).
    """
    if k < 1 or len(x) < k:
        raise ValueError(f"{k} clusters need at least {max(k, 1)} rows; there are {len(x)}.")
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if not torch.isfinite(x).all():
        raise ValueError("Some of the numbers for k-means are not finite.")
    partitions = [lloyd(x, plus_plus(x, k, generator), steps, tolerance) for _ in range(restarts)]
    return sorted(partitions, key=lambda partition: partition.inertia)


class CentredRows(NamedTuple):
    """CentredRows minus their mean: far from the origin, squares would cancel all digits of a distance."""

    x: Tensor  # (n, d)
    square: Tensor  # (n,) squared lengths
    origin: Tensor  # (d,) the mean that was subtracted

    def nearest(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        """The squared distance to the nearest of `centres` (minus `origin` too), and its number; both (n,)."""
        score, number = torch.addmm(centres.square().sum(1), self.x, centres.T, alpha=-2).min(1)
        return (score + self.square).clamp_min(0), number

    def distance_to(self, row: int) -> Tensor:
        """The squared distance of each row to one of them, (n,); exactly 0 for rows equal to it."""
        return (self.x - self.x[row]).square().sum(1)


def centred(x: Tensor) -> CentredRows:
    """`x`, (n, d), minus the mean of its rows."""
    origin = x.mean(0)
    x = x - origin
    return CentredRows(x, x.square().sum(1), origin)


def plus_plus(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k rows of `x` as first centres, each drawn in proportion to the squared distance to those before it, (k, d)."""
    rows = centred(x)
    chosen = [int(torch.randint(len(x), (1,), generator=generator, device=generator.device))]
    distance = rows.distance_to(chosen[0])
    for _ in range(k - 1):
        weight = distance.double()
        weight = torch.where(weight.sum() > 0, weight, torch.ones_like(weight))  # if all rows are equal
        spot = torch.rand(1, generator=generator, device=generator.device, dtype=torch.float64) * weight.sum()
        chosen.append(min(int(torch.searchsorted(weight.cumsum(0), spot)), len(x) - 1))
        distance = torch.minimum(distance, rows.distance_to(chosen[-1]))
    return x[chosen].clone()


def lloyd(x: Tensor, centres: Tensor, steps: int, tolerance: float = 0.0) -> Partition:
    """The partition that Lloyd's iterations reach from these `centres`, (k, d).

    Ends after `steps`, or when at most `tolerance` of the rows changes cluster. A cluster that becomes empty is
    restarted at the row furthest from its centre.
    """
    rows = centred(x)
    centres = centres - rows.origin
    labels = torch.full((len(x),), -1, device=x.device)
    empty = labels[:0]
    for _ in range(steps):
        distance, nearest = rows.nearest(centres)
        moved = int((nearest != labels).sum())
        if moved <= tolerance * len(x) and not len(empty):  # a restart may empty another cluster
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
    """The squared distance of each row of `x` to each centre, (n, k), at least 0.

    The mean of the centres is subtracted first: far from the origin, squares would cancel all digits.
    """
    origin = centres.mean(0)
    x, centres = x - origin, centres - origin
    square = x.square().sum(1, keepdim=True) - 2 * x @ centres.T + centres.square().sum(1)
    return square.clamp_min(0)


def merge_and_split(x: Tensor, labels: Tensor, k: int, min_size: int, generator: torch.Generator) -> Tensor:
    """The labels after small clusters are dissolved and large clusters split in their place, (n,).

    `x`: (n, d), rows of length 1. `labels`: (n,) int64 in [0, k). A cluster with fewer than `min_size` members is
    small. Its members join the cluster, among those that are not small, with the largest dot product of centroid and
    row; then, for each emptied cluster in turn, the largest cluster is split in two by 2-means (at random if that
    fails). Returns `labels` unchanged if no cluster is small, or if all are.
    Source: ODC (Zhan et al. 2020), `deal_with_small_clusters`, as used by SCL. Centroids are means, not normalised.
    """
    small = torch.bincount(labels, minlength=k) < min_size
    if not small.any() or small.all():
        return labels
    labels = labels.clone()
    large = (~small).nonzero()[:, 0]
    centroids = torch.stack([x[labels == cluster].mean(0) for cluster in large])
    dissolved = small[labels]
    labels[dissolved] = large[(x[dissolved] @ centroids.T).argmax(1)]
    for empty in small.nonzero()[:, 0]:
        members = (labels == torch.bincount(labels, minlength=k).argmax()).nonzero()[:, 0]
        if len(members) < 2:
            break  # fewer images than clusters
        part = kmeans(x[members], 2, generator=generator, restarts=1, steps=20)[0].labels == 1
        if part.all() or not part.any():
            part = torch.randperm(len(members), generator=generator, device=x.device) < len(members) // 2
        labels[members[part]] = empty
    return labels
