"""How clusters start half-way through a training: from the partition of the features that the views respect most."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ilk.batches import spaced
from ilk.heads import side_by_side
from ilk.kmeans import Partition, kmeans, lloyd, seen_from_mean
from ilk.methods.base import Encode

SAMPLE = 20_000  # images that are looked at, and pairs of views that their partitions are judged by
FITTED = 5_000  # images that partitions are fitted to (100 a cluster where that is more)
SETTLED = 0.001  # k-means ends when no more than this part of the rows moves
DRAWS = 12  # at most so many pairs of views an image
PAIRS = 2_000  # at least so many in all, as far as DRAWS allows


def due(epoch: int, epochs: int, warm_start: float) -> bool:
    """Whether the part `warm_start` of the training is over."""
    return epoch >= int(warm_start * epochs)


def partitions(
    encode: Encode, k: int, count: int, generator: torch.Generator, epochs: int
) -> tuple[Tensor, list[Partition]]:
    """Features of up to `SAMPLE` images, (m, d), and `count` partitions of them, the most stable first.

    Candidates are 2 * `count` results of k-means, and `count` of k-means with 3k centres that Ward's
    method merges to k: the first likes to cut a wide kind in two and merge two narrow ones, the second
    errs in other ways. Inertia cannot always tell (the wrong one often has the lower), but a cut kind
    does not survive a change of view: the mutual information between the clusters of two views of the same
    image is higher for the right partition. No labels are involved. While features are still poor that
    order is uncertain, so those of high information and of low inertia are taken in turn.
    `epochs`: those of the whole training, of whose time the judging takes a few hundredths.
    """
    h = encode(SAMPLE)
    x = F.normalize(h, dim=1)
    few = x[spaced(len(x), max(FITTED, 100 * k)).to(x.device)]
    found = kmeans(few, k, generator=generator, restarts=2 * count, tolerance=SETTLED)
    found += [merged(few, k, generator) for _ in range(count)]
    found = [lloyd(x, partition.centres, 1) for partition in found]
    stable = ranked(found, encode, k, draws(len(x), epochs), generator)
    tight = sorted(found, key=lambda partition: partition.inertia)
    in_turn = [one for pair in zip(stable, tight, strict=True) for one in pair]
    chosen: list[Partition] = []
    for one in in_turn:  # the same partition is often found several times, with a few rows more or less
        if all(likeness(one.labels, other.labels, k) < 0.97 for other in chosen):
            chosen.append(one)
    return h, (chosen + stable)[:count]


def draws(m: int, epochs: int) -> int:
    """How many pairs of views of each of `m` images partitions are judged by: about 0.15 an epoch.

    A pair costs two passes forward, an epoch two and their gradients an image, about six: a twentieth of the time.
    """
    return min(max(round(0.15 * epochs), -(-PAIRS // m)), DRAWS, -(-SAMPLE // m))


def ranked(found: list[Partition], encode: Encode, k: int, draws: int, generator: torch.Generator) -> list[Partition]:
    """Partitions by the mutual information between the clusters of two views of an image, highest first.

    `draws`: pairs of views an image, all counted together; a single one of few images is too noisy.
    """
    seen: list[list[Tensor]] = [[] for _ in found]
    for _ in range(draws):
        views = [seen_from_mean(view) for view in F.normalize(encode(SAMPLE, generator), dim=2)]
        for labels, partition in zip(seen, found, strict=True):
            labels.append(torch.stack([rows.nearest(partition.centres - rows.origin)[1] for rows in views]))
    told = [information(both[0], both[1], k) for both in (torch.cat(labels, 1) for labels in seen)]
    return [found[i] for i in sorted(range(len(found)), key=lambda i: -told[i])]


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


def renamed(labels: Tensor, known: Tensor, k: int) -> Tensor:
    """`labels` with clusters renamed so that as many as possible of the `known` ones (>= 0) agree."""
    rows = known >= 0
    votes = torch.bincount(labels[rows] * k + known[rows], minlength=k * k).view(k, k)
    _, names = linear_sum_assignment(votes.cpu().numpy(), maximize=True)
    return torch.as_tensor(names, device=labels.device)[labels]
