"""Losses of several heads in one call are those of each head alone, and the short forms are the long ones."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ilk.losses import (
    CRITICS,
    bank_contrast,
    cluster_contrast,
    contrast,
    critic_scores,
    info_nce,
    logit_clamp,
    negative_marginal_entropy,
    nt_xent,
    others,
    probability_contrast,
    smoothed,
)

HEADS, N, K = 3, 7, 4
Loss = Callable[..., Tensor]


def rows(seed: int, n: int = N) -> Tensor:
    return torch.randn(HEADS, n, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logs(seed: int, n: int = N) -> Tensor:
    return (2 * rows(seed, n)).log_softmax(2)


def assert_as_alone(loss: Loss, *arguments: Tensor) -> None:
    """Value and gradients of one call equal those of a call for each head."""
    together = [x.clone().requires_grad_() for x in arguments]
    alone = [x.clone().requires_grad_() for x in arguments]
    found, expected = loss(*together), torch.stack([loss(*one) for one in zip(*alone, strict=True)])
    assert found.shape == expected.shape == (HEADS,)
    assert expected.detach().unique().numel() == HEADS  # heads that differ, or nothing is told apart
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    share = torch.arange(1.0, HEADS + 1, dtype=torch.float64)
    (share * found).sum().backward()
    (share * expected).sum().backward()
    for ours, theirs in zip(together, alone, strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-11, atol=1e-12)


def switches(**values: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(zip(values, one, strict=True)) for one in itertools.product(*values.values())]


BOTH = (True, False)
IGNORED = torch.rand(N, N, generator=torch.Generator().manual_seed(9)) < 0.3


@pytest.mark.parametrize(
    "given",
    switches(
        negatives=("both_views", "other_view"), include_positive=BOTH, symmetric=BOTH, normalize=BOTH,
        ignore=(None, IGNORED),
    ),
    ids=str,
)  # fmt: skip
def test_the_contrast_of_each_head_by_every_switch(given: dict[str, Any]) -> None:
    assert_as_alone(functools.partial(contrast, temperature=0.4, **given), rows(0), rows(1))


@pytest.mark.parametrize(
    "given",
    switches(negatives=("both_views", "other_view"), include_positive=BOTH, symmetric=BOTH, normalize=BOTH),
    ids=str,
)
def test_the_contrast_of_columns_of_each_head_by_every_switch(given: dict[str, Any]) -> None:
    assert_as_alone(functools.partial(cluster_contrast, temperature=0.4, **given), logs(0).exp(), logs(1).exp())


@pytest.mark.parametrize("included", BOTH)
@pytest.mark.parametrize("ignore", [None, IGNORED], ids=["all", "ignoring"])
def test_info_nce_and_nt_xent_of_each_head(ignore: Tensor | None, included: bool) -> None:
    assert_as_alone(lambda a, b: nt_xent(a, b, 0.3), rows(0), rows(1))
    square = rows(0) @ rows(1).mT
    given: dict[str, Any] = {"ignore": ignore, "include_positive": included}
    assert_as_alone(lambda cross: info_nce(cross, **given), square)
    assert_as_alone(lambda cross, own: info_nce(cross, own, **given), square, rows(2) @ rows(2).mT)


def test_the_entropy_of_each_head_with_a_prior_of_its_own_and_without() -> None:
    assert_as_alone(negative_marginal_entropy, logs(0))
    assert_as_alone(negative_marginal_entropy, logs(0), rows(1)[:, 0].softmax(1))


def test_the_clamp_of_each_head() -> None:
    assert_as_alone(lambda x: logit_clamp(x, 1.0), 3 * rows(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
@pytest.mark.parametrize("critic", CRITICS)
def test_the_contrasts_of_probabilities_of_each_head(critic: str, smoothing: float) -> None:
    assert_as_alone(lambda a, b: probability_contrast(a, b, critic, smoothing), logs(0), logs(1))
    bank, negatives = logs(1).exp(), logs(2, 11).exp()
    assert_as_alone(lambda q, own, far: bank_contrast(q, own, far, critic, smoothing), logs(0), bank, negatives)


def test_any_number_of_leading_dimensions() -> None:
    a, b = (torch.stack([rows(seed), rows(seed + 2)]) for seed in (0, 1))  # (2, heads, n, k)
    found = contrast(a, b, 0.5)
    assert found.shape == (2, HEADS)
    assert torch.allclose(found[1, 2], contrast(a[1, 2], b[1, 2], 0.5))


# the sums in the place of all pairs


def all_pairs(log_a: Tensor, log_b: Tensor, smoothing: float) -> Tensor:
    """`probability_contrast` with the scores of all pairs spelt out."""
    aa, bb, ab = (critic_scores(*x, "log_dot", smoothing) for x in ((log_a, log_a), (log_b, log_b), (log_a, log_b)))
    return (info_nce(ab, aa) + info_nce(ab.mT, bb)) / 2


@pytest.mark.parametrize("smoothing", [0.3, 0.01, 1e-6])
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_sums_give_what_all_pairs_give_in_float32(n: int, sharpness: float, smoothing: float) -> None:
    """A sure image alone in its cluster too, where a difference of sums would lose all digits."""
    inputs = [(sharpness * rows(seed, n)).log_softmax(2).float() for seed in (0, 1)]
    ours, theirs = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    found, expected = (
        probability_contrast(*ours, critic="log_dot", smoothing=smoothing),
        all_pairs(*theirs, smoothing=smoothing),
    )
    assert torch.allclose(found, expected, rtol=1e-5, atol=2e-6)
    found.sum().backward(), expected.sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_the_bank_by_sums_is_the_bank_by_all_pairs() -> None:
    log_q, own, negatives = logs(0), logs(1).exp(), logs(2, 11).exp()
    log_p, log_own, log_far = (smoothed(x, 0.01) for x in (log_q, own.log(), negatives.log()))
    scores = (
        log_p.exp()[:, :, None]
        * torch.cat([log_own.exp()[:, :, None], log_far.exp()[:, None].expand(-1, N, -1, -1)], 2)
    ).sum(3)
    expected = (scores.sum(2).log() - scores[..., 0].log()).mean(1)
    assert torch.allclose(bank_contrast(log_q, own, negatives, "log_dot", 0.01), expected)


def test_the_others_of_each_row_by_hand_without_cancellation() -> None:
    y = torch.tensor([[1.0, 1e9], [2.0, 1e-3], [4.0, 2e-3]])
    assert others(y).tolist() == [[6.0, pytest.approx(3e-3)], [5.0, 1e9], [3.0, 1e9]]
    assert others(y[:1]).tolist() == [[0.0, 0.0]]
