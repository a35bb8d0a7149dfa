"""The losses of CRLC as the paper prints them: loops over plain numbers, nothing clever.

Source: Do, Tran, Venkatesh. Clustering by Maximizing Mutual Information Across Views. ICCV 2021,
section 3.1, equations 8 and 10. The critics besides log(p . q), the smoothing, and the pull on
logits are read from the code that its authors released; so is that a row is never compared with itself.
"""

from __future__ import annotations

from math import exp, log

Matrix = list[list[float]]


def mixed(p: list[float], gamma: float) -> list[float]:
    """(1 - gamma) p + gamma / C."""
    return [(1 - gamma) * value + gamma / len(p) for value in p]


def divergence(p: list[float], q: list[float]) -> float:
    """Kullback and Leibler's, with 0 log 0 = 0."""
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def critic(p: list[float], q: list[float], name: str) -> float:
    """f(p, q), how alike two distributions are."""
    if name == "log_dot":
        return log(sum(a * b for a, b in zip(p, q, strict=True)))
    if name == "dot":
        return sum(a * b for a, b in zip(p, q, strict=True))
    if name == "neg_l2":
        return -sum((a - b) ** 2 for a, b in zip(p, q, strict=True))
    if name == "neg_jsd":
        middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        return -(divergence(p, middle) + divergence(q, middle)) / 2
    raise KeyError(name)


def probability_contrast(q_1: Matrix, q_2: Matrix, name: str, gamma: float) -> float:
    """L_PC over the 2N rows of both views: no temperature, the row itself left out."""
    n = len(q_1)
    p = [mixed(row, gamma) for row in q_1] + [mixed(row, gamma) for row in q_2]
    total = 0.0
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        denominator = 0.0
        for k in range(2 * n):
            if k != i:
                denominator += exp(critic(p[i], p[k], name))
        total += -log(exp(critic(p[i], p[partner], name)) / denominator)
    return total / (2 * n)


def bank_contrast(q: Matrix, own: Matrix, negatives: Matrix, name: str, gamma: float) -> float:
    """Eq. 10: each row against its own row of the memory bank, which is in the denominator, and drawn ones."""
    total = 0.0
    for row, positive in zip(q, own, strict=True):
        p = mixed(row, gamma)
        numerator = exp(critic(p, mixed(positive, gamma), name))
        denominator = numerator
        for negative in negatives:
            denominator += exp(critic(p, mixed(negative, gamma), name))
        total += -log(numerator / denominator)
    return total / len(q)


def bank_row(row: list[float], q: list[float], alpha: float) -> list[float]:
    """M_n <- alpha M_n + (1 - alpha) q_n."""
    return [alpha * old + (1 - alpha) * new for old, new in zip(row, q, strict=True)]


def marginal_entropy(q: Matrix) -> float:
    """H of the mean row of one view, unsmoothed."""
    total = 0.0
    for c in range(len(q[0])):
        p = sum(row[c] for row in q) / len(q)
        if p > 0:
            total -= p * log(p)
    return total


def mean_marginal_entropy(q_1: Matrix, q_2: Matrix) -> float:
    return (marginal_entropy(q_1) + marginal_entropy(q_2)) / 2


def clamp(logits: Matrix, bound: float) -> float:
    """L_clamp of one view; its second factors are constants to the gradient."""
    total = 0.0
    for row in logits:
        for value in row:
            total += value * min(value + bound, 0.0) + value * max(value - bound, 0.0)
    return total / len(logits)


def clamp_gradient(logits: Matrix, bound: float) -> Matrix:
    return [[(min(v + bound, 0.0) + max(v - bound, 0.0)) / len(logits) for v in row] for row in logits]
