"""The losses and the memory of SCL as the paper prints them, and ODC's merge-and-split: loops over plain numbers.

Sources: Huang, Gong. Deep Clustering by Semantic Contrastive Learning. BMVC 2022 (arXiv 2103.02662):
cross-cluster instance discrimination L_ID, soft vote p~, cluster discrimination L_CD, weights w. Zhan et
al. Online Deep Clustering. CVPR 2020, `deal_with_small_clusters` of the released code, which SCL takes
over. A small term is added to s, since w is 0 / 0 while no image has moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import exp, log, sqrt

Matrix = list[list[float]]


def cosine(u: list[float], v: list[float]) -> float:
    length = sqrt(sum(p * p for p in u)) * sqrt(sum(q * q for q in v))
    return sum(p * q for p, q in zip(u, v, strict=True)) / length


def instance_discrimination(
    q: list[float], key: list[float], banks: list[Matrix], label: int | None, tau: float
) -> float:
    """L_ID of one image: the banks of all clusters but its own are negatives; all, where `label` is None."""
    numerator = exp(cosine(q, key) / tau)
    denominator = numerator
    for j, bank in enumerate(banks):
        if j != label:
            for other in bank:
                denominator += exp(cosine(q, other) / tau)
    return -log(numerator / denominator)


def vote(q: list[float], banks: list[Matrix], tau: float) -> list[float]:
    """p~, the share of each cluster's anchors."""
    sums = [sum(exp(cosine(q, key) / tau) for key in bank) for bank in banks]
    return [part / sum(sums) for part in sums]


def cluster_discrimination(votes: Matrix, p: Matrix) -> float:
    """L_CD: mean cross entropy of the classifier's p with the votes."""
    total = 0.0
    for target, found in zip(votes, p, strict=True):
        total -= sum(a * log(b) for a, b in zip(target, found, strict=True))
    return total / len(votes)


def weights(moves: list[int]) -> list[float]:
    """w of a batch from s, the number of times that each image changed cluster."""
    return [(s + 1e-6) / sum(other + 1e-6 for other in moves) for s in moves]


def weighted_instance_discrimination(
    q: Matrix, keys: Matrix, banks: list[Matrix], labels: list[int], moves: list[int], tau: float
) -> float:
    """L_ID of a batch."""
    total = 0.0
    for i, w in enumerate(weights(moves)):
        total += w * instance_discrimination(q[i], keys[i], banks, labels[i], tau)
    return total


def enqueue(banks: list[deque[list[float]]], keys: Matrix, labels: list[int]) -> None:
    """M_y takes the key in and loses its oldest; the deques are of their full length."""
    for key, label in zip(keys, labels, strict=True):
        banks[label].popleft()
        banks[label].append(key)


def merge(x: Matrix, labels: list[int], k: int, min_size: int) -> tuple[list[int], list[int]]:
    """The labels once small clusters are dissolved, and which clusters those were."""
    members = [[i for i, label in enumerate(labels) if label == c] for c in range(k)]
    small = [c for c in range(k) if len(members[c]) < min_size]
    large = [c for c in range(k) if c not in small]
    found = list(labels)
    centroids = {c: [sum(x[i][t] for i in members[c]) / len(members[c]) for t in range(len(x[0]))] for c in large}
    for c in small:
        for i in members[c]:
            scores = [sum(p * q for p, q in zip(centroids[other], x[i], strict=True)) for other in large]
            found[i] = large[scores.index(max(scores))]
    return found, small


def merge_and_split(
    x: Matrix, labels: list[int], k: int, min_size: int, cut: Callable[[list[int]], list[bool]]
) -> list[int]:
    """Merge, then for each emptied cluster in turn cut the largest in two. `cut`: who leaves, of the images named."""
    sizes = [labels.count(c) for c in range(k)]
    if min(sizes) >= min_size or max(sizes) < min_size:
        return list(labels)
    found, emptied = merge(x, labels, k, min_size)
    for empty in emptied:
        sizes = [found.count(c) for c in range(k)]
        largest = sizes.index(max(sizes))
        members = [i for i, label in enumerate(found) if label == largest]
        for i, leaves in zip(members, cut(members), strict=True):
            if leaves:
                found[i] = empty
    return found
