"""How images are resized, cropped and normalised for a pretrained network, on tensors and on any device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Pillow's numbers for nearest, Lanczos, bilinear, bicubic, box and Hamming. Torch has no Lanczos and no Hamming; the
# next smoother kernel is used instead, which changes a pixel by about one gray level.
RESAMPLE = {0: "nearest-exact", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "area", 5: "bilinear"}
BICUBIC_BY_DEFAULT = ("CLIP", "ChineseCLIP", "Siglip", "Bit", "ConvNext", "DeiT", "Beit", "Levit")
SHORTEST_BY_DEFAULT = ("CLIP", "ChineseCLIP", "Bit", "ConvNext", "Levit", "MobileNet")
CONVNEXT_FULL = 384  # from this side on, ConvNeXt's processor resizes the whole image instead of cropping it


@dataclass(frozen=True)
class Steps:
    """The steps of a preparation, in this order.

    `resize`: the shortest side in pixels, or (height, width), which ignores the aspect ratio. `crop`: (height, width)
    of the centre that is kept. Then the values, in [0, 1], times `scale`, minus `mean`, divided by `std`.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    resample: str = "bicubic"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class Preparation(nn.Module):
    """(b, c, h, w) in [0, 1] of any size -> images as the network was trained on. Has no state and nothing to train."""

    mean: Tensor
    std: Tensor

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("mean", torch.tensor(steps.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(steps.std)[:, None, None], persistent=False)

    @property
    def image_size(self) -> int:
        """The side of square images that need no resizing; a part may still be cropped away."""
        resize = self.steps.resize
        return resize if isinstance(resize, int) else max(resize)

    def described(self) -> str:
        """The steps as JSON; equal preparations give equal text."""
        return json.dumps(asdict(self.steps), sort_keys=True)

    def forward(self, x: Tensor) -> Tensor:
        x = middle(resized(x.float(), self.steps), self.steps.crop)
        return (x * self.steps.scale - self.mean) / self.std


def resized(x: Tensor, steps: Steps) -> Tensor:
    """The images resized as `steps` say, in [0, 1]."""
    height, width = x.shape[2:]
    if isinstance(steps.resize, int):  # the longer side is rounded down, as in transformers
        short = min(height, width)
        size = (int(steps.resize * height / short), int(steps.resize * width / short))
    else:
        size = steps.resize
    if size == (height, width):
        return x
    smooth = steps.resample in ("bilinear", "bicubic")
    for part in (
        (height, size[1]),
        size,
    ):  # width, then height, each clamped to a byte as in Pillow: bicubic overshoots
        x = F.interpolate(x, part, mode=steps.resample, antialias=smooth).clamp(0, 1)
    return x


def middle(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The centre of the images, `size` = (height, width)."""
    top, left = ((present - wanted) // 2 for present, wanted in zip(x.shape[2:], size, strict=True))
    return x[:, :, top : top + size[0], left : left + size[1]]


def plain_preparation(image_size: int) -> Preparation:
    """A preparation that only resizes to a square of that side: for ilk's own backbones."""
    return Preparation(Steps((image_size, image_size), (image_size, image_size), "bilinear"))


def read_preparation(config: Mapping[str, Any], channels: int, model_size: int | None) -> Preparation:
    """The preparation that a preprocessor_config.json describes, in any of its published forms.

    `model_size`: the side in the model's own configuration, used where `config` has none. Raises ValueError with
    the end of a sentence that begins with the file.
    """
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    resize = read_size(config.get("size"), shortest=kind.startswith(SHORTEST_BY_DEFAULT))
    crop = None
    if config.get("do_center_crop", "crop_size" in config):
        crop = read_size(config.get("crop_size"), shortest=False)
    if not config.get("do_resize", True) or resize is None:
        resize = crop or ((model_size, model_size) if model_size else None)
    if resize is None:
        raise ValueError("does not say the size of the images")
    if kind.startswith("ConvNext") and isinstance(resize, int):
        if resize < CONVNEXT_FULL:
            crop, resize = (resize, resize), int(resize / (config.get("crop_pct") or 224 / 256))
        else:
            resize = (resize, resize)
    if crop is None:
        crop = (resize, resize) if isinstance(resize, int) else resize
    if isinstance(crop, int):
        crop = (crop, crop)
    smallest = (resize, resize) if isinstance(resize, int) else resize
    if crop[0] > smallest[0] or crop[1] > smallest[1]:
        raise ValueError(f"crops {crop[0]} x {crop[1]} pixels out of {smallest[0]} x {smallest[1]}")
    resample = config.get("resample", 3 if kind.startswith(BICUBIC_BY_DEFAULT) else 2)
    if resample not in RESAMPLE:
        raise ValueError(f"has an unknown resample, {resample!r}")
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    scale = round(255 * number("rescale_factor", factor), 9)
    mean, std = (0.0,) * channels, (1.0,) * channels
    if config.get("do_normalize", True):
        mean, std = (per_channel(name, config.get(name), channels) for name in ("image_mean", "image_std"))
        if min(std) <= 0:
            raise ValueError(f"has an image_std that is not positive, {list(std)}")
    return Preparation(Steps(resize, crop, RESAMPLE[resample], scale, mean, std))


def read_size(size: Any, *, shortest: bool) -> int | tuple[int, int] | None:
    """A size in any of its published forms: 224, [224, 224], {"shortest_edge"}, {"height", "width"}."""
    if size is None:
        return None
    if isinstance(size, Mapping):
        sides = {name: value for name, value in size.items() if value is not None}
        if "shortest_edge" in sides:
            return side(sides["shortest_edge"])
        if "height" in sides and "width" in sides:
            return side(sides["height"]), side(sides["width"])
        raise ValueError(f"has a size of unknown form, {sides}")
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        return side(size[0]), side(size[1])
    length = side(size)
    return length if shortest else (length, length)


def side(value: Any) -> int:
    """`value`, if it can be a number of pixels. Raises ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
        raise ValueError(f"has an impossible size, {value!r}")
    return value


def number(name: str, value: Any) -> float:
    """`value`, if it is a number. Raises ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"has a {name} that is not a number, {value!r}")
    return float(value)


def per_channel(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """One number per channel, from a number, a list of one number, or a list of one per channel."""
    if value is None:
        raise ValueError(f"does not say {name}")
    numbers = tuple(number(name, item) for item in (value if isinstance(value, (list, tuple)) else [value]))
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels:
        raise ValueError(f"has {len(numbers)} values of {name} for {channels} channels")
    return numbers
