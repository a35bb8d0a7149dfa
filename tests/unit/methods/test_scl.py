"""SCL: banks of keys by cluster, labels renewed each epoch, images that move weigh more."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ilk.methods.scl_tasks
from ilk.analysis.metrics import accuracy
from ilk.losses import bank_scores
from ilk.methods import SCL, get_preset
from ilk.methods.base import Encode
from ilk.methods.scl_tasks import SCLConfig, Task

K, N = 4, 24
Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def make(build: Callable[..., Any]) -> Callable[..., SCL]:
    """`make(**settings)`: a fresh SCL; keys in narrow banks, so that a batch replaces a good part of them."""
    return lambda **asked: build("scl", **{"k": K, "n": N, "embedding_dim": 16, **asked})


@pytest.fixture
def views(batch: Callable[..., Batch]) -> Batch:
    return batch(N)


class Parts:
    """Queries, keys and banks before the step, from a copy of the method."""

    def __init__(self, method: SCL, a: Tensor, b: Tensor) -> None:
        method = copy.deepcopy(method)
        with torch.no_grad():
            self.q = F.normalize(method.projection(method.backbone(a)), dim=1)
            self.key = F.normalize(method.twin(b), dim=1)
        self.banks = {name: task.banks.keys.clone() for name, task in method.tasks.items()}
        self.labels = {name: task.labels.clone() for name, task in method.tasks.items()}


def literal(parts: Parts, task: str, i: int, *, other_only: bool = True, tau: float = 0.1) -> float:
    """L_ID of one image: its key against the keys of the banks of other clusters."""
    positive = math.exp(float(parts.q[i] @ parts.key[i]) / tau)
    negatives = sum(
        math.exp(float(parts.q[i] @ key) / tau)
        for cluster, bank in enumerate(parts.banks[task])
        for key in bank
        if not other_only or cluster != parts.labels[task][i]
    )
    return -math.log(positive / (positive + negatives))


def vote(parts: Parts, task: str, i: int, tau: float = 0.1) -> Tensor:
    """p~ of one image: the share of each bank in the sum over all keys."""
    sums = [sum(math.exp(float(parts.q[i] @ key) / tau) for key in bank) for bank in parts.banks[task]]
    return torch.tensor(sums) / sum(sums)


def contrasts(parts: Parts, task: str) -> list[float]:
    return [literal(parts, task, i) for i in range(N)]


# the paper


def test_the_paper_preset_has_the_published_settings() -> None:
    config, recipe, _ = get_preset("scl", "paper")
    assert (config.temperature, config.twin_momentum, config.queue) == (0.1, 0.9, 4096)
    assert (config.contrast_weight, config.cluster_weight, config.embedding_dim) == (1.0, 1.0, 128)
    assert config.hard_weights and config.under_clustering and config.instance_task and config.cross_cluster
    assert config.cluster_discrimination and not config.cd_to_features and config.first_moves == 0
    assert config.warm_start == 0 and config.batch_parts == 8  # as MoCo's CIFAR demo, whose other settings it has
    assert (recipe.backbone, recipe.image_size, recipe.views) == ("resnet34-pica", 32, "moco-cifar")
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay, recipe.momentum) == ("sgd", 0.03, 5e-4, 0.9)
    assert (recipe.schedule, recipe.batch_size, recipe.epochs) == ("cosine", 256, 200)


@pytest.mark.parametrize(("clusters", "rows"), [(10, 455), (20, 215), (15, 292), (5, 1024), (2, 4096)])
def test_banks_have_the_published_sizes(clusters: int, rows: int) -> None:
    """K / (C - 1) keys each, so that a query meets about K of other clusters."""
    assert Task(clusters, 60_000, SCLConfig(embedding_dim=4)).banks.keys.shape == (clusters, rows, 4)


@pytest.mark.parametrize(("clusters", "n", "rows"), [(5, 100, 25), (20, 100, 5), (60, 60, 1), (200, 60, 1)])
def test_banks_hold_no_more_keys_than_there_are_images(clusters: int, n: int, rows: int) -> None:
    assert Task(clusters, n, SCLConfig(embedding_dim=4)).banks.keys.shape == (clusters, rows, 4)


def test_all_starts_at_random_but_the_twin_which_is_a_copy(make: Callable[..., SCL], views: Batch) -> None:
    method, other = make(n=1000), make(n=1000, seed=1)
    for name, task in method.tasks.items():
        assert torch.allclose(task.banks.keys.norm(dim=2), torch.ones(()), atol=1e-5)
        assert task.labels.unique().tolist() == list(range(task.clusters)) and (task.moves == 0).all()
        assert not torch.equal(task.labels, other.tasks[name].labels)
        assert not torch.equal(task.banks.keys, other.tasks[name].banks.keys)
    twin = method.twin.network.state_dict()
    assert all(torch.equal(value, twin[name]) for name, value in method.encoder().state_dict().items())


@pytest.mark.parametrize(("k", "under"), [(2, None), (3, None), (4, 2), (5, 2), (15, 7), (10, 5)])
def test_the_under_clustering_task_has_half_the_clusters_or_is_left_out(
    make: Callable[..., SCL], views: Batch, k: int, under: int | None
) -> None:
    method = make(k=k)
    assert (method.under.clusters if method.under else None) == under
    assert any(name.startswith("under") for name in method(*views)) == (under is not None)


def test_the_projection_is_that_of_moco_v2_or_one_layer(make: Callable[..., SCL]) -> None:
    assert [tuple(p.shape) for p in make().projection.parameters()] == [(128, 128), (128,), (16, 128), (16,)]
    assert [tuple(p.shape) for p in make(projection="linear").projection.parameters()] == [(16, 128), (16,)]


def test_the_terms_are_the_published_ones(make: Callable[..., SCL], views: Batch) -> None:
    """Three tasks: both clusterings, and the instances against all banks."""
    method = make(contrast_weight=2.0, cluster_weight=3.0)
    parts, terms = Parts(method, *views[:2]), method(*views)
    expected = {"instance": 2 * np.mean([literal(parts, "target", i, other_only=False) for i in range(N)])}
    for name, task in method.tasks.items():
        expected[f"{name}_contrast"] = 2 * np.mean(contrasts(parts, name))
        log_p = task.classifier(parts.q).log_softmax(1)
        expected[f"{name}_clusters"] = 3 * np.mean([-float(vote(parts, name, i) @ log_p[i].detach()) for i in range(N)])
    assert set(terms) == set(expected) == {
        "instance", "target_contrast", "target_clusters", "under_contrast", "under_clusters"
    }  # fmt: skip
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, abs=2e-4), name


def test_what_the_loop_observes_is_the_classifier_of_the_target_task(make: Callable[..., SCL], views: Batch) -> None:
    method = make()
    parts = Parts(method, *views[:2])
    method(*views)
    assert torch.allclose(method.observed, method.target.classifier(parts.q).softmax(1), atol=1e-5)


def test_the_first_view_is_the_query_and_the_second_the_key(make: Callable[..., SCL], views: Batch) -> None:
    """One direction only."""
    a, b, index = views
    method = make(twin_momentum=0.0)
    with torch.no_grad():
        for parameter in method.twin.parameters():
            parameter.mul_(1.1)
    straight, swapped = (copy.deepcopy(method)(*pair, index) for pair in ((a, b), (b, a)))
    assert abs(straight["target_contrast"].item() - swapped["target_contrast"].item()) > 1e-3


def test_symmetric_both_views_are_queries_and_both_leave_keys(make: Callable[..., SCL], views: Batch) -> None:
    a, b, index = views
    one, other = (make()(*pair, index) for pair in ((a, b), (b, a)))
    method = make(symmetric=True)
    first, second = Parts(method, a, b), Parts(method, b, a)
    terms = method(a, b, index)
    assert set(terms) == set(one)
    for name, term in terms.items():
        assert term.item() == pytest.approx((one[name].item() + other[name].item()) / 2, abs=1e-5)
    method.after_step()
    for cluster in range(K):
        mine = first.labels["target"] == cluster
        keys = torch.cat([first.key[mine], second.key[mine]])
        rows = method.target.banks.keys.shape[1]
        expected = first.banks["target"][cluster].clone()
        for number, key in enumerate(keys):
            expected[number % rows] = key
        assert torch.allclose(method.target.banks.keys[cluster], expected, atol=1e-5)


# banks


def test_keys_enter_the_banks_after_the_step_and_the_losses_see_the_old_ones(
    make: Callable[..., SCL], views: Batch
) -> None:
    method = make()
    before = Parts(method, *views[:2])
    method(*views)
    assert all(torch.equal(task.banks.keys, before.banks[name]) for name, task in method.tasks.items())
    method.after_step()
    for name, task in method.tasks.items():
        for cluster in range(task.clusters):
            keys = before.key[before.labels[name] == cluster]
            rows = task.banks.keys.shape[1]
            expected = before.banks[name][cluster].clone()
            for number, key in enumerate(keys):  # first in, first out
                expected[number % rows] = key
            assert torch.allclose(task.banks.keys[cluster], expected, atol=1e-6)
            assert task.banks.position[cluster] == len(keys) % rows
        assert not torch.equal(task.banks.keys, before.banks[name])


def test_keys_of_one_step_enter_once(make: Callable[..., SCL], views: Batch) -> None:
    method = make()
    method(*views)
    method.after_step()
    kept = method.target.banks.position.clone()
    method.after_step()
    assert torch.equal(method.target.banks.position, kept)


def test_the_twin_follows_the_weights_of_after_the_step(make: Callable[..., SCL], views: Batch) -> None:
    method = make(twin_momentum=0.75)
    before = [p.clone() for p in method.twin.parameters()]
    with torch.no_grad():
        for parameter in method.encoder().parameters():
            parameter.add_(1.0)
    method(*views)
    assert all(torch.equal(p, q) for p, q in zip(method.twin.parameters(), before, strict=True))
    method.after_step()
    for own, old, new in zip(method.twin.parameters(), before, method.encoder().parameters(), strict=True):
        assert torch.allclose(own, 0.75 * old + 0.25 * new, atol=1e-6)


def test_the_twin_gets_no_gradient_and_the_encoder_gets_one_from_the_contrast(
    make: Callable[..., SCL], views: Batch
) -> None:
    method = make()
    method(*views)["target_contrast"].backward()
    assert all(p.grad is None and not p.requires_grad for p in method.twin.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.encoder().parameters())


@pytest.mark.parametrize("reaches", [True, False])
def test_cluster_discrimination_teaches_the_encoder_only_if_it_is_let(
    make: Callable[..., SCL], views: Batch, reaches: bool
) -> None:
    method = make(cd_to_features=reaches)
    terms = method(*views)
    (terms["target_clusters"] + terms["under_clusters"]).backward()
    assert all((p.grad is not None) == reaches for p in method.encoder().parameters())
    assert all(p.grad.abs().sum() > 0 for task in method.tasks.values() for p in task.classifier.parameters())


# weights


def test_weights_are_uniform_while_nothing_has_moved(make: Callable[..., SCL]) -> None:
    assert torch.allclose(make().target.weights(torch.arange(8)), torch.full((8,), 1 / 8))


def test_weights_are_the_share_of_the_moves_in_the_batch(make: Callable[..., SCL]) -> None:
    task = make().target
    task.moves[:5] = torch.tensor([1, 0, 3, 7, 4])
    weights = task.weights(torch.tensor([0, 1, 2, 4]))  # image 3 is not in the batch
    assert weights.tolist() == pytest.approx([1 / 8, 0, 3 / 8, 4 / 8], abs=1e-6)


def test_the_contrast_is_weighted_by_the_moves_of_its_own_task(make: Callable[..., SCL], views: Batch) -> None:
    method = make()
    method.target.moves[:3] = torch.tensor([1, 2, 5])
    parts, terms = Parts(method, *views[:2]), method(*views)
    each = contrasts(parts, "target")
    assert terms["target_contrast"].item() == pytest.approx((each[0] + 2 * each[1] + 5 * each[2]) / 8, abs=1e-4)
    assert terms["under_contrast"].item() == pytest.approx(np.mean(contrasts(parts, "under")), abs=1e-4)


def test_without_hard_weights_moves_do_not_matter(make: Callable[..., SCL], views: Batch) -> None:
    method = make(hard_weights=False)
    method.target.moves[:3] = torch.tensor([1, 2, 5])
    parts = Parts(method, *views[:2])
    assert method(*views)["target_contrast"].item() == pytest.approx(np.mean(contrasts(parts, "target")), abs=1e-4)


def test_moves_that_start_at_one_keep_images_in_play_that_never_move(make: Callable[..., SCL]) -> None:
    task = make(first_moves=1).target
    task.moves[2] += 2
    assert task.weights(torch.arange(4)).tolist() == pytest.approx([1 / 6, 1 / 6, 3 / 6, 1 / 6], abs=1e-5)


# labels


def plain(q: Tensor, method: SCL) -> Callable[..., Tensor]:
    """An `encode` whose features the method projects to `q`, for a projection that is the identity."""
    method.projection = nn.Identity()
    return lambda m: q.clone()


def queries(n: int = N, d: int = 16, seed: int = 3) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_labels_are_those_of_the_first_epoch_until_it_is_over(make: Callable[..., SCL]) -> None:
    method = make()
    before = copy.deepcopy(method.state_dict())
    assert method.start_epoch(0, 10, plain(queries(), method), 0) is None
    assert torch.equal(method.target.labels, before["target.labels"])
    assert torch.equal(method.target.moves, before["target.moves"])


@pytest.mark.parametrize("epoch", [1, 2, 9])
def test_from_the_second_epoch_on_all_labels_are_those_of_the_classifier(make: Callable[..., SCL], epoch: int) -> None:
    method, q = make(min_cluster=0), queries()
    old = {name: task.labels.clone() for name, task in method.tasks.items()}
    method.start_epoch(epoch, 10, plain(q, method), 0)
    for name, task in method.tasks.items():
        expected = task.classifier(q).argmax(1)
        assert torch.equal(task.labels, expected)
        assert torch.equal(task.moves, (expected != old[name]).long()) and 0 < task.moves.sum() < N
    method.start_epoch(epoch, 10, plain(q, method), 0)
    assert method.target.moves.max() == 1  # nobody moved again


def collapsed(method: SCL) -> None:
    """Every image is put into the last cluster."""
    with torch.no_grad():
        for task in method.tasks.values():
            task.classifier.weight.zero_()
            task.classifier.bias.copy_(torch.arange(task.clusters) * 5.0)


@pytest.mark.parametrize("count", ["after", "before"])
def test_a_collapsed_clustering_is_split_and_moves_are_counted_after_or_before(
    make: Callable[..., SCL], count: str
) -> None:
    method = make(count_moves=count)
    collapsed(method)
    old = method.target.labels.clone()
    method.start_epoch(1, 10, plain(queries(), method), 0)
    labels = method.target.labels
    assert torch.bincount(labels, minlength=K).min() >= 1
    expected = labels != old if count == "after" else old != K - 1
    assert torch.equal(method.target.moves, expected.long())
    assert not torch.equal(labels != old, old != K - 1)


@pytest.mark.parametrize(("asked", "n", "least"), [(None, 1000, 39), (None, 24, 2), (7, 24, 7)])
def test_a_cluster_is_small_below_the_share_that_odc_has(
    make: Callable[..., SCL], monkeypatch: pytest.MonkeyPatch, asked: int | None, n: int, least: int
) -> None:
    seen: list[int] = []

    def spy(q: Tensor, labels: Tensor, k: int, min_size: int, generator: torch.Generator) -> Tensor:
        seen.append(min_size)
        return labels

    monkeypatch.setattr(ilk.methods.scl_tasks, "merge_and_split", spy)
    method = make(n=n, min_cluster=asked, under_clustering=False)
    method.start_epoch(1, 10, plain(queries(n), method), 0)
    assert seen == [least]


def test_without_cluster_discrimination_labels_are_the_vote_of_the_banks(make: Callable[..., SCL]) -> None:
    method, q = make(cluster_discrimination=False, min_cluster=0), queries()
    method.start_epoch(1, 10, plain(q, method), 0)
    expected = bank_scores(q, method.target.banks.keys, 0.1).argmax(1)
    assert torch.equal(method.target.labels, expected)
    assert not torch.equal(expected, method.target.classifier(q).argmax(1))


def test_without_cluster_discrimination_no_classifier_is_trained_and_clusters_are_the_vote(
    make: Callable[..., SCL], views: Batch
) -> None:
    method, q = make(cluster_discrimination=False, cd_to_features=True), queries()
    parts, terms = Parts(method, *views[:2]), method(*views)
    assert set(terms) == {"instance", "target_contrast", "under_contrast"}
    sum(terms.values()).backward()
    assert all(p.grad is None for task in method.tasks.values() for p in task.classifier.parameters())
    votes = torch.stack([vote(parts, "target", i) for i in range(N)])
    assert torch.allclose(method.observed, votes, atol=1e-5)
    plain(q, method)
    parts.q = q
    votes = torch.stack([vote(parts, "target", i) for i in range(N)])
    assert torch.allclose(method.assign_features(q), votes, atol=1e-5)
    method.target.classifier.weight.data.zero_()
    assert torch.allclose(method.assign_features(q), votes, atol=1e-5)


def test_without_crossing_clusters_all_banks_are_negatives(make: Callable[..., SCL], views: Batch) -> None:
    terms = make(cross_cluster=False)(*views)
    assert terms["target_contrast"].item() == pytest.approx(terms["instance"].item(), abs=1e-4)
    assert terms["target_contrast"] > make()(*views)["target_contrast"] + 1e-3


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"instance_task": False}, {"instance"}),
        ({"under_clustering": False}, {"under_contrast", "under_clusters"}),
    ],
)
def test_a_joint_task_that_is_switched_off_leaves_the_others_as_they_were(
    make: Callable[..., SCL], views: Batch, settings: dict[str, Any], missing: set[str]
) -> None:
    whole, part = make()(*views), make(**settings)(*views)
    assert set(whole) - set(part) == missing
    for name in {"target_contrast", "target_clusters"} | set(part):
        assert torch.equal(part[name], whole[name])


def test_target_clusters_that_do_not_teach_are_read_from_features_that_others_shape(
    make: Callable[..., SCL], views: Batch
) -> None:
    """Its classifier learns, from a detached encoder even where discrimination may teach; the rest is unchanged."""
    method = make(target_teaches=False, cd_to_features=True)
    whole, part = make(cd_to_features=True)(*views), method(*views)
    assert set(whole) - set(part) == {"target_contrast"}
    assert all(torch.equal(part[name], whole[name]) for name in part)
    part["target_clusters"].backward()
    assert all(p.grad is None for p in method.encoder().parameters())
    assert all(p.grad.abs().sum() > 0 for p in method.target.classifier.parameters())


def test_a_single_under_cluster_cannot_be_the_only_teacher(make: Callable[..., SCL]) -> None:
    with pytest.raises(ValueError, match="half of 3 clusters"):
        make(k=3, target_teaches=False, instance_task=False)


# the start that waits


def test_an_instance_task_that_is_not_joint_is_trained_until_the_start_alone(
    make: Callable[..., SCL], views: Batch, encode: Encode
) -> None:
    method = make(k=3, n=60, warm_start=0.5, instance_task=False, under_clustering=False)
    assert set(method(*views)) == {"instance"}
    method.start_epoch(5, 10, encode, 0)
    assert set(method(*views)) == {"target_contrast", "target_clusters"}


def test_before_the_start_only_the_instance_task_is_trained(make: Callable[..., SCL], views: Batch) -> None:
    method = make(warm_start=0.5)
    assert set(method(*views)) == {"instance"} and method.observed is None
    for epoch in range(1, 5):
        assert method.start_epoch(epoch, 10, plain(queries(), method), 0) is None
    assert not method.clustering and (method.target.moves == 0).all()


def test_clusters_start_from_a_partition_of_the_features(make: Callable[..., SCL], encode: Encode) -> None:
    """Labels from the features, a classifier that knows them, and banks with keys of their own cluster."""
    method = make(k=3, n=60, warm_start=0.5)
    message = method.start_epoch(5, 10, encode, 0)
    assert message == "clusters start from a partition of the features of 60 images"
    labels, q = method.target.labels, method.project(encode(60))
    assert accuracy(np.arange(60) % 3, labels.numpy()) == 1
    assert torch.equal(method.target.classifier(q).argmax(1), labels)
    assert torch.equal(method.assign_features(encode(60)).argmax(1), labels)
    for cluster in range(3):
        bank, own = method.target.banks.keys[cluster], q[labels == cluster]
        known = (bank[:, None] - own[None]).abs().amax(2).amin(1) < 1e-6
        assert known.sum() == 20 and len(bank) == 30  # 60 / 2 rows, 20 of them filled
    assert (method.target.moves == 0).all()


def test_a_saved_start_goes_on_as_started(
    make: Callable[..., SCL], encode: Encode, batch: Callable[..., Batch]
) -> None:
    method, other = make(k=3, n=60, warm_start=0.5), make(k=3, n=60, warm_start=0.5, seed=1)
    method.start_epoch(5, 10, encode, 0)
    other.load_state_dict(method.state_dict())
    assert other.clustering and torch.equal(other.target.labels, method.target.labels)
    assert set(other(*batch(60))) == set(method(*batch(60))) > {"instance"}


def test_a_reset_twin_is_a_copy_running_statistics_included(make: Callable[..., SCL], views: Batch) -> None:
    method = make()
    method(*views)
    with torch.no_grad():
        for parameter in method.encoder().parameters():
            parameter.add_(0.1)
    method.reset_twin()
    ours, theirs = method.encoder().state_dict(), method.twin.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(not p.requires_grad for p in method.twin.parameters())


# parts of a batch


class Sizes(nn.Module):
    """Notes what it is given and gives it back."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x[:, 0].int().tolist())
        return x


