"""k-means: repeatable, as good as scikit-learn's, and sound where rows are few or equal."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor

from ilk.analysis.kmeans import Partition, kmeans, lloyd, merge_and_split, plus_plus, squared_distance
from reference import scl


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Three clouds of 40, 30 and 20 rows, far apart, in a mixed order; and which is whose."""
    kind = torch.tensor([0] * 40 + [1] * 30 + [2] * 20)[torch.randperm(90, generator=seeded())]
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return (centres[kind] + 0.5 * torch.randn(90, 2, generator=seeded(1))).to(dtype), kind


def digits() -> Tensor:
    return torch.from_numpy(load_digits().data[:600]).float()


def slow_inertia(x: Tensor, partition: Partition) -> float:
    total = 0.0
    for row, label in zip(x.tolist(), partition.labels.tolist(), strict=True):
        total += sum((p - q) ** 2 for p, q in zip(row, partition.centres[label].tolist(), strict=True))
    return total


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = (kmeans(digits(), 10, generator=seeded(3), restarts=4) for _ in "ab")
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.labels, b.labels) and torch.equal(a.centres, b.centres) and a.inertia == b.inertia


def test_other_seeds_and_restarts_start_elsewhere() -> None:
    inertias = [p.inertia for seed in (0, 1) for p in kmeans(digits(), 10, generator=seeded(seed), restarts=3)]
    assert len(set(inertias)) == 6


