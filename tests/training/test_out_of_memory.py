"""A device without memory left: halves where rows do not depend on each other, advice where they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ilk import Clusterer, load_images
from ilk.system.devices import OutOfMemory, fitting, make_fabric
from ilk.training.encode import encode_images


def narrow(most: int) -> tuple[Callable[[Tensor], tuple[Tensor, ...]], list[int]]:
    """A piece of work that stands `most` rows at a time, and the sizes that it was given."""
    seen: list[int] = []

    def work(x: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("full")
        return x * 2, x.sum(1)

    return work, seen


@pytest.mark.parametrize("rows", [1, 7, 32])
def test_halves_give_what_the_whole_would(rows: int) -> None:
    x = torch.arange(rows * 3.0).view(rows, 3)
    work, seen = narrow(5)
    doubled, sums = fitting(work, x)
    assert torch.equal(doubled, x * 2)
    assert torch.equal(sums, x.sum(1))
    assert max(size for size in seen if size <= 5) >= min(rows, 3)


def test_a_single_row_that_is_too_much_is_a_sentence() -> None:
    with pytest.raises(OutOfMemory, match=r"single image.*--device cpu"):
        fitting(narrow(0)[0], torch.zeros(4, 2))


class Greedy(nn.Module):
    feature_dim, image_size = 4, 4

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("full")
        return x.mean(2).flatten(1)


def test_an_encoder_that_stands_few_images_gives_the_same_features() -> None:
    images = load_images(np.random.default_rng(0).integers(0, 255, (50, 4, 4)).astype(np.uint8))
    fabric: Any = make_fabric("cpu", "float32")
    few, many = (encode_images(Greedy(most), images, fabric, size=4) for most in (3, 99))
    np.testing.assert_array_equal(few, many)


def test_a_training_step_that_does_not_fit_stops_with_advice() -> None:
    images = np.random.default_rng(0).integers(0, 255, (60, 4, 4)).astype(np.uint8)
    with pytest.raises(OutOfMemory, match=r"batch of 30 images.*batch_size\W+15"):
        Clusterer(2, backbone=Greedy(10), epochs=1, settings={"batch_size": 30}, views="none").fit(images)
