"""How clusters start: from the partition that keeps neighbours together, not the one with the lowest inertia."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ilk.methods import start
from ilk.methods.start import due, information, likeness, merged, partitions, togetherness

KIND = torch.arange(900) // 300


def on_circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], 1)


def encode(m: int) -> Tensor:
    """A wide class along an arc, and two narrow classes near each other."""
    draws = generator(0)
    wide = 1.6 * torch.rand(300, generator=draws)
    narrow = [centre + 0.03 * torch.randn(300, generator=draws) for centre in (2.4, 2.8)]
    return 3 * on_circle(torch.cat([wide, *narrow]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_first_partition_is_right_where_the_one_of_lowest_inertia_cuts_a_wide_kind() -> None:
    """Whenever the right one is among the candidates, which k-means with its taste for low inertia rarely finds."""
    first = []
    for seed in range(8):
        features, found = partitions(encode, 3, 10, generator(seed))
        assert torch.equal(features, encode(900))
        alike = [likeness(one.labels, KIND, 3) for one in found]
        lowest = min(found, key=lambda one: one.inertia)
        assert likeness(lowest.labels, KIND, 3) < 0.7
        assert alike[0] == max(alike)
        first.append(alike[0])
    assert sum(value > 0.97 for value in first) >= 6


def test_partitions_come_in_the_order_of_togetherness_as_long_as_they_differ() -> None:
    h, found = partitions(encode, 3, 10, generator())
    told = togetherness(torch.stack([one.labels for one in found]), h, 3).tolist()
    distinct = next(i for i in range(1, 11) if i == 10 or told[i] > told[i - 1])  # then those that were left out
    assert distinct > 2 and told[0] == max(told)


def test_partitions_differ_as_long_as_there_are_enough_and_are_a_function_of_the_generator() -> None:
    _, found = partitions(encode, 3, 4, generator())
    _, again = partitions(encode, 3, 4, generator())
    assert len(found) == 4
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(found, again, strict=True))
    assert likeness(found[0].labels, found[1].labels, 3) < 0.97


def test_as_many_partitions_come_as_were_asked_for_even_when_there_is_only_one() -> None:
    def three_points(m: int) -> Tensor:
        return torch.eye(3).repeat(10, 1)

    _, found = partitions(three_points, 3, 5, generator())
    assert len(found) == 5
    assert all(likeness(one.labels, torch.arange(3).repeat(10), 3) == pytest.approx(1) for one in found)


def test_partitions_fitted_to_some_images_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds stand one after the other: the images that are fitted to must come from all of them."""
    monkeypatch.setattr(start, "FITTED", 60)
    few = partitions(encode, 3, 10, generator())[1]
    assert all(one.labels.shape == (900,) for one in few)
    assert max(likeness(one.labels, KIND, 3) for one in few) > 0.9
    for one in few:
        distance = torch.cdist(torch.nn.functional.normalize(encode(900)), one.centres)
        assert torch.equal(one.labels, distance.argmin(1))
        assert one.inertia == pytest.approx(float(distance.min(1).values.square().sum()), rel=1e-3)


@pytest.mark.parametrize(
    ("many", "restarts", "merged_ones"), [(50, 16, 8), (3, 16, 8), (2, 10, 5), (1, 5, 2), (0, 4, 2)]
)
def test_with_many_clusters_there_are_fewer_candidates(
    monkeypatch: pytest.MonkeyPatch, many: int, restarts: int, merged_ones: int
) -> None:
    asked: list[int] = []
    whole = start.kmeans

    def counted(*given: Any, restarts: int, **named: Any) -> Any:
        asked.append(restarts)
        return whole(*given, restarts=restarts, **named)

    monkeypatch.setattr(start, "MANY", many)
    monkeypatch.setattr(start, "kmeans", counted)
    assert len(partitions(encode, 3, 4, generator())[1]) == 4
    assert asked == [restarts] + [1] * merged_ones


# togetherness


def line(n: int) -> Tensor:
    """Directions on an arc, one step apart: the nearest neighbours of each are those before and after it."""
    return on_circle(torch.linspace(0, 1, n))


def test_togetherness_by_hand() -> None:
    """Twelve in a row, two clusters: a tenth of six is less than one, so the one nearest neighbour counts.

    Steps grow, so that each but the first is nearest to the one before it.
    """
    x = on_circle(torch.tensor([0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.21, 0.28, 0.36, 0.45, 0.55, 0.66]))
    halves = torch.arange(12) // 6
    own, other = halves, torch.cat([halves[1:2], halves[:-1]])  # the seventh's neighbour is the sixth
    expected = information(own, other, 2)
    assert expected == pytest.approx(
        -(0.5 * math.log(0.5) * 2) - (7 / 12 * math.log(7 / 12) + 5 / 12 * math.log(5 / 12))
        + (0.5 * math.log(0.5) + 5 / 12 * math.log(5 / 12) + 1 / 12 * math.log(1 / 12)), abs=1e-9
    )  # fmt: skip
    assert float(togetherness(halves[None], x, 2)[0]) == pytest.approx(expected, abs=1e-6)


