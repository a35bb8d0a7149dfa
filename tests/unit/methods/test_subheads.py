"""Cluster heads side by side: a start from partitions, a running loss each, and in the end the choice of one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ilk.analysis.kmeans import kmeans
from ilk.analysis.metrics import accuracy
from ilk.methods import start
from ilk.methods.base import Encode
from ilk.methods.start import agree_with_known, due, fit_heads, information, likeness, merged, partitions
from ilk.methods.subheads import SubHeads
from ilk.networks.heads import mlp

D, K = 128, 3
KIND = np.arange(60) % 3


def make(count: int = 3, *, wait: bool = False, seed: int = 0, k: int = K) -> SubHeads:
    torch.manual_seed(seed)
    return SubHeads(lambda: nn.Linear(D, k), count, warm_start=0.5 if wait else 0.0)


def features(n: int = 5) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(1))


def noise(m: int) -> Tensor:
    """Features without any groups."""
    return features(60)


def state(heads: SubHeads) -> dict[str, Tensor]:
    return copy.deepcopy(heads.state_dict())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# heads


def test_every_head_is_one_of_its_own() -> None:
    heads = make()
    weights = [head.weight for head in heads.heads]
    assert len(weights) == 3 and not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


def test_logits_are_those_of_each_head_in_float32() -> None:
    heads, h = make(), features()
    found = heads.logits(h)
    assert found.shape == (3, 5, K)
    for number, head in enumerate(heads.heads):
        assert torch.allclose(found[number], head(h), atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert heads.logits(h).dtype == heads.assign(h).dtype == torch.float32


@pytest.mark.parametrize("losses", [[2.0, 1.0, 3.0], [-0.1, 0.0, 0.1], [5.0, 5.5, 4.0]])
def test_until_one_is_chosen_the_head_with_the_lowest_running_loss_is_used(losses: list[float]) -> None:
    heads, h = make(), features()
    heads.loss = torch.tensor(losses)
    best = losses.index(min(losses))
    assert heads.best() == best
    assert torch.equal(heads.assign(h), heads.heads[best](h).softmax(1))
    observed = heads.observe(heads.logits(h).log_softmax(2))
    assert torch.allclose(observed, heads.assign(h), atol=1e-6) and not observed.requires_grad


def test_the_running_loss_begins_with_the_first_and_then_moves_a_hundredth_each_step() -> None:
    heads = make()
    heads.follow(torch.tensor([3.0, 1.0, -2.0]))
    assert heads.loss.tolist() == [3.0, 1.0, -2.0]
    heads.follow(torch.tensor([0.0, 11.0, 8.0]))
    assert heads.loss.tolist() == pytest.approx([2.97, 1.1, -1.9], abs=1e-6)
    assert not heads.loss.requires_grad


def test_a_head_that_becomes_better_than_the_others_is_used_from_then_on() -> None:
    heads = make(2)
    heads.follow(torch.tensor([1.0, 2.0]))
    assert heads.best() == 0
    for _ in range(200):
        heads.follow(torch.tensor([1.0, 0.0]))
    assert heads.best() == 1


# the start


@pytest.mark.parametrize("wait", [True, False])
def test_heads_that_wait_are_not_active_until_they_start(wait: bool, encode: Encode) -> None:
    heads = make(wait=wait)
    assert heads.active == bool(heads.started) == (not wait)
    heads.start(encode, K, 0, 5)
    assert heads.active and heads.started


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "1 cluster head starts from partitions of the features of 60 images"),
        (2, "2 cluster heads start from partitions of the features of 60 images"),
    ],
)
def test_the_start_says_what_it_did(count: int, message: str, encode: Encode) -> None:
    assert make(count, wait=True).start(encode, K, 0, 5) == message


@pytest.mark.parametrize("build", [lambda: nn.Linear(D, K), lambda: mlp(D, D, K)], ids=["linear", "mlp"])
def test_after_the_start_every_head_knows_the_groups_of_the_features(build: Callable[[], Any], encode: Encode) -> None:
    torch.manual_seed(0)
    heads = SubHeads(build, 3, warm_start=0.5)
    heads.start(encode, K, 0, 5)
    for y in heads.logits(encode(60)).softmax(2):
        assert accuracy(KIND, y.argmax(1).numpy()) == 1 and y.amax(1).min() > 0.9


def test_without_clear_groups_every_head_starts_from_its_own_partition() -> None:
    heads = make(4, wait=True)
    heads.start(noise, K, 0, 5)
    labels = heads.logits(noise(60)).argmax(2).numpy()
    agreement = [accuracy(labels[i], labels[j]) for i in range(4) for j in range(i)]
    assert max(agreement) < 0.95


def test_the_length_of_features_does_not_matter_to_the_start(encode: Encode) -> None:
    """Partitions are of directions: a feature ten times as long is no group of its own."""
    scale = torch.where(torch.arange(60) % 2 == 0, 0.3, 3.0)[:, None]
    heads = make(1, wait=True)
    heads.start(lambda m: scale * encode(m), K, 0, 5)
    assert accuracy(KIND, heads.logits(scale * encode(60))[0].argmax(1).numpy()) == 1


def test_the_start_is_a_function_of_features_seed_and_epoch() -> None:
    def started(seed: int, epoch: int, noise_seed: int) -> dict[str, Tensor]:
        heads = make(wait=True)
        torch.manual_seed(noise_seed)
        before = torch.get_rng_state()
        heads.start(noise, K, seed, epoch)
        assert torch.equal(torch.get_rng_state(), before)
        return state(heads)

    one = started(0, 5, 1)
    assert same(one, started(0, 5, 2))
    assert not same(one, started(1, 5, 1)) and not same(one, started(0, 6, 1))


def test_a_start_leaves_the_running_losses_to_the_training(encode: Encode) -> None:
    heads = make(wait=True)
    heads.start(encode, K, 0, 5)
    assert heads.loss.tolist() == [0, 0, 0]


def test_more_clusters_than_images_are_refused(encode: Encode) -> None:
    with pytest.raises(ValueError, match="61 clusters.*61 rows.*60"):
        make(1, wait=True, k=61).start(encode, 61, 0, 5)


# the choice in the end


def knows(heads: SubHeads, number: int, x: Tensor, labels: Tensor) -> None:
    """Teaches one head those labels of the features."""
    fit_heads(nn.ModuleList([heads.heads[number]]), x, labels[None], torch.Generator().manual_seed(0))


def test_heads_that_keep_neighbours_together_alike_are_told_apart_by_their_loss() -> None:
    heads = make(4)
    for head in heads.heads:
        head.load_state_dict(heads.heads[0].state_dict())
    heads.loss = torch.tensor([2.0, 1.9, 1.8, 1.95])
    heads.choose(noise, K)
    assert heads.best() == int(heads.chosen) == 2


@pytest.mark.parametrize("right", [0, 1, 2])
def test_in_the_end_the_head_whose_clusters_keep_neighbours_together_is_used(right: int) -> None:
    """The others cut the wide kind and merge two narrow ones, one with the lowest loss of all."""
    cut = torch.where(WIDE == 0, (wide(300)[:, 1] > 0).long(), torch.tensor(2))
    torch.manual_seed(0)
    heads, h = SubHeads(lambda: mlp(2, 64, K), 3), 5 * wide(300)
    for number in range(3):
        knows(heads, number, h, WIDE if number == right else cut)
    heads.loss = torch.tensor([2.0, 2.0, 2.0])
    heads.loss[(right + 1) % 3] = 1.0
    assert heads.best() == (right + 1) % 3
    heads.choose(lambda m: h, K)
    assert heads.best() == right
    assert accuracy(WIDE.numpy(), heads.assign(h).argmax(1).numpy()) > 0.98


def test_the_choice_is_part_of_the_state_and_needs_no_chance() -> None:
    one, other = make(4), make(4, seed=1)
    before = torch.get_rng_state()
    one.choose(noise, K)
    again = copy.deepcopy(one)
    again.choose(noise, K)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 <= int(one.chosen) == int(again.chosen) == one.best()
    other.load_state_dict(one.state_dict())
    assert other.best() == one.best()


@pytest.mark.parametrize(("k", "expected"), [(2, 10_000), (100, 10_000), (150, 15_000), (300, 20_000)])
def test_heads_of_many_clusters_are_judged_by_more_images(k: int, expected: int) -> None:
    asked = []

    def few(m: int) -> Tensor:
        asked.append(m)
        return features(40)

    make(2, k=k).choose(few, k)
    assert asked == [expected]


@pytest.mark.parametrize(("count", "wait"), [(1, False), (3, True)])
def test_there_is_no_choice_of_one_head_or_of_heads_that_still_wait(count: int, wait: bool) -> None:
    heads = make(count, wait=wait)
    heads.choose(noise, K)
    assert int(heads.chosen) == -1


@pytest.mark.parametrize("first", [True, False])
def test_a_saved_state_says_whether_the_heads_have_started(first: bool, encode: Encode) -> None:
    saved, other = make(wait=True), make(wait=True, seed=1)
    (saved if first else other).start(encode, K, 0, 5)
    saved.follow(torch.tensor([2.0, 1.0, 3.0]))
    other.load_state_dict(saved.state_dict())
    assert same(saved.state_dict(), other.state_dict())
    assert other.active == first and other.best() == 1


@pytest.mark.parametrize(
    ("epochs", "warm_start", "first"), [(10, 0.5, 5), (10, 0.0, 0), (3, 0.5, 1), (1, 0.9, 0), (5, 0.99, 4)]
)
def test_what_waits_is_due_from_its_part_of_the_training_on(epochs: int, warm_start: float, first: int) -> None:
    assert [due(epoch, epochs, warm_start) for epoch in range(epochs)] == [epoch >= first for epoch in range(epochs)]


# partitions


def test_information_of_two_labellings_by_hand() -> None:
    a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0])
    assert information(a, b, 2) == pytest.approx(np.log(2))  # names do not matter
    assert information(a, torch.tensor([0, 1, 0, 1]), 2) == pytest.approx(0, abs=1e-12)
    joint = {(0, 0): 2 / 4, (1, 0): 1 / 4, (1, 1): 1 / 4}
    p, q = {0: 2 / 4, 1: 2 / 4}, {0: 3 / 4, 1: 1 / 4}
    expected = sum(value * np.log(value / (p[i] * q[j])) for (i, j), value in joint.items())
    assert information(a, torch.tensor([0, 0, 0, 1]), 2) == pytest.approx(expected)


def test_likeness_is_1_for_a_partition_under_other_names_and_less_for_a_coarser_one() -> None:
    a, coarse = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 1, 1, 1, 1])
    assert likeness(a, (a + 1) % 3, 3) == pytest.approx(1)
    assert likeness(a, coarse, 3) == pytest.approx(information(coarse, coarse, 3) / np.log(3))
    assert likeness(a * 0, a * 0, 3) == 0


WIDE = torch.arange(300) % 3  # kinds at these angles, spread evenly by so much to both sides
CENTRE, SPREAD = torch.tensor([0.0, 1.3, 1.7])[WIDE], torch.tensor([0.7, 0.05, 0.05])[WIDE]


def wide(m: int) -> Tensor:
    """One wide kind and two narrow ones near each other."""
    angle = CENTRE + SPREAD * (2 * torch.rand(300, generator=torch.Generator().manual_seed(0)) - 1)
    return torch.stack([angle.cos(), angle.sin()], -1)


def test_the_partition_that_keeps_neighbours_together_comes_first() -> None:
    """k-means gains more from cutting the wide kind than from telling the narrow ones apart."""
    by_inertia = kmeans(wide(300), 3, generator=torch.Generator().manual_seed(1))[0]
    assert accuracy(WIDE.numpy(), by_inertia.labels.numpy()) < 0.9
    _, found = partitions(wide, 3, 5, torch.Generator().manual_seed(1))
    assert accuracy(WIDE.numpy(), found[0].labels.numpy()) > 0.98


def test_as_many_partitions_are_returned_as_asked_for_even_of_clear_groups(encode: Encode) -> None:
    h, found = partitions(encode, K, 4, torch.Generator().manual_seed(0))
    assert torch.equal(h, encode(60)) and len(found) == 4
    assert accuracy(KIND, found[0].labels.numpy()) == 1


@pytest.mark.parametrize("distinct", [1, 2, 3, 5, 20])
def test_merged_partitions_of_few_distinct_rows_are_finite(distinct: int) -> None:
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        x = torch.nn.functional.normalize(torch.randn(distinct, 4, generator=g), dim=1)
        found = merged(x[torch.randint(distinct, (40,), generator=g)], 4, g)
        assert found.centres.shape == (4, 4) and found.centres.isfinite().all()
        assert len(found.labels.unique()) <= min(distinct, 4)


# known labels


def test_clusters_are_renamed_after_the_known_labels_by_hand() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    known = torch.tensor([2, -1, 0, -1, 1, -1])
    assert agree_with_known(labels, known, 3).tolist() == [2, 2, 0, 0, 1, 1]


def test_the_majority_of_the_known_labels_decides() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    known = torch.tensor([1, 1, 0, 0, 0, 1])
    assert agree_with_known(labels, known, 2).tolist() == [1, 1, 1, 0, 0, 0]


def test_no_two_clusters_get_one_name_even_if_both_hold_mostly_the_same_kind() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    known = torch.tensor([0, 0, 0, 0, 0, 1])
    assert agree_with_known(labels, known, 3).tolist() == [0, 0, 0, 2, 2, 1]


@pytest.mark.parametrize("known", [[-1] * 6, [-1, -1, -1, -1, 0, -1]])
def test_renaming_keeps_the_partition_however_little_is_known(known: list[int]) -> None:
    labels = torch.tensor([0, 2, 1, 1, 2, 0])
    found = agree_with_known(labels, torch.tensor(known), 3)
    assert torch.equal(found[:, None] == found[None], labels[:, None] == labels[None])
    assert found.unique().tolist() == [0, 1, 2]
    if known[4] == 0:
        assert found[4] == 0


@pytest.mark.parametrize("names", [[2, 0, 1], [1, 0, 2], [0, 2, 1]])
def test_heads_start_with_the_names_of_the_known_labels(names: list[int], encode: Encode) -> None:
    known = torch.full((60,), -1)
    known[:6] = torch.tensor(names)[KIND[:6]]
    heads = make(2, wait=True)
    heads.start(encode, K, 0, 5, known)
    for logits in heads.logits(encode(60)):
        assert torch.equal(logits.argmax(1), torch.tensor(names)[KIND])


def test_known_labels_stay_with_their_images_when_only_some_are_encoded(
    monkeypatch: pytest.MonkeyPatch, encode: Encode
) -> None:
    """`encode(m)` gives m evenly spaced images, as the loop does."""
    monkeypatch.setattr(start, "SAMPLE", 22)
    rows = torch.linspace(0, 59, 22).round().long()
    names = torch.tensor([2, 0, 1])

    def some(m: int) -> Tensor:
        assert m == 22
        return encode(60)[rows]

    heads = make(1, wait=True)
    heads.start(some, K, 0, 5, names[KIND])
    assert torch.equal(heads.logits(encode(60))[0].argmax(1), names[KIND])
