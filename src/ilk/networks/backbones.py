"""Networks from images to features: the ResNets of the papers with their three stems, and a small one for CPUs.

Every backbone is an `nn.Module` with an integer `feature_dim`, taking (b, c, h, w) floats and
returning (b, feature_dim). Any module with that attribute can be used in its place.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.system.plugins import Registry


class Build(Protocol):
    def __call__(self, *, image_size: int, in_channels: int) -> nn.Module:
        """A backbone for square images of `image_size` pixels a side."""


def conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias and with padding that keeps height and width at stride 1."""
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, figure 5 left)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(in_channels, width, 3, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv(width, width, 3),
            nn.BatchNorm2d(width),
        )
        self.shortcut = shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions around a shortcut (He et al. 2016, figure 5 right)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(in_channels, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv(width, width, 3, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv(width, 4 * width, 1),
            nn.BatchNorm2d(4 * width),
        )
        self.shortcut = shortcut(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The way around a block: the identity, or a 1x1 convolution where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def stem(name: str, in_channels: int, width: int) -> nn.Sequential:
    """The first layers of a ResNet, by name.

    `imagenet`: 7x7 with stride 2 and a 3x3 pool (CC). `cifar`: 3x3 at full resolution (CRLC, SCAN).
    `pica`: 3x3 and a 2x2 pool padded by one (SCL, DCDC, C2BIN). Raises ValueError for another name.
    """
    if name == "imagenet":
        first, pool = conv(in_channels, width, 7, 2), nn.MaxPool2d(3, 2, padding=1)
    elif name == "cifar":
        first, pool = conv(in_channels, width, 3), None
    elif name == "pica":
        first, pool = conv(in_channels, width, 3), nn.MaxPool2d(2, 2, padding=1)
    else:
        raise ValueError(f"Unknown stem '{name}'. Known: imagenet, cifar, pica.")
    return nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(inplace=True), *([pool] if pool else []))


class ResNet(nn.Module):
    """A residual network up to the global average pool; `feature_dim` is 512 or 2048 for the published ones.

    Source: He et al. 2016; Kaiming-normal fan-out initialisation as in torchvision and CC's code.
    """

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: list[int], widths: list[int], entry: nn.Sequential
    ) -> None:
        super().__init__()
        self.stem = entry
        channels = width_of(entry)
        stages = []
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = []
            for i in range(depth):
                blocks.append(block(channels, width, 2 if i == 0 and number > 0 else 1))
                channels = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.feature_dim = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def feature_map(self, x: Tensor) -> Tensor:
        """The last feature map, (b, feature_dim, h', w')."""
        h: Tensor = self.stages(self.stem(x))
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.feature_map(x).mean((2, 3))


def width_of(entry: nn.Sequential) -> int:
    """The number of channels of a stem's output."""
    return next(layer.out_channels for layer in entry if isinstance(layer, nn.Conv2d))


def small(image_size: int, in_channels: int) -> ResNet:
    """A ResNet with one narrow block per stage that reduces the resolution early, for small images without a GPU.

    The first block sees at most 8 x 8 positions, whatever the image size. Layers at full resolution take most of
    a CPU's time, and on small sets more training steps help more than more positions or twice the width.
    """
    side, stride = image_size, 2 if image_size > 8 else 1
    first = nn.Sequential(conv(in_channels, 32, 3, stride), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
    side = (side + stride - 1) // stride
    while side > 8:
        first.append(nn.MaxPool2d(3, 2, padding=1))
        side = (side + 1) // 2
    return ResNet(BasicBlock, [1, 1, 1], [32, 64, 128], first)


class FrontEnd(nn.Module):
    """`backbone` behind a fixed first step: normalisation by `mean` and `std`, then edges instead of colours.

    `mean`, `std`: (c,) of the collection, in [0, 1]; None for no normalisation. `sobel`: replaces the channels by
    the horizontal and vertical Sobel derivative of their mean, 2 channels (IIC, PICA and DCDC). Nothing in this
    step is trained.
    """

    mean: Tensor
    std: Tensor
    kernel: Tensor

    def __init__(
        self, backbone: nn.Module, channels: int, *, mean: Sequence[float] | None, std: Sequence[float] | None,
        sobel: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone, self.sobel = backbone, sobel
        self.feature_dim: int = int(backbone.feature_dim)  # type: ignore[arg-type]  # the contract of backbones
        self.register_buffer("mean", torch.tensor(mean or [0.0] * channels)[:, None, None])
        self.register_buffer("std", torch.tensor(std or [1.0] * channels)[:, None, None])
        across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        self.register_buffer("kernel", torch.stack([across, across.T])[:, None])  # (2, 1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        if self.sobel:
            x = F.conv2d(x.mean(1, keepdim=True), self.kernel, padding=1)
        h: Tensor = self.backbone(x)
        return h


WIDTHS = [64, 128, 256, 512]
RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
STEMS = ("imagenet", "cifar", "pica")


def resnet(kind: str, entry: str, image_size: int, in_channels: int) -> ResNet:
    """The ResNet `kind` with the stem `entry`, for images of any size."""
    block, depths = RESNETS[kind]
    return ResNet(block, depths, WIDTHS, stem(entry, in_channels, 64))


def checked(name: str, build: Any) -> Build:
    """What an installed package offers as a backbone. Raises ValueError unless it can be called."""
    if not callable(build):
        raise ValueError(f"{name} must be a function of image_size and in_channels")
    made: Build = build
    return made


BACKBONES: Registry[Build] = Registry(
    "backbone",
    "ilk.backbones",
    {
        "small": small,
        **{kind: functools.partial(resnet, kind, "imagenet") for kind in RESNETS},
        **{f"{kind}-{entry}": functools.partial(resnet, kind, entry) for kind in RESNETS for entry in STEMS},
    },
    checked,
)


def build_backbone(
    name: str, *, image_size: int, in_channels: int, front_end: Mapping[str, Any] | None = None
) -> nn.Module:
    """A backbone by name: `small`, `resnet18|34|50` with an optional stem, as in `resnet18-cifar`, or an installed one.

    A ResNet without the name of a stem gets `imagenet`, as published. `image_size`, in pixels, matters to `small`
    only. `front_end`: the arguments of a `FrontEnd` before the backbone, None for no such step.
    Raises ValueError for an unknown name and suggests the nearest.
    """
    if front_end is not None:
        channels = 2 if front_end["sobel"] else in_channels
        inner = build_backbone(name, image_size=image_size, in_channels=channels)
        return FrontEnd(inner, in_channels, **front_end)
    backbone = BACKBONES.find(name)(image_size=image_size, in_channels=in_channels)
    if not isinstance(backbone, nn.Module) or not isinstance(getattr(backbone, "feature_dim", None), int):
        raise ValueError(f"The backbone '{name}' must be an nn.Module with a whole number `feature_dim`.")
    return backbone


def backbone_names() -> list[str]:
    """The names that `build_backbone` knows."""
    return list(BACKBONES)


def choose_backbone(image_size: int, device: str) -> tuple[str, str]:
    """(name of the default backbone for images of that size on that device, the reason in a few words)."""
    if device == "cpu":
        return "small", "no GPU"
    if image_size <= 96:
        return "resnet18-cifar", f"a GPU and images of {image_size} pixels"
    return "resnet34", f"a GPU and images of {image_size} pixels"
