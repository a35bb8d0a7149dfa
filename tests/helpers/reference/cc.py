"""The losses of Contrastive Clustering as the paper prints them: loops over plain numbers, nothing clever.

Source: Li, Hu, Liu, Peng, Zhou, Peng. Contrastive Clustering. AAAI 2021, equations 1-7. Read as the
text and the authors' code have it where the print differs: the sums of eq. 2 and 5 leave a row's
comparison with itself out, and eq. 6 is log C minus the entropy of each view.
"""

from __future__ import annotations

from math import exp, log, sqrt

Matrix = list[list[float]]


def cosine(u: list[float], v: list[float]) -> float:
    """Eq. 1 and 4; 0 for a vector of zeros."""
    length = sqrt(sum(p * p for p in u)) * sqrt(sum(q * q for q in v))
    return sum(p * q for p, q in zip(u, v, strict=True)) / length if length > 0 else 0.0


def loss_of_one(own: Matrix, other: Matrix, i: int, temperature: float) -> float:
    """Eq. 2 and 5: l_i of row i of the view `own`, whose partner is row i of `other`."""
    numerator = exp(cosine(own[i], other[i]) / temperature)
    denominator = 0.0
    for j in range(len(own)):
        if j != i:
            denominator += exp(cosine(own[i], own[j]) / temperature)
        denominator += exp(cosine(own[i], other[j]) / temperature)
    return -log(numerator / denominator)


def instance_loss(z_a: Matrix, z_b: Matrix, temperature: float) -> float:
    """Eq. 3: the mean over the 2N rows of both views."""
    total = 0.0
    for i in range(len(z_a)):
        total += loss_of_one(z_a, z_b, i, temperature) + loss_of_one(z_b, z_a, i, temperature)
    return total / (2 * len(z_a))


def columns(y: Matrix) -> Matrix:
    return [[row[i] for row in y] for i in range(len(y[0]))]


def cluster_loss(y_a: Matrix, y_b: Matrix, temperature: float) -> float:
    """The first part of eq. 6: the mean over the 2M columns of both views."""
    c_a, c_b = columns(y_a), columns(y_b)
    total = 0.0
    for i in range(len(c_a)):
        total += loss_of_one(c_a, c_b, i, temperature) + loss_of_one(c_b, c_a, i, temperature)
    return total / (2 * len(c_a))


def entropy_term(y: Matrix) -> float:
    """The second part of eq. 6 for one view: log C - H(Y), with P(y_i) the share of cluster i; 0 log 0 is 0."""
    whole = sum(sum(row) for row in y)
    total = log(len(y[0]))
    for column in columns(y):
        p = sum(column) / whole
        if p > 0:
            total += p * log(p)
    return total


def whole_loss(z_a: Matrix, z_b: Matrix, y_a: Matrix, y_b: Matrix, tau_i: float, tau_c: float) -> float:
    """Eq. 7."""
    return instance_loss(z_a, z_b, tau_i) + cluster_loss(y_a, y_b, tau_c) + entropy_term(y_a) + entropy_term(y_b)
