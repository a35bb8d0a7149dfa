"""Confidence without labels: what temperatures may change, what other opinions see, and the error that is left."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ilk.analysis.calibration import (
    Calibration,
    agreement,
    calibrate,
    calibration_of,
    factor_for,
    far_from_all,
    fitted_temperatures,
    match_clusters,
    tempered,
)
from ilk.analysis.metrics import expected_calibration_error, matches_label, reliability


def clouds(centres: int, n: int = 100, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`n` points around each of some far-apart centres, (centres * n, width), and which centre."""
    random = np.random.default_rng(seed)
    middle = 8 * np.eye(centres, width)
    kind = np.repeat(np.arange(centres), n)
    return (middle[kind] + random.normal(0, 1, (len(kind), width))).astype(np.float32), kind


def sure_of(cluster: np.ndarray, k: int, top: float = 0.99, seed: int = 0) -> np.ndarray:
    """Probabilities of a head that is sure of `cluster`, a little more of some images than of others."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 0.5, (len(cluster), k))
    logits[np.arange(len(cluster)), cluster] += np.log(top / (1 - top) * max(k - 1, 1)) + 1.5
    y = np.exp(logits)
    return (y / y.sum(1, keepdims=True)).astype(np.float32)


def cut_and_merged() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four kinds, and a sure head that has cut kind 0 in two at random and put kinds 2 and 3 together."""
    x, kind = clouds(4)
    cluster = np.array([0, 1, 2, 2])[kind]
    cluster[:100][np.random.default_rng(1).random(100) < 0.5] = 3
    return sure_of(cluster, 4), x, kind


def random_probabilities(n: int = 200, k: int = 5) -> np.ndarray:
    return np.random.default_rng(3).dirichlet(np.full(k, 0.3), n).astype(np.float32)


def test_a_temperature_of_two_takes_square_roots() -> None:
    found = Calibration((2.0, 2.0)).apply(np.array([[0.8, 0.2]], dtype=np.float32))
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3]], rtol=1e-6)


