"""Bootstrap intervals: of the scores against labels, and of a mean."""

from __future__ import annotations

import numpy as np
import pytest

from ilk.analysis.metrics import contingency, recalls, score
from ilk.evaluation.intervals import mean_with_interval, resampled_tables, score_with_intervals


def noisy(n: int = 300, kinds: int = 4, wrong: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, kinds, n)
    return labels, np.where(random.random(n) < wrong, random.integers(0, kinds, n), (labels + 1) % kinds)


def test_the_values_are_the_scores_themselves() -> None:
    labels, clusters = noisy()
    found = score_with_intervals(labels, clusters, resamples=20)
    for name, value in score(labels, clusters).items():
        assert (found[name] if name == "images" else found[name]["value"]) == pytest.approx(value, abs=1e-9)
    table = contingency(labels, clusters)
    assert [one["value"] for one in found["recall"].values()] == pytest.approx(recalls(table).tolist())


def test_intervals_are_those_of_images_drawn_one_by_one() -> None:
    """The slow way: draw images with replacement, match anew and score, hundreds of times."""
    labels, clusters = noisy()
    found = score_with_intervals(labels, clusters, resamples=2000)
    random = np.random.default_rng(7)
    drawn = [random.integers(0, len(labels), len(labels)) for _ in range(400)]
    slow = [score(labels[rows], clusters[rows]) for rows in drawn[:120]]
    accuracies = [recalls(contingency(labels[rows], clusters[rows]))[2] for rows in drawn]
    for name in ("accuracy", "nmi_arithmetic", "nmi_geometric", "ari", "purity", "fowlkes_mallows"):
        low, high = np.percentile([one[name] for one in slow], [2.5, 97.5])
        assert found[name]["low"] == pytest.approx(low, abs=0.025) and found[name]["high"] == pytest.approx(
            high, abs=0.025
        )
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    low, high = np.percentile(accuracies, [2.5, 97.5])
    assert found["recall"][2]["low"] == pytest.approx(low, abs=0.02)
    assert found["recall"][2]["high"] == pytest.approx(high, abs=0.02)


def test_the_same_seed_gives_the_same_intervals_and_another_does_not() -> None:
    labels, clusters = noisy()
    first, again, other = (score_with_intervals(labels, clusters, resamples=200, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


def test_more_images_give_narrower_intervals() -> None:
    small, large = (score_with_intervals(*noisy(n), resamples=300)["accuracy"] for n in (100, 6400))
    assert (small["high"] - small["low"]) / (large["high"] - large["low"]) == pytest.approx(8, rel=0.35)


def test_resampled_tables_hold_as_many_images_in_cells_that_had_some() -> None:
    table = np.array([[5, 0, 2], [0, 9, 0]])
    found = resampled_tables(table, 500, 0)
    assert (found.sum((1, 2)) == 16).all() and (found[:, table == 0] == 0).all()
    np.testing.assert_allclose(found.mean(0), table, atol=0.5)
    assert (found.std(0)[table > 0] > 1).all()


def test_a_perfect_clustering_has_no_spread() -> None:
    labels = np.repeat([0, 1, 2], 20)
    found = score_with_intervals(labels, labels, resamples=100)
    assert found["accuracy"] == found["ari"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_gaps_in_codes_and_rare_labels_are_no_trouble() -> None:
    """A label of a single image is absent from a third of the resamples; its recall is taken over the others."""
    found = score_with_intervals(np.array([3] * 30 + [900]), np.array([7] * 30 + [2]), resamples=200)
    assert list(found["recall"]) == [3, 900] and found["classes"] == found["clusters"] == 2
    assert found["recall"][900] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(3, 2, 400)
    found = mean_with_interval(x, resamples=4000)
    assert found["value"] == pytest.approx(x.mean())
    assert found["low"] == pytest.approx(x.mean() - 1.96 * x.std() / 20, abs=0.03)
    assert found["high"] == pytest.approx(x.mean() + 1.96 * x.std() / 20, abs=0.03)
    assert found == mean_with_interval(x, resamples=4000) != mean_with_interval(x, resamples=4000, seed=1)


def test_a_mean_over_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        mean_with_interval(np.zeros(0))
