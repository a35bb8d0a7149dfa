"""Baselines are scikit-learn's, seeded, and refuse what would exhaust the machine."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from ilk.research import baselines
from ilk.research.baselines import BASELINES, baseline_clusters, refuse_large


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Three far groups of 40 rows of 12 numbers from 0 up, and which is which."""
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 40)
    return (np.eye(3)[y] @ random.random((3, 12)) * 10 + random.random((120, 12))).astype(np.float32), y


def cloud(n: int = 150) -> np.ndarray:
    """One group without structure, in which every other start finds another partition."""
    return np.random.default_rng(1).random((n, 8)).astype(np.float32)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_finds_groups_that_are_far_apart(name: str, blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = blobs
    found = baseline_clusters(name, x, 3, 0)
    assert found.dtype == np.int64 and found.shape == (120,)
    assert adjusted_rand_score(y, found) == 1


@pytest.mark.parametrize("name", BASELINES)
def test_a_seed_repeats_itself_and_matters_where_it_is_said_to(name: str) -> None:
    x = cloud()
    runs = [baseline_clusters(name, x, 7, seed) for seed in (0, 0, 1, 2, 3)]
    assert np.array_equal(runs[0], runs[1])
    assert any(not np.array_equal(runs[0], other) for other in runs[2:]) == BASELINES[name].random


def test_they_are_the_textbook_calls() -> None:
    x = cloud()
    assert np.array_equal(baseline_clusters("kmeans", x, 4, 5), KMeans(4, n_init=10, random_state=5).fit_predict(x))
    assert np.array_equal(baseline_clusters("agglomerative", x, 4, 5), AgglomerativeClustering(4).fit_predict(x))
    wide = np.random.default_rng(2).random((90, 70)).astype(np.float32)
    parts = PCA(50, random_state=5).fit_transform(wide)
    expected = KMeans(4, n_init=10, random_state=5).fit_predict(parts)
    assert np.array_equal(baseline_clusters("pca+kmeans", wide, 4, 5), expected)


@pytest.mark.parametrize("name", BASELINES)
def test_too_many_images_are_refused_with_the_limit_and_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = BASELINES[name].most
    monkeypatch.setattr(baselines, "memory", lambda: 1e12)
    refuse_large(name, limit, 1)
    with pytest.raises(ValueError, match=rf"{limit:,} images.*{limit + 1:,}.+--images {limit}"):
        refuse_large(name, limit + 1, 1)


def test_more_features_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "memory", lambda: 24_000.0)
    refuse_large("kmeans", 100, 10)  # 3 copies of 4,000 bytes are half of it
    with pytest.raises(ValueError, match="0.0 GB.*101 images.*10 features"):
        refuse_large("kmeans", 101, 10)
    with pytest.raises(ValueError, match="agglomerative"):
        refuse_large("agglomerative", 100, 10)  # and 40,000 bytes of distances


def test_what_cannot_be_done_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="nmf.kmeans.*negative.*pca.kmeans"):
        baseline_clusters("nmf+kmeans", cloud() - 1, 3, 0)
    with pytest.raises(ValueError, match="200 clusters.*200 images.*150"):
        baseline_clusters("kmeans", cloud(), 200, 0)
    with pytest.raises(ValueError, match="'kmean'.*Did you mean 'kmeans'"):
        baseline_clusters("kmean", cloud(), 2, 0)


def test_more_clusters_than_features_still_have_factors() -> None:
    assert len(np.unique(baseline_clusters("nmf+kmeans", cloud(), 12, 0))) == 12
