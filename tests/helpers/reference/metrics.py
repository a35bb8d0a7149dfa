"""Scores of a clustering by trying everything: only for a handful of clusters."""

from __future__ import annotations

from itertools import permutations
from math import log, sqrt


def most_agreements(labels: list[int], clusters: list[int]) -> int:
    """The most images that any one-to-one naming of clusters by labels can get right."""
    names, found = sorted(set(labels)), sorted(set(clusters))
    names += [-1 - i for i in range(max(0, len(found) - len(names)))]  # names that no image carries
    best = 0
    for chosen in permutations(names, len(found)):
        naming = dict(zip(found, chosen, strict=True))
        best = max(best, sum(naming[c] == y for y, c in zip(labels, clusters, strict=True)))
    return best


def accuracy(labels: list[int], clusters: list[int]) -> float:
    return most_agreements(labels, clusters) / len(labels)


def purity(labels: list[int], clusters: list[int]) -> float:
    """Each cluster gives all its images its commonest label."""
    right = 0
    for cluster in set(clusters):
        inside = [y for y, c in zip(labels, clusters, strict=True) if c == cluster]
        right += max(inside.count(y) for y in set(inside))
    return right / len(labels)


def entropy(codes: list[int]) -> float:
    n = len(codes)
    return -sum(codes.count(code) / n * log(codes.count(code) / n) for code in set(codes))


def mutual_information(labels: list[int], clusters: list[int]) -> float:
    n, total = len(labels), 0.0
    pairs = list(zip(labels, clusters, strict=True))
    for y, c in set(pairs):
        joint = pairs.count((y, c)) / n
        total += joint * log(joint * n * n / (labels.count(y) * clusters.count(c)))
    return total


def nmi(labels: list[int], clusters: list[int], average: str) -> float:
    a, b = entropy(labels), entropy(clusters)
    return mutual_information(labels, clusters) / ((a + b) / 2 if average == "arithmetic" else sqrt(a * b))


def ari(labels: list[int], clusters: list[int]) -> float:
    """Hubert and Arabie 1985 by counting pairs of images."""
    n = len(labels)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    both = sum(labels[i] == labels[j] and clusters[i] == clusters[j] for i, j in pairs)
    one = sum(labels[i] == labels[j] for i, j in pairs)
    other = sum(clusters[i] == clusters[j] for i, j in pairs)
    chance = one * other / len(pairs)
    return (both - chance) / ((one + other) / 2 - chance)
