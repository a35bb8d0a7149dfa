"""EfficientNet-Lite as an encoder: image -> 1,280 features, with BatchNorm folded into the convolutions.

Source: Tan, Le. EfficientNet. ICML 2019 (arXiv 1905.11946), table 1, in the "lite" form that TensorFlow released
in 2020: no squeeze-and-excitation, ReLU6, and a stem and a head of the same width and depth at every scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Stages of the smallest network: blocks, kernel, stride, expansion, channels.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
STEM, FEATURES, EPSILON = 32, 1280, 1e-3


@dataclass(frozen=True)
class Scale:
    """How much wider and deeper a network is than the smallest, and how it wants its images."""

    width: float
    depth: float
    side: int  # pixels of the square that the network sees
    crop: float  # side of the middle crop over the shortest side of the picture


SCALES = {
    "lite0": Scale(1.0, 1.0, 224, 0.875),
    "lite1": Scale(1.0, 1.1, 240, 0.882),
    "lite2": Scale(1.1, 1.2, 260, 0.890),
}


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the odd pixel goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class Block(nn.Module):
    """Expand, filter each channel by itself, project; the input is added where shapes allow."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.expand = nn.Conv2d(before, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = nn.Conv2d(inner, after, 1)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        h: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return x + h if self.adds else h


class EfficientNetLite(nn.Module):
    """(b, 3, h, w) in [-1, 1] -> (b, 1280), the mean over the last map."""

    feature_dim = FEATURES

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 3, 2)
        blocks: list[nn.Module] = []
        before = STEM
        for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
            after = rounded(channels * scale.width)
            outer = stage in (0, len(STAGES) - 1)  # not deepened in the lite form
            for i in range(repeats if outer else math.ceil(repeats * scale.depth)):
                blocks.append(Block(before, after, kernel, stride if i == 0 else 1, expansion))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(before, FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks(F.relu6(self.stem(x.contiguous(memory_format=torch.channels_last))))
        return F.relu6(self.head(h)).mean((2, 3))


def rounded(channels: float) -> int:
    """The nearest multiple of 8, no more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def load_weights(network: EfficientNetLite, state: Mapping[str, Tensor]) -> None:
    """Puts converted TensorFlow weights into `network`, BatchNorm folded in.

    `state`: names such as `_blocks.0._depthwise_conv.weight` and `_blocks.0._bn1.running_mean`; the classifier
    `_fc` is not used. Raises ValueError where a tensor is missing or has another shape.
    """
    pairs = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    for i, block in enumerate(network.blocks):
        norms = iter(("_bn0", "_bn1", "_bn2") if isinstance(block, Block) and block.expand is not None else
                     ("_bn1", "_bn2"))  # fmt: skip
        names = (("expand", "_expand_conv"), ("depthwise", "_depthwise_conv"), ("project", "_project_conv"))
        pairs += [
            (f"blocks.{i}.{ours}", f"_blocks.{i}.{theirs}", f"_blocks.{i}.{next(norms)}")
            for ours, theirs in names
            if getattr(block, ours) is not None
        ]
    folded: dict[str, Tensor] = {}
    try:
        for ours, conv, norm in pairs:
            scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
            folded[f"{ours}.weight"] = state[f"{conv}.weight"] * scale[:, None, None, None]
            folded[f"{ours}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        network.load_state_dict(folded)
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"These are not the weights of this EfficientNet-Lite ({str(error).splitlines()[0]})."
        ) from None
