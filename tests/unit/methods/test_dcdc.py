"""DCDC: assignments contrasted by rows and by columns, two heads in turn, several views an image."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.analysis.metrics import accuracy
from ilk.methods import DCDC, get_preset
from ilk.methods.base import Encode
from ilk.methods.dcdc import DCDCConfig
from ilk.methods.subheads import SubHeads

K, N, OVER = 4, 12, 7
Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def make(build: Callable[..., Any], decide: Callable[..., Any]) -> Callable[..., DCDC]:
    """`make(**settings)`: a fresh DCDC with 7 over-clusters, the cluster head's turn."""

    def sure(**asked: Any) -> DCDC:
        method = build("dcdc", **{"k": K, "n": N, "over_clusters": OVER, **asked})
        return decide(method, [*method.cluster_heads.heads, *(method.over_head.heads if method.over_head else [])])

    return sure


@pytest.fixture
def views(batch: Callable[..., Batch]) -> Callable[[DCDC], Batch]:
    return lambda method: batch(N, method.repeats)


def assignments(method: DCDC, a: Tensor, b: Tensor, heads: str = "cluster_heads") -> tuple[Tensor, Tensor]:
    """U of the original and U' of the perturbed views by the first head, from a copy."""
    method = copy.deepcopy(method)
    with torch.no_grad():
        head = getattr(method, heads).heads[0]
        return head(method.backbone(a)).softmax(1), head(method.backbone(b)).softmax(1)


def cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


def pick(rows: Tensor, others: Tensor, tau: float, left_out: Callable[[int, int], bool] | None = None) -> float:
    """Mean cross entropy of picking row i of `others` by the cosine with row i of `rows`, looped."""
    total = 0.0
    for i in range(len(rows)):
        scores = {
            j: cosine(rows[i], others[j]) / tau
            for j in range(len(others))
            if j == i or left_out is None or not left_out(i, j)
        }
        total += math.log(sum(math.exp(value) for value in scores.values())) - scores[i]
    return total / len(rows)


# the paper


def test_the_paper_preset_has_the_published_settings() -> None:
    config, recipe, _ = get_preset("dcdc", "paper")
    assert config == DCDCConfig()
    assert (config.temperature, config.over_clusters, config.repeats) == (0.5, 70, 3)
    assert (config.sample_weight, config.class_weight, config.entropy_weight) == (1.0, 1.0, 0.0)
    assert (config.cluster_heads, config.warm_start) == (1, 0.0)
    assert not config.symmetric and not config.mask_same_image
    assert (recipe.backbone, recipe.image_size, recipe.views) == ("resnet34-pica", 32, "dcdc")
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-3, 0.0)
    assert (recipe.schedule, recipe.warmup, recipe.batch_size) == ("constant", 0, 50)
    assert recipe.front_end == "normalize-sobel"
    assert recipe.epochs == 400  # 200 of the paper's, which are a pass for each head


def test_the_released_code_adds_the_entropy() -> None:
    paper, released = get_preset("dcdc", "paper"), get_preset("dcdc", "released")
    assert released.config == replace(paper.config, entropy_weight=1.0) and released.recipe == paper.recipe


def test_heads_are_one_linear_layer_each(make: Callable[..., DCDC]) -> None:
    method = make()
    assert [tuple(p.shape) for p in method.cluster_heads.parameters()] == [(K, 128), (K,)]
    assert [tuple(p.shape) for p in method.over_head.parameters()] == [(OVER, 128), (OVER,)]


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_the_terms_are_the_published_ones(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch], repeats: int
) -> None:
    """Each original stands against every perturbed view of every image; one direction only."""
    method = make(repeats=repeats, temperature=0.3)
    a, b, index = views(method)
    u, perturbed = assignments(method, a, b)
    original = u.repeat(repeats, 1)
    terms = method(a, b, index)
    assert set(terms) == {"sample", "class"}
    assert terms["sample"].item() == pytest.approx(pick(original, perturbed, 0.3), abs=1e-4)
    assert terms["class"].item() == pytest.approx(pick(original.T, perturbed.T, 0.3), abs=1e-4)


def test_the_over_clustering_head_has_the_same_terms(make: Callable[..., DCDC], views: Callable[[DCDC], Batch]) -> None:
    method = make(repeats=2, entropy_weight=1.0)
    method.over = True
    a, b, index = views(method)
    u, perturbed = assignments(method, a, b, "over_head")
    terms = method(a, b, index)
    assert set(terms) == {"over_sample", "over_class", "over_entropy"}
    assert terms["over_sample"].item() == pytest.approx(pick(u.repeat(2, 1), perturbed, 0.5), abs=1e-4)
    assert terms["over_class"].item() == pytest.approx(pick(u.repeat(2, 1).T, perturbed.T, 0.5), abs=1e-4)
    p = u.mean(0)
    assert terms["over_entropy"].item() == pytest.approx(math.log(OVER) + float((p * p.log()).sum()), abs=1e-5)


