"""Methods on the small backbone, batches for them, and pictures of three kinds that no one confuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.methods import METHODS, Method
from ilk.methods.base import Encode
from ilk.networks.backbones import build_backbone

SIDE = 8


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    """`build(name, k=4, n=24, seed=0, **settings)`: a fresh method in training mode; what is not set is the paper's."""

    def make(name: str, *, k: int = 4, n: int = 24, seed: int = 0, **settings: Any) -> Method:
        torch.manual_seed(seed)
        config = type(METHODS[name].presets["paper"].config)(**settings)
        return METHODS[name](build_backbone("small", image_size=SIDE, in_channels=3), k, n, config).train()

    return make


@pytest.fixture(scope="session")
def batch() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """`batch(n=24, repeats=1)`: a view of each image, `repeats` noisy second views, view by view, and the index.

    Images are four patches of random colour: noise alone looks all alike to a network that averages over positions.
    """

    def make(n: int = 24, repeats: int = 1, seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
        g = torch.Generator().manual_seed(seed)
        a = F.interpolate(torch.rand(n, 3, 2, 2, generator=g), size=SIDE)
        b = a.repeat(repeats, 1, 1, 1)
        return a, (b + 0.1 * torch.randn(b.shape, generator=g)).clamp(0, 1), torch.arange(n)

    return make


@pytest.fixture(scope="session")
def decide(batch: Callable[..., Any]) -> Callable[..., Any]:
    """`decide(method, heads)`: the method, whose fresh heads now tell the images of `batch` apart.

    Their logits get mean 0 and standard deviation 2; else all images fall into one cluster, and a loss of
    equal rows is right whatever it compares.
    """

    def change(method: Any, heads: Any) -> Any:
        with torch.no_grad():
            h = copy.deepcopy(method.backbone)(batch()[0])
            for head in heads:
                *before, last = head if isinstance(head, nn.Sequential) else [head]
                logits = nn.Sequential(*before)(h) @ last.weight.T
                scale = 2 / logits.std(0)
                last.weight.mul_(scale[:, None])
                last.bias.copy_(-scale * logits.mean(0))
        return method

    return change


def three_groups(m: int) -> Tensor:
    """Features of 60 images of three clear groups, in turn, 128 wide."""
    g = torch.Generator().manual_seed(6)
    kind = torch.arange(60) % 3
    return 5 * torch.randn(3, 128, generator=g)[kind] + 0.1 * torch.randn(60, 128, generator=g)


@pytest.fixture(scope="session")
def encode() -> Encode:
    return three_groups


@pytest.fixture(scope="session")
def three_kinds() -> tuple[np.ndarray, np.ndarray]:
    """300 pictures, (n, h, w, 3) uint8: stripes across, stripes down and discs, and which is which.

    Phase, colour and brightness are random, and there is noise.
    """
    random = np.random.default_rng(0)
    kind = np.arange(300) % 3
    y, x = np.mgrid[:SIDE, :SIDE]
    pictures = []
    for k in kind:
        phase = random.integers(0, 4)
        shape = [(y + phase) // 2 % 2, (x + phase) // 2 % 2, (y - 3.5) ** 2 + (x - 3.5) ** 2 < random.uniform(6, 10)][k]
        picture = 40 + random.uniform(120, 200, 3) * shape[..., None] + random.normal(0, 12, (SIDE, SIDE, 3))
        pictures.append(picture.clip(0, 255))
    return np.stack(pictures).astype(np.uint8), kind
