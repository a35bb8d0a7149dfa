"""Scores without labels, second opinions and long tails."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from ilk import load_images
from ilk.evaluation import LabelFree, label_free_scores, long_tailed, long_tailed_images, opinions
from ilk.evaluation.label_free import (
    MEANINGS,
    confidence_entropy,
    generalisation,
    run_agreement,
    silhouette,
    small_pixels,
    view_stability,
)
from ilk.evaluation.opinions import second_opinions


def blobs(n: int = 200, kinds: int = 4, spread: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, kinds, n)
    centres = 4 * np.random.default_rng(5).normal(size=(kinds, 6))
    return (centres[labels] + spread * random.normal(size=(n, 6))).astype(np.float16), labels


# without labels


def slow_silhouette(z: np.ndarray, c: np.ndarray) -> float:
    unit = z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
    distance, found = 1 - unit @ unit.T, []
    for i in range(len(z)):
        own = [j for j in range(len(z)) if c[j] == c[i] and j != i]
        if not own:
            found.append(0.0)
            continue
        a = distance[i, own].mean()
        b = min(distance[i, c == other].mean() for other in set(c.tolist()) - {c[i]})
        found.append((b - a) / max(a, b))
    return float(np.mean(found))


def test_silhouette_is_that_of_loops_and_its_sample_is_seeded() -> None:
    z, c = blobs(60, spread=3.0)
    assert silhouette(z, c) == pytest.approx(slow_silhouette(z, c), abs=1e-5)
    some = silhouette(z, c, most=30, seed=1)
    assert some == silhouette(z, c, most=30, seed=1) != silhouette(z, c, most=30, seed=2)
    assert silhouette(z, np.zeros(60, int)) is None


def test_entropy_of_three_probabilities_by_hand() -> None:
    p = [0.7, 0.2, 0.1]
    expected = -sum(x * math.log(x) for x in p) / math.log(3)
    assert confidence_entropy(np.array([0.7]), np.array([0.5]), 3) == pytest.approx(expected)
    assert confidence_entropy(np.array([1.0]), np.array([1.0]), 3) == 0
    assert confidence_entropy(np.array([0.25]), np.array([0.0]), 4) == pytest.approx(1)
    assert confidence_entropy(np.array([0.9]), np.array([0.8]), 2) == pytest.approx(
        -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    )


def test_entropy_is_never_less_than_that_of_the_whole_table() -> None:
    random = np.random.default_rng(0)
    y = random.dirichlet(np.full(7, 0.3), 500)
    top = -np.sort(-y, axis=1)
    exact = float((-y * np.log(np.maximum(y, 1e-300))).sum(1).mean() / math.log(7))
    assert exact <= confidence_entropy(top[:, 0], top[:, 0] - top[:, 1], 7) <= exact + 0.15


def test_clusters_that_are_in_the_features_can_be_refitted_and_others_cannot() -> None:
    z, c = blobs()
    good = generalisation(z, c)
    shuffled = generalisation(z, np.random.default_rng(0).permutation(c))
    assert good is not None and shuffled is not None
    assert good["accuracy"] > 0.98 and good["images"] == 200
    assert shuffled["accuracy"] == pytest.approx(0.25, abs=0.1)
    assert good["chance"] == pytest.approx(np.bincount(c).max() / 200)


def test_directions_that_hardly_vary_do_not_drown_the_others() -> None:
    """30 images of two clear groups among 100 columns of faint noise."""
    random = np.random.default_rng(0)
    c = np.repeat([0, 1], 15)
    x = np.concatenate([np.where(c, 1.0, -1.0)[:, None], 0.01 * random.normal(size=(30, 100))], axis=1)
    found = generalisation(x, c)
    assert found is not None and found["accuracy"] == 1


def test_clusters_too_small_for_five_folds_are_left_out() -> None:
    z, c = blobs(100, kinds=2)
    c[:3] = 2
    found = generalisation(z, c)
    assert found is not None and found["images"] == 97
    assert generalisation(z, np.zeros(100, int)) is None


def test_pixels_are_averaged_down() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 1), dtype=np.uint8)
    found = small_pixels(load_images(pixels))
    expected = pixels.reshape(3, 12, 2, 12, 2).mean((2, 4)).reshape(3, -1) / 255
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_agreement_of_runs_matches_images_by_id() -> None:
    ids, c = [f"{i}.png" for i in range(50)], np.random.default_rng(0).integers(0, 3, 50)
    order = np.random.default_rng(1).permutation(50)[:40]
    found = run_agreement(ids, c, [ids[i] for i in order], (c[order] + 1) % 3)
    assert found == {"images": 40, "ari": 1.0, "nmi": pytest.approx(1)}
    with pytest.raises(ValueError, match="1 of 50 images"):
        run_agreement(ids, c, ["7.png", "x.png"], np.array([0, 1]))


class ByBrightness(torch.nn.Module):
    """Two clusters: dark and bright images."""

    def assign_and_embed(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = x.mean((1, 2, 3))
        return torch.stack([1 - mean, mean], 1), x.flatten(1)


NOTHING = {"flip": 0.0, "crop_scale": [1.0, 1.0]}


def test_clusters_are_as_stable_as_the_views_leave_them(fabric: Any) -> None:
    values = np.array([40] * 30 + [215] * 30, dtype=np.uint8)
    images = load_images(np.broadcast_to(values[:, None, None], (60, 8, 8)).copy())
    recorded = (values > 128).astype(np.int64)
    still = view_stability(ByBrightness(), images, recorded, SimpleNamespace(a=NOTHING, b=NOTHING), fabric)  # type: ignore[arg-type]
    assert still == {"images": 60, "kept": 1.0, "agreement": 1.0, "reproduced": 1.0}
    wild = {**NOTHING, "jitter": 1.0, "brightness": 5.0}
    moved = view_stability(ByBrightness(), images, 1 - recorded, SimpleNamespace(a=NOTHING, b=wild), fabric)  # type: ignore[arg-type]
    assert 0.5 < moved["kept"] < 1 and moved["agreement"] < 1 and moved["reproduced"] == 0
    again = view_stability(ByBrightness(), images, 1 - recorded, SimpleNamespace(a=NOTHING, b=wild), fabric)  # type: ignore[arg-type]
    assert again == moved


def test_scores_of_a_run_need_nothing_but_its_tables() -> None:
    z, c = blobs()
    found = label_free_scores(LabelFree(c, np.full(200, 0.8), np.full(200, 0.7), z, 4))
    assert found["mean_confidence"] == pytest.approx(0.8) and found["silhouette"] > 0.8
    assert {name for name in MEANINGS if name in found} == {
        "effective_clusters", "mean_confidence", "confidence_entropy", "silhouette", "generalisation",
    }  # fmt: skip


# second opinions


def test_opinions_on_clear_groups_agree_with_the_heads_and_the_labels() -> None:
    z, c = blobs()
    codes = np.where(np.arange(200) < 150, c, -1)
    found = second_opinions(z, (c + 1) % 4, codes, 4, resamples=20)
    assert list(found) == ["k-means", "agglomerative"]
    for one in found.values():
        assert one["agreement"] == 1 and one["which"] == "all"
        assert one["scores"]["images"] == 150 and one["scores"]["accuracy"]["value"] == 1
        assert one["heads"]["accuracy"]["value"] == 1


def test_large_collections_are_sampled_and_the_sample_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opinions, "MOST_TREE", 80)
    monkeypatch.setattr(opinions, "MOST_MEANS", 50)
    monkeypatch.setattr(opinions, "BLOCK", 30)
    z, c = blobs()
    heads = np.random.default_rng(0).integers(0, 4, 200)
    found = second_opinions(z, heads, np.full(200, -1), 4)
    assert found["k-means"]["images"] == 200 and found["agglomerative"]["which"] == "a random 80 of 200"
    assert "scores" not in found["agglomerative"]
    assert found["k-means"]["agreement"] == pytest.approx(adjusted_rand_score(heads, c))  # it finds the groups


def test_more_clusters_than_images_are_refused() -> None:
    z, c = blobs(3)
    with pytest.raises(ValueError, match="5 clusters.*5 images.* 3"):
        second_opinions(z, c, c, 5)


# long tails


def test_a_long_tail_of_any_images_is_that_of_their_labels(pictures: Callable[..., Any]) -> None:
    pixels, kinds = pictures(40)
    images = load_images(pixels, labels=kinds)
    tail = long_tailed_images(images, 5, 0)
    rows = long_tailed(kinds, 5, 0)
    assert tail.ids == [images.ids[row] for row in rows]
    assert sorted(np.bincount(tail.labels).tolist()) == [4, 20]
    torch.testing.assert_close(tail[:], images[rows])
    with pytest.raises(ValueError, match="long tail.*labels"):
        long_tailed_images(images.with_labels(None), 5, 0)
