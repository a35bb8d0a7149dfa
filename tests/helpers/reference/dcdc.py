"""The losses of DCDC as the paper prints them: loops over plain numbers, nothing clever.

Source: Dang et al. Doubly Contrastive Deep Clustering. 2021, sample
view, class view and their sum; one direction, from the original images to the perturbed ones. The
entropy term is in the authors' code only, the mask of other perturbations of the same image is ours.
"""

from __future__ import annotations

from math import exp, log, sqrt

Matrix = list[list[float]]


def cosine(u: list[float], v: list[float]) -> float:
    """0 for a vector of zeros."""
    length = sqrt(sum(p * p for p in u)) * sqrt(sum(q * q for q in v))
    return sum(p * q for p, q in zip(u, v, strict=True)) / length if length > 0 else 0.0


def repeated(u: Matrix, times: int) -> Matrix:
    """All images, then all images again, and so on: the order of the perturbed ones."""
    return [list(row) for _ in range(times) for row in u]


def sample_view(u: Matrix, perturbed: Matrix, tau: float, mask_same_image: bool = False) -> float:
    """`u`: B rows; `perturbed`: r B rows, each image's perturbations B rows apart."""
    images, n = len(u), len(perturbed)
    originals = repeated(u, n // images)
    total = 0.0
    for i in range(n):
        denominator = 0.0
        for j in range(n):
            if mask_same_image and j != i and j % images == i % images:
                continue
            denominator += exp(cosine(originals[i], perturbed[j]) / tau)
        total += -log(exp(cosine(originals[i], perturbed[i]) / tau) / denominator)
    return total / n


def columns(u: Matrix) -> Matrix:
    return [[row[k] for row in u] for k in range(len(u[0]))]


def class_view(u: Matrix, perturbed: Matrix, tau: float) -> float:
    originals, others = columns(repeated(u, len(perturbed) // len(u))), columns(perturbed)
    clusters = len(originals)
    total = 0.0
    for k in range(clusters):
        denominator = sum(exp(cosine(originals[k], others[m]) / tau) for m in range(clusters))
        total += -log(exp(cosine(originals[k], others[k]) / tau) / denominator)
    return total / clusters


def entropy_term(u: Matrix) -> float:
    """log K - H of the mean row of the originals; 0 log 0 is 0."""
    total = log(len(u[0]))
    for column in columns(u):
        p = sum(column) / len(u)
        if p > 0:
            total += p * log(p)
    return total


def whole_loss(u: Matrix, perturbed: Matrix, tau: float, entropy_weight: float) -> float:
    return sample_view(u, perturbed, tau) + class_view(u, perturbed, tau) + entropy_weight * entropy_term(u)
