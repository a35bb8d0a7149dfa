"""The tree of clusters, the evidence for each number of them, the choice, and the images that belong to none."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, is_monotonic, is_valid_linkage
from scipy.sparse.csgraph import shortest_path

from ilk.analysis.hierarchy import Level, density_clusters, grow_tree, table
from ilk.analysis.hierarchy.evidence import (
    LEAST_SLOPE,
    SLOPES,
    agreement,
    contingency,
    evidence_of,
    information,
    linear_scores,
    settled,
    settled_agreement,
    silhouettes,
)
from ilk.analysis.hierarchy.judge import judge, make_curve
from ilk.analysis.hierarchy.space import find_space, place
from ilk.analysis.hierarchy.tree import affinities, build_tree, name_levels
from ilk.analysis.metrics import accuracy, ari

K = 6


def mixture(n: int = 600, k: int = K, seed: int = 0, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """k Gaussian classes of unequal size and width, 64 wide, with a common offset as encoders have."""
    random = np.random.default_rng(seed)
    share = np.linspace(1, 2, k)
    labels = random.choice(k, n, p=share / share.sum())
    centres, width = apart * random.normal(size=(k, 64)), np.linspace(0.3, 0.6, k)
    x = centres[labels] + random.normal(size=(n, 64)) * width[labels, None] + 3 * random.normal(size=64)
    return x.astype(np.float32), labels


@cache
def grown(views: bool = False) -> tuple[Any, np.ndarray]:
    x, labels = mixture()
    noise = np.random.default_rng(9).normal(size=(len(x), 2, 64)) * 0.3
    seen = (x[:, None] + noise).astype(np.float16) if views else None
    return grow_tree(x.astype(np.float16), views=seen, k_high=12), labels


def test_the_true_number_of_unequal_gaussians_is_chosen_and_the_clusters_are_theirs() -> None:
    found, labels = grown()
    assert found.chosen == K
    assert found.sure == "high"
    assert found.range[0] <= K <= found.range[1]
    assert accuracy(labels, found.levels(K)) > 0.97


def test_rings_are_kept_whole() -> None:
    random = np.random.default_rng(0)
    angle, labels = random.uniform(0, 2 * np.pi, 800), np.arange(800) % 4
    planes = np.linalg.qr(random.normal(size=(40, 8)))[0].reshape(40, 4, 2)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    x = np.einsum("dni,in->nd", planes[:, labels], circle) + 0.02 * random.normal(size=(800, 40))
    x += 0.5 * random.normal(size=(4, 40))[labels]
    tree = build_tree(place(x, find_space(x, 0)), 60, 0)
    assert accuracy(labels, tree.names[3][tree.fine]) == 1


def test_views_are_a_criterion_and_agree_here() -> None:
    found, _ = grown(views=True)
    assert found.chosen == K
    assert max(found.curve, key=lambda level: level.views).k == K
    assert all(level.views is None for level in grown()[0].curve)


def test_views_that_ignore_the_classes_gain_nothing() -> None:
    x, _ = mixture(300)
    strangers = np.random.default_rng(0).permutation(x)[:, None]
    curve = grow_tree(x, views=strangers, k_high=8).curve
    assert max(level.views for level in curve) < 0


def test_a_seed_repeats_itself_and_tensors_count_as_arrays() -> None:
    x, _ = mixture(200)
    a, b = grow_tree(x, seed=3, k_high=8), grow_tree(torch.from_numpy(x), seed=3, k_high=8)
    assert a.curve == b.curve
    assert np.array_equal(a.merges, b.merges) and np.array_equal(a.fine, b.fine)
    assert grow_tree(x, seed=4, k_high=8).curve != a.curve


def test_the_lengths_of_the_features_change_nothing() -> None:
    x, _ = mixture(200)
    lengths = 2.0 ** np.random.default_rng(0).integers(-3, 4, len(x))  # powers of two: no rounding
    a, b = grow_tree(x, k_high=8), grow_tree((x * lengths[:, None]).astype(np.float32), k_high=8)
    assert a.curve == b.curve
    assert np.array_equal(a.fine, b.fine)


def test_one_blob_of_many_lengths_and_a_common_offset_is_no_pair_of_clusters() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 40)) * np.arange(1, 41) ** -0.5 + random.normal(size=40)
    assert grow_tree(x * random.uniform(0.3, 3, (500, 1)), k_high=20).sure == "low"


def test_levels_are_nested_and_a_cut_cluster_keeps_its_number_in_the_larger_part() -> None:
    found, _ = grown()
    for k in range(2, len(found.names)):
        coarse, finer = found.levels(k), found.levels(k + 1)
        assert np.array_equal(np.unique(finer), np.arange(k + 1))
        parents = [np.unique(coarse[finer == c]) for c in range(k + 1)]
        assert all(len(parent) == 1 for parent in parents)
        assert [int(parent[0]) for parent in parents[:k]] == list(range(k))  # numbers are inherited
    assert np.array_equal(np.unique(found.levels(1)), [0])
    second = np.bincount(found.levels(2))
    assert second[0] >= second[1]


def test_the_merges_are_a_linkage_that_scipy_cuts_into_the_same_levels() -> None:
    found, _ = grown()
    assert is_valid_linkage(found.merges, throw=True)
    assert is_monotonic(found.merges)
    for k in (2, K, 9):
        assert ari(fcluster(found.merges, k, "maxclust")[found.fine], found.levels(k)) == pytest.approx(1)


def test_names_follow_a_tree_worked_by_hand() -> None:
    merges = np.array([[0, 1, 0.0, 2], [2, 3, 1.0, 2], [4, 5, 2.0, 4]])
    names = name_levels(merges, np.array([4, 1, 1, 2]))
    assert names.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 2, 1], [0, 3, 2, 1]]


def test_information_of_tables_worked_by_hand() -> None:
    assert information(np.eye(4)) == pytest.approx((np.log(4), np.log(4)))
    assert information(np.ones((4, 4))) == pytest.approx((0, np.log(4)))


def test_gain_is_the_height_over_the_line_to_the_fine_clusters() -> None:
    found = evidence_of([(0.0, 0.0), (2.0, 2.0), (3.0, 4.0)], (3.0, 4.0))
    assert SLOPES[0] == 1
    for gain, factor in zip(found.gain, SLOPES, strict=True):
        assert gain == pytest.approx([0, 2 - 2 * 0.75 * factor, 3 - 3 * factor])
    assert found.share == pytest.approx([0, 1, 0.75])
    assert evidence_of([(1.0, 1.0)], (0.1, 4.0)).gain[0] == pytest.approx([1 - LEAST_SLOPE])


def test_a_level_of_two_trees_agrees_when_only_the_cuts_below_it_differ() -> None:
    x, labels = mixture(400, apart=2.0)
    x = place(x, find_space(x, 0))
    a, b = build_tree(x, 40, 1), build_tree(x, 40, 2)
    gain = agreement(a.fine, a, b.fine, b, range(1, 13)).gain[0]
    assert gain[0] == pytest.approx(0)
    assert gain.argmax() + 1 == K
    assert accuracy(labels, a.names[K - 1][a.fine]) == 1
    table_ = contingency(a.fine, b.fine, (len(a.centres), len(b.centres)))
    assert table_.sum() == len(x)


def test_settling_is_a_walk_computed_slowly_and_mends_a_point_in_the_wrong_cluster() -> None:
    x, _ = mixture(150, apart=2.0)
    tree = build_tree(place(x, find_space(x, 0)), 6, 0)
    wrong = tree.fine.copy()
    wrong[0] = (wrong[0] + 1) % 6
    found = settled(tree.graph, wrong, 6)
    graph = tree.graph.toarray()
    walk = (np.eye(150) + graph / graph.sum(1, keepdims=True)) / 2
    assert found == pytest.approx(np.linalg.matrix_power(walk, 10) @ np.eye(6)[wrong])
    assert found[0].argmax() == tree.fine[0]


def test_clusters_that_touch_are_agreed_on_better_when_points_settle() -> None:
    x, _ = mixture(800, apart=0.22)
    x = place(x, find_space(x, 0))
    a, b = build_tree(x, 60, 1), build_tree(x, 60, 2)
    plain = agreement(a.fine, a, b.fine, b, [K]).share[0]
    after = settled_agreement(a.graph, a.fine, a, b.fine, b, [K]).share[0]
    assert plain < 0.9
    assert after > plain + 0.03


def test_a_linear_classifier_is_scored_on_points_it_has_not_seen() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 5)).astype(np.float32)
    tree = build_tree(x, 20, 0)
    nonsense = tree._replace(fine=random.permutation(tree.fine))
    hit = (linear_scores(x, nonsense, random).argmax(1) == nonsense.fine).mean()
    assert hit < 0.15  # labels that mean nothing cannot be predicted; of the points fitted it would be more
    assert (linear_scores(x, tree, random).argmax(1) == tree.fine).mean() > 0.4


def test_silhouettes_are_those_of_shortest_paths_computed_slowly() -> None:
    x, _ = mixture(120, apart=0.4)
    tree = build_tree(place(x, find_space(x, 0)), 15, 0)
    length = tree.graph.toarray()
    length = np.where(length > 0, 1 - np.log(np.clip(length, 1e-6, 1)), 0)
    path = shortest_path(length, directed=False)
    path[np.isinf(path)] = np.nan
    degree, names, k = tree.graph.toarray().sum(1), tree.names[2], 3
    hubs = [max(np.flatnonzero(tree.fine == c), key=lambda i: (degree[i], -i)) for c in range(len(tree.centres))]
    assert not np.isnan(path[:, hubs]).any()
    scores = []
    for i in range(len(x)):
        mean = []
        for c in range(k):
            parts = np.flatnonzero(names == c)
            weight = np.array([(tree.fine == part).sum() for part in parts])
            mean.append((path[i, [hubs[part] for part in parts]] * weight).sum() / weight.sum())
        own = mean.pop(names[tree.fine[i]])
        scores.append((min(mean) - own) / max(min(mean), own))
    assert silhouettes(tree, [3])[0] == pytest.approx(np.mean(scores))


def test_affinities_are_symmetric_and_survive_many_copies_of_one_point() -> None:
    x = np.concatenate([np.zeros((40, 3)), np.random.default_rng(0).normal(size=(40, 3))]).astype(np.float32)
    graph = affinities(x).toarray()
    assert np.array_equal(graph, graph.T)
    assert np.diagonal(graph).max() == 0
    assert graph.min() == 0 and graph.max() <= 1
    assert (graph > 0).sum(1).min() >= 15


def test_equal_images_have_no_clear_clusters() -> None:
    found = grow_tree(np.ones((60, 8)), k_high=5)
    assert found.sure == "low"


def curve(**scores: list[float]) -> list[Level]:
    """A curve from k = 2 whose criteria all equal the score, but for those given."""
    names = ("stability", "neighbours", "generalisation", "silhouette", "flatter", "steeper", "plain")
    length = len(scores["score"])
    values = {**dict.fromkeys(names, scores["score"]), "error": [0.0] * length, "excess": [0.0] * length}
    values = {**values, "firm": [1.0] * length, **scores}
    return [Level(k=k + 2, **{name: v[k] for name, v in values.items()}) for k in range(length)]


def test_one_sharp_peak_that_all_share_is_sure() -> None:
    verdict = judge(curve(score=[0.1, 0.2, 0.9, 0.3, 0.2]))
    assert verdict[:3] == (4, (4, 4), "high")
    assert verdict.sentence.startswith("4 clusters: 4 of 4 criteria")


def test_the_range_holds_what_is_within_one_standard_error() -> None:
    verdict = judge(curve(score=[0.1, 0.8, 0.9, 0.85, 0.2], error=[0, 0, 0.12, 0, 0]))
    assert verdict[:3] == (4, (3, 5), "medium")
    assert "3 to 5 are nearly as good" in verdict.sentence


def test_disagreement_the_upper_end_and_no_stability_lower_the_confidence() -> None:
    score = [0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1]
    coarse = [0.9, 0, 0, 0, 0, 0.5, 0]
    split = judge(curve(score=score, neighbours=coarse, generalisation=coarse, silhouette=coarse))
    assert split.sure == "low"
    assert "neighbours alone would choose 2" in split.sentence
    assert judge(curve(score=[0.1, 0.2, 0.3])).sure == "low"
    assert "there may be more" in judge(curve(score=[0.1, 0.2, 0.3])).sentence
    assert judge(curve(score=[-0.1, 0.9, 0.1], plain=[0, 0, 0])).sentence.startswith("No clear clusters")
    assert judge(curve(score=[-0.1, 0.9, 0.1], plain=[0, 0, 0], excess=[0.2] * 3)).clear


def test_the_range_holds_what_another_slope_would_choose_and_then_the_choice_is_not_sure() -> None:
    score, flatter = [0.1, 0.2, 0.9, 0.3, 0.2, 0.1], [0.1, 0.2, 0.9, 1.0, 1.1, 1.2]
    verdict = judge(curve(score=score, flatter=flatter))
    assert verdict[:3] == (4, (4, 7), "medium")
    assert judge(curve(score=score, steeper=flatter[::-1]))[:3] == (4, (2, 4), "medium")


def test_a_wide_range_is_met_in_its_middle_only_where_clusters_touch() -> None:
    score = [0.1, 0.9, 0.4, 0.3, 0.3, 0.3, 0.4, 0.5, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
    flatter = [*score[:-1], 2.0]
    crisp = judge(curve(score=score, flatter=flatter))
    assert crisp[:3] == (3, (3, 20), "low")
    touching = judge(curve(score=score, flatter=flatter, firm=[0.9] * len(score)))
    assert touching[:3] == (9, (3, 20), "low")  # the best of those near the square root of 60
    assert "The score alone would choose 3" in touching.sentence


def test_views_that_gain_nothing_have_no_say() -> None:
    curves = {}
    for sign in (-1, 1):
        found = {
            name: np.full((2, len(SLOPES), 3), 1.0) for name in ("plain", "settled", "neighbours", "generalisation")
        }
        found |= {"silhouette": np.zeros((2, len(SLOPES), 3)), "views": np.full((2, len(SLOPES), 3), sign * 1.0)}
        found |= {name: np.zeros((2, 3)) for name in ("firm", "agreed")}
        curves[sign] = make_curve([2, 3, 4], found, np.zeros(3))
    assert curves[-1][0].score == pytest.approx(2.3)
    assert curves[1][0].score == pytest.approx(2.6)
    assert curves[-1][0].views == -1


def test_stability_is_that_of_settled_points_only_where_clusters_touch() -> None:
    for firm, stability in ((0.99, 1.0), (0.9, 2.0)):
        names = ("plain", "settled", "neighbours", "generalisation", "silhouette")
        found = {name: np.full((2, len(SLOPES), 3), 1.0 + (name == "settled")) for name in names}
        found |= {"firm": np.full((2, 3), firm), "agreed": np.zeros((2, 3))}
        level = make_curve([2, 3, 4], found, np.zeros(3))[0]
        assert (level.stability, level.plain, level.firm) == (stability, 1.0, pytest.approx(firm))


def test_the_table_has_one_nested_column_a_level() -> None:
    found, _ = grown()
    ids = [f"{i}.png" for i in range(len(found.fine))]
    rows = table(found, ids)
    assert rows.column_names == ["id", "fine", *(f"k{k}" for k in range(2, 13))]
    assert rows["k5"].to_pylist() == found.levels(5).tolist()
    with pytest.raises(ValueError, match="3 ids.*600 images"):
        table(found, ids[:3])


def test_the_curve_as_rows_marks_the_chosen_number() -> None:
    found, _ = grown()
    rows = found.rows()
    assert [row["k"] for row in rows] == list(range(2, 13))
    assert [row["k"] for row in rows if row["chosen"]] == [K]


def test_progress_counts_up_to_the_end() -> None:
    seen: list[tuple[int, int, str]] = []
    grow_tree(mixture(100)[0], k_high=4, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(len(seen)))
    assert seen[-1][0] == seen[-1][1]


def test_more_images_than_are_judged_all_get_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilk.analysis.hierarchy.grow.TREE_ROWS", 400)
    monkeypatch.setattr("ilk.analysis.hierarchy.grow.JUDGED_ROWS", 300)
    x, labels = mixture(1500)
    found = grow_tree(x, k_high=12)
    assert found.chosen == K
    assert accuracy(labels, found.levels(K)) > 0.95


def test_more_clusters_are_tried_when_the_last_ones_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilk.analysis.hierarchy.grow.USUAL", K)
    x, _ = mixture(300)
    steps: list[tuple[int, int, str]] = []
    found = grow_tree(x, progress=lambda *step: steps.append(step))
    assert found.chosen == K
    assert found.curve[-1].k == 2 * K
    assert steps[-1][0] == steps[-1][1] == len(steps) - 1
    assert grow_tree(x, k_high=K).curve[-1].k == K  # asked for


@pytest.mark.parametrize(
    ("features", "asked", "message"),
    [
        (np.zeros((19, 4)), {}, "19 images"),
        (np.zeros(30), {}, r"shape \(images, width\)"),
        (np.zeros((100, 4)), {"k_high": 40}, "2 and 10.*100 images"),
        (np.zeros((100, 4)), {"k_low": 8, "k_high": 5}, "8 to 5"),
        (np.where(np.arange(100)[:, None] == 7, np.nan, np.zeros((100, 4))), {}, "image 7 "),
        (np.zeros((100, 4)), {"views": np.zeros((100, 2, 5))}, r"views.*\(100, views, 4\)"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    features: np.ndarray, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        grow_tree(features, **asked)


def with_strangers(n: int, strangers: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.concatenate([np.arange(n) % 3, np.full(strangers, -1)])
    centres = 4 * random.normal(size=(3, 10))
    x = np.concatenate(
        [centres[labels[:n]] + 0.3 * random.normal(size=(n, 10)), 4 * random.normal(size=(strangers, 10))]
    )
    return x, labels


def test_density_finds_three_clusters_and_leaves_strangers_out() -> None:
    x, labels = with_strangers(450, 150)
    found = density_clusters(x)
    assert len(np.unique(found.labels[found.labels >= 0])) == 3
    inside = labels >= 0
    assert ari(labels[inside], found.labels[inside]) > 0.95
    assert (found.labels[~inside] < 0).mean() > 0.8
    assert (found.probability[found.labels < 0] == 0).all()
    assert found.probability[found.labels >= 0].min() > 0


def test_density_of_a_sample_goes_to_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilk.analysis.hierarchy.density.ROWS", 400)
    x, labels = with_strangers(1500, 500)
    found = density_clusters(x, min_cluster_size=150)
    inside = labels >= 0
    assert ari(labels[inside & (found.labels >= 0)], found.labels[inside & (found.labels >= 0)]) > 0.99
    assert (found.labels[inside] >= 0).mean() > 0.85
    assert (found.labels[~inside] < 0).mean() > 0.8
    size = np.bincount(found.labels[found.labels >= 0])
    assert (np.diff(size) <= 0).all()


def test_density_refuses_a_size_that_no_cluster_can_have() -> None:
    with pytest.raises(ValueError, match="100 images.* 1"):
        density_clusters(np.zeros((100, 3)), min_cluster_size=1)
