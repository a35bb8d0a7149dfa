"""Every loss: by hand, against the slow transcription of the paper, by identities, and at its edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ilk.losses import (
    CRITICS,
    alignment,
    bank_contrast,
    bank_scores,
    cluster_contrast,
    contrast,
    critic_scores,
    info_nce,
    logit_clamp,
    negative_marginal_entropy,
    nt_xent,
    probability_contrast,
    semantic_contrast,
    smoothed,
    soft_cross_entropy,
)
from reference import c2bin, crlc, dcdc, scl
from reference import cc as slow

Loss = Callable[..., Tensor]


def rows(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(n: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return rows(n, d, 1, dtype), rows(n, d, 2, dtype)


def soft(n: int, k: int, seed: int = 0) -> Tensor:
    return (2 * rows(n, k, seed)).softmax(1)


def one_hot(n: int, k: int) -> Tensor:
    return torch.eye(k, dtype=torch.float64)[torch.arange(n) % k]


# nt_xent: values worked by hand


@pytest.mark.parametrize(("k", "printed"), [(10, 2.0310), (20, 2.7067), (200, 4.9933)])
def test_contrast_of_perfect_clusters_is_the_known_floor(k: int, printed: float) -> None:
    """Each of 2k columns meets its partner at cosine 1 and 2k - 2 others at 0."""
    y = one_hot(2 * k, k)
    value = nt_xent(y.T, y.T, 1.0).item()
    assert value == pytest.approx(-1 + math.log(math.e + 2 * k - 2), abs=1e-12)
    assert value == pytest.approx(printed, abs=5e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("n", [2, 3, 17])
def test_contrast_of_equal_rows_is_log_of_the_number_of_others(n: int, temperature: float) -> None:
    same = torch.ones(n, 4, dtype=torch.float64)
    assert nt_xent(same, same, temperature).item() == pytest.approx(math.log(2 * n - 1), abs=1e-12)


def test_contrast_of_two_images_by_hand() -> None:
    """Views agree, images at a right angle, temperature 0.5: log((e^2 + 2) / e^2)."""
    z = torch.eye(2, dtype=torch.float64)
    assert nt_xent(z, z, 0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)), abs=1e-12)


def test_contrast_of_swapped_partners_by_hand() -> None:
    """Each row's partner is at a right angle and one wrong row at cosine 1."""
    z = torch.eye(2, dtype=torch.float64)
    assert nt_xent(z, z.flip(0), 1.0).item() == pytest.approx(math.log(math.e + 2), abs=1e-12)


# negative_marginal_entropy: values worked by hand


def test_entropy_term_is_zero_when_clusters_share_the_batch_equally() -> None:
    for y in (torch.full((8, 4), 0.25, dtype=torch.float64), one_hot(8, 4).clamp_min(1e-300)):
        assert negative_marginal_entropy(y.log()).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("k", [2, 10, 200])
def test_entropy_term_is_log_k_on_collapse(k: int) -> None:
    logits = torch.zeros(6, k, dtype=torch.float64)
    logits[:, 0] = 1000
    assert negative_marginal_entropy(logits.log_softmax(1)).item() == pytest.approx(math.log(k), abs=1e-12)


def test_entropy_term_has_the_value_the_authors_worked_out() -> None:
    y = torch.tensor([[0.98, 0.01, 0.01]] * 5, dtype=torch.float64)
    assert 2 * negative_marginal_entropy(y.log()).item() == pytest.approx(1.9734, abs=5e-5)


def test_entropy_term_of_two_unequal_clusters_by_hand() -> None:
    y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).clamp_min(1e-300)
    by_hand = math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert negative_marginal_entropy(y.log()).item() == pytest.approx(by_hand, abs=1e-12)


# against the transcription


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 2), (5, 3), (12, 16)])
def test_contrast_of_rows_equals_the_transcription(n: int, d: int, temperature: float) -> None:
    a, b = pair(n, d)
    expected = slow.instance_loss(a.tolist(), b.tolist(), temperature)
    assert nt_xent(a, b, temperature).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(1, 3), (7, 2), (12, 5), (3, 9)])
def test_contrast_of_columns_equals_the_transcription(n: int, k: int) -> None:
    a, b = soft(n, k, 1), soft(n, k, 2)
    expected = slow.cluster_loss(a.tolist(), b.tolist(), 1.0)
    assert nt_xent(a.T, b.T, 1.0).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(1, 3), (7, 2), (12, 5), (3, 9)])
def test_entropy_term_equals_the_transcription(n: int, k: int) -> None:
    y = soft(n, k)
    assert negative_marginal_entropy(y.log()).item() == pytest.approx(slow.entropy_term(y.tolist()), abs=1e-12)


# identities


def test_contrast_does_not_care_which_view_comes_first() -> None:
    a, b = pair(9, 4)
    assert nt_xent(a, b, 0.5).item() == pytest.approx(nt_xent(b, a, 0.5).item(), abs=1e-12)


def test_contrast_does_not_care_for_the_order_of_images() -> None:
    a, b = pair(9, 4)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert nt_xent(a[order], b[order], 0.5).item() == pytest.approx(nt_xent(a, b, 0.5).item(), abs=1e-12)


def test_contrast_cares_who_the_partner_is() -> None:
    a = rows(9, 4)
    assert nt_xent(a, a.roll(1, 0), 0.5) > nt_xent(a, a, 0.5) + 0.1


def test_contrast_does_not_care_for_the_length_of_rows() -> None:
    a, b = pair(9, 4)
    scale = torch.linspace(1e-6, 1e6, 9, dtype=torch.float64)[:, None]
    assert nt_xent(a * scale, b * scale.flip(0), 0.5).item() == pytest.approx(nt_xent(a, b, 0.5).item(), abs=1e-12)


def test_renaming_clusters_changes_neither_cluster_term() -> None:
    a, b = soft(9, 5, 1), soft(9, 5, 2)
    names = torch.tensor([3, 0, 4, 1, 2])
    assert nt_xent(a[:, names].T, b[:, names].T, 1.0).item() == pytest.approx(nt_xent(a.T, b.T, 1.0).item(), abs=1e-12)
    renamed, kept = negative_marginal_entropy(a[:, names].log()), negative_marginal_entropy(a.log())
    assert renamed.item() == pytest.approx(kept.item(), abs=1e-12)


