"""Which views suit which kind of picture: the published lists, and presets by domain."""

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
    recipe: ViewRecipe
    about: str
    other: ViewRecipe | None = None  # what happens to the second view, where that is something else


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
        "photographs: crops of 20-100 %, mirroring, colour jitter, now and then gray",
    ),
    "drawing": Domain(
        ViewRecipe(**STROKES),  # type: ignore[arg-type]  # a table of floats and ranges
        "digits, letters, line art, scans: slight turns, slants and bends, never mirrored",
    ),
    "object": Domain(
        ViewRecipe(
            degrees=5.0,
            zoom=(0.9, 1.1),
            shift=0.05,
            crop_scale=(0.7, 1.0),  # a thing is framed whole; a closer crop cuts off what tells it apart
            flip=0.5,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
            gray=0.2,
            colours="linear",
        ),
        "single things on a plain ground (products, clothes): slight crops and turns, mirroring",
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
        "pictures without an up or down, whose colours mean something: satellite, microscope, textures",
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
        "CRLC's code for STL-10 at 96 pixels: the same and blur",
    ),
    "moco-cifar": Domain(
        ViewRecipe(**MOCO, crop_scale=(0.08, 1.0)),  # type: ignore[arg-type]
        "MoCo's CIFAR demo, whose other settings SCL has: crops of 8-100 %, no blur",
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
    "none": Domain(ViewRecipe(), "no change at all (for ablations)"),
}


def checked(name: str, thing: Any) -> Domain:
    """The views that an installed package offers: a ViewRecipe, a pair of them, or a Domain. Raises ValueError."""
    if isinstance(thing, Domain):
        return thing
    pair = thing if isinstance(thing, tuple) else (thing, thing)
    if len(pair) != 2 or not all(isinstance(recipe, ViewRecipe) for recipe in pair):
        raise ValueError(f"{name} must be a ViewRecipe or a pair of them")
    return Domain(pair[0], "of an installed package", pair[1])


DOMAINS: Registry[Domain] = Registry("views", "ilk.views", OWN, checked)


def view_names() -> list[str]:
    return ["auto", *DOMAINS]


def get_views(name: str) -> tuple[ViewRecipe, ViewRecipe]:
    """The recipes called `name`, of the first and the second view. Raises ValueError with the nearest name.

    "photo+none" is what "photo" does to the first view, and for the second the plain image.
    """
    if len(pair := name.split("+")) == 2:
        return get_views(pair[0])[0], get_views(pair[1])[1]
    if name not in DOMAINS:
        known = f"{', '.join(view_names())}, or two of them, such as photo+none"
        raise ValueError(f"Unknown views '{name}'.{did_you_mean(name, DOMAINS)} Known: {known}.")
    domain = DOMAINS[name]
    return domain.recipe, domain.other or domain.recipe


def choose_views(images: Tensor) -> tuple[str, str]:
    """The domain that fits a sample of images, and why, in a few words.

    `images`: (m, c, h, w) uint8. First, how much of a picture is flat ground: SimCLR's list ruins digits
    and line art, which are mostly ground, while photographs have hardly any (here 0.2 to 0.3, digits
    and products 0.5 to 0.7). Then, whether what stands on the ground is strokes or solid things:
    a square of a quarter of the side fits nowhere into strokes (share below 0.04; products above 0.08).
    """
    ground = flat_ground(images)
    share = f"{ground:.0%} of a typical picture is flat ground"
    if ground < 0.35:
        return "photo", f"only {share}"
    if solidity(images) < 0.06:
        return "drawing", f"{share}, with thin strokes on it"
    return "object", f"{share}, with solid things on it"


def border_colour(x: Tensor) -> Tensor:
    """The median of each picture's outermost pixels, (m, c, 1, 1)."""
    border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., :, 0], x[..., :, -1]], -1)  # (m, c, 2h + 2w)
    return border.median(-1).values[..., None, None]


def flat_ground(images: Tensor) -> float:
    """The median over images of the share of pixels within 24 of 255 of the image's border colour, in [0, 1]."""
    x = images.float()
    alike = ((x - border_colour(x)).abs() <= 24).all(1)  # (m, h, w)
    return float(alike.float().mean((1, 2)).median())


def solidity(images: Tensor) -> float:
    """The mean share of the foreground that is left when it is eroded by a square of a quarter of the side.

    Foreground is what differs from the border colour by more than half of the largest difference.
    """
    x = images.float()
    contrast = (x - border_colour(x)).abs().amax(1, keepdim=True)  # (m, 1, h, w)
    front = (contrast > contrast.amax((2, 3), keepdim=True) / 2).float()
    kernel = max(3, round(x.shape[-1] / 4) // 2 * 2 + 1)
    inside = -F.max_pool2d(-F.pad(front, [kernel // 2] * 4), kernel, 1)
    return float((inside.sum((1, 2, 3)) / front.sum((1, 2, 3)).clamp_min(1)).mean())


def describe(recipe: ViewRecipe) -> dict[str, object]:
    """The recipe as plain values, for JSON."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}


def from_description(values: dict[str, object]) -> ViewRecipe:
    """The recipe that `describe` described."""
    return ViewRecipe(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})  # type: ignore[arg-type]
