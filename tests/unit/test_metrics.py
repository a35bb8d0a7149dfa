"""Scores of a clustering: by hand, and against trying every matching."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import fowlkes_mallows_score, normalized_mutual_info_score

from ilk.analysis.metrics import (
    accuracy,
    ari,
    best_matching,
    contingency,
    effective_clusters,
    fowlkes_mallows,
    nmi,
    purity,
    recalls,
    score,
    scores_of_tables,
)
from reference import metrics as slow

Codes = tuple[list[int], list[int]]


def codes(seed: int) -> Codes:
    """Up to 30 images of up to 5 labels in up to 5 clusters, related or not."""
    random = np.random.default_rng(seed)
    n, labels, clusters = int(random.integers(4, 30)), int(random.integers(1, 6)), int(random.integers(1, 6))
    y = random.integers(0, labels, n)
    c = np.where(random.random(n) < random.random(), y % clusters, random.integers(0, clusters, n))
    return y.tolist(), c.tolist()


MANY = [codes(seed) for seed in range(40)]

# by hand


@pytest.mark.parametrize(
    ("labels", "clusters", "right"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 4),
        ([0, 0, 1, 1], [0, 1, 0, 1], 2),
        ([0, 0, 0, 1], [0, 0, 0, 0], 3),
        ([0, 0, 0, 0], [0, 1, 2, 3], 1),
        ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2], 4),
        ([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1], 4),
        ([0] * 9 + [1] * 4, [0] * 5 + [1] * 4 + [0] * 4, 8),  # each cluster's commonest label first gets 5
        ([0], [0], 1),
    ],
)
def test_accuracy_by_hand(labels: list[int], clusters: list[int], right: int) -> None:
    assert accuracy(labels, clusters) == pytest.approx(right / len(labels), abs=1e-12)


def test_contingency_counts_labels_by_rows_and_clusters_by_columns() -> None:
    table = contingency([0, 0, 0, 1, 1], [0, 0, 1, 1, 2])
    assert table.tolist() == [[2, 1, 0], [0, 1, 1]]


def test_best_matching_names_clusters_one_to_one() -> None:
    assert best_matching([0, 0, 1, 1, 2, 2], [2, 2, 0, 0, 1, 1]) == {2: 0, 0: 1, 1: 2}


def test_best_matching_leaves_clusters_over_when_there_are_more_than_labels() -> None:
    assert best_matching([0, 0, 0, 1, 1], [0, 0, 1, 2, 2]) == {0: 0, 2: 1}


def test_nmi_of_independent_partitions_is_zero_and_of_equal_ones_is_one() -> None:
    for average in ("arithmetic", "geometric"):
        assert nmi([0, 0, 1, 1], [0, 1, 0, 1], average) == pytest.approx(0, abs=1e-12)
        assert nmi([0, 0, 1, 1], [1, 1, 0, 0], average) == pytest.approx(1, abs=1e-12)


def test_nmi_of_split_clusters_by_hand() -> None:
    """Two labels, each split into two clusters: shared log 2, entropies log 2 and log 4."""
    labels, clusters = [0, 0, 1, 1], [0, 1, 2, 3]
    assert nmi(labels, clusters) == pytest.approx(2 / 3, abs=1e-12)
    assert nmi(labels, clusters, "geometric") == pytest.approx(1 / math.sqrt(2), abs=1e-12)


def test_ari_by_hand() -> None:
    assert ari([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx(4 / 7, abs=1e-12)
    assert ari([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(-0.5, abs=1e-12)


def test_purity_by_hand() -> None:
    assert purity([0, 0, 1, 1, 1, 2], [0, 0, 0, 1, 1, 1]) == pytest.approx(4 / 6, abs=1e-12)
    assert purity([0, 0, 1, 1], [0, 1, 2, 3]) == 1


def test_fowlkes_mallows_by_hand() -> None:
    """Four pairs share a label, two of them a cluster; four share a cluster: 2 / sqrt(4 * 4)."""
    assert fowlkes_mallows([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]) == pytest.approx(0.5, abs=1e-12)
    assert fowlkes_mallows([0, 0, 1, 1], [0, 1, 0, 1]) == 0


def test_recalls_by_hand() -> None:
    """Label 0 is matched to cluster 0, label 1 to cluster 1; for label 3 no cluster is left, label 2 has no image."""
    table = np.array([[3, 1], [1, 3], [0, 0], [1, 0]])
    np.testing.assert_allclose(recalls(table), [0.75, 0.75, np.nan, 0])


@pytest.mark.parametrize(
    ("clusters", "expected"),
    [([0, 1, 2, 3], 4), ([7, 7, 7], 1), ([0, 2, 4, 6], 4), ([0, 0, 0, 1], 4 / 3**0.75)],
)
def test_effective_clusters_by_hand(clusters: list[int], expected: float) -> None:
    assert effective_clusters(clusters) == pytest.approx(expected, abs=1e-12)


# against trying everything


def test_accuracy_equals_the_best_of_all_matchings() -> None:
    for labels, clusters in MANY:
        assert accuracy(labels, clusters) == pytest.approx(slow.accuracy(labels, clusters), abs=1e-12)


def test_best_matching_earns_the_accuracy() -> None:
    for labels, clusters in MANY:
        naming = best_matching(labels, clusters)
        assert len(set(naming.values())) == len(naming)
        right = sum(naming.get(c) == y for y, c in zip(labels, clusters, strict=True))
        assert right / len(labels) == pytest.approx(accuracy(labels, clusters), abs=1e-12)


def test_purity_equals_the_slow_one() -> None:
    for labels, clusters in MANY:
        assert purity(labels, clusters) == pytest.approx(slow.purity(labels, clusters), abs=1e-12)


def test_nmi_and_ari_equal_the_slow_ones() -> None:
    checked = 0
    for labels, clusters in MANY:
        if len(set(labels)) > 1 and len(set(clusters)) > 1:
            checked += 1
            assert ari(labels, clusters) == pytest.approx(slow.ari(labels, clusters), abs=1e-9)
            for average in ("arithmetic", "geometric"):
                assert nmi(labels, clusters, average) == pytest.approx(slow.nmi(labels, clusters, average), abs=1e-9)
    assert checked > 20


def test_both_averages_equal_scikit_learn_and_differ_from_each_other() -> None:
    labels, clusters = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1]
    for average in ("arithmetic", "geometric"):
        theirs = normalized_mutual_info_score(labels, clusters, average_method=average)
        assert nmi(labels, clusters, average) == pytest.approx(theirs, abs=1e-12)
    assert nmi(labels, clusters, "geometric") > nmi(labels, clusters) + 0.005
    assert nmi(labels, clusters) == nmi(labels, clusters, "arithmetic")


def test_fowlkes_mallows_equals_a_walk_over_all_pairs() -> None:
    for labels, clusters in MANY:
        n, both, in_label, in_cluster = len(labels), 0, 0, 0
        for i in range(n):
            for j in range(i):
                label, cluster = labels[i] == labels[j], clusters[i] == clusters[j]
                both, in_label, in_cluster = both + (label and cluster), in_label + label, in_cluster + cluster
        expected = both / math.sqrt(in_label * in_cluster) if both else 0.0
        assert fowlkes_mallows(labels, clusters) == pytest.approx(expected, abs=1e-12)
        assert fowlkes_mallows(labels, clusters) == pytest.approx(fowlkes_mallows_score(labels, clusters), abs=1e-12)


def test_scores_of_many_tables_are_those_of_each_clustering() -> None:
    tables = np.zeros((len(MANY), 5, 5), dtype=np.int64)
    for table, pair in zip(tables, MANY, strict=True):
        small = contingency(*pair)
        table[: small.shape[0], : small.shape[1]] = small
    found = scores_of_tables(tables)
    for number, pair in enumerate(MANY):
        expected = score(*pair)
        assert set(found) == set(expected) - {"images"}
        for name, values in found.items():
            assert values[number] == pytest.approx(expected[name], abs=1e-9), (name, pair)


@pytest.mark.parametrize("pair", [([0, 0, 0], [0, 0, 0]), ([0, 1, 2], [0, 1, 2]), ([0, 0], [0, 1]), ([0], [0])])
def test_scores_of_a_table_agree_where_formulas_divide_by_zero(pair: Codes) -> None:
    expected = score(*pair)
    for name, values in scores_of_tables(contingency(*pair)[None]).items():
        assert values[0] == pytest.approx(expected[name], abs=1e-12), name


# identities


def test_names_of_clusters_do_not_matter() -> None:
    for labels, clusters in MANY:
        renamed = [(3 * c + 4) % 7 for c in clusters]  # a permutation of 0..6
        assert score(labels, renamed) == pytest.approx(score(labels, clusters), abs=1e-12)
        assert effective_clusters(renamed) == pytest.approx(effective_clusters(clusters), abs=1e-12)


def test_the_order_of_images_does_not_matter() -> None:
    for number, (labels, clusters) in enumerate(MANY):
        order = np.random.default_rng(number).permutation(len(labels))
        moved = score(np.array(labels)[order], np.array(clusters)[order])
        assert moved == pytest.approx(score(labels, clusters), abs=1e-12)


def test_an_empty_cluster_0_changes_nothing() -> None:
    labels, clusters = [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 1, 2]
    shifted = [c + 1 for c in clusters]
    assert score(labels, shifted) == pytest.approx(score(labels, clusters), abs=1e-12)


def test_unused_label_codes_change_nothing() -> None:
    labels, clusters = [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 1, 2]
    sparse = [{0: 3, 1: 40, 2: 11}[y] for y in labels]
    assert score(sparse, clusters) == pytest.approx(score(labels, clusters), abs=1e-12)
    naming = best_matching(sparse, clusters)
    assert naming == {0: 3, 1: 40, 2: 11}


def test_purity_is_at_least_the_accuracy() -> None:
    gaps = [purity(*pair) - accuracy(*pair) for pair in MANY]
    assert min(gaps) >= 0 and max(gaps) > 0.1


def test_score_says_how_many_images_it_rests_on() -> None:
    found = score([0, 0, 1], [0, 0, 1])
    assert found == {
        "images": 3, "accuracy": 1.0, "nmi_arithmetic": 1.0, "nmi_geometric": 1.0, "ari": 1.0, "purity": 1.0,
        "fowlkes_mallows": 1.0,
    }  # fmt: skip


# mistakes


@pytest.mark.parametrize("measure", [accuracy, purity, best_matching, contingency, score])
@pytest.mark.parametrize(
    ("labels", "clusters", "message"),
    [
        ([0, 1], [0, 1, 2], r"\(2,\).*\(3,\)"),
        ([[0, 1]], [[0, 1]], r"\(1, 2\).*\(1, 2\)"),
        ([], [], "no labelled images"),
        ([0, -1], [0, 1], "negative"),
        ([0, 1], [0, -1], "negative"),
    ],
)
def test_wrong_lists_are_refused(measure: object, labels: list, clusters: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(labels, clusters)  # type: ignore[operator]