def test_order_of_images_changes_neither_cluster_term() -> None:
    a, b = soft(9, 5, 1), soft(9, 5, 2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert nt_xent(a[order].T, b[order].T, 1.0).item() == pytest.approx(nt_xent(a.T, b.T, 1.0).item(), abs=1e-12)
    moved, kept = negative_marginal_entropy(a[order].log()), negative_marginal_entropy(a.log())
    assert moved.item() == pytest.approx(kept.item(), abs=1e-12)


def test_entropy_term_stays_between_zero_and_log_k() -> None:
    for seed in range(20):
        value = negative_marginal_entropy((5 * rows(6, 4, seed)).log_softmax(1)).item()
        assert -1e-12 <= value <= math.log(4) + 1e-12


# gradients


@pytest.mark.parametrize("n", [1, 2, 5])
def test_gradient_of_the_contrast_is_right(n: int) -> None:
    a, b = (x.requires_grad_() for x in pair(n, 3))
    assert torch.autograd.gradcheck(lambda p, q: nt_xent(p, q, 0.5), (a, b))


@pytest.mark.parametrize(("n", "k"), [(1, 3), (5, 4), (2, 6)])
def test_gradient_of_the_cluster_terms_is_right(n: int, k: int) -> None:
    a, b = (x.requires_grad_() for x in pair(n, k))
    assert torch.autograd.gradcheck(lambda p, q: nt_xent(p.softmax(1).T, q.softmax(1).T, 1.0), (a, b))
    assert torch.autograd.gradcheck(lambda p: negative_marginal_entropy(p.log_softmax(1)), (a,))


def test_descent_on_the_entropy_term_fills_a_poor_cluster() -> None:
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]], requires_grad=True)
    negative_marginal_entropy(logits.log_softmax(1)).backward()
    assert (logits.grad[:, 0] > 0).all() and (logits.grad[:, 1] < 0).all()


# half precision


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_contrast_in_bf16_has_the_value_and_gradient_of_float32(temperature: float) -> None:
    halves = [x.bfloat16() for x in pair(32, 16, torch.float32)]
    wide = [x.float().requires_grad_() for x in halves]
    half = [x.clone().requires_grad_() for x in halves]
    expected = nt_xent(*wide, temperature=temperature)
    expected.backward()
    with torch.autocast("cpu", torch.bfloat16):
        value = nt_xent(*half, temperature=temperature)
    value.backward()
    assert value.dtype == torch.float32 and value.item() == expected.item()
    for ours, theirs in zip(half, wide, strict=True):
        assert torch.equal(ours.grad, theirs.grad.bfloat16())


def test_float32_inputs_stay_float32_inside_a_bf16_autocast() -> None:
    """The inputs are float32 but the product of rows would be taken in bf16."""
    a, b = pair(32, 16, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = nt_xent(a, b, 0.1)
    assert inside.item() == nt_xent(a, b, 0.1).item()


def test_entropy_term_in_bf16_has_the_value_and_gradient_of_float32() -> None:
    half = rows(32, 8, dtype=torch.float32).log_softmax(1).bfloat16().requires_grad_()
    wide = half.detach().float().requires_grad_()
    expected = negative_marginal_entropy(wide)
    expected.backward()
    with torch.autocast("cpu", torch.bfloat16):
        value = negative_marginal_entropy(half)
    value.backward()
    assert value.dtype == torch.float32 and value.item() == expected.item()
    assert torch.equal(half.grad, wide.grad.bfloat16())


def test_double_precision_stays_double() -> None:
    a, b = pair(3, 3)
    assert nt_xent(a, b, 0.5).dtype == torch.float64
    assert negative_marginal_entropy(soft(3, 3).log()).dtype == torch.float64


def test_losses_take_their_arguments_by_name() -> None:
    a, b = pair(3, 3)
    assert nt_xent(a=a, b=b, temperature=0.5) == nt_xent(a, b, 0.5)
    assert negative_marginal_entropy(log_y=a.log_softmax(1)) == negative_marginal_entropy(a.log_softmax(1))


# edges


def both_terms(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    log_a, log_b = logits_a.log_softmax(1), logits_b.log_softmax(1)
    entropy = negative_marginal_entropy(log_a) + negative_marginal_entropy(log_b)
    return nt_xent(log_a.exp().T, log_b.exp().T, 1.0) + entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("depth", [-30.0, -100.0, -300.0, -1e4])
def test_a_dead_cluster_gives_a_finite_loss_and_gradient(depth: float, dtype: torch.dtype) -> None:
    a, b = (x.clone() for x in pair(8, 4, dtype))
    a[:, 2], b[:, 2] = depth, depth
    a.requires_grad_(), b.requires_grad_()
    loss = both_terms(a, b)
    loss.backward()
    assert loss.isfinite() and a.grad.isfinite().all() and b.grad.isfinite().all()
    assert a.grad.abs().sum() > 0
    assert a.grad.abs().max() < 10  # finite but huge would do the same harm


def test_a_cluster_dead_in_one_view_only_gives_a_finite_loss_and_gradient() -> None:
    a, b = (x.clone() for x in pair(8, 4, torch.float32))
    a[:, 2] = -1e4
    a.requires_grad_(), b.requires_grad_()
    loss = both_terms(a, b)
    loss.backward()
    assert loss.isfinite() and a.grad.isfinite().all() and b.grad.isfinite().all()


def test_all_images_in_one_cluster_give_a_finite_loss_and_gradient() -> None:
    logits = torch.full((8, 4), -1e4)
    logits[:, 0] = 0
    logits.requires_grad_()
    loss = both_terms(logits, logits)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_rows_of_zeros_give_a_finite_value_and_gradient() -> None:
    a, b = (x.clone() for x in pair(5, 3, torch.float32))
    a[0], b[0], b[3] = 0, 0, 0
    a.requires_grad_(), b.requires_grad_()
    loss = nt_xent(a, b, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(slow.instance_loss(a.tolist(), b.tolist(), 0.5), abs=1e-6)
    assert a.grad.isfinite().all() and b.grad.isfinite().all()


def test_one_image_has_only_its_partner_to_pick() -> None:
    a, b = (x.requires_grad_() for x in pair(1, 3))
    loss = nt_xent(a, b, 0.5)
    loss.backward()
    assert loss.item() == 0 and a.grad.abs().max() == 0


@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 10), (2, 10), (3, 10), (10, 10), (127, 10), (256, 10)])
def test_any_batch_size_and_more_clusters_than_images_give_finite_gradients(n: int, k: int) -> None:
    a, b = (x.requires_grad_() for x in pair(n, k, torch.float32))
    loss = both_terms(a, b)
    loss.backward()
    assert loss.isfinite() and a.grad.isfinite().all() and b.grad.isfinite().all()


def test_a_tiny_temperature_overflows_nothing() -> None:
    a, b = (x.requires_grad_() for x in pair(16, 4, torch.float32))
    loss = nt_xent(a, b, 1e-3)
    loss.backward()
    assert loss.isfinite() and a.grad.isfinite().all()


def test_losses_leave_their_inputs_as_they_are() -> None:
    a, b = pair(5, 3)
    log_y = a.log_softmax(1)
    kept = [x.clone() for x in (a, b, log_y)]
    nt_xent(a, b, 0.5)
    negative_marginal_entropy(log_y)
    assert all(torch.equal(x, y) for x, y in zip((a, b, log_y), kept, strict=True))


# info_nce, contrast, cluster_contrast: values worked by hand


def test_picking_among_equal_scores_is_log_of_the_number_of_candidates() -> None:
    cross, own = torch.full((5, 5), 3.0), torch.full((5, 5), 3.0)
    assert info_nce(cross).item() == pytest.approx(math.log(5), abs=1e-6)
    assert info_nce(cross, own).item() == pytest.approx(math.log(9), abs=1e-6)
    assert info_nce(cross, include_positive=False).item() == pytest.approx(math.log(4), abs=1e-6)
    assert info_nce(cross, own, include_positive=False).item() == pytest.approx(math.log(8), abs=1e-6)


