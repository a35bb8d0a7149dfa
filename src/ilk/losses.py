"""Every loss and regulariser, one function per equation: no state, no devices, no ranks, no settings.

Where shapes begin with `...`, several heads are computed at once, each as if it were alone.

All of them compute in at least float32, also inside a bf16 autocast: left in bf16, the gradient of
the contrast is off by 0.4 % at temperature 0.5 and by 1.6 % at 0.1.
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
    """`loss` with its half-precision tensor arguments widened to float32, outside any autocast."""

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
    """Mean cross entropy of picking row i's partner, candidate i, by its score.

    `cross`: (..., n, n) scores of each row against the rows of the other view, partners on the diagonal.
    `own`: (..., n, n) scores against the rows of its own view, which are negatives too; itself left out.
    `include_positive`: whether the partner stands in the denominator; without it the loss may be negative.
    `ignore`: (n, n) bool, pairs of `cross` (off the diagonal) that are no negatives.
    Returns (...,), a scalar for one matrix, in nats: the logarithm of the number of candidates when all scores
    are equal, that is log(2n - 1) with `own` and log n without, one candidate less without the positive, where n
    must be 2 or more.
    """
    if not include_positive and cross.shape[-1] < 2:
        raise ValueError("Without the positive in the denominator a single row has nothing to be told from; give two.")
    positive = cross.diagonal(dim1=-2, dim2=-1)  # (..., n)
    if ignore is not None:
        cross = cross.masked_fill(ignore & ~diagonal_of(cross), -torch.inf)
    if not include_positive:
        cross = without_diagonal(cross)
    candidates = cross if own is None else torch.cat([cross, without_diagonal(own)], -1)
    return (candidates.logsumexp(-1) - positive).mean(-1)


def without_diagonal(scores: Tensor) -> Tensor:
    return scores.masked_fill(diagonal_of(scores), -torch.inf)


def diagonal_of(scores: Tensor) -> Tensor:
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
    """Contrast of rows: row i of `a` should be like row i of `b` and unlike the other rows.

    `a`, `b`: (..., n, d), any scale, zero rows allowed. `negatives`: "both_views" (2n - 2 of them) or
    "other_view" (n - 1). `symmetric`: the rows of `b` are anchors too. `normalize`: rows are compared
    by their cosine; else by the raw dot product. `ignore`: see `info_nce`. Returns (...,).
    Rows of embeddings or assignments give the instance losses of CC, CRLC and DCDC.
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
    turned = None if ignore is None else ignore.T
    return (loss + info_nce(cross.mT, own[1], include_positive=include_positive, ignore=turned)) / 2


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Cross entropy of picking each row's partner among all other rows of both views.

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
    """Contrast of columns: a cluster, seen as its column over the batch, is like itself in the other view.

    `y_a`, `y_b`: (..., n, k) assignments of the two views. Returns (...,). Switches as in `contrast`.
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
    """How far the average assignment is from uniform: `log k - H(mean of y)`.

    `log_y`: (..., n, k), the logarithm of each image's assignment (log-softmax). `prior`: (..., k), shares of
    the clusters (positive, sum 1) in the place of equal ones; then the divergence KL(mean of y | prior).
    Returns (...,) in [0, log k]; 0 when the clusters share the batch equally, log k on collapse.
    Source: Li et al. 2021 (CC), eq. 6. Departures: the printed sign rewards collapse, the authors
    confirm the misprint; log k is added so that 0 is the best value, as in their code. Kept in log
    space, since `p log p` has a NaN gradient at a dead cluster (p = 0).
    """
    n, k = log_y.shape[-2:]
    log_p = torch.logsumexp(log_y, dim=-2) - math.log(n)  # (..., k)
    expected = -math.log(k) if prior is None else prior.log()
    return (log_p.exp() * (log_p - expected)).sum(-1)


@full_precision
def smoothed(log_p: Tensor, amount: float) -> Tensor:
    """The logarithm of `(1 - amount) p + amount / k`, row by row. `log_p`: (..., n, k). `amount`: in [0, 1)."""
    if amount == 0:
        return log_p
    floor = torch.full_like(log_p, math.log(amount / log_p.shape[-1]))
    return torch.logaddexp(log_p + math.log1p(-amount), floor)


CRITICS = ("log_dot", "dot", "neg_l2", "neg_jsd")


@full_precision
def critic_scores(log_p: Tensor, log_q: Tensor, critic: str, smoothing: float) -> Tensor:
    """How alike two assignments are, for all pairs, (..., n, m), by one of `CRITICS`.

    `log_p`: (..., n, k), `log_q`: (..., m, k), logarithms of assignments. `smoothing`: both are first
    mixed with that much of the uniform distribution.
    `log_dot`: log(p . q), the logarithm of the probability that both share a cluster; `dot`: p . q in
    [0, 1]; `neg_l2`: -|p - q|^2 in [-2, 0]; `neg_jsd`: minus the Jensen-Shannon divergence, in [-log 2, 0].
    Without smoothing `log_dot` is summed in log space: there log 0 never occurs, at (n, m, k) memory.
    Source: CRLC (Do et al. 2021), section 3.1; the other three from its released code.
    """
    log_p, log_q = smoothed(log_p, smoothing), smoothed(log_q, smoothing)
    if critic == "log_dot" and smoothing:  # no product is below smoothing^2 / k
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
    """Cross entropy of picking each image's other view among all assignments of both views, no temperature.

    `log_a`, `log_b`: (..., n, k). Returns (...,); with `log_dot` about log(2n/k - 1) where the views agree,
    are certain and fill the clusters equally, log(2n - 1) where all are alike; more where views conflict.
    Source: CRLC (Do et al. 2021), section 3.1, SimCLR form.
    """
    if critic == "log_dot" and smoothing:  # a sum of products with all candidates is one with their sum
        p, q = smoothed(log_a, smoothing).exp(), smoothed(log_b, smoothing).exp()
        candidates_p = (p * (others(p) + q.sum(-2, keepdim=True))).sum(-1)  # (..., n)
        candidates_q = (q * (others(q) + p.sum(-2, keepdim=True))).sum(-1)
        return ((candidates_p.log() + candidates_q.log()) / 2 - (p * q).sum(-1).log()).mean(-1)
    own_a, own_b = (critic_scores(x, x, critic, smoothing) for x in (log_a, log_b))
    cross = critic_scores(log_a, log_b, critic, smoothing)
    return (info_nce(cross, own_a) + info_nce(cross.mT, own_b)) / 2


def others(y: Tensor) -> Tensor:
    """For each row the sum of the other rows, (..., n, k); of the rows before and after, as differences cancel."""

    def before(rows: Tensor) -> Tensor:
        return F.pad(rows, (0, 0, 1, 0)).cumsum(-2)[..., :-1, :]

    return before(y) + before(y.flip(-2)).flip(-2)


@full_precision
def bank_contrast(
    log_q: Tensor, own: Tensor, negatives: Tensor, critic: str = "log_dot", smoothing: float = 0.01
) -> Tensor:
    """Cross entropy of picking an image's own row of the memory bank among rows drawn from the bank.

    `log_q`: (..., n, k) logarithms of assignments; `own`: (..., n, k) and `negatives`: (..., m, k)
    probabilities, both rows of the bank. Returns (...,); log(m + 1) while all rows of the bank are equal.
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
    """A pull on every logit outside [-bound, bound], whose gradient grows with how far it is outside.

    `logits`: (..., n, k). Returns (...,) >= 0, the sum over clusters of |logit| times the excess, averaged
    over images; the excess itself is not differentiated. Source: released code of CRLC.
    """
    excess = (logits - logits.clamp(-bound, bound)).detach()
    return (logits * excess).sum(-1).mean(-1)


