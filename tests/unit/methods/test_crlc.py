"""CRLC: images contrasted by their probabilities, in the batch or with a memory bank, and a few known labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ilk.methods.crlc
from ilk.analysis.metrics import accuracy
from ilk.losses import (
    bank_contrast,
    cluster_contrast,
    critic_scores,
    negative_marginal_entropy,
    nt_xent,
    probability_contrast,
)
from ilk.methods import CRLC, get_preset
from ilk.methods.base import Encode
from ilk.methods.crlc import CRLCConfig

K, N, HEADS = 4, 24, 2
Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def make(build: Callable[..., Any], decide: Callable[..., Any]) -> Callable[..., CRLC]:
    """`make(**settings)`: a fresh CRLC of two heads."""

    def sure(**asked: Any) -> CRLC:
        method = build("crlc", **{"k": K, "n": N, "cluster_heads": HEADS, **asked})
        return decide(method, method.cluster_heads.heads)

    return sure


@pytest.fixture
def views(batch: Callable[..., Batch]) -> Batch:
    return batch(N)


class Parts:
    """What the losses are made of, from a copy of the method."""

    def __init__(self, method: CRLC, a: Tensor, b: Tensor) -> None:
        method = copy.deepcopy(method)
        with torch.no_grad():
            h_a, h_b = method.backbone(a), method.backbone(b)
            self.z_a, self.z_b = method.feature_head(h_a), method.feature_head(h_b)
            self.logits_a = torch.stack([head(h_a) for head in method.cluster_heads.heads])
            self.logits_b = torch.stack([head(h_b) for head in method.cluster_heads.heads])
        self.log_a, self.log_b = self.logits_a.log_softmax(2), self.logits_b.log_softmax(2)

    def mean(self, loss: Callable[[Tensor, Tensor], Tensor]) -> float:
        return float(np.mean([loss(a, b).item() for a, b in zip(self.log_a, self.log_b, strict=True)]))


# the paper


def test_the_paper_preset_has_the_published_settings() -> None:
    config, recipe, _ = get_preset("crlc", "paper")
    assert config == CRLCConfig()
    assert (config.embedding_dim, config.feature_temperature, config.cluster_heads) == (128, 0.1, 10)
    assert (config.critic, config.smoothing, config.framework) == ("log_dot", 0.01, "in_batch")
    assert (config.cluster_weight, config.entropy_weight, config.feature_weight) == (1.0, 1.0, 10.0)
    assert config.bank_momentum == 0.5 and config.warm_start == 0
    assert config.clamp_weight == config.consistency_weight == config.column_weight == 0
    assert (recipe.backbone, recipe.image_size, recipe.views) == ("resnet34-cifar", 32, "crlc")
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    assert not recipe.decay_vectors and recipe.front_end == "normalize"
    assert (recipe.schedule, recipe.warmup, recipe.batch_size, recipe.epochs) == ("constant", 0, 512, 2000)


def test_the_released_code_differs_from_the_paper_in_the_entropy_weight_and_the_clamp() -> None:
    paper, released = get_preset("crlc", "paper"), get_preset("crlc", "released")
    assert released.config == replace(paper.config, entropy_weight=2.0, clamp_weight=0.01)
    assert released.config.clamp_bound == 25 and released.recipe == paper.recipe


def test_the_second_form_differs_from_the_paper_preset_in_the_memory_bank_alone() -> None:
    paper, second = get_preset("crlc", "paper"), get_preset("crlc", "memory-bank")
    assert second.config == replace(paper.config, framework="memory_bank") and second.recipe == paper.recipe


def test_heads_have_the_published_shape_and_start_as_kaiming_says(build: Callable[..., Any]) -> None:
    method = build("crlc", cluster_heads=10)
    assert [tuple(p.shape) for p in method.feature_head.parameters()] == [(128, 128), (128,), (128, 128), (128,)]
    assert len(method.cluster_heads.heads) == 10
    for head in (method.feature_head, *method.cluster_heads.heads):
        for layer in head:
            if isinstance(layer, nn.Linear):
                bound = math.sqrt(6 / layer.in_features)  # uniform, gain sqrt 2
                assert 0.95 * bound < layer.weight.abs().max() <= bound and (layer.bias == 0).all()


def literal(q_a: list[list[float]], q_b: list[list[float]], gamma: float) -> float:
    """L_PC of the paper, looped: minus the logarithm of p_i . p_partner among all p_i . p_k, k not i."""
    p = [[(1 - gamma) * value + gamma / len(row) for value in row] for row in (*q_a, *q_b)]
    n, total = len(q_a), 0.0
    for i in range(2 * n):
        dots = [sum(x * y for x, y in zip(p[i], p[j], strict=True)) for j in range(2 * n)]
        total -= math.log(dots[(i + n) % (2 * n)] / sum(dots[j] for j in range(2 * n) if j != i))
    return total / (2 * n)


def test_with_the_papers_settings_the_terms_are_the_published_ones(make: Callable[..., CRLC], views: Batch) -> None:
    method = make()
    parts = Parts(method, *views[:2])
    terms = method(*views)
    assert set(terms) == {"feature", "cluster", "entropy"}
    assert terms["feature"].item() == pytest.approx(10 * nt_xent(parts.z_a, parts.z_b, 0.1).item(), rel=1e-5)
    assert terms["cluster"].item() == pytest.approx(
        parts.mean(lambda a, b: torch.tensor(literal(a.exp().tolist(), b.exp().tolist(), 0.01))), abs=1e-4
    )
    both = parts.mean(lambda a, b: negative_marginal_entropy(a) + negative_marginal_entropy(b))
    assert terms["entropy"].item() == pytest.approx(both / 2, abs=1e-5)


def test_the_entropy_is_of_the_mean_of_the_batch_and_not_of_each_image(make: Callable[..., CRLC], views: Batch) -> None:
    """The mistake of a public reproduction, which then finds half of what the paper does."""
    method = make(cluster_heads=1)
    with torch.no_grad():
        method.cluster_heads.heads[0][2].weight.mul_(4)  # most images are sure
    parts = Parts(method, *views[:2])
    p = parts.log_a[0].exp().mean(0)
    q = parts.log_b[0].exp().mean(0)
    expected = [math.log(K) + float((x * x.log()).sum()) for x in (p, q)]
    assert method(*views)["entropy"].item() == pytest.approx(sum(expected) / 2, abs=1e-5)


def test_weights_temperature_and_smoothing_act_on_their_own_term(make: Callable[..., CRLC], views: Batch) -> None:
    asked = {"cluster_weight": 2.0, "entropy_weight": 3.0, "feature_weight": 0.5, "feature_temperature": 0.3}
    method = make(**asked, smoothing=0.2)
    parts, terms = Parts(method, *views[:2]), method(*views)
    assert terms["feature"].item() == pytest.approx(0.5 * nt_xent(parts.z_a, parts.z_b, 0.3).item(), rel=1e-5)
    contrast = parts.mean(lambda a, b: probability_contrast(a, b, "log_dot", 0.2))
    assert terms["cluster"].item() == pytest.approx(2 * contrast, rel=1e-5)
    entropy = parts.mean(lambda a, b: negative_marginal_entropy(a) + negative_marginal_entropy(b))
    assert terms["entropy"].item() == pytest.approx(1.5 * entropy, abs=1e-5)


@pytest.mark.parametrize("critic", ["log_dot", "dot", "neg_l2", "neg_jsd"])
def test_each_critic_compares_as_its_name_says(make: Callable[..., CRLC], views: Batch, critic: str) -> None:
    def score(p: Tensor, q: Tensor) -> float:
        p, q = 0.99 * p + 0.01 / K, 0.99 * q + 0.01 / K
        m = (p + q) / 2
        return {
            "log_dot": math.log(float(p @ q)),
            "dot": float(p @ q),
            "neg_l2": -float((p - q).square().sum()),
            "neg_jsd": -float((p * (p / m).log() + q * (q / m).log()).sum()) / 2,
        }[critic]

    method = make(critic=critic, cluster_heads=1)
    parts = Parts(method, *views[:2])
    rows = torch.cat([parts.log_a[0], parts.log_b[0]]).exp()
    total = 0.0
    for i in range(2 * N):
        scores = {j: score(rows[i], rows[j]) for j in range(2 * N) if j != i}
        total += math.log(sum(math.exp(value) for value in scores.values())) - scores[(i + N) % (2 * N)]
    assert method(*views)["cluster"].item() == pytest.approx(total / (2 * N), abs=1e-4)


def test_the_running_loss_of_a_head_is_its_contrast_and_its_entropy(make: Callable[..., CRLC], views: Batch) -> None:
    method = make(entropy_weight=0.5)
    parts = Parts(method, *views[:2])
    method(*views)
    expected = [
        probability_contrast(a, b, "log_dot", 0.01).item()
        + 0.25 * (negative_marginal_entropy(a) + negative_marginal_entropy(b)).item()
        for a, b in zip(parts.log_a, parts.log_b, strict=True)
    ]
    assert method.cluster_heads.loss.tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(method.observed, parts.log_a[int(np.argmin(expected))].exp(), atol=1e-5)


def test_the_running_loss_has_the_ablations_in_it(make: Callable[..., CRLC], views: Batch) -> None:
    """Where they take the place of the contrast, the best head is the one that is best at them."""
    method = make(cluster_weight=0.0, entropy_weight=0.0, consistency_weight=2.0, column_weight=3.0)
    parts = Parts(method, *views[:2])
    method(*views)
    expected = [
        2 * -(a.exp() * b.exp()).sum(1).log().mean().item() + 3 * cluster_contrast(a.exp(), b.exp(), 1.0).item()
        for a, b in zip(parts.log_a, parts.log_b, strict=True)
    ]
    assert method.cluster_heads.loss.tolist() == pytest.approx(expected, abs=1e-4)


def test_logits_beyond_the_bound_are_pulled_back_and_others_are_left_alone(
    make: Callable[..., CRLC], views: Batch
) -> None:
    """The sum over clusters of |logit| times its excess, a mean over the images of both views and the heads."""
    assert make(clamp_weight=0.01)(*views)["clamp"].item() == 0  # far within 25
    method = make(clamp_weight=0.01, clamp_bound=2.0)
    with torch.no_grad():
        for head in method.cluster_heads.heads:
            head[2].weight.mul_(10)
    parts = Parts(method, *views[:2])
    logits = torch.cat([parts.logits_a, parts.logits_b], 1)
    expected = (logits.abs() * (logits.abs() - 2).clamp_min(0)).sum(2).mean()
    assert expected > 1 and method(*views)["clamp"].item() == pytest.approx(0.01 * expected.item(), rel=1e-4)


def test_ablations_are_absent_as_published_and_by_hand_when_asked_for(make: Callable[..., CRLC], views: Batch) -> None:
    method = make(consistency_weight=2.0, column_weight=3.0)
    parts, terms = Parts(method, *views[:2]), method(*views)
    consistency = parts.mean(lambda a, b: -(a.exp() * b.exp()).sum(1).log().mean())
    assert terms["consistency"].item() == pytest.approx(2 * consistency, abs=1e-4)
    columns = parts.mean(lambda a, b: cluster_contrast(a.exp(), b.exp(), 1.0))
    assert terms["column"].item() == pytest.approx(3 * columns, abs=1e-4)
    assert not {"consistency", "column", "clamp", "known"} & set(make()(*views))


def test_before_the_start_only_the_feature_term_is_there(make: Callable[..., CRLC], views: Batch) -> None:
    method = make(warm_start=0.5)
    assert set(method(*views)) == {"feature"} and method.observed is None


# known labels


def test_the_known_term_by_hand(make: Callable[..., CRLC], views: Batch) -> None:
    """The mean over known images, both views and all heads of minus the logarithm of the known cluster."""
    method = make(supervised_weight=0.7)
    codes = torch.full((N,), -1)
    codes[3], codes[10], codes[20] = 2, 0, 3
    method.know(codes)
    parts = Parts(method, *views[:2])
    surprises = [
        -float(log[head, row, codes[row]])
        for log in (parts.log_a, parts.log_b)
        for head in range(HEADS)
        for row in (3, 10, 20)
    ]
    assert method(*views)["known"].item() == pytest.approx(0.7 * np.mean(surprises), abs=1e-5)


def test_known_labels_are_looked_up_by_the_number_of_the_image(make: Callable[..., CRLC], views: Batch) -> None:
    a, b, _ = views
    method, other = make(n=100), make(n=100)
    codes = torch.full((100,), -1)
    codes[77] = 1
    method.know(codes)
    parts = Parts(method, a, b)
    index = torch.arange(60, 60 + N)  # image 77 is row 17
    expected = -(parts.log_a + parts.log_b)[:, 17, 1].mean() / 2
    assert method(a, b, index)["known"].item() == pytest.approx(expected.item(), abs=1e-5)
    assert "known" not in other(a, b, index)


def test_the_known_term_is_zero_and_teaches_nothing_where_the_batch_has_none(
    make: Callable[..., CRLC], views: Batch
) -> None:
    a, b, _ = views
    method = make(n=100)
    codes = torch.full((100,), -1)
    codes[77] = 1
    method.know(codes)
    term = method(a, b, torch.arange(N))["known"]
    assert term.item() == 0
    term.backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in method.parameters())


@pytest.mark.parametrize("taught", [True, False])
def test_known_labels_are_saved_and_restored(make: Callable[..., CRLC], views: Batch, taught: bool) -> None:
    method, other = make(), make(seed=1)
    codes = torch.full((N,), -1)
    codes[5] = 3
    (method if taught else other).know(codes)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.known, method.known)
    assert ("known" in other(*views)) == ("known" in method(*views)) == taught


def test_heads_start_with_the_names_of_the_known_labels(make: Callable[..., CRLC], encode: Encode) -> None:
    names, kind = torch.tensor([1, 2, 0]), torch.arange(60) % 3
    codes = torch.full((60,), -1)
    codes[:6] = names[kind[:6]]
    method = make(k=3, n=60, warm_start=0.5)
    method.know(codes)
    assert method.start_epoch(5, 10, encode, 0) == "2 cluster heads start from partitions of the features of 60 images"
    for logits in method.cluster_heads.logits(encode(60)):
        assert torch.equal(logits.argmax(1), names[kind])
    unknown = make(k=3, n=60, warm_start=0.5)
    unknown.start_epoch(5, 10, encode, 0)
    assert accuracy(kind.numpy(), unknown.assign_features(encode(60)).argmax(1).numpy()) == 1


# the memory bank


@pytest.fixture
def banked(make: Callable[..., CRLC]) -> CRLC:
    return make(framework="memory_bank", bank_negatives=64)


def test_rows_of_the_bank_start_uniform_so_the_first_loss_is_that_of_a_guess(banked: CRLC, views: Batch) -> None:
    """log(m + 1), and no gradient from it: only the other terms teach in the first step."""
    assert banked.bank.rows.shape == (HEADS, N, K) and (banked.bank.rows == 1 / K).all()
    term = banked(*views)["cluster"]
    assert term.item() == pytest.approx(math.log(65), abs=1e-5)
    term.backward()
    assert max(float(p.grad.abs().max()) for p in banked.parameters() if p.grad is not None) < 1e-6


def test_rows_move_half_way_to_the_mean_of_both_views_for_the_images_of_the_batch_only(
    make: Callable[..., CRLC], views: Batch
) -> None:
    a, b, _ = views
    method = make(n=40, framework="memory_bank", bank_momentum=0.5, bank_negatives=8)
    parts = Parts(method, a, b)
    index = torch.arange(N) + 10
    method(a, b, index)
    y = (parts.log_a.exp() + parts.log_b.exp()) / 2
    assert torch.allclose(method.bank.rows[:, 10:34], (1 / K + y) / 2, atol=1e-6)
    assert (method.bank.rows[:, :10] == 1 / K).all() and (method.bank.rows[:, 34:] == 1 / K).all()


def test_the_bank_is_read_before_it_moves_and_the_negatives_belong_to_the_step(banked: CRLC, views: Batch) -> None:
    """The second step by hand: own rows against the rows that the step's number draws, all of before the move."""
    banked(*views)
    parts, rows = Parts(banked, *views[:2]), banked.bank.rows.clone()
    drawn = torch.randint(N, (64,), generator=torch.Generator().manual_seed(1))
    expected = []
    for head in range(HEADS):
        for log in (parts.log_a[head], parts.log_b[head]):
            for i in range(N):
                own = critic_scores(log[i : i + 1], rows[head, i : i + 1].log(), "log_dot", 0.01)
                others = critic_scores(log[i : i + 1], rows[head, drawn].log(), "log_dot", 0.01)
                expected.append(float(torch.cat([own, others], 1).logsumexp(1) - own))
    assert banked(*views)["cluster"].item() == pytest.approx(np.mean(expected), abs=1e-4)
    assert abs(np.mean(expected) - math.log(65)) > 1e-4
    assert not torch.equal(banked.bank.rows, rows)


