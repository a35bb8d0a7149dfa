"""Which cluster each image belongs to, and how surely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ilk import load_images
from ilk.system.devices import make_fabric
from ilk.training.assign import assign


@pytest.fixture(scope="module")
def images(pictures: Callable[..., Any]) -> Any:
    return load_images(pictures(30)[0])


@pytest.fixture(scope="module")
def method(images: Any, planned: Callable[..., Any]) -> Any:
    """Five clusters whose heads have learned nothing: probabilities differ, which is all that matters here."""
    return planned(images, k=5).method.eval()


def test_the_columns_are_the_two_largest_probabilities(images: Any, method: Any, fabric: Any) -> None:
    found = assign(method, images, fabric, probabilities=True)
    p = found.probability
    assert p is not None and p.shape == (30, 5)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    order = np.argsort(-p, axis=1)
    rows = np.arange(30)
    np.testing.assert_array_equal(found.cluster, order[:, 0])
    np.testing.assert_array_equal(found.second, order[:, 1])
    np.testing.assert_array_equal(found.confidence, p.max(1))
    np.testing.assert_allclose(found.margin, p[rows, order[:, 0]] - p[rows, order[:, 1]], atol=1e-7)
    assert (found.cluster != found.second).all()


def test_probabilities_are_those_of_the_method_on_plain_images(images: Any, method: Any, fabric: Any) -> None:
    found = assign(method, images, fabric, probabilities=True)
    with torch.inference_mode():
        x = images[:].float() / 255
        expected, z = method.assign(x), method.embed(x)
    np.testing.assert_allclose(found.probability, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.embedding, z.numpy(), atol=1e-3)


def test_embeddings_are_float16_rows_of_length_one(images: Any, method: Any, fabric: Any) -> None:
    found = assign(method, images, fabric)
    assert found.embedding.dtype == np.float16 and len(found.embedding) == 30
    np.testing.assert_allclose(np.linalg.norm(found.embedding.astype(np.float32), axis=1), 1, atol=2e-3)
    assert found.probability is None


@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_the_batch_size_does_not_matter(images: Any, method: Any, fabric: Any, batch_size: int) -> None:
    whole = assign(method, images, fabric)
    found = assign(method, images, fabric, batch_size=batch_size)
    np.testing.assert_array_equal(found.cluster, whole.cluster)
    np.testing.assert_allclose(found.confidence, whole.confidence, atol=1e-5)


def test_rows_follow_the_source(images: Any, method: Any, fabric: Any) -> None:
    whole = assign(method, images, fabric)
    order = np.random.default_rng(0).permutation(30)
    found = assign(method, images.subset(order), fabric)
    np.testing.assert_allclose(found.confidence, whole.confidence[order], atol=1e-5)
    np.testing.assert_array_equal(found.cluster, whole.cluster[order])


def test_a_method_in_training_mode_is_used_in_evaluation_mode(images: Any, method: Any, fabric: Any) -> None:
    whole = assign(method, images, fabric)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    found = assign(method.train(), images, fabric)
    np.testing.assert_array_equal(found.confidence, whole.confidence)
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


def test_progress_counts_up_to_all_images(images: Any, method: Any, fabric: Any) -> None:
    calls: list[tuple[int, int]] = []
    assign(method, images, fabric, batch_size=12, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(12, 30), (24, 30), (30, 30)]


def test_bf16_gives_float32_probabilities_close_to_those_of_float32(
    pictures: Callable[..., Any], method: Any, fabric: Any
) -> None:
    images = load_images(pictures(4)[0])
    full = assign(method, images, fabric, probabilities=True).probability
    half = assign(method, images, make_fabric("cpu", "bf16"), probabilities=True).probability
    assert full is not None and half is not None and half.dtype == np.float32
    np.testing.assert_allclose(half, full, atol=0.05)
    np.testing.assert_allclose(half.sum(1), 1, atol=1e-5)