def test_nothing_is_drawn_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    kmeans(digits(), 10, generator=seeded(), restarts=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_three_obvious_blobs_are_found(dtype: torch.dtype) -> None:
    x, kind = blobs(dtype)
    best = kmeans(x, 3, generator=seeded())[0]
    assert sorted(torch.bincount(best.labels).tolist()) == [20, 30, 40]
    assert all(len(best.labels[kind == k].unique()) == 1 for k in range(3))


def test_centres_are_the_means_of_their_rows() -> None:
    x, _ = blobs(torch.float64)
    for p in kmeans(x, 5, generator=seeded()):
        for k in range(5):
            assert torch.allclose(p.centres[k], x[p.labels == k].mean(0), atol=1e-12)


def test_every_row_has_the_nearest_centre() -> None:
    x = digits()
    for p in kmeans(x, 10, generator=seeded(), restarts=3):
        assert torch.equal(torch.cdist(x.double(), p.centres.double()).argmin(1), p.labels)


def test_inertia_is_the_sum_of_squared_distances() -> None:
    x, _ = blobs(torch.float64)
    for p in kmeans(x, 4, generator=seeded()):
        assert p.inertia == pytest.approx(slow_inertia(x, p), rel=1e-12)


def test_squared_distance_equals_the_loop_and_is_never_negative() -> None:
    x = torch.randn(6, 3, generator=seeded(), dtype=torch.float64)
    expected = [[sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for b in x.tolist()] for a in x.tolist()]
    assert torch.allclose(squared_distance(x, x), torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    many = torch.randn(200, 30, generator=seeded())
    assert squared_distance(many, many).min() >= 0


def test_partitions_come_best_first_and_one_a_restart() -> None:
    inertias = [p.inertia for p in kmeans(digits(), 10, generator=seeded(), restarts=7)]
    assert len(inertias) == 7 and inertias == sorted(inertias)


def test_on_digits_it_is_within_one_per_cent_of_scikit_learn() -> None:
    x = digits()
    theirs = KMeans(10, n_init=10, random_state=0).fit(x.numpy()).inertia_
    ours = kmeans(x, 10, generator=seeded(), restarts=10)[0]
    assert ours.inertia == pytest.approx(slow_inertia(x, ours), rel=1e-5)
    assert ours.inertia < 1.01 * theirs


def test_from_the_same_centres_it_ends_where_scikit_learn_does() -> None:
    x = digits()
    start = plus_plus(x, 10, seeded())
    theirs = KMeans(10, init=start.numpy(), n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(x.numpy())
    ours = lloyd(x, start, 100)
    assert np.array_equal(ours.labels.numpy(), theirs.labels_)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-5)


def test_more_steps_are_never_worse() -> None:
    x = digits()
    start = plus_plus(x, 10, seeded())
    inertias = [lloyd(x, start, steps).inertia for steps in range(12)]
    assert all(later <= earlier for earlier, later in pairwise(inertias))
    assert inertias[-1] < 0.8 * inertias[0]


def test_with_a_tolerance_it_ends_earlier_at_nearly_the_same_partition() -> None:
    x = digits()
    exact = kmeans(x, 10, generator=seeded(), restarts=1)[0]
    settled = kmeans(x, 10, generator=seeded(), restarts=1, tolerance=0.02)[0]
    assert exact.inertia < settled.inertia < 1.03 * exact.inertia
    assert 0 < int((settled.labels != exact.labels).sum()) < 0.1 * len(x)
    moved = (lloyd(x, settled.centres, 1).labels != settled.labels).float().mean()
    assert moved <= 0.02


def test_rows_far_from_the_origin_are_told_apart() -> None:
    x, _ = blobs()
    near, far = (kmeans(rows, 3, generator=seeded(), restarts=1)[0] for rows in (x, x + 10_000))
    assert torch.equal(near.labels, far.labels) and far.inertia == pytest.approx(near.inertia, rel=0.02)


def test_plus_plus_picks_distinct_rows_of_the_data() -> None:
    x, _ = blobs()
    for seed in range(20):
        centres = plus_plus(x, 10, seeded(seed))
        assert len(centres.unique(dim=0)) == 10
        assert all((x == centre).all(1).any() for centre in centres)


def test_plus_plus_takes_no_row_twice_while_others_are_left() -> None:
    """Two rows, repeated, and three a thousandth away: rounding must not make a repeated one look as far."""
    ends = F.normalize(torch.randn(2, 128, generator=seeded()), dim=1)
    x = torch.cat([ends.repeat(500, 1), ends[0] + 1e-3 * torch.randn(3, 128, generator=seeded(1)) / 128**0.5])
    for seed in range(20):
        assert len(plus_plus(x, 5, seeded(seed)).unique(dim=0)) == 5


def test_plus_plus_prefers_far_rows() -> None:
    """From one blob the next two centres come nearly always from the other two."""
    x, kind = blobs()
    whose = [torch.cdist(plus_plus(x, 3, seeded(seed)), x).argmin(1) for seed in range(50)]
    assert sum(len(kind[rows].unique()) == 3 for rows in whose) > 45


def test_plus_plus_draws_by_squared_distance() -> None:
    """Rows at 0, 1 and 2: after 0 the row at 2 is drawn with probability 4 / 5, the one at 1 with 1 / 5."""
    x = torch.tensor([[0.0], [1.0], [2.0]])
    pairs = [plus_plus(x, 2, seeded(seed))[:, 0].tolist() for seed in range(3000)]
    after_zero = [second for first, second in pairs if first == 0]
    share = after_zero.count(2.0) / len(after_zero)
    assert abs(share - 0.8) < 4 * (0.8 * 0.2 / len(after_zero)) ** 0.5


def test_as_many_clusters_as_rows_give_each_row_its_own() -> None:
    x = torch.randn(12, 3, generator=seeded())
    for p in kmeans(x, 12, generator=seeded()):
        assert len(p.labels.unique()) == 12 and p.inertia == pytest.approx(0, abs=1e-4)


def test_one_cluster_is_the_mean() -> None:
    x = digits().double()
    p = kmeans(x, 1, generator=seeded(), restarts=1)[0]
    assert torch.allclose(p.centres[0], x.mean(0)) and p.labels.max() == 0


def test_equal_rows_are_no_error() -> None:
    p = kmeans(torch.ones(20, 4), 3, generator=seeded(), restarts=2)[0]
    assert p.inertia == pytest.approx(0, abs=1e-4) and p.centres.isfinite().all() and p.labels.shape == (20,)


def test_fewer_distinct_rows_than_clusters_leave_no_distance() -> None:
    x = torch.eye(3).repeat(5, 1)
    p = kmeans(x, 4, generator=seeded(), restarts=3)[0]
    assert p.inertia == pytest.approx(0, abs=1e-4)
    assert len({tuple(row.tolist()): int(label) for row, label in zip(x, p.labels, strict=True)}.values()) == 3


def test_no_cluster_is_empty_when_rows_are_distinct() -> None:
    for seed in range(150):
        g = seeded(seed)
        n = int(torch.randint(3, 12, (1,), generator=g))
        k = int(torch.randint(2, n + 1, (1,), generator=g))
        x = torch.randn(n, 2, generator=g)
        assert all(len(p.labels.unique()) == k for p in kmeans(x, k, generator=g, restarts=2))


def test_an_empty_cluster_is_filled_even_from_a_bad_start() -> None:
    """Centres far from all rows: without care one in forty of these ends with an empty cluster."""
    for seed in range(300):
        g = seeded(seed)
        n = int(torch.randint(3, 12, (1,), generator=g))
        k = int(torch.randint(2, n + 1, (1,), generator=g))
        x, bad = torch.randn(n, 2, generator=g), 4 * torch.randn(k, 2, generator=g)
        assert len(lloyd(x, bad, 100).labels.unique()) == k


def test_fewer_rows_than_clusters_are_refused() -> None:
    with pytest.raises(ValueError, match="4 clusters.*4 rows.* 3"):
        kmeans(torch.randn(3, 2), 4, generator=seeded())


def test_the_rows_are_left_as_they_are() -> None:
    x, _ = blobs()
    kept = x.clone()
    kmeans(x, 3, generator=seeded())
    assert torch.equal(x, kept)


# merge_and_split


def directions(n: int, d: int = 8, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=seeded(seed)), dim=1)


def sizes(labels: Tensor, k: int) -> list[int]:
    found: list[int] = torch.bincount(labels, minlength=k).tolist()
    return found


@pytest.mark.parametrize("cluster", [0, 4, 9])
def test_one_cluster_of_all_images_is_split_into_ten_none_of_them_tiny(cluster: int) -> None:
    for seed in range(3):
        labels = merge_and_split(directions(600, seed=seed), torch.full((600,), cluster), 10, 9, seeded(seed))
        assert min(sizes(labels, 10)) >= 20 and max(sizes(labels, 10)) <= 120 and len(labels) == 600


def test_a_split_follows_the_features() -> None:
    """Two opposite clouds in one cluster: the empty one takes exactly one of them."""
    kind = torch.arange(60) % 2
    x = F.normalize(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[kind] + 0.1 * directions(60, 2), dim=1)
    labels = merge_and_split(x, torch.zeros(60, dtype=torch.int64), 2, 5, seeded())
    assert torch.equal(labels, kind) or torch.equal(labels, 1 - kind)


def test_equal_features_are_halved_at_random() -> None:
    x = F.normalize(torch.ones(600, 8), dim=1)
    found = [merge_and_split(x, torch.zeros(600, dtype=torch.int64), 10, 9, seeded(seed)) for seed in (0, 1)]
    for labels in found:
        assert sorted(sizes(labels, 10)) == sorted(halvings(600, 10))
        assert not torch.equal(labels, labels.sort().values)
    assert not torch.equal(*found)


def halvings(n: int, k: int) -> list[int]:
    """Sizes once the largest of them has been halved k - 1 times."""
    held = [n]
    while len(held) < k:
        held.sort()
        largest = held.pop()
        held += [largest // 2, largest - largest // 2]
    return held


@pytest.mark.parametrize("counts", [[5, 5, 5], [5, 6, 20], [1, 1, 1], [4, 4, 4], [1, 4, 2]])
def test_without_small_clusters_and_without_large_ones_nothing_changes(counts: list[int]) -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    generator = seeded()
    state = generator.get_state()
    assert torch.equal(merge_and_split(directions(len(labels)), labels, 3, 5, generator), labels)
    assert torch.equal(generator.get_state(), state)


def test_a_cluster_of_just_the_least_size_is_not_small() -> None:
    labels = torch.tensor([0] * 5 + [1] * 50)
    assert torch.equal(merge_and_split(directions(55), labels, 2, 5, seeded()), labels)
    assert not torch.equal(merge_and_split(directions(55), labels, 2, 6, seeded()), labels)


def test_members_of_a_small_cluster_join_the_large_one_whose_centroid_has_the_largest_product() -> None:
    """Cluster 0 is spread, its centroid shorter: by angle the lost image would join it, by product cluster 1."""
    spread, tight = torch.tensor([60.0, -60.0] * 10), torch.tensor([50.0] * 40)
    angle = torch.cat([spread, tight, torch.tensor([20.0])]).deg2rad()
    x = torch.stack([angle.cos(), angle.sin()], 1)
    labels = torch.tensor([0] * 20 + [1] * 40 + [2])
    merged, emptied = scl.merge(x.tolist(), labels.tolist(), 3, 5)
    assert emptied == [2] and merged[60] == 1
    found = merge_and_split(x, labels, 3, 5, seeded())
    assert found[:20].tolist() == [0] * 20  # cluster 1, now of 41, was the one to be cut, lost image and all
    parts = {int(found[60]), *found[20:60].tolist()}
    assert parts == {1, 2} and len(set(found[20:60].tolist())) == 1


def test_each_emptied_cluster_splits_the_then_largest() -> None:
    """Clouds of 40 and 30 make cluster 0, of 20 and 10 cluster 1; 2 takes one of the first two, 3 a part of the 40."""
    kind = torch.arange(4).repeat_interleave(torch.tensor([40, 30, 20, 10]))
    x = F.normalize(torch.eye(4)[kind] + 0.1 * directions(100, 4), dim=1)
    labels = merge_and_split(x, kind // 2, 4, 5, seeded())
    parts = [set(labels[kind == cloud].tolist()) for cloud in range(4)]
    assert parts[0] | parts[1] == {0, 2, 3} and not parts[0] & parts[1]
    assert len(parts[0]) == 2 and 3 in parts[0] and parts[2] == parts[3] == {1}


@pytest.mark.parametrize("seed", range(12))
def test_merge_and_split_equals_the_transcription(seed: int) -> None:
    """The same cuts by 2-means, drawn from the same generator in the same order."""
    g = seeded(seed)
    n, k = int(torch.randint(40, 90, (1,), generator=g)), int(torch.randint(3, 9, (1,), generator=g))
    x = directions(n, 4, seed).double()
    weight = torch.rand(k, generator=g).pow(4)
    labels = torch.multinomial(weight, n, replacement=True, generator=g).clamp_min(1)
    labels[:2] = 0  # one cluster at least is small
    drawn = seeded(seed)

    def cut(members: list[int]) -> list[bool]:
        part = kmeans(x[torch.tensor(members)], 2, generator=drawn, restarts=1, steps=20)[0].labels
        return (part == 1).tolist()

    expected = scl.merge_and_split(x.tolist(), labels.tolist(), k, 5, cut)
    assert merge_and_split(x, labels, k, 5, seeded(seed)).tolist() == expected
    assert min(sizes(labels, k)) < 5 <= max(sizes(labels, k)) and expected != labels.tolist()


def test_merge_and_split_repeats_itself_and_draws_nothing_from_the_global_generator() -> None:
    x, labels = directions(200), torch.zeros(200, dtype=torch.int64)
    state = torch.get_rng_state()
    first, second, other = (merge_and_split(x, labels, 7, 5, seeded(seed)) for seed in (3, 3, 4))
    equal = merge_and_split(torch.ones(200, 8), labels, 7, 5, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second) and not torch.equal(first, other) and len(equal.unique()) == 7


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_fewer_images_than_clusters_end_with_one_image_each(n: int, equal: bool) -> None:
    x = torch.ones(n, 8) if equal else directions(n)
    labels = merge_and_split(x, torch.full((n,), 7), 10, 2, seeded())
    assert sorted(sizes(labels, 10)) == [0] * (10 - n) + [1] * n


def test_merge_and_split_leaves_its_inputs_as_they_are() -> None:
    x, labels = directions(60), torch.arange(60) % 3 % 2
    kept = x.clone(), labels.clone()
    merge_and_split(x, labels, 5, 5, seeded())
    assert torch.equal(x, kept[0]) and torch.equal(labels, kept[1])