def given(method: DCDC, y: Tensor) -> dict[str, Tensor]:
    """The terms of assignments `y`, (n, k), that all views agree on."""
    logits = y.clamp_min(1e-30).log()
    terms, _ = method.terms(SubHeads(nn.Identity, 1), logits, logits.repeat(method.repeats, 1))
    return terms


def test_sure_and_collapsed_clusters_have_the_known_values(make: Callable[..., DCDC]) -> None:
    """CIFAR-10's setting: 50 images, three views, 10 clusters, temperature 0.5."""
    method = make(k=10, entropy_weight=1.0)
    balanced = F.one_hot(torch.arange(50) % 10).float()
    terms = given(method, balanced)
    assert terms["sample"].item() == pytest.approx(3.505, abs=1e-3)
    assert terms["class"].item() == pytest.approx(0.797, abs=1e-3)
    assert terms["entropy"].item() == pytest.approx(0, abs=1e-5)
    terms = given(method, F.one_hot(torch.zeros(50, dtype=torch.int64), 10).float())
    assert terms["sample"].item() == pytest.approx(math.log(150), abs=1e-3)
    assert terms["entropy"].item() == pytest.approx(math.log(10), abs=1e-4)


def test_weights_act_on_their_own_term_and_a_weight_of_zero_leaves_it_out(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch]
) -> None:
    method = make(entropy_weight=1.0)
    expected = method(*views(method))
    weighed = make(sample_weight=2.0, class_weight=3.0, entropy_weight=4.0)(*views(method))
    for name, weight in (("sample", 2), ("class", 3), ("entropy", 4)):
        assert weighed[name].item() == pytest.approx(weight * expected[name].item(), rel=1e-5)
    assert set(make(sample_weight=0.0)(*views(method))) == {"class"}
    assert set(make(class_weight=0.0)(*views(method))) == {"sample"}


# several views an image


def test_masking_removes_exactly_the_other_views_of_the_same_image(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch]
) -> None:
    method, masked = make(), make(mask_same_image=True)
    a, b, index = views(method)
    u, perturbed = assignments(method, a, b)
    terms = masked(a, b, index)
    expected = pick(u.repeat(3, 1), perturbed, 0.5, left_out=lambda i, j: i % N == j % N)
    assert terms["sample"].item() == pytest.approx(expected, abs=1e-4)
    assert expected < method(a, b, index)["sample"].item() - 1e-3
    assert terms["class"].item() == pytest.approx(make()(a, b, index)["class"].item(), abs=1e-6)


@pytest.mark.parametrize(("repeats", "symmetric"), [(2, False), (3, False), (3, True)])
def test_masking_removes_one_negative_a_row_for_each_further_view(
    make: Callable[..., DCDC], repeats: int, symmetric: bool
) -> None:
    """With equal rows the loss counts the candidates: rB of them, and r - 1 fewer."""
    alike = torch.full((N, K), 1 / K)
    for masked in (False, True):
        method = make(repeats=repeats, mask_same_image=masked, symmetric=symmetric)
        candidates = repeats * N - (repeats - 1 if masked else 0)
        assert given(method, alike)["sample"].item() == pytest.approx(math.log(candidates), abs=1e-5)


def test_masking_one_view_an_image_changes_nothing(make: Callable[..., DCDC], views: Callable[[DCDC], Batch]) -> None:
    method = make(repeats=1)
    masked = make(repeats=1, mask_same_image=True)(*views(method))
    assert all(torch.equal(term, masked[name]) for name, term in method(*views(method)).items())


def test_the_entropy_is_that_of_the_original_views_alone(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch]
) -> None:
    method = make(entropy_weight=1.0)
    a, b, index = views(method)
    p = assignments(method, a, b)[0].mean(0)
    expected = make(entropy_weight=1.0)(a, b, index)["entropy"]
    assert expected.item() == pytest.approx(math.log(K) + float((p * p.log()).sum()), abs=1e-5)
    assert torch.equal(make(entropy_weight=1.0)(a, 0.3 * b, index)["entropy"], expected)
    assert not torch.equal(make(entropy_weight=1.0)(0.3 * a, b, index)["entropy"], expected)


