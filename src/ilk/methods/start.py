"""Partitions of the features that clusters start from, and how partitions and heads are ranked: by neighbours."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ilk.analysis.kmeans import Partition, kmeans, lloyd
from ilk.analysis.neighbours import near_rows
from ilk.networks.heads import side_by_side
from ilk.sampling import spaced

SAMPLE = 20_000  # images whose features are computed
FITTED = 5_000  # images that partitions are fitted to and ranked by (100 a cluster where that is more)
JUDGED = 10_000  # images that trained heads are ranked by; heads differ less than partitions
SETTLED = 0.001  # k-means ends when at most this share of the rows changes cluster
MANY = 50  # clusters up to which all candidates are made
NEAR, MOST_NEAR = 0.1, 64  # most neighbours that count: a share of an average cluster, and a number


class Encode(Protocol):
    def __call__(self, m: int) -> Tensor:
        """Backbone features, in evaluation mode, of up to `m` evenly spaced images, (m, d) float32."""


def due(epoch: int, epochs: int, warm_start: float) -> bool:
    """Whether the part `warm_start` of the training is over."""
    return epoch >= int(warm_start * epochs)


def partitions(encode: Encode, k: int, count: int, generator: torch.Generator) -> tuple[Tensor, list[Partition]]:
    """Features of up to `SAMPLE` images, (m, d), and `count` partitions of them, the best first.

    Candidates are 4 * `count` results of k-means, and 2 * `count` of k-means with 3k centres that Ward's method merges
    to k. k-means tends to split a wide class and to merge two narrow ones, and inertia cannot tell: the wrong partition
    often has the lower one. But splitting a class separates many nearest neighbours, so candidates are ranked by
    `togetherness`. Labels are not involved. Near copies of a better partition come last. With more than `MANY` clusters
    there are fewer candidates, down to a fourth, since the time for each grows with their number.
    """
    h = encode(SAMPLE)
    x = F.normalize(h, dim=1)
    sample = x[spaced(len(x), max(FITTED, 100 * k)).to(x.device)]
    restarts = max(count, 4 * count * MANY // max(k, MANY))
    candidates = kmeans(sample, k, generator=generator, restarts=restarts, tolerance=SETTLED)
    candidates += [merged(sample, k, generator) for _ in range(restarts // 2)]
    scores = togetherness(torch.stack([partition.labels for partition in candidates]), sample, k)
    ranked = [candidates[i] for i in scores.argsort(descending=True, stable=True).tolist()]
    chosen: list[Partition] = []
    for candidate in ranked:  # the same partition is often reached several times, a few rows apart
        if len(chosen) < count and all(likeness(candidate.labels, other.labels, k) < 0.97 for other in chosen):
            chosen.append(candidate)
    return h, [lloyd(x, partition.centres, 1) for partition in (chosen + ranked)[:count]]


def togetherness(labels: Tensor, x: Tensor, k: int) -> Tensor:
    """How well labellings keep neighbours in one cluster and yet separate images, (p,) in nats, in [0, log k].

    `labels`: (p, n) int64 in [0, k). `x`: (n, d), the features whose neighbours count, by cosine. The value is the
    mutual information between the cluster of an image and that of one of its m nearest images, averaged over
    m = 1, 2, 4, ... up to a tenth of an average cluster. Merging two classes costs entropy; splitting one costs
    agreement, since the cut passes where images are dense. Few neighbours show details, many show shapes.
    """
    n = len(x)
    if n < 2:
        return torch.zeros(len(labels))
    scales = [1]
    while 2 * scales[-1] <= min(NEAR * n / k, MOST_NEAR, n - 1):
        scales.append(2 * scales[-1])
    near = torch.from_numpy(near_rows(x.float().cpu().numpy(), scales[-1])).to(labels.device)

    def mean_information(row: Tensor) -> float:
        theirs = row[near]  # (n, m)
        return sum(information(row.repeat_interleave(m), theirs[:, :m].flatten(), k) for m in scales) / len(scales)

    return torch.tensor([mean_information(row) for row in labels])


def merged(x: Tensor, k: int, generator: torch.Generator) -> Partition:
    """k-means with 3k centres, merged to k by Ward's method, then one round of nearest centres."""
    fine = kmeans(x, min(3 * k, len(x)), generator=generator, restarts=1, steps=30, tolerance=SETTLED)[0]
    tree = linkage(fine.centres.double().cpu().numpy(), "ward")
    names = torch.as_tensor(fcluster(tree, k, "maxclust"), device=x.device).long() - 1
    labels = names[fine.labels]
    centres = torch.stack([x[labels == cluster].mean(0) for cluster in range(int(names.max()) + 1)])
    if len(centres) < k:  # equal centres cannot be cut apart
        centres = torch.cat([centres, x[: k - len(centres)]])
    return lloyd(x, centres, 1)


def information(a: Tensor, b: Tensor, k: int) -> float:
    """The mutual information of two labellings of the same images, in nats, in [0, log k]. Both (m,)."""
    joint = torch.bincount(a * k + b, minlength=k * k).view(k, k).double() / len(a)
    entropy = torch.special.entr
    return float(entropy(joint.sum(0)).sum() + entropy(joint.sum(1)).sum() - entropy(joint).sum())


def likeness(a: Tensor, b: Tensor, k: int) -> float:
    """Mutual information over the larger entropy, in [0, 1]; 1 for the same partition under other names."""
    return information(a, b, k) / max(information(a, a, k), information(b, b, k), 1e-12)


def fit_heads(heads: nn.ModuleList, features: Tensor, labels: Tensor, generator: torch.Generator) -> None:
    """Teaches each head its row of `labels`, (heads, n), on fixed `features`, (n, d): 200 steps of Adam."""
    optimizer = torch.optim.Adam(heads.parameters(), lr=3e-3)
    for _ in range(200):
        rows = torch.randint(len(features), (256,), generator=generator, device=features.device)
        logits = side_by_side(heads, features[rows])  # (heads, 256, k)
        loss = len(labels) * F.cross_entropy(logits.flatten(0, 1), labels[:, rows].flatten())  # the sum of all heads'
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def agree_with_known(labels: Tensor, known: Tensor, k: int) -> Tensor:
    """The partition `labels` renumbered to agree with the known clusters of as many images as possible, (n,).

    `labels`: (n,) in [0, k). `known`: (n,) a cluster in [0, k), or -1 where it is not known.
    """
    rows = known >= 0
    votes = torch.bincount(labels[rows] * k + known[rows], minlength=k * k).view(k, k)
    _, names = linear_sum_assignment(votes.cpu().numpy(), maximize=True)
    return torch.as_tensor(names, device=labels.device)[labels]
