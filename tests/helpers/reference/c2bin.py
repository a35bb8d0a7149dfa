"""The losses of C2BIN as the paper prints them: loops over plain numbers, nothing clever.

Source: Contrasting Clusters while Bootstrapping Instances, anonymous submission to ICLR 2021, equations
1 and 4. The print leaves open whether vectors are compared by cosine, and its entropy lacks a 1 / n.
"""

from __future__ import annotations

from math import exp, log, sqrt

Matrix = list[list[float]]


def dot(u: list[float], v: list[float]) -> float:
    return sum(p * q for p, q in zip(u, v, strict=True))


def unit(u: list[float]) -> list[float]:
    """u over its length; zeros stay zeros."""
    length = sqrt(dot(u, u))
    return [p / length for p in u] if length > 0 else list(u)


def alignment(prediction: Matrix, target: Matrix) -> float:
    """Eq. 1, mean over the batch."""
    total = 0.0
    for p, z in zip(prediction, target, strict=True):
        total += 1 - dot(unit(p), unit(z))
    return total / len(prediction)


def assignment_vectors(y: Matrix) -> Matrix:
    """c_i: the column of cluster i over the batch."""
    return [[row[i] for row in y] for i in range(len(y[0]))]


def batch_contrast(
    y_1: Matrix, y_2: Matrix, tau: float, *, include_positive: bool = False, normalize: bool = True
) -> float:
    """Eq. 4, L_bca, one direction: c'_i should be like c''_i and unlike every other c''_j."""
    c_1, c_2 = assignment_vectors(y_1), assignment_vectors(y_2)
    if normalize:
        c_1, c_2 = [unit(c) for c in c_1], [unit(c) for c in c_2]
    k = len(c_1)
    total = 0.0
    for i in range(k):
        denominator = 0.0
        for j in range(k):
            if j != i or include_positive:
                denominator += exp(dot(c_1[i], c_2[j]) / tau)
        total += -log(exp(dot(c_1[i], c_2[i]) / tau) / denominator)
    return total / k


def entropy(y: Matrix) -> float:
    """H(s), s the mean of each assignment vector; 0 log 0 is 0."""
    shares = [sum(c) / len(c) for c in assignment_vectors(y)]
    return -sum(s * log(s) for s in shares if s > 0)


def cluster_loss(y_1: Matrix, y_2: Matrix, tau: float, entropy_weight: float) -> float:
    """L_clust of one predictor: L_bca in both directions, averaged, less the mean entropy of both views."""
    both = (batch_contrast(y_1, y_2, tau) + batch_contrast(y_2, y_1, tau)) / 2
    return both - entropy_weight * (entropy(y_1) + entropy(y_2)) / 2