def test_togetherness_is_the_mean_over_neighbourhoods_that_double() -> None:
    x, labels = torch.randn(240, 5, generator=generator(1)), torch.randint(3, (240,), generator=generator(2))
    similar = torch.nn.functional.normalize(x, dim=1)
    similar = similar @ similar.T
    similar.fill_diagonal_(-2)
    near = similar.topk(8, 1).indices  # 1, 2, 4 and 8: a tenth of 80
    told = [information(labels.repeat_interleave(m), labels[near[:, :m]].flatten(), 3) for m in (1, 2, 4, 8)]
    assert float(togetherness(labels[None], x, 3)[0]) == pytest.approx(sum(told) / 4, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_togetherness_prefers_whole_kinds_to_cut_and_to_merged_ones(scale: float) -> None:
    """Four arcs, one of them wide; for fewer clusters than classes, and as many of other shapes."""
    kind = torch.arange(400) % 4
    width = torch.tensor([0.5, 0.1, 0.1, 0.1])[kind]
    h = scale * on_circle(torch.tensor([0.0, 1.2, 1.5, 2.5])[kind] + width * torch.rand(400, generator=generator()))
    cut = torch.where(kind == 0, (h[:, 1] > scale * math.sin(0.25)).long() * 2, torch.where(kind == 2, 1, kind))
    merged_ = torch.where(kind == 2, 1, kind)
    one, random = torch.zeros_like(kind), torch.randint(4, (400,), generator=generator())
    told = togetherness(torch.stack([kind, cut, merged_, random, one]), h, 4).tolist()
    assert told[0] > told[1] and told[0] > told[2] > told[3] > told[4] - 1e-9
    assert told[0] == pytest.approx(math.log(4), abs=0.05) and told[4] == pytest.approx(0, abs=1e-9)


def test_togetherness_does_not_ask_for_names() -> None:
    x, labels = line(100), torch.arange(100) // 25
    a, b = togetherness(torch.stack([labels, (labels + 3) % 4]), x, 4).tolist()
    assert a == pytest.approx(b)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_togetherness_of_next_to_no_images_is_a_number(n: int) -> None:
    assert togetherness(torch.zeros(2, n, dtype=torch.int64), line(n), 3).tolist() == [0, 0]


@pytest.mark.parametrize("n", [4, 5, 12])
def test_a_handful_of_images_can_be_partitioned(n: int) -> None:
    def few(m: int) -> Tensor:
        return torch.randn(n, 6, generator=generator(3))

    _, found = partitions(few, 4, 3, generator())
    assert all(one.labels.shape == (n,) and one.labels.max() < 4 for one in found)


def test_ward_merges_the_fine_centres_to_the_kinds() -> None:
    centres = 5 * torch.randn(4, 8, generator=generator(1))
    kind = torch.arange(400) % 4
    x = centres[kind] + 0.2 * torch.randn(400, 8, generator=generator(2))
    assert likeness(merged(x, 4, generator()).labels, kind, 4) == pytest.approx(1)


def test_merging_equal_rows_gives_k_centres() -> None:
    found = merged(torch.ones(20, 3), 4, generator())
    assert found.centres.shape == (4, 3) and found.centres.isfinite().all()


def test_information_by_hand() -> None:
    same = torch.tensor([0, 0, 1, 1])
    assert information(same, same, 2) == pytest.approx(math.log(2))
    assert information(same, 1 - same, 2) == pytest.approx(math.log(2))
    assert information(same, torch.tensor([0, 1, 0, 1]), 2) == pytest.approx(0, abs=1e-12)
    # joint (1/2, 1/4 | 0, 1/4): H(a) = H(b's shares 1/2, 1/2), H(1/2, 1/4, 1/4) = 1.5 log 2
    a, b = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    entropy_a = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert information(a, b, 2) == pytest.approx(entropy_a + math.log(2) - 1.5 * math.log(2))


def test_likeness_does_not_ask_for_names_and_is_0_for_unrelated_labels() -> None:
    labels = torch.randint(5, (5000,), generator=generator())
    assert likeness(labels, (labels + 2) % 5, 5) == pytest.approx(1)
    assert likeness(labels, torch.randint(5, (5000,), generator=generator(1)), 5) < 0.01
    assert likeness(torch.zeros(9, dtype=torch.int64), torch.zeros(9, dtype=torch.int64), 5) == 0


def test_due_is_the_part_of_the_training_rounded_down() -> None:
    assert [due(epoch, 5, 0.5) for epoch in range(5)] == [False, False, True, True, True]
    assert due(0, 1, 0.5)
    assert due(0, 10, 0.0)