def test_as_published_the_originals_pick_and_symmetric_both_do(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch]
) -> None:
    method = make(repeats=1)
    a, b, index = views(method)
    b = 0.3 * b
    u, perturbed = assignments(method, a, b)
    one, other = pick(u, perturbed, 0.5), pick(perturbed, u, 0.5)
    assert abs(one - other) > 1e-3
    assert make(repeats=1)(a, b, index)["sample"].item() == pytest.approx(one, abs=1e-4)
    assert make(repeats=1)(b, a, index)["sample"].item() == pytest.approx(other, abs=1e-4)
    both = make(repeats=1, symmetric=True)(a, b, index)
    assert both["sample"].item() == pytest.approx((one + other) / 2, abs=1e-4)
    columns = (pick(u.T, perturbed.T, 0.5) + pick(perturbed.T, u.T, 0.5)) / 2
    assert both["class"].item() == pytest.approx(columns, abs=1e-4)


# turns


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 7, 400])
def test_heads_take_turns_and_the_last_epoch_is_the_cluster_heads(
    make: Callable[..., DCDC], encode: Encode, epochs: int
) -> None:
    method = make()
    over = []
    for epoch in range(epochs):
        method.start_epoch(epoch, epochs, encode, 0)
        over.append(method.over)
    assert not over[-1] and all(one != other for one, other in pairwise(over))


def test_until_the_start_all_turns_are_the_over_clustering_heads(make: Callable[..., DCDC], encode: Encode) -> None:
    method = make(k=3, warm_start=0.5)
    over, messages = [], []
    for epoch in range(10):
        messages.append(method.start_epoch(epoch, 10, encode, 0))
        over.append(method.over)
    assert over == [True] * 5 + [False, True, False, True, False]
    assert [bool(message) for message in messages] == [False] * 5 + [True] + [False] * 4
    assert accuracy((torch.arange(60) % 3).numpy(), method.assign_features(encode(60)).argmax(1).numpy()) == 1


@pytest.mark.parametrize("over", [True, False])
def test_a_turn_trains_the_backbone_and_one_head(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch], over: bool
) -> None:
    method = make()
    method.over = over
    sum(method(*views(method)).values()).backward()
    trained = {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}
    assert trained == {"backbone", "over_head" if over else "cluster_heads"}


def test_running_losses_are_of_the_cluster_heads_turns_and_clusters_are_observed_in_both(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch]
) -> None:
    method = make(cluster_heads=2)
    a, b, index = views(method)
    u = assignments(method, a, b)[0]
    method.over = True
    method(a, b, index)
    assert method.cluster_heads.loss.tolist() == [0, 0]
    assert torch.allclose(method.observed, u, atol=1e-5) and not method.observed.requires_grad
    method.over = False
    terms = method(a, b, index)
    assert method.cluster_heads.loss.mean().item() == pytest.approx(sum(terms.values()).item(), abs=1e-4)


def test_without_an_over_clustering_head_every_turn_is_the_cluster_heads(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch], encode: Encode
) -> None:
    method = make(over_clusters=0)
    assert method.over_head is None
    for epoch in range(4):
        method.start_epoch(epoch, 4, encode, 0)
        assert not method.over and not method.takes_extra(epoch, 4)
    assert set(method(*views(method))) == {"sample", "class"}


# extra images


@pytest.mark.parametrize("over", [True, False])
def test_images_that_are_not_to_be_clustered_train_the_over_clustering_head_only(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch], over: bool
) -> None:
    method = make()
    method.over = over
    terms = method(*views(method)[:2], None)
    assert set(terms) == {"over_sample", "over_class"} and method.observed is None
    sum(terms.values()).backward()
    assert all(p.grad is None for p in method.cluster_heads.parameters())
    assert all(p.grad is not None for p in method.over_head.parameters())
    assert method.cluster_heads.loss.tolist() == [0]


def test_extra_images_pass_in_the_over_clustering_epochs(make: Callable[..., DCDC]) -> None:
    method = make()
    assert method.uses_extra
    assert [method.takes_extra(epoch, 6) for epoch in range(6)] == [True, False, True, False, True, False]


# edges


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over_clusters": 1}, "over_clusters.* 0 .*at least 2.* 1"),
        ({"over_clusters": 0, "warm_start": 0.5}, "warm_start.*over-clustering head"),
        ({"repeats": 0}, "repeats.*at least 1.* 0"),
        ({"temperature": 0.0}, "temperature.*more than 0"),
        ({"class_weight": -1.0}, "class_weight.*at least 0"),
    ],
)
def test_a_bad_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DCDCConfig(**settings)


def test_a_loss_without_any_term_is_refused() -> None:
    with pytest.raises(ValueError, match="weight"):
        DCDCConfig(sample_weight=0.0, class_weight=0.0, entropy_weight=0.0)


@pytest.mark.parametrize("depth", [-300.0, -1e4])
def test_a_dead_cluster_gives_finite_terms_and_gradients(
    make: Callable[..., DCDC], views: Callable[[DCDC], Batch], depth: float
) -> None:
    method = make(entropy_weight=1.0)
    with torch.no_grad():
        method.cluster_heads.heads[0].bias[1] = depth
    terms = method(*views(method))
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