@full_precision
def bank_scores(q: Tensor, bank: Tensor, temperature: float) -> Tensor:
    """How near each query is to each cluster's bank, (n, c): the logsumexp of cosine / temperature over its keys.

    `q`: (n, d) and `bank`: (c, r, d), rows of length 1. Both losses of SCL need only these sums: their
    softmax over clusters is the soft vote of the anchors, p~ (Huang and Gong 2021).
    """
    clusters, rows, _ = bank.shape
    return (q @ bank.flatten(0, 1).T / temperature).view(len(q), clusters, rows).logsumexp(2)


@full_precision
def semantic_contrast(q: Tensor, key: Tensor, scores: Tensor, labels: Tensor | None, temperature: float) -> Tensor:
    """The cross entropy of picking the own key among the keys of *other* clusters, one value an image, (n,).

    `q`, `key`: (n, d), rows of length 1. `scores`: (n, c) of `bank_scores`. `labels`: (n,) the cluster of
    each image, whose bank is left out; None: all banks are negatives (MoCo).
    Source: SCL (Huang and Gong 2021), cross-cluster instance discrimination.
    """
    positive = (q * key).sum(1) / temperature
    if labels is not None:
        scores = scores.scatter(1, labels[:, None], -torch.inf)
    return F.softplus(scores.logsumexp(1) - positive)


@full_precision
def soft_cross_entropy(log_p: Tensor, target: Tensor) -> Tensor:
    """Mean over rows of the cross entropy with a target distribution; both (n, k), no gradient to `target`."""
    return -(target.detach() * log_p).sum(1).mean()


@full_precision
def alignment(prediction: Tensor, target: Tensor) -> Tensor:
    """One minus the mean cosine of each row with its partner, in [0, 2]; no gradient to `target`.

    `prediction`, `target`: (n, d), any scale. Source: C2BIN (2021), eq. 1; BYOL's loss up to a factor of 2.
    """
    return 1 - F.cosine_similarity(prediction, target.detach(), dim=1).mean()
