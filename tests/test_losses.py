"""Every loss: by hand, against the slow transcription of the paper, by identities, and at its edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ilk.losses import negative_marginal_entropy, nt_xent
from reference import cc as slow

Loss = Callable[[Tensor, Tensor], Tensor]


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
    expected = nt_xent(*wide, temperature)
    expected.backward()
    with torch.autocast("cpu", torch.bfloat16):
        value = nt_xent(*half, temperature)
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
