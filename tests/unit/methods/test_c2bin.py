"""C2BIN: images pulled together between runner and follower, clusters of several sizes told apart."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.analysis.metrics import accuracy
from ilk.methods import C2BIN, get_preset, override
from ilk.methods.base import Encode
from ilk.methods.c2bin import C2BINConfig

K, N = 4, 16
Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def make(build: Callable[..., Any], decide: Callable[..., Any]) -> Callable[..., C2BIN]:
    """`make(**settings)`: a fresh C2BIN with narrow layers and predictors of 6 and 9 clusters besides."""
    small = {"k": K, "n": N, "hidden_dim": 20, "embedding_dim": 12, "scales": "6,9"}

    def sure(**asked: Any) -> C2BIN:
        method = build("c2bin", **{**small, **asked})
        return decide(method, [*method.scale_heads, *method.cluster_heads.heads])

    return sure


@pytest.fixture
def views(batch: Callable[..., Batch]) -> Batch:
    a, b, index = batch(N)
    return a, 0.5 * b, index  # a darker second view, so that which is which matters


class Parts:
    """Features, predictions, targets and assignments, from a copy of the method."""

    def __init__(self, method: C2BIN, a: Tensor, b: Tensor) -> None:
        method = copy.deepcopy(method)
        with torch.no_grad():
            h_a, h_b = method.backbone(a), method.backbone(b)
            self.predicted = [method.predictor(method.projector(h)) for h in (h_a, h_b)]
            self.target = [method.follower(x) for x in (a, b)]
            heads = [*method.scale_heads, *method.cluster_heads.heads]
            self.y = [(head(h_a).softmax(1), head(h_b).softmax(1)) for head in heads]

    def align(self, one: int, other: int) -> float:
        pairs = zip(self.predicted[one], self.target[other], strict=True)
        return 1 - float(np.mean([float(p @ t / (p.norm() * t.norm())) for p, t in pairs]))


def vectors(y_a: Tensor, y_b: Tensor, tau: float, *, positive: bool = False, raw: bool = False) -> float:
    """L_bca of equation 4, looped: columns of one view against the other columns of the other view."""
    a, b = (y.T if raw else F.normalize(y.T, dim=1) for y in (y_a, y_b))
    total = 0.0
    for i in range(len(a)):
        scores = [float(a[i] @ b[j]) / tau for j in range(len(b))]
        total -= scores[i] - math.log(sum(math.exp(s) for j, s in enumerate(scores) if positive or j != i))
    return total / len(a)


def both(y_a: Tensor, y_b: Tensor, tau: float, **switches: bool) -> float:
    return (vectors(y_a, y_b, tau, **switches) + vectors(y_b, y_a, tau, **switches)) / 2


def balance(y: Tensor) -> float:
    """log k minus the entropy of the mean assignment."""
    p = y.mean(0)
    return math.log(len(p)) + float((p * p.log()).sum())


# the paper


def test_the_paper_preset_has_the_published_settings() -> None:
    config, recipe, _ = get_preset("c2bin", "paper")
    assert config == C2BINConfig()
    assert (config.hidden_dim, config.embedding_dim, config.twin_momentum) == (512, 512, 0.995)
    assert (config.sizes, config.temperature) == ([40, 160], 1.0)
    assert (config.align_weight, config.cluster_weight, config.entropy_weight) == (1.0, 1.0, 1.0)
    assert (config.cluster_heads, config.warm_start) == (1, 0.0)
    assert config.batch_norm and config.symmetric and config.normalize and not config.include_positive
    assert (recipe.backbone, recipe.image_size, recipe.views) == ("resnet34-pica", 32, "moco-v2")
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 3e-4, 0.0)
    assert (recipe.schedule, recipe.batch_size, recipe.epochs, recipe.front_end) == ("cosine", 256, 100, "none")


def test_predictors_of_clusters_are_linear_on_the_encoder_and_one_has_the_wanted_size(
    make: Callable[..., C2BIN],
) -> None:
    method = make()
    assert [tuple(head.weight.shape) for head in method.scale_heads] == [(6, 128), (9, 128)]
    assert [tuple(head.weight.shape) for head in method.cluster_heads.heads] == [(K, 128)]
    h = torch.rand(3, 128)
    assert torch.equal(method.assign_features(h), method.cluster_heads.heads[0](h).softmax(1))


@pytest.mark.parametrize("norm", [True, False])
def test_projector_and_predictor_are_two_layers_with_or_without_batch_norm(
    make: Callable[..., C2BIN], norm: bool
) -> None:
    method = make(batch_norm=norm)
    for network, d in ((method.projector, 128), (method.predictor, 12)):
        shapes = [tuple(p.shape) for p in network.parameters() if p.dim() == 2]
        assert shapes == [(20, d), (12, 20)]
        assert any(isinstance(layer, nn.BatchNorm1d) for layer in network) == norm


def test_the_terms_are_the_published_ones(make: Callable[..., C2BIN], views: Batch) -> None:
    method = make(align_weight=0.5, cluster_weight=2.0, entropy_weight=3.0, temperature=0.7)
    parts, terms = Parts(method, *views[:2]), method(*views)
    assert set(terms) == {"align", "cluster", "entropy"} and len(parts.y) == 3
    assert terms["align"].item() == pytest.approx(0.5 * (parts.align(0, 1) + parts.align(1, 0)) / 2, abs=1e-5)
    expected = 2 * sum(both(a, b, 0.7) for a, b in parts.y)
    assert terms["cluster"].item() == pytest.approx(expected, abs=1e-4)
    expected = 2 * 3 * sum((balance(a) + balance(b)) / 2 for a, b in parts.y)
    assert terms["entropy"].item() == pytest.approx(expected, abs=1e-4)


def test_perfect_clusters_have_the_known_values(make: Callable[..., C2BIN]) -> None:
    """k = 10, temperature 1: log 9 - 1 without the positive in the denominator, log(e + 9) - 1 with it."""
    log_y = (1000 * F.one_hot(torch.arange(40) % 10).float()).log_softmax(1).repeat(2, 1)  # both views
    for included, value in ((False, 1.197), (True, 1.461)):
        found, entropy = make(include_positive=included).cluster_terms(log_y).tolist()
        assert found == pytest.approx(value, abs=1e-3) and entropy == pytest.approx(0, abs=1e-5)
    same = (1000 * F.one_hot(torch.zeros(80, dtype=torch.int64), 10).float()).log_softmax(1)
    assert make().cluster_terms(same)[1].item() == pytest.approx(math.log(10), abs=1e-4)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("raw", [True, False])
def test_readings_of_the_formula_raw_or_by_cosine_with_or_without_the_positive(
    make: Callable[..., C2BIN], views: Batch, raw: bool, positive: bool
) -> None:
    method = make(normalize=not raw, include_positive=positive)
    parts, terms = Parts(method, *views[:2]), method(*views)
    expected = sum(both(a, b, 1.0, raw=raw, positive=positive) for a, b in parts.y)
    assert terms["cluster"].item() == pytest.approx(expected, abs=2e-4)


def test_raw_columns_of_a_collapsed_batch_overflow_nothing(make: Callable[..., C2BIN]) -> None:
    """256 sure images in one cluster: e^256 is beyond float32."""
    logits = (1000 * F.one_hot(torch.zeros(256, dtype=torch.int64), 10).float()).requires_grad_()
    term = make(normalize=False).cluster_terms(logits.log_softmax(1).repeat(2, 1))
    term.sum().backward()
    assert term.isfinite().all() and logits.grad.isfinite().all()


def test_one_direction_only_if_it_is_not_symmetric(make: Callable[..., C2BIN], views: Batch) -> None:
    """The runner sees both views, the follower the second alone."""
    method = make(symmetric=False)
    parts, terms = Parts(method, *views[:2]), method(*views)
    assert terms["align"].item() == pytest.approx(parts.align(0, 1), abs=1e-5)
    assert abs(parts.align(0, 1) - parts.align(1, 0)) > 1e-4
    assert terms["cluster"].item() == pytest.approx(sum(vectors(a, b, 1.0) for a, b in parts.y), abs=1e-4)
    assert method.follower.network[0].stem[1].num_batches_tracked == 1


# runner and follower


def test_the_follower_is_a_copy_that_moves_after_the_step_by_its_momentum(
    make: Callable[..., C2BIN], views: Batch
) -> None:
    method = make(twin_momentum=0.75)
    before = [p.clone() for p in method.follower.parameters()]
    runner = [*method.backbone.parameters(), *method.projector.parameters()]
    assert all(torch.equal(own, other) for own, other in zip(before, runner, strict=True))
    with torch.no_grad():
        for parameter in runner:
            parameter.add_(1.0)
    method(*views)
    assert all(torch.equal(p, q) for p, q in zip(method.follower.parameters(), before, strict=True))
    method.after_step()
    for own, old, new in zip(method.follower.parameters(), before, runner, strict=True):
        assert torch.allclose(own, 0.75 * old + 0.25 * new, atol=1e-6)


def test_no_gradient_reaches_the_follower_and_alignment_teaches_all_of_the_runner(
    make: Callable[..., C2BIN], views: Batch
) -> None:
    method = make()
    method(*views)["align"].backward()
    assert all(p.grad is None and not p.requires_grad for p in method.follower.parameters())
    for part in (method.backbone, method.projector, method.predictor):
        assert all(p.grad is not None for p in part.parameters())
    assert all(p.grad is None for p in method.scale_heads.parameters())


def test_clusters_teach_the_encoder_and_not_the_projector(make: Callable[..., C2BIN], views: Batch) -> None:
    method = make()
    terms = method(*views)
    (terms["cluster"] + terms["entropy"]).backward()
    trained = {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}
    assert trained == {"backbone", "scale_heads", "cluster_heads"}


def test_wanted_clusters_that_do_not_teach_are_read_from_features_that_others_shape(
    make: Callable[..., C2BIN], views: Batch
) -> None:
    method = make(target_teaches=False, scales="")
    terms, whole = method(*views), make(scales="")(*views)
    assert all(torch.equal(terms[name], whole[name]) for name in whole) and set(terms) == set(whole)
    (terms["cluster"] + terms["entropy"]).backward()
    trained = {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}
    assert trained == {"cluster_heads"}


def test_the_other_scales_teach_where_the_wanted_clusters_do_not(make: Callable[..., C2BIN], views: Batch) -> None:
    method = make(target_teaches=False)
    method(*views)["cluster"].backward()
    assert all(p.grad is not None for p in method.backbone.parameters())
    alone = make(scales="")
    rest = make(target_teaches=True)
    rest(*views)["cluster"].backward()
    alone(*views)["cluster"].backward()
    name, mine = next(iter(method.backbone.named_parameters()))
    whole, own = dict(rest.backbone.named_parameters())[name], dict(alone.backbone.named_parameters())[name]
    assert torch.allclose(mine.grad, whole.grad - own.grad, atol=1e-5) and own.grad.abs().sum() > 0


def test_a_reset_follower_is_a_copy_running_statistics_included(make: Callable[..., C2BIN], views: Batch) -> None:
    method = make()
    method(*views)
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(0.1)
    method.reset_twin()
    ours = nn.Sequential(method.backbone, method.projector).state_dict()
    theirs = method.follower.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# scales


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("40,160", [40, 160]), (" 40 , 160 ", [40, 160]), ("7", [7]), ("", []), ("2,2,2", [2, 2, 2]), ("3,", [3])],
)
def test_scales_are_read_from_text(text: str, sizes: list[int]) -> None:
    assert C2BINConfig(scales=text).sizes == sizes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("40;160", "scales.*whole numbers.*'40;160'"),
        ("many", "scales.*whole numbers.*'many'"),
        ("2.5", "scales.*whole numbers.*'2.5'"),
        ("40,1", "scales.*at least 2.*'40,1'"),
        ("-3", "scales.*at least 2.*'-3'"),
    ],
)
def test_bad_scales_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        C2BINConfig(scales=text)


def test_scales_may_be_given_as_a_setting() -> None:
    assert override(get_preset("c2bin", "paper"), {"scales": "20,80"}).config.sizes == [20, 80]
    assert override(get_preset("c2bin", "paper"), {"scales": 20}).config.sizes == [20]


def test_without_further_scales_the_wanted_clusters_are_contrasted_alone(
    make: Callable[..., C2BIN], views: Batch
) -> None:
    method = make(scales="")
    parts = Parts(method, *views[:2])
    ((a, b),) = parts.y
    assert method(*views)["cluster"].item() == pytest.approx(both(a, b, 1.0), abs=1e-5)


def test_several_heads_of_the_wanted_size_count_as_their_mean(make: Callable[..., C2BIN], views: Batch) -> None:
    method = make(scales="", cluster_heads=3)
    parts, terms = Parts(method, *views[:2]), method(*views)
    each = [both(a, b, 1.0) for a, b in parts.y]
    balances = [(balance(a) + balance(b)) / 2 for a, b in parts.y]
    assert terms["cluster"].item() == pytest.approx(np.mean(each), abs=1e-5)
    assert terms["entropy"].item() == pytest.approx(np.mean(balances), abs=1e-5)
    totals = np.add(each, balances)
    assert method.cluster_heads.loss.tolist() == pytest.approx(totals.tolist(), abs=1e-4)
    assert torch.allclose(method.observed, parts.y[int(totals.argmin())][0], atol=1e-5)


# the start that waits


def test_before_the_start_the_other_scales_are_trained(make: Callable[..., C2BIN], views: Batch) -> None:
    method = make(warm_start=0.5)
    parts, terms = Parts(method, *views[:2]), method(*views)
    assert method.observed is None
    assert terms["cluster"].item() == pytest.approx(sum(both(a, b, 1.0) for a, b in parts.y[:2]), abs=1e-4)
    assert set(make(warm_start=0.5, scales="")(*views)) == {"align"}


def test_the_heads_of_the_wanted_size_start_from_partitions_of_the_features(
    make: Callable[..., C2BIN], encode: Encode
) -> None:
    method = make(k=3, warm_start=0.5, cluster_heads=2)
    messages = [method.start_epoch(epoch, 4, encode, 0) for epoch in range(4)]
    assert messages == [None, None, "2 cluster heads start from partitions of the features of 60 images", None]
    found = method.assign_features(encode(60)).argmax(1).numpy()
    assert accuracy((torch.arange(60) % 3).numpy(), found) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"twin_momentum": 1.0}, "twin_momentum.*less than 1.*1.0"),
        ({"temperature": 0.0}, "temperature.*more than 0"),
        ({"cluster_heads": 0}, "cluster_heads.*at least 1"),
        ({"align_weight": -1.0}, "align_weight.*at least 0"),
        ({"align_weight": 0.0, "target_teaches": False, "scales": ""}, "encoder.*target_"),
        ({"align_weight": 0.0, "cluster_weight": 0.0}, "encoder.*target_teaches"),
    ],
)
def test_a_bad_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        C2BINConfig(**settings)