def parts_of(method: SCL, n: int, *, shuffled: bool = False) -> list[list[int]]:
    network, x = Sizes(), torch.arange(n).float()[:, None]
    assert torch.equal(method.in_parts(network, x, shuffled=shuffled), x)  # in the order of the images again
    return network.seen


def test_batch_norm_sees_the_batch_in_parts_and_the_keys_in_other_ones(make: Callable[..., SCL]) -> None:
    method = make(batch_parts=4)
    queried, keyed = parts_of(method, 32), parts_of(method, 32, shuffled=True)
    assert [len(part) for part in queried] == [len(part) for part in keyed] == [8] * 4
    assert sorted(chain(*queried)) == sorted(chain(*keyed)) == list(range(32))
    shared = [len(set(one) & set(other)) for one in queried for other in keyed]
    assert set(shared) == {2}  # a quarter of each part, what chance would give


def test_features_of_a_batch_in_parts_are_those_of_each_part_alone(make: Callable[..., SCL], views: Batch) -> None:
    a, b, index = views
    method, apart = make(batch_parts=3), make()
    with torch.no_grad():
        q = apart.project(torch.cat([apart.backbone(part) for part in a.chunk(3)]))
    whole = Parts(make(), a, b).q
    method(a, b, index)
    expected = method.target.classifier(q).softmax(1)
    assert torch.allclose(method.observed, expected, atol=1e-5)
    assert not torch.allclose(method.observed, method.target.classifier(whole).softmax(1), atol=1e-4)
    assert method.backbone.stem[1].num_batches_tracked == 3


def test_in_eval_mode_and_with_few_images_the_batch_stays_whole(make: Callable[..., SCL]) -> None:
    method = make(batch_parts=8)
    assert [len(part) for part in parts_of(method, 7)] == [7]
    assert [len(part) for part in parts_of(method.eval(), 64)] == [64]


@pytest.mark.parametrize("n", [21, 36])
def test_every_part_has_at_least_four_images(make: Callable[..., SCL], n: int) -> None:
    assert min(len(part) for part in parts_of(make(batch_parts=8), n)) >= 4


# edges


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"projection": "none"}, "projection.*mlp or linear.*'none'"),
        ({"count_moves": "never"}, "count_moves.*after or before.*'never'"),
        ({"twin_momentum": 1.0}, "twin_momentum.* 1.0"),
        ({"min_cluster": -1}, "min_cluster.*at least 0.*-1"),
        ({"queue": 0}, "queue.*at least 1"),
        (
            {"target_teaches": False, "under_clustering": False, "instance_task": False},
            "encoder.*target_teaches",
        ),
    ],
)
def test_a_bad_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SCLConfig(**settings)
