"""All losses and regularisers, one function per equation; they depend on their arguments only.

Leading dimensions `...` are heads, which are computed independently.

All functions compute in float32 or wider, also inside bf16 autocast: in bf16, the gradient of the contrastive loss is
off by 0.4 % at temperature 0.5 and by 1.6 % at 0.1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "alignment",
    "bank_contrast",
    "bank_scores",
    "cluster_contrast",
    "contrast",
    "critic_scores",
    "info_nce",
    "logit_clamp",
    "negative_marginal_entropy",
    "nt_xent",
    "probability_contrast",
    "semantic_contrast",
    "smoothed",
    "soft_cross_entropy",
]

P = ParamSpec("P")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """`loss`, with half-precision tensor arguments converted to float32 and autocast turned off."""

    def widen(value: object) -> object:
        half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
        return value.float() if half else value  # type: ignore[attr-defined]  # only tensors are half

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(widen, args), **{name: widen(value) for name, value in kwargs.items()})  # type: ignore[arg-type]

    return wrapped


@full_precision
def info_nce(
    cross: Tensor, own: Tensor | None = None, *, include_positive: bool = True, ignore: Tensor | None = None
) -> Tensor:
    """Mean cross entropy of picking the partner of each row among the candidates, by their scores.

    mean_i( log sum_j exp(s_ij) - s_ii ), the sum over all candidates j of row i
    `cross`: (..., n, n) scores of each row against the rows of the other view; partners are on the diagonal.
    `own`: (..., n, n) scores against the rows of the same view, which are negatives too; its diagonal is not used.
    `include_positive`: whether the partner is in the denominator; without it the loss may be negative.
    `ignore`: (n, n) bool, pairs of `cross`, except those on the diagonal, that are not negatives.
    Returns (...,), in nats: the logarithm of the number of candidates if all scores are equal, so log(2n - 1) with
    `own`, log n without, and one candidate less without the positive.
    Raises ValueError for n < 2 without the positive.
    """
    if not include_positive and cross.shape[-1] < 2:
        raise ValueError("Without the positive in the denominator a single row has no candidates; give two or more.")
    positive = cross.diagonal(dim1=-2, dim2=-1)  # (..., n)
    if ignore is not None:
        cross = cross.masked_fill(ignore & ~diagonal_of(cross), -torch.inf)
    if not include_positive:
        cross = without_diagonal(cross)
    candidates = cross if own is None else torch.cat([cross, without_diagonal(own)], -1)
    return (candidates.logsumexp(-1) - positive).mean(-1)


def without_diagonal(scores: Tensor) -> Tensor:
    """`scores`, (..., n, n), with -inf on the diagonal."""
    return scores.masked_fill(diagonal_of(scores), -torch.inf)


def diagonal_of(scores: Tensor) -> Tensor:
    """The mask of the diagonal, (n, n) bool."""
    return torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)


@full_precision
def contrast(
    a: Tensor,
    b: Tensor,
    temperature: float,
    *,
    negatives: str = "both_views",
    include_positive: bool = True,
    symmetric: bool = True,
    normalize: bool = True,
    ignore: Tensor | None = None,
) -> Tensor:
    """Contrastive loss of rows: row i of `a` should be similar to row i of `b` and dissimilar to all other rows.

    `info_nce` of the similarities of the rows, divided by the temperature.
    `a`, `b`: (..., n, d), any scale, zero rows allowed. `negatives`: "both_views" (2n - 2 per row) or "other_view"
    (n - 1). `symmetric`: the mean of the losses with the rows of `a` and with those of `b` as anchors, else the first.
    `normalize`: compare rows by cosine, else by dot product. `ignore`: see `info_nce`. Returns (...,), in nats.
    With rows of embeddings or assignments, this is the instance loss of CC, CRLC and DCDC.
    """
    if negatives not in ("both_views", "other_view"):
        raise ValueError(f"negatives must be both_views or other_view; got '{negatives}'.")
    if normalize:
        a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    cross = a @ b.mT / temperature
    own = [x @ x.mT / temperature if negatives == "both_views" else None for x in (a, b)]
    loss = info_nce(cross, own[0], include_positive=include_positive, ignore=ignore)
    if not symmetric:
        return loss
    ignore_b = None if ignore is None else ignore.T
    return (loss + info_nce(cross.mT, own[1], include_positive=include_positive, ignore=ignore_b)) / 2


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Cross entropy of picking each row's partner among all other rows of both views.

    mean_i -log( exp(s_ii'/t) / sum_{j != i} exp(s_ij/t) ), s = cosine similarity
    `a`, `b`: (..., n, d), row i of one is the partner of row i of the other; any scale, zero rows allowed.
    Returns (...,) >= 0, in nats; `log(2n - 1)` when all rows are equal.
    Source: Li et al. 2021 (CC), eq. 1-3. Departure: eq. 2 as printed counts a row as its own negative;
    the text and the authors' code do not, and we follow those.
    """
    return contrast(a, b, temperature)


