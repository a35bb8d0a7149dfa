"""How a pretrained network wants its images: resized, cropped and normalised, on tensors and on any device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Pillow's numbers: nearest, Lanczos, bilinear, bicubic, box, Hamming. Torch has no Lanczos or Hamming; the next
# smoother kernel stands in, which moves a pixel by about a gray level.
RESAMPLE = {0: "nearest-exact", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "area", 5: "bilinear"}
BICUBIC_BY_DEFAULT = ("CLIP", "ChineseCLIP", "Siglip", "Bit", "ConvNext", "DeiT", "Beit", "Levit")
SHORTEST_BY_DEFAULT = ("CLIP", "ChineseCLIP", "Bit", "ConvNext", "Levit", "MobileNet")
ConvNextFull = 384  # from this side on ConvNeXt's processor squeezes the whole image instead of cropping it


@dataclass(frozen=True)
class Steps:
    """`resize`: the shortest side, or (height, width) whatever the aspect; then the middle `crop` (height, width),
    then times `scale` (1 keeps [0, 1]), minus `mean`, over `std`."""

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    resample: str = "bicubic"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class Preparation(nn.Module):
    """(b, c, h, w) in [0, 1] of any size -> what the network was trained on; nothing here is saved or trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("mean", torch.tensor(steps.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(steps.std)[:, None, None], persistent=False)

    @property
    def image_size(self) -> int:
        """The side of square images that need no resizing (some of it may be cropped away)."""
        resize = self.steps.resize
        return resize if isinstance(resize, int) else max(resize)

    def described(self) -> str:
        return json.dumps(asdict(self.steps), sort_keys=True)

    def forward(self, x: Tensor) -> Tensor:
        x = middle(resized(x.float(), self.steps), self.steps.crop)
        return (x * self.steps.scale - self.mean) / self.std


def resized(x: Tensor, steps: Steps) -> Tensor:
    height, width = x.shape[2:]
    if isinstance(steps.resize, int):  # the longer side is cut off, as transformers does
        short = min(height, width)
        size = (int(steps.resize * height / short), int(steps.resize * width / short))
    else:
        size = steps.resize
    if size == (height, width):
        return x
    smooth = steps.resample in ("bilinear", "bicubic")
    for part in ((height, size[1]), size):  # across, then down, each within a byte, as Pillow does: bicubic overshoots
        x = F.interpolate(x, part, mode=steps.resample, antialias=smooth).clamp(0, 1)
    return x


def middle(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle (height, width) of the images."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[2:], size, strict=True))
    return x[:, :, top : top + size[0], left : left + size[1]]


def plain_preparation(image_size: int) -> Preparation:
    """Resized to that side and otherwise as it is: for ilk's own backbones."""
    return Preparation(Steps((image_size, image_size), (image_size, image_size), "bilinear"))


def read_preparation(config: Mapping[str, Any], channels: int, model_size: int | None) -> Preparation:
    """The preparation that a preprocessor_config.json describes, old forms included.

    `model_size`: the side that the model's own configuration names, used where this one names none.
    Raises ValueError with what it lacks, as the rest of a sentence.
    """
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    resize = read_size(config.get("size"), shortest=kind.startswith(SHORTEST_BY_DEFAULT))
    crop = None
    if config.get("do_center_crop", "crop_size" in config):
        crop = read_size(config.get("crop_size"), shortest=False)
    if not config.get("do_resize", True) or resize is None:
        resize = crop or ((model_size, model_size) if model_size else None)
    if resize is None:
        raise ValueError("does not say how large the images are to be (size)")
    if kind.startswith("ConvNext") and isinstance(resize, int):
        if resize < ConvNextFull:
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
        given = {name: value for name, value in size.items() if value is not None}
        if "shortest_edge" in given:
            return side(given["shortest_edge"])
        if "height" in given and "width" in given:
            return side(given["height"]), side(given["width"])
        raise ValueError(f"has a size of unknown form, {given}")
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        return side(size[0]), side(size[1])
    one = side(size)
    return one if shortest else (one, one)


def side(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
        raise ValueError(f"has an impossible size, {value!r}")
    return value


def number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"has a {name} that is no number, {value!r}")
    return float(value)


def per_channel(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """One number a channel, from a number, a list of one, or a list of as many."""
    if value is None:
        raise ValueError(f"does not say {name}")
    numbers = tuple(number(name, one) for one in (value if isinstance(value, (list, tuple)) else [value]))
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels:
        raise ValueError(f"has {len(numbers)} values of {name} for {channels} channels")
    return numbers