def test_in_eval_mode_the_bank_stays(banked: CRLC, views: Batch) -> None:
    banked.eval()(*views)
    assert (banked.bank.rows == 1 / K).all() and banked.steps == 0


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The rows that steps draw as negatives; their bank must hold the numbers of the images."""
    seen: list[Tensor] = []

    def spy(log_q: Tensor, own: Tensor, negatives: Tensor, critic: str, smoothing: float) -> Tensor:
        seen.append(negatives[0, :, 0].clone())
        return bank_contrast(log_q, own.clamp_min(0.1), negatives.clamp_min(0.1), critic, smoothing)

    monkeypatch.setattr(ilk.methods.crlc, "bank_contrast", spy)
    return seen


def test_negatives_are_a_function_of_the_step_that_continues_after_a_reload(
    make: Callable[..., CRLC], views: Batch, drawn: list[Tensor]
) -> None:
    def numbered(seed: int) -> CRLC:
        method = make(seed=seed, framework="memory_bank", bank_negatives=16, bank_momentum=0.999, cluster_heads=1)
        method.bank.rows[0, :, 0] = torch.arange(N) / N
        return method

    method = numbered(0)
    torch.manual_seed(1)
    for _ in range(4):
        method(*views)
    unbroken = [row.clone() for row in drawn]
    assert all(len(row) == 16 for row in unbroken)
    assert not torch.allclose(unbroken[0], unbroken[1], atol=0.02)
    drawn.clear()
    torch.manual_seed(2)  # nothing comes from the global generator
    first, second = numbered(0), numbered(1)
    for _ in range(2):
        first(*views)
    second.load_state_dict(first.state_dict())
    assert second.step == int(second.steps) == 2
    for _ in range(2):
        second(*views)
    assert len(drawn) == 4
    for ours, theirs in zip(drawn, unbroken, strict=True):
        assert torch.allclose(ours, theirs, atol=1 / N / 4)  # the rows of other weights moved a little apart


# edges


def test_sure_and_contrary_images_give_finite_terms_and_gradients(make: Callable[..., CRLC], views: Batch) -> None:
    for smoothing in (0.0, 0.01):
        method = make(smoothing=smoothing)
        with torch.no_grad():
            for head in method.cluster_heads.heads:
                head[2].weight.mul_(1e4)
        terms = method(*views)
        sum(terms.values()).backward()
        assert all(term.isfinite() for term in terms.values())
        assert all(p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("framework", "bank", "framework.*in_batch.*memory_bank.*'bank'"),
        ("critic", "cosine", "critic.*log_dot, dot, neg_l2.*neg_jsd.*'cosine'"),
        ("smoothing", 1.0, "smoothing.*less than 1.*1.0"),
        ("feature_temperature", 0.0, "feature_temperature.*more than 0"),
        ("bank_negatives", 0, "bank_negatives.*at least 1"),
        ("supervised_weight", -1.0, "supervised_weight.*at least 0"),
    ],
)
def test_a_bad_setting_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CRLCConfig(**{name: value})


def test_embeddings_are_the_feature_head_in_length_1(make: Callable[..., CRLC]) -> None:
    method, h = make(), torch.rand(5, 128)
    assert torch.allclose(method.embed_features(h), F.normalize(method.feature_head(h), dim=1))