def cluster_contrast(
    y_a: Tensor,
    y_b: Tensor,
    temperature: float,
    *,
    negatives: str = "both_views",
    include_positive: bool = True,
    symmetric: bool = True,
    normalize: bool = True,
) -> Tensor:
    """Contrastive loss of columns: each cluster's column should be similar to its column in the other view.

    `contrast` of the transposed assignments, so clusters take the place of images.
    `y_a`, `y_b`: (..., n, k) assignments of the two views. Returns (...,), in nats. Options as in `contrast`.
    Source: CC (Li et al. 2021), eq. 4-6, with the defaults; DCDC (Dang et al. 2021), class view, with
    `negatives="other_view", symmetric=False`; C2BIN (2021), eq. 4, with `negatives="other_view",
    include_positive=False`, and with `normalize=False` as its formula is printed.
    """
    return contrast(
        y_a.mT, y_b.mT, temperature, negatives=negatives, include_positive=include_positive, symmetric=symmetric,
        normalize=normalize,
    )  # fmt: skip


@full_precision
def negative_marginal_entropy(log_y: Tensor, prior: Tensor | None = None) -> Tensor:
    """The distance of the mean assignment from the uniform distribution: `log k - H(mean of y)`.

    `log_y`: (..., n, k), log-probabilities (log-softmax) of each image. `prior`: (..., k), positive shares of the
    clusters, sum 1, instead of equal shares; the value is then the divergence KL(mean of y | prior).
    Returns (...,), in nats; without `prior` in [0, log k]: 0 if all clusters have an equal share of the batch, log k
    if all images are in one cluster.
    Source: Li et al. 2021 (CC), eq. 6. Departures: the sign as printed rewards collapse, a misprint that the authors
    confirmed; log k is added so that the best value is 0, as in their code. Computed in log space, since `p log p`
    has a NaN gradient for an empty cluster (p = 0).
    """
    n, k = log_y.shape[-2:]
    log_p = torch.logsumexp(log_y, dim=-2) - math.log(n)  # (..., k)
    expected = -math.log(k) if prior is None else prior.log()
    return (log_p.exp() * (log_p - expected)).sum(-1)


@full_precision
def smoothed(log_p: Tensor, amount: float) -> Tensor:
    """The logarithm of `(1 - amount) p + amount / k`, (..., n, k), `log_p`: log-probabilities, `amount`: in [0, 1)."""
    if amount == 0:
        return log_p
    floor = torch.full_like(log_p, math.log(amount / log_p.shape[-1]))
    return torch.logaddexp(log_p + math.log1p(-amount), floor)


CRITICS = ("log_dot", "dot", "neg_l2", "neg_jsd")