def test_picking_between_two_by_hand() -> None:
    cross = torch.tensor([[2.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    own = torch.tensor([[99.0, 0.5], [-0.5, 99.0]], dtype=torch.float64)  # a row's score with itself counts nowhere
    e = math.exp
    rows_only = math.log(e(2) + e(1)) - 2 + math.log(e(0) + e(3)) - 3
    both = math.log(e(2) + e(1) + e(0.5)) - 2 + math.log(e(0) + e(3) + e(-0.5)) - 3
    without = math.log(e(1) + e(0.5)) - 2 + math.log(e(0) + e(-0.5)) - 3
    assert info_nce(cross).item() == pytest.approx(rows_only / 2, abs=1e-12)
    assert info_nce(cross, own).item() == pytest.approx(both / 2, abs=1e-12)
    assert info_nce(cross, own, include_positive=False).item() == pytest.approx(without / 2, abs=1e-12)


def test_an_ignored_pair_is_no_negative_but_the_positive_cannot_be_ignored() -> None:
    cross = torch.tensor([[2.0, 50.0, 1.0], [0.0, 3.0, 1.0], [0.0, 1.0, 2.0]], dtype=torch.float64)
    ignore = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    e = math.exp
    by_hand = [math.log(e(2) + e(1)) - 2, math.log(1 + e(3) + e(1)) - 3, math.log(1 + e(1) + e(2)) - 2]
    assert info_nce(cross, ignore=ignore).item() == pytest.approx(sum(by_hand) / 3, abs=1e-12)


def test_the_mask_of_pairs_is_turned_for_the_rows_of_the_second_view() -> None:
    """Image 0 does not count image 1 as a negative; in the other direction image 1 does not count image 0."""
    a, b = pair(3, 4)
    ignore = torch.zeros(3, 3, dtype=torch.bool)
    ignore[0, 1] = True
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.5
    kept = scores.masked_fill(ignore, -torch.inf)
    by_hand = (kept.logsumexp(1) - scores.diagonal()).mean() + (kept.logsumexp(0) - scores.diagonal()).mean()
    value = contrast(a, b, 0.5, negatives="other_view", ignore=ignore)
    assert value.item() == pytest.approx(by_hand.item() / 2, abs=1e-12)


@pytest.mark.parametrize("include", [True, False])
def test_without_normalisation_length_counts(include: bool) -> None:
    """Five images at right angles, rows of length 2, temperature 4: the positive scores 1, eight others 0."""
    z = 2 * torch.eye(5, dtype=torch.float64)
    value = contrast(z, z, 4.0, normalize=False, include_positive=include).item()
    assert value == pytest.approx(math.log(8 + include * math.e) - 1, abs=1e-12)


def test_sample_view_of_perfect_clusters_is_the_known_floor() -> None:
    """15 rows at cosine 1, 135 at 0, temperature 0.5."""
    y = one_hot(150, 10)
    value = contrast(y, y, 0.5, negatives="other_view", symmetric=False).item()
    assert value == pytest.approx(math.log(15 + 135 * math.exp(-2)), abs=1e-12)
    assert value == pytest.approx(3.505, abs=5e-4)


def test_sample_view_of_a_collapse_is_log_n() -> None:
    y = torch.eye(10, dtype=torch.float64)[torch.zeros(150, dtype=torch.int64)]
    value = contrast(y, y, 0.5, negatives="other_view", symmetric=False).item()
    assert value == pytest.approx(math.log(150), abs=1e-12) and value == pytest.approx(5.011, abs=5e-4)


def test_sample_view_without_other_pictures_of_an_image_has_a_lower_floor() -> None:
    """50 images thrice, 5 a cluster: of 15 rows at cosine 1 two are the image itself once more."""
    y, image = one_hot(50, 10).repeat(3, 1), torch.arange(50).repeat(3)
    same = image[:, None] == image[None, :]
    value = contrast(y, y, 0.5, negatives="other_view", symmetric=False, ignore=same).item()
    assert value == pytest.approx(math.log(13 + 135 * math.exp(-2)), abs=1e-12)


def test_class_view_of_perfect_clusters_is_the_known_floor() -> None:
    y = one_hot(150, 10)
    value = cluster_contrast(y, y, 0.5, negatives="other_view", symmetric=False).item()
    assert value == pytest.approx(math.log(1 + 9 * math.exp(-2)), abs=1e-12) and value == pytest.approx(0.797, abs=5e-4)


@pytest.mark.parametrize(("include", "printed"), [(False, 1.197), (True, 1.461)])
def test_assignment_vectors_of_perfect_clusters_have_the_known_optimum(include: bool, printed: float) -> None:
    y = one_hot(250, 10)
    value = cluster_contrast(y, y, 1.0, negatives="other_view", include_positive=include).item()
    assert value == pytest.approx(math.log(9 + include * math.e) - 1, abs=1e-12)
    assert value == pytest.approx(printed, abs=5e-4)


def test_the_other_settings_of_the_cluster_contrast_have_their_floors_too() -> None:
    """10 perfect clusters, temperature 1: with 9 or 18 negatives at cosine 0, with and without the positive."""
    y = one_hot(50, 10)
    for negatives, count in (("other_view", 9), ("both_views", 18)):
        for include in (True, False):
            value = cluster_contrast(y, y, 1.0, negatives=negatives, include_positive=include).item()
            assert value == pytest.approx(math.log(count + include * math.e) - 1, abs=1e-12)


@pytest.mark.parametrize("include", [True, False])
def test_raw_assignment_vectors_of_a_collapsed_batch_overflow_nothing(include: bool) -> None:
    """256 images in one of 10 clusters at temperature 1: its column meets itself at 256, whose exp is infinite."""
    assert torch.tensor(256.0).exp().isinf()
    y = torch.eye(10)[torch.zeros(256, dtype=torch.int64)].requires_grad_()
    loss = cluster_contrast(
        y, y.detach(), 1.0, negatives="other_view", include_positive=include, symmetric=False, normalize=False
    )
    loss.backward()
    by_hand = 0.9 * math.log(10) if include else math.log(9) - 25.6
    assert loss.item() == pytest.approx(by_hand, abs=1e-5) and y.grad.isfinite().all()


def test_the_cluster_contrast_is_by_default_that_of_cc() -> None:
    a, b = soft(12, 5, 1), soft(12, 5, 2)
    assert cluster_contrast(a, b, 0.7).item() == nt_xent(a.T, b.T, 0.7).item()
    assert contrast(a, b, 0.7).item() == nt_xent(a, b, 0.7).item()


# smoothed, critics, probability_contrast, bank_contrast: values worked by hand


def bank_forms(*smoothings: float) -> list[Any]:
    """All critics with each smoothing."""
    return [(critic, smoothing) for critic in CRITICS for smoothing in smoothings]


def test_smoothing_mixes_with_the_uniform_distribution() -> None:
    p = torch.tensor([[1.0, 0.0], [0.25, 0.75]], dtype=torch.float64)
    by_hand = torch.tensor([[0.95, 0.05], [0.275, 0.725]], dtype=torch.float64)
    assert torch.allclose(smoothed(p.clamp_min(1e-300).log(), 0.1).exp(), by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize("amount", [0.0, 0.01, 0.5, 0.99])
def test_smoothed_rows_still_sum_to_one(amount: float) -> None:
    log_p = (20 * rows(6, 4)).log_softmax(1)
    assert torch.allclose(smoothed(log_p, amount).exp().sum(1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.equal(smoothed(log_p, 0.0), log_p)


CERTAIN = torch.eye(10, dtype=torch.float64).clamp_min(1e-300).log()


@pytest.mark.parametrize(
    ("critic", "smoothing", "same", "different"),
    [
        ("log_dot", 0.01, math.log(0.991**2 + 9 * 0.001**2), math.log(2 * 0.991 * 0.001 + 8 * 0.001**2)),
        ("dot", 0.0, 1.0, 0.0),
        ("dot", 0.01, 0.991**2 + 9 * 0.001**2, 2 * 0.991 * 0.001 + 8 * 0.001**2),
        ("neg_l2", 0.0, 0.0, -2.0),
        ("neg_jsd", 0.0, 0.0, -math.log(2)),
    ],
)
def test_certain_assignments_score_the_ends_of_the_range(
    critic: str, smoothing: float, same: float, different: float
) -> None:
    scores = critic_scores(CERTAIN, CERTAIN, critic, smoothing)
    by_hand = torch.full((10, 10), different, dtype=torch.float64).fill_diagonal_(same)
    assert torch.allclose(scores, by_hand, rtol=0, atol=1e-12)


def test_the_smoothed_log_dot_has_the_known_range() -> None:
    scores = critic_scores(CERTAIN, CERTAIN, "log_dot", 0.01)
    assert scores.min().item() == pytest.approx(-6.22, abs=5e-3) and scores.max().item() == pytest.approx(-0.018, 5e-3)


@pytest.mark.parametrize(
    ("critic", "low", "high"),
    [("log_dot", -6.22, -0.018), ("dot", 0, 1), ("neg_l2", -2, 0), ("neg_jsd", -math.log(2), 0)],
)
def test_every_critic_stays_in_its_range(critic: str, low: float, high: float) -> None:
    for scale in (0.1, 1, 10, 100):
        log_p, log_q = ((scale * rows(20, 10, seed)).log_softmax(1) for seed in (1, 2))
        scores = critic_scores(log_p, log_q, critic, 0.01)
        assert scores.min() >= low - 1e-3 and scores.max() <= high + 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.01])
@pytest.mark.parametrize("critic", CRITICS)
def test_a_critic_asks_both_sides_alike_and_leading_dimensions_one_by_one(critic: str, smoothing: float) -> None:
    p, q = soft(6, 4, 1).log().view(2, 3, 4), soft(8, 4, 2).log().view(2, 4, 4)
    scores = critic_scores(p, q, critic, smoothing)
    assert scores.shape == (2, 3, 4)
    assert torch.allclose(scores, critic_scores(q, p, critic, smoothing).mT, rtol=0, atol=1e-12)
    for i in range(2):
        assert torch.allclose(scores[i], critic_scores(p[i], q[i], critic, smoothing), rtol=0, atol=1e-12)


def test_probability_contrast_of_perfect_clusters_is_the_known_floor() -> None:
    log_y = one_hot(512, 10).clamp_min(1e-300).log()
    assert probability_contrast(log_y, log_y).item() == pytest.approx(4.637, abs=5e-4)


def test_probability_contrast_of_perfect_clusters_by_hand() -> None:
    """40 rows, 4 clusters of 10: 9 rows at p . p, 30 at p . q."""
    log_y = one_hot(20, 4).clamp_min(1e-300).log()
    p, q = 0.99 + 0.0025, 0.0025
    same, different = p * p + 3 * q * q, 2 * p * q + 2 * q * q
    by_hand = math.log(9 + 30 * different / same)
    assert probability_contrast(log_y, log_y).item() == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.01])
@pytest.mark.parametrize("critic", CRITICS)
def test_probability_contrast_of_equal_rows_is_log_of_the_number_of_others(critic: str, smoothing: float) -> None:
    log_y = soft(1, 10).log().expand(17, 10)
    assert probability_contrast(log_y, log_y, critic, smoothing).item() == pytest.approx(math.log(33), abs=1e-12)


@pytest.mark.parametrize(("critic", "smoothing"), bank_forms(0.0, 0.01))
def test_a_fresh_memory_bank_says_log_of_its_rows_and_one(critic: str, smoothing: float) -> None:
    bank = torch.full((64, 10), 0.1, dtype=torch.float64)
    log_q = soft(8, 10).log()
    loss = bank_contrast(log_q, bank[:8], bank, critic, smoothing)
    assert loss.item() == pytest.approx(math.log(65), abs=1e-12)


def test_a_fresh_memory_bank_teaches_nothing() -> None:
    bank, logits = torch.full((64, 10), 0.1, dtype=torch.float64), rows(8, 10).requires_grad_()
    bank_contrast(logits.log_softmax(1), bank[:8], bank).backward()
    assert logits.grad.abs().max() < 3e-15
    logits.grad = None
    bank_contrast(logits.log_softmax(1), one_hot(8, 10), bank).backward()
    assert logits.grad.abs().max() > 1e-3  # type: ignore[attr-defined]


def test_bank_contrast_of_two_clusters_by_hand() -> None:
    """One image, its row and one negative, no smoothing: p . own = 0.8, p . negative = 0.2."""
    log_q = torch.tensor([[0.8, 0.2]], dtype=torch.float64).log()
    bank = torch.eye(2, dtype=torch.float64)
    by_hand = {"log_dot": math.log(1 / 0.8), "dot": math.log(1 + math.exp(-0.6))}
    by_hand["neg_l2"] = math.log(1 + math.exp(2 * 0.2**2 - 2 * 0.8**2))
    for critic, expected in by_hand.items():
        assert bank_contrast(log_q, bank[:1], bank[1:], critic, 0.0).item() == pytest.approx(expected, abs=1e-12)


# logit_clamp, bank_scores, semantic_contrast, soft_cross_entropy, alignment: values worked by hand


def test_only_logits_out_of_bounds_are_pulled_back_as_far_as_they_are_out() -> None:
    logits = torch.tensor([[24.0, -30.0, 0.0], [-25.0, 25.0, 45.0]], dtype=torch.float64, requires_grad=True)
    loss = logit_clamp(logits, 25.0)
    loss.backward()
    assert loss.item() == pytest.approx((30 * 5 + 45 * 20) / 2, abs=1e-9)
    assert logits.grad.tolist() == [[0, -2.5, 0], [0, 0, 10]]


def test_scores_of_banks_by_hand() -> None:
    """A query at cosine 1 and 0 to the keys of one bank, -1 and 0 to those of the other; temperature 0.5."""
    q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    bank = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]], dtype=torch.float64)
    by_hand = [math.log(math.exp(2) + 1), math.log(math.exp(-2) + 1)]
    assert bank_scores(q, bank, 0.5)[0].tolist() == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(("labels", "negatives"), [(None, 21), ([0, 2], 14)])
