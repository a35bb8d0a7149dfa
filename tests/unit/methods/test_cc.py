"""CC: the published sum of losses, a start that may wait, and the best of several heads."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ilk.analysis.metrics import accuracy
from ilk.methods import CC, get_preset
from ilk.methods.base import Encode
from ilk.methods.cc import CCConfig
from ilk.networks.backbones import build_backbone
from reference import cc as slow

SIDE, N, K = 8, 16, 4


def make(seed: int = 0, k: int = K, **settings: Any) -> CC:
    torch.manual_seed(seed)
    return CC(build_backbone("small", image_size=SIDE, in_channels=3), k, N, CCConfig(**settings)).train()


def views(n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    a = torch.rand(n, 3, SIDE, SIDE, generator=g)
    return a, (a + 0.1 * torch.randn(a.shape, generator=g)).clamp(0, 1), torch.arange(n)


def outputs(method: CC, head: int = 0) -> tuple[list[list[float]], ...]:
    """z and y of both views as plain numbers, from a copy."""
    method = copy.deepcopy(method)
    a, b, _ = views()
    with torch.no_grad():
        h_a, h_b = method.backbone(a), method.backbone(b)
        z = [method.instance_head(h).tolist() for h in (h_a, h_b)]
        y = [method.cluster_heads.heads[head](h).softmax(1).tolist() for h in (h_a, h_b)]
    return (*z, *y)


# the paper


def test_the_paper_preset_has_the_published_settings() -> None:
    config, recipe, _ = get_preset("cc", "paper")
    assert config == CCConfig() and config.embedding_dim == 128
    assert (config.instance_temperature, config.cluster_temperature) == (0.5, 1.0)
    assert (config.instance_weight, config.cluster_weight, config.entropy_weight) == (1.0, 1.0, 1.0)
    assert (config.cluster_heads, config.warm_start) == (1, 0.0)
    assert (recipe.backbone, recipe.image_size, recipe.views) == ("resnet34", 224, "cc")
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 3e-4, 0.0)
    assert (recipe.schedule, recipe.warmup, recipe.batch_size, recipe.epochs) == ("constant", 0, 256, 1000)
    assert recipe.images_per_cluster == 0  # the batch stays 256 however many clusters


def test_heads_have_the_published_shape() -> None:
    method = make()
    d = 128
    assert [tuple(p.shape) for p in method.instance_head.parameters()] == [(d, d), (d,), (128, d), (128,)]
    assert [tuple(p.shape) for p in method.cluster_heads.heads[0].parameters()] == [(d, d), (d,), (K, d), (K,)]


def test_with_the_papers_settings_the_terms_add_up_to_the_transcription() -> None:
    method = make()
    z_a, z_b, y_a, y_b = outputs(method)
    terms = method(*views())
    assert set(terms) == {"instance", "cluster", "entropy"}
    assert terms["instance"].item() == pytest.approx(slow.instance_loss(z_a, z_b, 0.5), abs=1e-5)
    assert terms["cluster"].item() == pytest.approx(slow.cluster_loss(y_a, y_b, 1.0), abs=1e-5)
    assert terms["entropy"].item() == pytest.approx(slow.entropy_term(y_a) + slow.entropy_term(y_b), abs=1e-5)
    assert sum(terms.values()).item() == pytest.approx(slow.whole_loss(z_a, z_b, y_a, y_b, 0.5, 1.0), abs=2e-5)


def test_weights_and_temperatures_act_on_their_own_term() -> None:
    settings = {
        "instance_weight": 0.5, "cluster_weight": 2.0, "entropy_weight": 3.0,
        "instance_temperature": 0.2, "cluster_temperature": 0.7,
    }  # fmt: skip
    method = make(**settings)
    z_a, z_b, y_a, y_b = outputs(method)
    terms = method(*views())
    assert terms["instance"].item() == pytest.approx(0.5 * slow.instance_loss(z_a, z_b, 0.2), abs=1e-5)
    assert terms["cluster"].item() == pytest.approx(2 * slow.cluster_loss(y_a, y_b, 0.7), abs=1e-5)
    expected = 3 * (slow.entropy_term(y_a) + slow.entropy_term(y_b))
    assert terms["entropy"].item() == pytest.approx(expected, abs=1e-5)


def test_several_heads_count_as_their_mean() -> None:
    method = make(cluster_heads=3)
    each = [outputs(method, head)[2:] for head in range(3)]
    terms = method(*views())
    clusters = [slow.cluster_loss(*y, temperature=1.0) for y in each]
    entropies = [slow.entropy_term(y[0]) + slow.entropy_term(y[1]) for y in each]
    assert np.ptp(clusters) > 1e-3
    assert terms["cluster"].item() == pytest.approx(np.mean(clusters), abs=1e-5)
    assert terms["entropy"].item() == pytest.approx(np.mean(entropies), abs=1e-5)


def test_each_view_has_its_own_batch_statistics() -> None:
    """Running means after two passes, one a view, and not after one pass of both together."""
    method, apart, together = make(), make().backbone, make().backbone
    a, b, index = views()
    b = 0.3 * b  # a darker view, so that it matters
    method(a, b, index)
    with torch.no_grad():
        apart(a), apart(b)
        together(torch.cat([a, b]))
    found = dict(method.backbone.named_buffers())
    for name, expected in apart.named_buffers():
        assert torch.allclose(found[name], expected, rtol=1e-4, atol=1e-6), name
    assert not torch.allclose(found["stem.1.running_mean"], together.get_buffer("stem.1.running_mean"))
    assert found["stem.1.num_batches_tracked"] == 2


def test_both_losses_reach_the_backbone() -> None:
    """Nothing is detached: each term alone gives the backbone a gradient."""
    for term in ("instance", "cluster", "entropy"):
        method = make()
        method(*views())[term].backward()
        assert method.backbone.stem[0].weight.grad.abs().sum() > 0, term


# the start


@pytest.mark.parametrize(
    ("warm_start", "epochs", "first"),
    [
        (0.5, 10, 5),
        (0.5, 3, 1),
        (0.5, 2, 1),
        (0.5, 1, 0),
        (0.9, 2, 1),
        (0.9, 1, 0),
        (0.99, 5, 4),
        (0.3, 10, 3),
        (0.1, 4, 0),
    ],
)
def test_clusters_start_at_their_part_of_the_training_and_in_the_last_epoch_at_the_latest(
    encode: Encode, warm_start: float, epochs: int, first: int
) -> None:
    method = make(warm_start=warm_start)
    messages = [method.start_epoch(epoch, epochs, encode, 0) for epoch in range(epochs)]
    assert [epoch for epoch, message in enumerate(messages) if message] == [first]
    assert messages[first] == "1 cluster head starts from partitions of the features of 60 images"


def test_without_a_warm_start_clusters_are_there_from_the_first_step(encode: Encode) -> None:
    method = make()
    before = copy.deepcopy(method.state_dict())
    assert method.start_epoch(0, 10, encode, 0) is None
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert set(method(*views())) == {"instance", "cluster", "entropy"}


def test_before_the_start_only_the_instance_term_and_the_rest_of_the_network_learn() -> None:
    method = make(warm_start=0.5, cluster_heads=2)
    terms = method(*views())
    assert set(terms) == {"instance"} and method.observed is None
    terms["instance"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == name.startswith("cluster_heads"), name


def test_heads_start_from_partitions_of_the_features(encode: Encode) -> None:
    method = make(k=3, warm_start=0.5, cluster_heads=4)
    message = method.start_epoch(5, 10, encode, 0)
    assert message == "4 cluster heads start from partitions of the features of 60 images"
    features, kind = encode(60), np.arange(60) % 3
    for head in method.cluster_heads.heads:
        found = head(features).softmax(1)
        assert accuracy(kind, found.argmax(1).numpy()) == 1 and found.amax(1).min() > 0.9


def test_the_start_leaves_backbone_and_instance_head_alone(encode: Encode) -> None:
    method = make(warm_start=0.5)
    before = copy.deepcopy(method.state_dict())
    method.start_epoch(5, 10, encode, 0)
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    heads = {name for name in before if name.startswith("cluster_heads.heads")}
    assert heads and changed == heads | {"cluster_heads.started"}


def test_more_clusters_than_images_are_refused_at_the_start(encode: Encode) -> None:
    method = make(k=61, warm_start=0.5)
    with pytest.raises(ValueError, match="61 clusters.*61 rows.*60"):
        method.start_epoch(9, 10, encode, 0)


# the heads


def test_the_head_with_the_lowest_running_loss_is_used() -> None:
    method = make(cluster_heads=3)
    method.cluster_heads.loss = torch.tensor([2.0, 1.0, 3.0])
    h = torch.rand(5, 128)
    assert method.cluster_heads.best() == 1
    assert torch.equal(method.assign_features(h), method.cluster_heads.heads[1](h).softmax(1))
    fresh = make(seed=1, cluster_heads=3)
    fresh.load_state_dict(method.state_dict())
    assert fresh.cluster_heads.best() == 1


def test_the_running_loss_is_that_of_each_head() -> None:
    method = make(cluster_heads=3, entropy_weight=0.5)
    each = [outputs(method, head)[2:] for head in range(3)]
    method(*views())
    first = [
        slow.cluster_loss(*y, temperature=1.0) + 0.5 * (slow.entropy_term(y[0]) + slow.entropy_term(y[1])) for y in each
    ]
    assert method.cluster_heads.loss.tolist() == pytest.approx(first, abs=1e-5)
    method.cluster_heads.follow(torch.tensor([0.0, 10.0, 5.0]))
    assert method.cluster_heads.loss.tolist() == pytest.approx(
        [0.99 * a + 0.01 * b for a, b in zip(first, (0, 10, 5), strict=True)], abs=1e-4
    )


def test_what_the_loop_observes_is_the_best_heads_first_view() -> None:
    method = make(cluster_heads=3)
    method.cluster_heads.loss = torch.tensor([20.0, 1.0, 30.0])
    expected = torch.tensor(outputs(method, 1)[2])
    method(*views())
    assert torch.allclose(method.observed, expected, atol=1e-5)


# extra images


def test_images_that_are_not_to_be_clustered_get_the_instance_term_alone() -> None:
    """STL-10's unlabelled pictures, in the authors' code; the clusters neither learn from them nor count them."""
    method, batch = make(), views()
    expected = method(*batch)["instance"]
    running = method.cluster_heads.loss.clone()
    terms = method(*batch[:2], None)
    assert method.uses_extra and set(terms) == {"instance"}
    assert torch.equal(terms["instance"], expected)
    assert method.observed is None and torch.equal(method.cluster_heads.loss, running)
    terms["instance"].backward()
    assert all(parameter.grad is None for parameter in method.cluster_heads.parameters())


# edges


@pytest.mark.parametrize("depth", [-300.0, -1e4])
def test_a_dead_cluster_gives_finite_terms_and_gradients(depth: float) -> None:
    method = make()
    with torch.no_grad():
        method.cluster_heads.heads[0][2].bias[1] = depth
    terms = method(*views())
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters())


@pytest.mark.parametrize("n", [2, 3, 7, 15])
@pytest.mark.parametrize("k", [1, 2, 20])
def test_any_batch_size_and_number_of_clusters_give_finite_gradients(n: int, k: int) -> None:
    method = make(k=k, cluster_heads=2)
    terms = method(*views(n))
    sum(terms.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters())