@full_precision
def critic_scores(log_p: Tensor, log_q: Tensor, critic: str, smoothing: float) -> Tensor:
    """The similarity of all pairs of assignments, (..., n, m), by one of `CRITICS`.

    `log_p`: (..., n, k), `log_q`: (..., m, k), log-probabilities. `smoothing`: the share of the uniform distribution
    that is mixed into both first.
    `log_dot`: log(p . q), the log-probability that both are in the same cluster; `dot`: p . q, in [0, 1];
    `neg_l2`: -|p - q|^2, in [-2, 0]; `neg_jsd`: minus the Jensen-Shannon divergence, in [-log 2, 0].
    Without smoothing, `log_dot` is computed in log space, which avoids log 0 but needs memory for n x m x k numbers.
    Raises ValueError for an unknown critic.
    Source: CRLC (Do et al. 2021), section 3.1, for `log_dot`; its released code for the other three.
    """
    log_p, log_q = smoothed(log_p, smoothing), smoothed(log_q, smoothing)
    if critic == "log_dot" and smoothing:  # then p . q is never 0
        return (log_p.exp() @ log_q.exp().mT).log()
    if critic == "log_dot":
        return (log_p[..., :, None, :] + log_q[..., None, :, :]).logsumexp(-1)
    if critic == "dot":
        return log_p.exp() @ log_q.exp().mT
    if critic == "neg_l2":
        p, q = log_p.exp(), log_q.exp()
        return 2 * p @ q.mT - p.square().sum(-1)[..., :, None] - q.square().sum(-1)[..., None, :]
    if critic == "neg_jsd":
        log_p, log_q = log_p[..., :, None, :], log_q[..., None, :, :]
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        return -(log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(-1) / 2
    raise ValueError(f"Unknown critic '{critic}'. Use {', '.join(CRITICS)}.")


@full_precision
def probability_contrast(log_a: Tensor, log_b: Tensor, critic: str = "log_dot", smoothing: float = 0.01) -> Tensor:
    """Cross entropy of picking each image's other view among all assignments of both views, without temperature.

    `info_nce` with `critic_scores` as scores.
    `log_a`, `log_b`: (..., n, k) log-probabilities. Returns (...,), in nats; with `log_dot` it is about
    log(2n/k - 1) if the views agree, are certain and fill all clusters equally, log(2n - 1) if all assignments are
    equal, and more if the views of an image disagree.
    Source: CRLC (Do et al. 2021), section 3.1, SimCLR form.
    """
    if critic == "log_dot" and smoothing:  # the sum of dot products is the dot product with the sum
        p, q = smoothed(log_a, smoothing).exp(), smoothed(log_b, smoothing).exp()
        candidates_p = (p * (others(p) + q.sum(-2, keepdim=True))).sum(-1)  # (..., n)
        candidates_q = (q * (others(q) + p.sum(-2, keepdim=True))).sum(-1)
        return ((candidates_p.log() + candidates_q.log()) / 2 - (p * q).sum(-1).log()).mean(-1)
    own_a, own_b = (critic_scores(x, x, critic, smoothing) for x in (log_a, log_b))
    cross = critic_scores(log_a, log_b, critic, smoothing)
    return (info_nce(cross, own_a) + info_nce(cross.mT, own_b)) / 2


def others(y: Tensor) -> Tensor:
    """For each row of `y` the sum of all other rows, (..., n, k).

    Rows before and rows after are summed separately, since the total minus the row would cancel digits.
    """

    def sum_before(rows: Tensor) -> Tensor:
        return F.pad(rows, (0, 0, 1, 0)).cumsum(-2)[..., :-1, :]

    return sum_before(y) + sum_before(y.flip(-2)).flip(-2)


@full_precision
def bank_contrast(
    log_q: Tensor, own: Tensor, negatives: Tensor, critic: str = "log_dot", smoothing: float = 0.01
) -> Tensor:
    """Cross entropy of picking an image's own row of the memory bank among it and random rows of the bank.

    `log_q`: (..., n, k) log-probabilities. `own`: (..., n, k), the row of each image, and `negatives`: (..., m, k),
    the random rows; both are probabilities. Returns (...,), in nats; log(m + 1) while all rows of the bank are equal.
    Source: CRLC (Do et al. 2021), eq. 10.
    """
    log_own, log_negatives = (x.clamp_min(1e-30).log() for x in (own, negatives))
    if critic == "log_dot" and smoothing:  # as in `probability_contrast`
        q, positives, rest = (smoothed(x, smoothing).exp() for x in (log_q, log_own, log_negatives))
        candidates = (q * (positives + rest.sum(-2, keepdim=True))).sum(-1)  # (..., n)
        return (candidates.log() - (q * positives).sum(-1).log()).mean(-1)
    positive = critic_scores(log_q[..., None, :], log_own[..., None, :], critic, smoothing)[..., 0]  # (..., n, 1)
    scores = torch.cat([positive, critic_scores(log_q, log_negatives, critic, smoothing)], -1)  # (..., n, 1 + m)
    return (scores.logsumexp(-1) - positive[..., 0]).mean(-1)


@full_precision
def logit_clamp(logits: Tensor, bound: float) -> Tensor:
    """A penalty on logits outside [-bound, bound], whose gradient is proportional to the excess.

    mean_i sum_j logit_ij * excess_ij, excess = logit - clamp(logit, -bound, bound), without gradient
    `logits`: (..., n, k). Returns (...,) >= 0. Source: released code of CRLC.
    """
    excess = (logits - logits.clamp(-bound, bound)).detach()
    return (logits * excess).sum(-1).mean(-1)


@full_precision
def bank_scores(q: Tensor, bank: Tensor, temperature: float) -> Tensor:
    """The score of each query for each cluster, (n, c): logsumexp over the cluster's keys of cosine / temperature.

    `q`: (n, d) and `bank`: (c, r, d) with r keys per cluster, rows of length 1. Both losses of SCL use only these
    scores; their softmax over clusters is the soft vote of the anchors, p~ (Huang and Gong 2021).
    """
    clusters, rows, _ = bank.shape
    return (q @ bank.flatten(0, 1).T / temperature).view(len(q), clusters, rows).logsumexp(2)


@full_precision
def semantic_contrast(q: Tensor, key: Tensor, scores: Tensor, labels: Tensor | None, temperature: float) -> Tensor:
    """Cross entropy of picking an image's own key among it and the keys of all *other* clusters, (n,), in nats.

    `q`, `key`: (n, d), rows of length 1. `scores`: (n, c) from `bank_scores`. `labels`: (n,) the cluster of each
    image, whose keys are left out; None: the keys of all clusters are negatives (MoCo).
    Source: SCL (Huang and Gong 2021), cross-cluster instance discrimination.
    """
    positive = (q * key).sum(1) / temperature
    if labels is not None:
        scores = scores.scatter(1, labels[:, None], -torch.inf)
    return F.softplus(scores.logsumexp(1) - positive)


@full_precision
def soft_cross_entropy(log_p: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of each row with its target distribution, a scalar in nats; no gradient to `target`.

    `log_p`: (n, k) log-probabilities. `target`: (n, k) probabilities.
    """
    return -(target.detach() * log_p).sum(1).mean()


@full_precision
def alignment(prediction: Tensor, target: Tensor) -> Tensor:
    """One minus the mean cosine of each row with its partner, a scalar in [0, 2]; no gradient to `target`.

    `prediction`, `target`: (n, d), any scale. Source: C2BIN (2021), eq. 1; half of BYOL's loss.
    """
    return 1 - F.cosine_similarity(prediction, target.detach(), dim=1).mean()