def test_the_temperature_is_that_of_the_most_probable_cluster() -> None:
    p = np.array([[0.8, 0.2], [0.2, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(Calibration((1.0, 2.0)).apply(p), [[0.8, 0.2], [1 / 3, 2 / 3]], rtol=1e-6)


def test_calibrated_probabilities_sum_to_one_and_keep_the_order_of_clusters() -> None:
    p = random_probabilities()
    found = Calibration((0.3, 1.0, 2.0, 5.0, 20.0)).apply(p)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    rows = np.arange(len(p))[:, None]
    assert (np.diff(found[rows, p.argsort(1)], axis=1) >= 0).all()
    assert (found.argmax(1) == p.argmax(1)).all()


def test_a_surer_image_of_a_cluster_stays_the_surer_one() -> None:
    p = np.array([[0.9, 0.1], [0.7, 0.3], [1 - 1e-7, 1e-7], [1.0, 0.0]], dtype=np.float32)
    found = Calibration((4.0, 1.0)).confidence(p)
    assert found.argsort().tolist() == [1, 0, 2, 3]


def test_a_calibration_survives_json_and_unknown_words() -> None:
    one = Calibration((1.5, 2.5), 0.8, 300)
    said = json.loads(json.dumps(one.described()))
    assert calibration_of(said) == one
    assert calibration_of({**said, "of_a_later_version": 1}) == one


def test_a_run_without_a_calibration_keeps_its_probabilities() -> None:
    p = random_probabilities()
    np.testing.assert_array_equal(calibration_of(None).apply(p), p)
    assert calibration_of(None).agreement is None


def test_impossible_calibrations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"above 0.*-1\.0"):
        Calibration((1.0, -1.0))
    with pytest.raises(ValueError, match="above 0.*nan"):
        Calibration((float("nan"),))
    with pytest.raises(ValueError, match="between 0 and 1.* 2"):
        Calibration((1.0,), sure=2)
    with pytest.raises(ValueError, match=r"3 clusters.*\(200, 5\)"):
        Calibration((1.0, 1.0, 1.0)).apply(random_probabilities())


@pytest.mark.parametrize("mean", [0.3, 0.6, 0.9])
def test_the_factor_gives_the_mean_confidence_asked_for(mean: float) -> None:
    p, temperature = random_probabilities(), np.array([1.0, 1.0, 2.0, 0.5, 1.0])
    found = tempered(p, temperature * factor_for(p, temperature, mean)).max(1).mean()
    assert found == pytest.approx(mean, abs=1e-4)


def test_clusters_that_are_real_make_a_timid_head_sure() -> None:
    x, kind = clouds(5)
    p = sure_of(kind, 5, top=0.4)
    found = calibrate(p, x)
    assert p.max(1).mean() < 0.8
    assert found.confidence.mean() > 0.97
    assert found.confidence.mean() == pytest.approx(found.calibration.agreement, abs=0.02)
    assert not found.uncertain.any()


def test_full_agreement_is_no_certainty() -> None:
    p = sure_of(np.repeat(np.arange(5), 100), 5, top=0.4)
    temperature = fitted_temperatures(p, np.ones(len(p), dtype=np.float32))
    found = tempered(p, temperature)
    assert found.max(1).mean() == pytest.approx(500 / 500.5, abs=1e-4)
    assert len(np.unique(found.max(1))) > 490
    assert (temperature > 0.1).all()


def test_a_cloud_cut_at_random_is_confident_of_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(500, 12)).astype(np.float32)
    p = sure_of(np.random.default_rng(1).integers(0, 5, 500), 5)
    found = calibrate(p, x)
    assert p.max(1).mean() > 0.98
    assert found.confidence.mean() < 0.35  # chance is 0.2, and matching finds a little more
    assert found.uncertain.mean() > 0.95


def test_a_cut_kind_and_a_merged_pair_cost_confidence_and_clean_kinds_keep_it() -> None:
    p, x, kind = cut_and_merged()
    found = calibrate(p, x)
    clean = kind == 1
    assert p.max(1)[~clean].mean() > 0.98
    assert found.confidence[clean].mean() > found.confidence[~clean].mean() + 0.05
    assert found.share[clean].mean() > 0.95
    assert found.share[~clean].mean() < 0.65
    ok = matches_label(kind, p.argmax(1))
    before, after = (expected_calibration_error(c, ok) for c in (p.max(1), found.confidence))
    assert before > 0.35  # of 400 images, 100 + about 50 are wrong
    assert after < before / 2
    assert found.uncertain[~ok].mean() > 0.9
    assert found.uncertain[clean].mean() < 0.05


def test_names_of_clusters_and_the_scale_of_embeddings_do_not_matter() -> None:
    p, x, _ = cut_and_merged()
    found = calibrate(p, x)
    order = np.array([2, 0, 3, 1])
    other = calibrate(p[:, order], 1000 * x)
    np.testing.assert_allclose(other.share, found.share)
    np.testing.assert_allclose(other.confidence, found.confidence, atol=1e-5)
    np.testing.assert_allclose(np.array(found.calibration.temperature)[order], other.calibration.temperature)


def test_the_same_seed_gives_the_same_calibration() -> None:
    p, x, _ = cut_and_merged()
    a, b = calibrate(p, x, seed=4), calibrate(p, x, seed=4)
    assert a.calibration == b.calibration
    np.testing.assert_array_equal(a.uncertain, b.uncertain)


def test_new_images_get_the_confidence_of_those_it_was_made_from() -> None:
    p, x, _ = cut_and_merged()
    found = calibrate(p, x)
    again = calibration_of(found.calibration.described())
    np.testing.assert_array_equal(again.confidence(p[::7]), found.confidence[::7])
    assert (found.uncertain | ~again.uncertain(p)).all()


def test_over_confident_clusters_of_real_digits_are_brought_near_their_accuracy() -> None:
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.data.astype(np.float32)
    far = KMeans(10, n_init=3, random_state=0).fit(x).transform(x) ** 2
    y = np.exp(-(far - far.min(1, keepdims=True)) / 50)
    p = (y / y.sum(1, keepdims=True)).astype(np.float32)
    found, ok = calibrate(p, x), matches_label(digits.target, p.argmax(1))
    before, after = (expected_calibration_error(c, ok) for c in (p.max(1), found.confidence))
    assert before > 0.25  # k-means cuts and merges digits: 0.69 of them are right
    assert after < 0.12
    assert found.confidence.mean() == pytest.approx(ok.mean(), abs=0.1)
    assert ok[found.uncertain].mean() + 0.4 < ok[~found.uncertain].mean()


def test_images_unlike_all_others_are_uncertain_by_their_features() -> None:
    x, kind = clouds(4, width=40)
    p = sure_of(kind, 4)
    odd = np.arange(0, 400, 80)
    features = x + 3  # as an encoder's: all pointing about the same way
    features[odd] = np.random.default_rng(9).normal(0, 5, (5, 40))
    found = calibrate(p, x, features=features)
    assert found.uncertain[odd].all()
    assert found.uncertain.sum() <= 7
    assert not calibrate(p, x).uncertain.any()


def test_distance_is_by_angle_and_copies_are_near() -> None:
    x, _ = clouds(3)
    scaled = x * np.random.default_rng(0).uniform(0.1, 10, (len(x), 1)).astype(np.float32)
    np.testing.assert_array_equal(far_from_all(scaled), far_from_all(x))
    assert not far_from_all(np.ones((40, 3), dtype=np.float16)).any()


def test_too_few_images_are_left_as_they_are() -> None:
    x, kind = clouds(5, n=3)
    p = sure_of(kind, 5)
    found = calibrate(p, x)
    assert found.calibration == Calibration()
    np.testing.assert_array_equal(found.confidence, p.max(1))
    assert np.isnan(found.share).all()


@pytest.mark.parametrize("k", [1, 2, 6])
def test_embeddings_that_are_all_the_same_and_empty_clusters_break_nothing(k: int) -> None:
    p = sure_of(np.zeros(60, dtype=int), k)
    for x in (np.ones((60, 8), dtype=np.float16), clouds(2, n=30)[0]):
        found = calibrate(p, x)
        assert np.isfinite(found.confidence).all()
        assert ((found.confidence > 0) & (found.confidence <= 1)).all()
        assert len(found.calibration.temperature) == k


def test_arrays_that_do_not_fit_are_refused() -> None:
    p, x, _ = cut_and_merged()
    with pytest.raises(ValueError, match=r"\(400, 4\), \(399, 12\)"):
        calibrate(p, x[1:])
    with pytest.raises(ValueError, match=r"Probabilities.*\(2, 12\)"):
        calibrate(p, x, features=x[:2])
    for bad_p, bad_x in ((np.where(p > 0.5, np.nan, p), x), (p, np.where(x > 9, np.inf, x)), (-p, x)):
        with pytest.raises(ValueError, match="not finite"):
            calibrate(bad_p, bad_x)


def test_trees_agree_with_the_kinds_and_not_with_chance() -> None:
    x, kind = clouds(5)
    assert agreement(kind, x, 5, count=3).mean() > 0.98
    assert agreement(np.random.default_rng(0).integers(0, 5, 500), x, 5, count=3).mean() < 0.35


def test_other_clusters_are_renamed_by_the_best_matching() -> None:
    cluster, other = np.array([0, 0, 0, 1, 1, 2]), np.array([2, 2, 0, 0, 0, 1])
    assert match_clusters(other, cluster, 3).tolist() == [0, 0, 1, 1, 1, 2]


def test_clusters_without_a_label_are_wrong() -> None:
    assert matches_label([0, 0, 0, 1, 1], [3, 3, 1, 0, 0]).tolist() == [True, True, False, True, True]


def test_the_error_is_that_worked_out_by_hand() -> None:
    confidence, correct = [0.9, 0.9, 0.6, 0.5], [True, False, True, False]
    low, high = reliability(confidence, correct, bins=2)
    assert low == pytest.approx((0.5, 0.6, 0.55, 0.5, 2))
    assert high == pytest.approx((0.9, 0.9, 0.9, 0.5, 2))
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx((0.05 + 0.4) / 2)
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(0.225)


def test_bins_hold_all_images_in_equal_parts() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(100)
    curve = reliability(confidence, random.random(100) < confidence)
    assert [one.images for one in curve] == [7] * 10 + [6] * 5
    assert all(a.high <= b.low for a, b in pairwise(curve))
    assert len(reliability(confidence[:4], np.ones(4))) == 4


def test_true_confidences_have_no_error_and_false_ones_have() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(20_000)
    correct = random.random(20_000) < confidence
    assert expected_calibration_error(confidence, correct) < 0.02
    assert expected_calibration_error(confidence, correct, 1) < 0.01
    assert expected_calibration_error(np.sqrt(confidence), correct) > 0.1


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "said"),
    [
        ([0.5], [True, False], 15, "lists of one length"),
        ([], [], 15, "lists of one length"),
        ([1.5], [True], 15, "between 0 and 1.* 1.5"),
        ([float("nan")], [True], 15, "between 0 and 1"),
        ([0.5], [True], 0, "at least 1 bin.* 0"),
    ],
)
def test_a_curve_of_nothing_is_refused(confidence: Any, correct: Any, bins: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        reliability(confidence, correct, bins)