def test_equal_keys_cost_log_of_the_number_of_candidates(labels: list[int] | None, negatives: int) -> None:
    """Three banks of 7; the bank of the own cluster is no negative."""
    q = F.normalize(torch.ones(2, 4, dtype=torch.float64), dim=1)
    scores = bank_scores(q, q[0].expand(3, 7, 4), 0.1)
    values = semantic_contrast(q, q, scores, None if labels is None else torch.tensor(labels), 0.1)
    assert values.tolist() == pytest.approx([math.log(negatives + 1)] * 2, abs=1e-12)


def test_semantic_contrast_of_two_clusters_by_hand() -> None:
    q, key = torch.eye(2, dtype=torch.float64)[:1], torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    scores = torch.tensor([[1.5, 0.7]], dtype=torch.float64)
    values = [semantic_contrast(q, key, scores, torch.tensor([label]), 0.5).item() for label in (0, 1)]
    assert values == pytest.approx([math.log1p(math.exp(0.7 - 1.2)), math.log1p(math.exp(1.5 - 1.2))], abs=1e-12)


def test_images_of_one_cluster_do_not_push_each_other() -> None:
    """Whatever waits in the own bank, value and gradient stay."""
    q = F.normalize(rows(4, 3), dim=1)
    found = []
    for seed in (1, 2):
        bank = F.normalize(torch.stack([rows(5, 3, seed), rows(5, 3, 9)]), dim=2)
        moving = q.clone().requires_grad_()
        value = semantic_contrast(moving, q.flip(0), bank_scores(moving, bank, 0.1), torch.zeros(4).long(), 0.1)
        value.sum().backward()
        found.append(torch.cat([value.detach(), moving.grad.flatten()]))
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-12) and found[0].abs().min() > 0


