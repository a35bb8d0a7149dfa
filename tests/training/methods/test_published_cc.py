"""CC with the settings of the paper, one head and no warm start, finds three obvious classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ilk import load_images
from ilk.analysis.metrics import accuracy
from ilk.training.assign import assign
from ilk.training.loop import train
from ilk.training.optimizer import TrainConfig
from ilk.views import ViewRecipe, Views

SIDE = 8


def test_three_obvious_kinds_are_found_as_published(
    build: Callable[..., Any], three_kinds: tuple[np.ndarray, np.ndarray], fabric: Any
) -> None:
    """The default preset is tested in test_contract.py."""
    pictures, kind = three_kinds
    images = load_images(pictures)
    method = build("cc", k=3, n=300)
    settings = TrainConfig(
        epochs=6, batch_size=50, optimizer="adam", learning_rate=2e-3, weight_decay=0.0, momentum=0.9,
        schedule="constant", warmup=0, seed=0,
    )  # fmt: skip
    recipe = ViewRecipe(crop_scale=(0.6, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    for _ in train(method, images, Views(recipe, size=SIDE), settings, fabric):
        pass
    assert accuracy(kind, assign(method, images, fabric).cluster) > 0.95
