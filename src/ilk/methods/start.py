"""Which partition of the features clusters start from, and which heads they end with: neighbours stay together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ilk.analysis.kmeans import Partition, kmeans, lloyd
from ilk.analysis.neighbours import near_rows
from ilk.methods.base import Encode
from ilk.networks.heads import side_by_side
from ilk.sampling import spaced

SAMPLE = 20_000  # images that are looked at
FITTED = 5_000  # images that partitions are fitted to and judged by (100 a cluster where that is more) ...
JUDGED = 10_000  # ... and those that trained heads are judged by, which differ less
SETTLED = 0.001  # k-means ends when no more than this part of the rows moves
MANY = 50  # clusters up to which all candidates are made
NEAR, MOST_NEAR = 0.1, 64  # neighbours that partitions are judged by: a part of an average cluster, and at most


def due(epoch: int, epochs: int, warm_start: float) -> bool:
    """Whether the part `warm_start` of the training is over."""
    return epoch >= int(warm_start * epochs)


def partitions(encode: Encode, k: int, count: int, generator: torch.Generator) -> tuple[Tensor, list[Partition]]:
    """Features of up to `SAMPLE` images, (m, d), and `count` partitions of them, the best first.

    Candidates are 4 * `count` results of k-means, and 2 * `count` of k-means with 3k centres that Ward's
    method merges to k: the first likes to cut a wide kind in two and merge two narrow ones, the second
    errs in other ways. Inertia cannot tell (the wrong one often has the lower), but whoever cuts a kind
    parts many neighbours: candidates are ranked by `togetherness`. No labels are involved.
    Those that are nearly the same as one before them come last. With more than `MANY` clusters there are fewer
    candidates, down to a fourth: the time for each grows with their number.
    """
    h = encode(SAMPLE)
    x = F.normalize(h, dim=1)
    few = x[spaced(len(x), max(FITTED, 100 * k)).to(x.device)]
    restarts = max(count, 4 * count * MANY // max(k, MANY))
    found = kmeans(few, k, generator=generator, restarts=restarts, tolerance=SETTLED)
    found += [merged(few, k, generator) for _ in range(restarts // 2)]
    told = togetherness(torch.stack([partition.labels for partition in found]), few, k)
    ranked = [found[i] for i in told.argsort(descending=True, stable=True).tolist()]
    chosen: list[Partition] = []
    for one in ranked:  # the same partition is often found several times, with a few rows more or less
        if len(chosen) < count and all(likeness(one.labels, other.labels, k) < 0.97 for other in chosen):
            chosen.append(one)
    return h, [lloyd(x, one.centres, 1) for one in (chosen + ranked)[:count]]


def togetherness(labels: Tensor, x: Tensor, k: int) -> Tensor:
    """How well labellings keep neighbours together and yet tell images apart, (p,) in nats, in [0, log k].

    `labels`: (p, n) int64 in [0, k). `x`: (n, d), the features whose neighbours count, by cosine. The value is
    the mutual information between the cluster of an image and that of one of its m nearest, averaged over m =
    1, 2, 4, ... up to a tenth of an average cluster: merging two kinds costs entropy, cutting one costs
    agreement, for the cut goes through where images are dense. Near ones tell of details, far ones of shapes.
    """
    n = len(x)
    if n < 2:
        return torch.zeros(len(labels))
    scales = [1]
    while 2 * scales[-1] <= min(NEAR * n / k, MOST_NEAR, n - 1):
        scales.append(2 * scales[-1])
    near = torch.from_numpy(near_rows(x.float().cpu().numpy(), scales[-1])).to(labels.device)

    def told(row: Tensor) -> float:
        found = row[near]  # (n, m)
        return sum(information(row.repeat_interleave(m), found[:, :m].flatten(), k) for m in scales) / len(scales)

    return torch.tensor([told(row) for row in labels])


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
