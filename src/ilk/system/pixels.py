"""From stored images to what a network reads."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """Images, (b, c, h, w), with the memory layout that convolutions like; features, (b, d), as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def plain(x: Tensor) -> Tensor:
    """What the network reads without views: uint8 images as floats in [0, 1]; of features, (b, r, d), the first row."""
    return channels_last(x / 255) if x.dtype == torch.uint8 else x[:, 0].float()