def test_soft_cross_entropy_by_hand_teaches_only_the_guess() -> None:
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [0.3, 0.7]], dtype=torch.float64, requires_grad=True)
    loss = soft_cross_entropy(p.log(), target)
    loss.backward()
    by_hand = (math.log(2) - 0.3 * math.log(0.9) - 0.7 * math.log(0.1)) / 2
    assert loss.item() == pytest.approx(by_hand, abs=1e-12)
    assert target.grad is None and p.grad.abs().sum() > 0


def test_soft_cross_entropy_is_least_at_the_target() -> None:
    target = soft(6, 4)
    least = soft_cross_entropy(target.log(), target)
    assert least.item() == pytest.approx(-(target * target.log()).sum(1).mean().item(), abs=1e-12)
    assert all(soft_cross_entropy(soft(6, 4, seed).log(), target) > least + 1e-3 for seed in range(1, 10))


def test_alignment_by_hand_teaches_only_the_prediction() -> None:
    """Cosines 1, 0, -1 and 0.6, whatever the lengths."""
    p = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [0.1, 0.0]], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([[5.0, 0.0], [7.0, 0.0], [-2.0, -2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    loss = alignment(p, z)
    loss.backward()
    assert loss.item() == pytest.approx(1 - 0.6 / 4, abs=1e-12)
    assert z.grad is None and p.grad.abs().sum() > 0


# against the transcriptions


SIZES = [(1, 3), (2, 2), (7, 3), (5, 8)]


@pytest.mark.parametrize("smoothing", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_probability_contrast_equals_the_transcription(n: int, k: int, critic: str, smoothing: float) -> None:
    a, b = soft(n, k, 1), soft(n, k, 2)
    expected = crlc.probability_contrast(a.tolist(), b.tolist(), critic, smoothing)
    assert probability_contrast(a.log(), b.log(), critic, smoothing).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("critic", "smoothing"), bank_forms(0.0, 0.01, 0.3))
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_bank_contrast_equals_the_transcription(n: int, k: int, critic: str, smoothing: float) -> None:
    q, own, negatives = soft(n, k, 1), soft(n, k, 2), soft(9, k, 3)
    expected = crlc.bank_contrast(q.tolist(), own.tolist(), negatives.tolist(), critic, smoothing)
    assert bank_contrast(q.log(), own, negatives, critic, smoothing).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_mean_marginal_entropy_equals_the_transcription(n: int, k: int) -> None:
    a, b = soft(n, k, 1), soft(n, k, 2)
    ours = (negative_marginal_entropy(a.log()) + negative_marginal_entropy(b.log())) / 2
    for theirs in (
        crlc.mean_marginal_entropy(a.tolist(), b.tolist()),
        (c2bin.entropy(a.tolist()) + c2bin.entropy(b.tolist())) / 2,
        math.log(k) - (dcdc.entropy_term(a.tolist()) + dcdc.entropy_term(b.tolist())) / 2,
    ):
        assert math.log(k) - ours.item() == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("bound", [0.5, 1.0, 100.0])
def test_the_pull_on_logits_and_its_gradient_equal_the_transcription(bound: float) -> None:
    logits = (2 * rows(7, 4)).requires_grad_()
    value = logit_clamp(logits, bound)
    value.backward()
    assert value.item() == pytest.approx(crlc.clamp(logits.tolist(), bound), abs=1e-12)
    expected = torch.tensor(crlc.clamp_gradient(logits.tolist(), bound), dtype=torch.float64)
    assert torch.allclose(logits.grad, expected, rtol=0, atol=1e-12)


def banks(clusters: int, length: int, d: int, seed: int = 5) -> Tensor:
    return F.normalize(rows(clusters * length, d, seed), dim=1).view(clusters, length, d)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize(("n", "clusters"), [(1, 2), (6, 3), (4, 7)])
def test_semantic_contrast_and_votes_equal_the_transcription(n: int, clusters: int, temperature: float) -> None:
    q, key = (F.normalize(x, dim=1) for x in pair(n, 5))
    bank = banks(clusters, 4, 5)
    labels, moves = [(3 * i) % clusters for i in range(n)], [i % 3 for i in range(n)]
    scores = bank_scores(q, bank, temperature)
    ours = semantic_contrast(q, key, scores, torch.tensor(labels), temperature)
    everything = semantic_contrast(q, key, scores, None, temperature)
    for i in range(n):
        one = q[i].tolist(), key[i].tolist(), bank.tolist()
        assert ours[i].item() == pytest.approx(scl.instance_discrimination(*one, labels[i], temperature), abs=1e-12)
        assert everything[i].item() == pytest.approx(scl.instance_discrimination(*one, None, temperature), abs=1e-12)
        vote = scl.vote(q[i].tolist(), bank.tolist(), temperature)
        assert scores.softmax(1)[i].tolist() == pytest.approx(vote, abs=1e-12)
    weights = torch.tensor(moves) + 1e-6
    whole = scl.weighted_instance_discrimination(
        q.tolist(), key.tolist(), bank.tolist(), labels, moves, temperature
    )  # fmt: skip
    assert (weights / weights.sum() * ours).sum().item() == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_cluster_discrimination_equals_the_transcription(n: int, k: int) -> None:
    p, votes = soft(n, k, 1), soft(n, k, 2)
    expected = scl.cluster_discrimination(votes.tolist(), p.tolist())
    assert soft_cross_entropy(p.log(), votes).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_sample_and_class_view_equal_the_transcription(n: int, k: int, repeats: int, masked: bool) -> None:
    u, perturbed = soft(n, k, 1), soft(repeats * n, k, 2)
    image = torch.arange(n).repeat(repeats)
    same = image[:, None] == image[None, :] if masked else None
    original = u.repeat(repeats, 1)
    ours = contrast(original, perturbed, 0.3, negatives="other_view", symmetric=False, ignore=same).item()
    assert ours == pytest.approx(dcdc.sample_view(u.tolist(), perturbed.tolist(), 0.3, masked), abs=1e-12)
    ours = cluster_contrast(original, perturbed, 0.3, negatives="other_view", symmetric=False).item()
    assert ours == pytest.approx(dcdc.class_view(u.tolist(), perturbed.tolist(), 0.3), abs=1e-12)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_contrast_of_assignment_vectors_equals_the_transcription(
    n: int, k: int, include: bool, normalize: bool
) -> None:
    a, b = soft(n, k, 1), soft(n, k, 2)
    ours = partial(cluster_contrast, negatives="other_view", include_positive=include, normalize=normalize)
    theirs = partial(c2bin.batch_contrast, include_positive=include, normalize=normalize)
    there = theirs(a.tolist(), b.tolist(), 0.5)
    back = theirs(b.tolist(), a.tolist(), 0.5)
    assert ours(a, b, 0.5, symmetric=False).item() == pytest.approx(there, abs=1e-12)
    assert ours(a, b, 0.5, symmetric=True).item() == pytest.approx((there + back) / 2, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_alignment_equals_the_transcription(n: int, d: int) -> None:
    a, b = pair(n, d)
    assert alignment(a, b).item() == pytest.approx(c2bin.alignment(a.tolist(), b.tolist()), abs=1e-12)


# identities


ROWS: dict[str, Loss] = {  # losses of two views' rows, which must not care for the order of images
    "embeddings, CC": lambda a, b: contrast(a, b, 0.5),
    "sample view": lambda a, b: contrast(a.softmax(1), b.softmax(1), 0.5, negatives="other_view", symmetric=False),
    "class view": lambda a, b: cluster_contrast(
        a.softmax(1), b.softmax(1), 0.5, negatives="other_view", symmetric=False
    ),
    "assignment vectors": lambda a, b: cluster_contrast(
        a.softmax(1), b.softmax(1), 1.0, negatives="other_view", include_positive=False
    ),
    "raw assignment vectors": lambda a, b: cluster_contrast(
        a.softmax(1), b.softmax(1), 1.0, negatives="other_view", include_positive=False, normalize=False
    ),
    **{
        f"probabilities, {critic}, {smoothing}": (
            lambda a, b, critic=critic, smoothing=smoothing: probability_contrast(
                a.log_softmax(1), b.log_softmax(1), critic, smoothing
            )
        )
        for critic in CRITICS
        for smoothing in (0.0, 0.01)
    },
    "soft cross entropy": lambda a, b: soft_cross_entropy(a.log_softmax(1), b.softmax(1)),
    "alignment": alignment,
}
ONE_WAY = ("sample view", "class view", "soft cross entropy")


@pytest.mark.parametrize("form", ROWS)
def test_no_loss_cares_for_the_order_of_images(form: str) -> None:
    a, b = pair(9, 5)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert ROWS[form](a[order], b[order]).item() == pytest.approx(ROWS[form](a, b).item(), abs=1e-12)


@pytest.mark.parametrize("form", ROWS)
def test_every_loss_cares_who_the_partner_is(form: str) -> None:
    a = 3 * rows(9, 5)
    assert ROWS[form](a, a.roll(1, 0)) > ROWS[form](a, a) + 0.01


@pytest.mark.parametrize("form", ROWS)
def test_no_loss_cares_for_the_names_of_clusters(form: str) -> None:
    a, b = pair(9, 5)
    names = torch.tensor([3, 0, 4, 1, 2])
    assert ROWS[form](a[:, names], b[:, names]).item() == pytest.approx(ROWS[form](a, b).item(), abs=1e-12)
    assert abs(ROWS[form](a[:, names], b) - ROWS[form](a, b)) > 1e-3


@pytest.mark.parametrize("form", ROWS)
def test_symmetric_losses_do_not_care_which_view_comes_first_and_the_others_do(form: str) -> None:
    a, b = pair(9, 5)
    difference = abs(ROWS[form](a, b).item() - ROWS[form](b, a).item())
    assert difference > 1e-5 if form in ONE_WAY else difference < 1e-12


@pytest.mark.parametrize("negatives", ["both_views", "other_view"])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_symmetric_contrast_is_the_mean_of_both_directions(negatives: str, include: bool, normalize: bool) -> None:
    a, b = soft(9, 5, 1), soft(9, 5, 2)
    for loss in (contrast, cluster_contrast):
        form = partial(loss, temperature=0.5, negatives=negatives, include_positive=include, normalize=normalize)
        there, back = form(a, b, symmetric=False).item(), form(b, a, symmetric=False).item()
        assert form(a, b, symmetric=True).item() == pytest.approx((there + back) / 2, abs=1e-12)
        assert abs(there - back) > 1e-6


def test_only_the_normalised_contrast_overlooks_the_length_of_rows() -> None:
    a, b = pair(9, 4)
    scale = torch.linspace(0.1, 10, 9, dtype=torch.float64)[:, None]
    for loss in (
        partial(contrast, temperature=0.5, negatives="other_view", include_positive=False),
        lambda p, q, **switches: cluster_contrast(p.T, q.T, 0.5, negatives="other_view", **switches),
    ):
        assert loss(a * scale, b * scale.flip(0)).item() == pytest.approx(loss(a, b).item(), abs=1e-12)
        assert abs(loss(a * scale, b, normalize=False) - loss(a, b, normalize=False)) > 0.1
    assert alignment(a * scale, b * scale.flip(0)).item() == pytest.approx(alignment(a, b).item(), abs=1e-12)


def test_the_memory_bank_does_not_care_for_the_order_of_images_negatives_or_clusters() -> None:
    q, own, negatives = soft(9, 5, 1), soft(9, 5, 2), soft(12, 5, 3)
    expected = bank_contrast(q.log(), own, negatives).item()
    order, names = torch.randperm(9, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 0, 4, 1, 2])
    assert bank_contrast(q[order].log(), own[order], negatives).item() == pytest.approx(expected, abs=1e-12)
    assert bank_contrast(q.log(), own, negatives.flip(0)).item() == pytest.approx(expected, abs=1e-12)
    renamed = bank_contrast(q[:, names].log(), own[:, names], negatives[:, names])
    assert renamed.item() == pytest.approx(expected, abs=1e-12)
    assert abs(bank_contrast(q.log(), own.roll(1, 0), negatives).item() - expected) > 1e-3


def test_semantic_contrast_does_not_care_for_the_order_of_images_or_keys_or_the_names_of_clusters() -> None:
    q, key = (F.normalize(x, dim=1) for x in pair(6, 4))
    bank, labels = banks(3, 5, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    values = semantic_contrast(q, key, bank_scores(q, bank, 0.1), labels, 0.1)
    flipped = semantic_contrast(q.flip(0), key.flip(0), bank_scores(q.flip(0), bank.flip(1), 0.1), labels.flip(0), 0.1)
    assert torch.allclose(flipped.flip(0), values, rtol=0, atol=1e-12)
    names = torch.tensor([2, 0, 1])
    renamed = semantic_contrast(q, key, bank_scores(q, bank[names], 0.1), names.argsort()[labels], 0.1)
    assert torch.allclose(renamed, values, rtol=0, atol=1e-12)
    moved = semantic_contrast(q, key, bank_scores(q, bank, 0.1), (labels + 1) % 3, 0.1)
    assert (moved - values).abs().min() > 1e-6


# gradients


def ring(n: int) -> Tensor:
    """Each image and the next one, as a mask of pairs."""
    return torch.eye(n, dtype=torch.bool) | torch.eye(n, dtype=torch.bool).roll(1, 1)


def log_pair(n: int, k: int) -> tuple[Tensor, Tensor]:
    return soft(n, k, 1).log(), soft(n, k, 2).log()


def unit_pair(n: int, d: int) -> tuple[Tensor, Tensor]:
    return F.normalize(rows(n, d, 1), dim=1), F.normalize(rows(n, d, 2), dim=1)


def turns(n: int) -> Tensor:
    return torch.arange(n) % 3


# each function of losses.py: a call, its tensors for n images and k clusters, and how many of those get a gradient
CALLS: dict[str, tuple[Loss, Callable[[int, int], tuple[Tensor, ...]], int]] = {
    "info_nce": (info_nce, lambda n, k: (rows(n, n, 1), rows(n, n, 2)), 2),
    "info_nce, ignoring": (
        lambda x: info_nce(x, include_positive=True, ignore=ring(len(x))), lambda n, k: (rows(n, n, 1),), 1
    ),
    "contrast": (partial(contrast, temperature=0.5), pair, 2),
    "contrast, ignoring": (
        lambda a, b: contrast(a, b, 0.5, negatives="other_view", ignore=ring(len(a))), pair, 2
    ),
    "contrast, raw": (partial(contrast, temperature=0.5, normalize=False), pair, 2),
    "class view": (
        partial(cluster_contrast, temperature=0.5, negatives="other_view", symmetric=False),
        lambda n, k: (soft(n, k, 1), soft(n, k, 2)), 2,
    ),
    "assignment vectors": (
        partial(cluster_contrast, temperature=1.0, negatives="other_view", include_positive=False),
        lambda n, k: (soft(n, k, 1), soft(n, k, 2)), 2,
    ),
    "raw assignment vectors": (
        partial(cluster_contrast, temperature=1.0, negatives="other_view", include_positive=False, normalize=False),
        lambda n, k: (soft(n, k, 1), soft(n, k, 2)), 2,
    ),
    "negative_marginal_entropy": (negative_marginal_entropy, lambda n, k: log_pair(n, k)[:1], 1),
    "smoothed": (partial(smoothed, amount=0.1), lambda n, k: log_pair(n, k)[:1], 1),
    **{
        f"probability_contrast, {critic}, {smoothing}": (
            partial(probability_contrast, critic=critic, smoothing=smoothing), log_pair, 2
        )
        for critic in CRITICS
        for smoothing in (0.0, 0.01)
    },
    **{
        f"bank_contrast, {critic}, {smoothing}": (
            partial(bank_contrast, critic=critic, smoothing=smoothing),
            lambda n, k: (soft(n, k, 1).log(), soft(n, k, 2), soft(7, k, 3)), 1,
        )
        for critic in CRITICS
        for smoothing in (0.0, 0.01)
    },
    "bank_scores": (partial(bank_scores, temperature=0.1), lambda n, k: (unit_pair(n, k)[0], banks(3, 4, k)), 1),
    "semantic_contrast": (
        lambda q, key, scores: semantic_contrast(q, key, scores, turns(len(q)), 0.1),
        lambda n, k: (*unit_pair(n, k), 5 * rows(n, 3, 3)), 3,
    ),
    "semantic_contrast, all banks": (
        lambda q, key, scores: semantic_contrast(q, key, scores, None, 0.1),
        lambda n, k: (*unit_pair(n, k), 5 * rows(n, 3, 3)), 3,
    ),
    "soft_cross_entropy": (soft_cross_entropy, lambda n, k: (soft(n, k, 1).log(), soft(n, k, 2)), 1),
    "alignment": (alignment, pair, 1),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("n", "k"), [(1, 3), (5, 4), (2, 6)])
def test_every_gradient_is_right(call: str, n: int, k: int) -> None:
    loss, make, moving = CALLS[call]
    tensors = make(n, k)
    constants = tensors[moving:]
    inputs = tuple(x.clone().requires_grad_() for x in tensors[:moving])
    assert torch.autograd.gradcheck(lambda *moved: loss(*moved, *constants), inputs)


def conflict_gradient(gap: float, smoothing: float) -> float:
    """Length of the gradient on the logits of 100 images, certain by `gap`, 30 of which differ between views."""
    own = torch.arange(100) % 10
    other = torch.where(torch.arange(100) < 30, (own + 1) % 10, own)
    logits = [(gap * torch.eye(10, dtype=torch.float64)[names]).requires_grad_() for names in (own, other)]
    probability_contrast(*(x.log_softmax(1) for x in logits), smoothing=smoothing).backward()
    return torch.cat([x.grad for x in logits]).norm().item()


def test_smoothing_takes_away_the_infinity_but_lets_certain_images_stop_learning() -> None:
    assert conflict_gradient(10, 0.01) < 0.1 * conflict_gradient(10, 0.0)
    assert conflict_gradient(25, 0.01) < 1e-7 * conflict_gradient(25, 0.0)
    assert conflict_gradient(60, 0.01) < 1e-20


def test_without_smoothing_certain_images_that_conflict_go_on_learning() -> None:
    lengths = [conflict_gradient(gap, 0.0) for gap in (10, 25, 60, 120, 300)]
    assert lengths[0] > 0.05 and lengths == pytest.approx([lengths[-1]] * 5, rel=1e-3)


def test_the_pull_brings_back_certain_logits_where_the_smoothed_contrast_has_stopped() -> None:
    logits = torch.tensor([[60.0, 0.0], [0.0, 60.0]], dtype=torch.float64, requires_grad=True)
    (probability_contrast(*(x.log_softmax(1) for x in (logits, logits.flip(0)))) + logit_clamp(logits, 25)).backward()
    assert logits.grad.flatten().tolist() == pytest.approx([17.5, 0, 0, 17.5], abs=1e-12)


# half precision


def halved(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    return [x.bfloat16() if x.is_floating_point() else x for x in tensors]


@pytest.mark.parametrize(
    "call",
    CALLS,
)
def test_every_loss_in_bf16_has_the_value_and_gradient_of_float32(call: str) -> None:
    loss, make, moving = CALLS[call]
    half = halved(make(12, 8))
    wide = [x.float() for x in half]
    for tensors in (half, wide):
        for x in tensors[:moving]:
            x.requires_grad_()
    expected = loss(*wide)
    expected.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*half)
    value.sum().backward()
    assert value.dtype == torch.float32 and torch.equal(value, expected)
    for ours, theirs in zip(half[:moving], wide[:moving], strict=True):
        assert torch.equal(ours.grad, theirs.grad.bfloat16())


@pytest.mark.parametrize("call", CALLS)
def test_every_loss_of_float32_stays_float32_inside_a_bf16_autocast(call: str) -> None:
    loss, make, moving = CALLS[call]
    tensors = [x.float() for x in make(12, 8)]
    found = []
    for enabled in (False, True):
        inputs = [x.clone().requires_grad_() for x in tensors[:moving]]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = loss(*inputs, *tensors[moving:])
        value.sum().backward()
        assert value.dtype == torch.float32
        found.append([value.detach(), *[x.grad for x in inputs]])
    assert all(torch.equal(outside, inside) for outside, inside in zip(*found, strict=True))


def test_the_pull_in_bf16_has_the_value_of_float32() -> None:
    half = (20 * rows(12, 8)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logit_clamp(half, 10.0), logit_clamp(half.float(), 10.0))


@pytest.mark.parametrize("call", CALLS)
def test_every_loss_of_doubles_is_a_double_and_leaves_its_inputs_as_they_are(call: str) -> None:
    loss, make, _ = CALLS[call]
    tensors = make(5, 4)
    kept = [x.clone() for x in tensors]
    assert loss(*tensors).dtype == torch.float64
    assert all(torch.equal(x, y) for x, y in zip(tensors, kept, strict=True))


# edges


def fixed(log_y: Tensor, n: int) -> Tensor:
    """n rows of a memory bank for these assignments."""
    return soft(n, log_y.shape[1], 3).to(log_y.dtype)


ON_LOGITS: dict[str, Loss] = {  # every loss of two views' logits
    **{form: loss for form, loss in ROWS.items() if form not in ("embeddings, CC", "alignment")},
    **{
        f"bank, {critic}, {smoothing}": (
            lambda a, b, critic=critic, smoothing=smoothing: bank_contrast(
                torch.cat([a, b]).log_softmax(1), b.detach().softmax(1).repeat(2, 1), fixed(a, 20), critic, smoothing
            )
        )
        for critic in CRITICS
        for smoothing in (0.0, 0.01)
    },
}


def checked(form: str, a: Tensor, b: Tensor) -> None:
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    loss = ON_LOGITS[form](a, b)
    loss.backward()
    for grad in (a.grad, b.grad):
        if grad is not None:
            assert grad.isfinite().all() and grad.abs().max() < 10
    assert loss.isfinite()


@pytest.mark.parametrize("form", ON_LOGITS)
@pytest.mark.parametrize("depth", [-30.0, -300.0, -1e4])
def test_a_dead_cluster_is_no_trouble(form: str, depth: float) -> None:
    """In both views, and in either one; at the lowest depth its column is exactly zero."""
    for dtype in (torch.float32, torch.float64):
        for dead_a, dead_b in ((True, True), (True, False), (False, True)):
            a, b = (x.clone() for x in pair(8, 4, dtype))
            if dead_a:
                a[:, 2] = depth
            if dead_b:
                b[:, 2] = depth
            checked(form, a, b)


@pytest.mark.parametrize("form", ON_LOGITS)
@pytest.mark.parametrize("gap", [120.0, 300.0, 1e4])
def test_certain_images_that_agree_or_conflict_are_no_trouble(form: str, gap: float) -> None:
    a = gap * torch.eye(4)[torch.arange(8) % 4]
    for b in (a, a.roll(1, 1), a[:1].expand(8, 4)):
        checked(form, a, b)
        checked(form, a[:1].expand(8, 4), b)


@pytest.mark.parametrize("form", ON_LOGITS)
@pytest.mark.parametrize(("n", "k"), [(1, 2), (1, 10), (2, 10), (3, 7), (127, 10)])
def test_one_image_and_more_clusters_than_images_are_no_trouble(form: str, n: int, k: int) -> None:
    checked(form, *pair(n, k, torch.float32))
    checked(form, *(1e4 * one_hot(n, k).float() for _ in "ab"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [120.0, 300.0])
def test_the_unsmoothed_critic_is_exact_where_the_plain_product_is_zero(gap: float, dtype: torch.dtype) -> None:
    """p = (1, e^-gap) / (1 + e^-gap) and q its mirror image: log(p . q) = log 2 - gap, to all digits."""
    logits = torch.tensor([[gap, 0.0]], dtype=dtype, requires_grad=True)
    log_p = logits.log_softmax(1)
    score = critic_scores(log_p, log_p.flip(1).detach(), "log_dot", 0.0)
    score.sum().backward()
    assert score.item() == pytest.approx(math.log(2) - gap, rel=1e-6)
    assert logits.grad[0].tolist() == pytest.approx([-0.5, 0.5], abs=1e-6)
    if dtype == torch.float32:  # what a product of probabilities makes of it
        assert torch.tensor([[gap, 0.0]]).softmax(1)[0, 1] == 0


def test_a_row_of_a_memory_bank_that_is_exactly_certain_is_no_trouble() -> None:
    logits = rows(6, 4, dtype=torch.float32).requires_grad_()
    loss = bank_contrast(logits.log_softmax(1), one_hot(6, 4).float(), one_hot(9, 4).float(), smoothing=0.0)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all() and logits.grad.abs().max() < 1


def test_a_row_of_zeros_aligns_with_nothing() -> None:
    p, z = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3)
    loss = alignment(p, z)
    loss.backward()
    assert loss.item() == 1 and p.grad.isfinite().all()


def test_a_query_far_from_all_banks_and_one_amid_a_foreign_bank_are_no_trouble() -> None:
    q = torch.eye(2).requires_grad_()
    bank = torch.stack([torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[-1.0, 0.0]] * 4)])
    for label in (0, 1):
        q.grad = None
        values = semantic_contrast(q, -q.detach(), bank_scores(q, bank, 1e-3), torch.full((2,), label), 1e-3)
        values.sum().backward()
        assert values.isfinite().all() and q.grad.isfinite().all()  # type: ignore[attr-defined]
    assert values[0].item() == pytest.approx(2000 + math.log(4), rel=1e-6)


# mistakes


@pytest.mark.parametrize("loss", [contrast, cluster_contrast])
def test_unknown_negatives_are_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match=r"negatives.*both_views or other_view.*'all'"):
        loss(*pair(3, 3), 0.5, negatives="all")


def test_an_unknown_critic_is_refused() -> None:
    a, b = log_pair(3, 3)
    message = r"'cosine'.*log_dot, dot, neg_l2, neg_jsd"
    with pytest.raises(ValueError, match=message):
        critic_scores(a, b, "cosine", 0.0)
    with pytest.raises(ValueError, match=message):
        probability_contrast(a, b, "cosine")
    with pytest.raises(ValueError, match=message):
        bank_contrast(a, b.exp(), b.exp(), "cosine")
