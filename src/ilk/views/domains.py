"""View recipes by name: presets for domains of images, and those of the papers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ilk.system.plugins import Registry
from ilk.system.text import did_you_mean
from ilk.views.random_views import ViewRecipe


class Domain(NamedTuple):
    """The views of one domain of images."""

    recipe: ViewRecipe
    about: str  # in a few words, for lists
    other: ViewRecipe | None = None  # of the second view, if it is not the same


CC_LIST = {"crop_scale": (0.08, 1.0), "flip": 0.5, "gray": 0.2}
MOCO = {"flip": 0.5, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray": 0.2}
STROKES = {
    "degrees": 15.0, "shear": 15.0, "zoom": (0.8, 1.2), "shift": 0.08, "elastic": 0.04,
    "crop_scale": (0.6, 1.0), "brightness": 0.4, "contrast": 0.4,
}  # fmt: skip
OWN = {
    "photo": Domain(
        ViewRecipe(
            crop_scale=(0.2, 1.0),
            flip=0.5,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
            gray=0.2,
            colours="linear",
        ),
        "photographs: crops of 20-100 %, mirroring, colour jitter, sometimes gray",
    ),
    "drawing": Domain(
        ViewRecipe(**STROKES),  # type: ignore[arg-type]  # a table of floats and ranges
        "digits, letters, line art, scans: slight rotation, shear and distortion, never mirrored",
    ),
    "object": Domain(
        ViewRecipe(
            degrees=5.0,
            zoom=(0.9, 1.1),
            shift=0.05,
            crop_scale=(0.7, 1.0),  # products are framed whole; a smaller crop cuts off distinctive parts
            flip=0.5,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
            gray=0.2,
            colours="linear",
        ),
        "single objects on a plain background (products, clothes): slight crops and rotation, mirroring",
    ),
    "aerial": Domain(
        ViewRecipe(
            degrees=15.0,
            crop_scale=(0.4, 1.0),
            flip=0.5,
            vertical_flip=0.5,
            brightness=0.4,
            contrast=0.4,
            saturation=0.2,
            hue=0.02,
            colours="linear",
        ),
        "images without an up or down, whose colours matter: satellite, microscope, textures",
    ),
    "cc": Domain(
        ViewRecipe(**CC_LIST, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),  # type: ignore[arg-type]
        "CC as published for CIFAR and Tiny-ImageNet: jitter strength 0.5, no blur",
    ),
    "cc-strong": Domain(
        ViewRecipe(**CC_LIST, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),  # type: ignore[arg-type]
        "CC as published for STL-10: jitter strength 1",
    ),
    "cc-strong-blur": Domain(
        ViewRecipe(**CC_LIST, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5),  # type: ignore[arg-type]
        "CC as published for ImageNet-10 and ImageNet-Dogs: jitter strength 1, blur",
    ),
    "crlc": Domain(
        ViewRecipe(**MOCO, crop_scale=(0.2, 1.0)),  # type: ignore[arg-type]
        "CRLC's code for CIFAR (SCAN's SimCLR list): crops of 20-100 %, no blur",
    ),
    "crlc-blur": Domain(
        ViewRecipe(**MOCO, crop_scale=(0.2, 1.0), blur=0.5, blur_sigma=(0.1 * 224 / 96, 2.0 * 224 / 96)),  # type: ignore[arg-type]
        "CRLC's code for STL-10 at 96 pixels: as crlc, with blur",
    ),
    "moco-cifar": Domain(
        ViewRecipe(**MOCO, crop_scale=(0.08, 1.0)),  # type: ignore[arg-type]
        "MoCo's CIFAR demo, whose other settings SCL uses: crops of 8-100 %, no blur",
    ),
    "moco-v2": Domain(
        ViewRecipe(**MOCO, crop_scale=(0.2, 1.0), blur=0.5),  # type: ignore[arg-type]
        "MoCo v2: crops of 20-100 %, blur; for C2BIN, and for SCL from 64 pixels on",
    ),
    "dcdc": Domain(
        ViewRecipe(crop_scale=(0.64, 0.64), crop_ratio=(1.0, 1.0)),
        "DCDC and PICA: a random crop of 80 % of the side, against crops of 20-100 % with strong jitter",
        ViewRecipe(
            crop_scale=(0.2, 1.0), flip=0.5, jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4, gray=0.2
        ),
    ),
    "none": Domain(ViewRecipe(), "no change (for ablations)"),
}


def checked(name: str, thing: Any) -> Domain:
    """The views that an installed package provides under `name`, as a Domain.

    `thing`: a ViewRecipe, a pair of them, or a Domain. Raises ValueError for anything else.
    """
    if isinstance(thing, Domain):
        return thing
    pair = thing if isinstance(thing, tuple) else (thing, thing)
    if len(pair) != 2 or not all(isinstance(recipe, ViewRecipe) for recipe in pair):
        raise ValueError(f"{name} must be a ViewRecipe or a pair of them")
    return Domain(pair[0], "from an installed package", pair[1])


DOMAINS: Registry[Domain] = Registry("views", "ilk.views", OWN, checked)


def view_names() -> list[str]:
    """All names for views, "auto" first."""
    return ["auto", *DOMAINS]


def get_views(name: str) -> tuple[ViewRecipe, ViewRecipe]:
    """The recipes called `name`, for the first and the second view.

    "photo+none" takes the first view of "photo" and the second view of "none". Raises ValueError for an unknown name.
    """
    if len(pair := name.split("+")) == 2:
        return get_views(pair[0])[0], get_views(pair[1])[1]
    if name not in DOMAINS:
        known = f"{', '.join(view_names())}, or two of them, such as photo+none"
        raise ValueError(f"Unknown views '{name}'.{did_you_mean(name, DOMAINS)} Known: {known}.")
    domain = DOMAINS[name]
    return domain.recipe, domain.other or domain.recipe


def choose_views(images: Tensor) -> tuple[str, str]:
    """The name of the domain that fits a sample of images, and the reason in a few words.

    `images`: (m, c, h, w) uint8. The first criterion is the share of flat background: SimCLR's views destroy digits
    and line art, which are mostly background (0.5 to 0.7, like products), while photographs have little of it (0.2 to
    0.3 by this measure). The second is whether the foreground is thin strokes or solid objects: a square of a quarter
    of the side fits into objects but not into strokes (`solidity` above 0.08 for products, below 0.04 for strokes).
    """
    background = flat_background(images)
    share = f"{background:.0%} of a typical image is flat background"
    if background < 0.35:
        return "photo", f"only {share}"
    if solidity(images) < 0.06:
        return "drawing", f"{share}, with thin strokes on it"
    return "object", f"{share}, with solid objects on it"


def border_colour(x: Tensor) -> Tensor:
    """The median of the outermost pixels of each image, (m, c, 1, 1)."""
    border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., :, 0], x[..., :, -1]], -1)  # (m, c, 2h + 2w)
    return border.median(-1).values[..., None, None]


def flat_background(images: Tensor) -> float:
    """The median over images of the share of pixels within 24 of 255 levels of the border colour, in [0, 1]."""
    x = images.float()
    near_border = ((x - border_colour(x)).abs() <= 24).all(1)  # (m, h, w)
    return float(near_border.float().mean((1, 2)).median())


def solidity(images: Tensor) -> float:
    """The mean share of the foreground that remains after erosion by a square of a quarter of the side, in [0, 1].

    The foreground is the pixels that differ from the border colour by more than half of the largest difference.
    """
    x = images.float()
    contrast = (x - border_colour(x)).abs().amax(1, keepdim=True)  # (m, 1, h, w)
    foreground = (contrast > contrast.amax((2, 3), keepdim=True) / 2).float()
    kernel = max(3, round(x.shape[-1] / 4) // 2 * 2 + 1)
    eroded = -F.max_pool2d(-F.pad(foreground, [kernel // 2] * 4), kernel, 1)
    return float((eroded.sum((1, 2, 3)) / foreground.sum((1, 2, 3)).clamp_min(1)).mean())


def describe(recipe: ViewRecipe) -> dict[str, object]:
    """The recipe as plain values, for JSON."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}


def from_description(values: dict[str, object]) -> ViewRecipe:
    """The recipe that `describe` described."""
    return ViewRecipe(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})  # type: ignore[arg-type]
