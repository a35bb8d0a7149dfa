"""Writes `torchvision_values.npz`: what torchvision makes of a few tiny images, one at a time.

The tests compare `ilk.views.operations` with these numbers, so they need no torchvision. To make the file again:

    python -m venv somewhere && somewhere/bin/pip install torchvision
    somewhere/bin/python tests/unit/views/make_reference.py

Each operation's results are stacked in the order of its table of settings below, and the settings are
stored beside them. `versions` says which torch and torchvision the numbers are from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as tv

OUT = Path(__file__).with_name("torchvision_values.npz")

# top, left, height, width in a 10 x 12 image: corners, borders, inside, one pixel, one row, one column, all
BOXES = [
    (0, 0, 4, 5), (6, 7, 4, 5), (0, 7, 4, 5), (6, 0, 4, 5), (2, 3, 5, 4), (9, 11, 1, 1), (3, 0, 1, 12), (0, 4, 10, 1),
    (0, 0, 10, 12),
]  # fmt: skip
CROP_SIZES = [5, 8]
# angle, shift x, shift y, zoom, shear
AFFINES = [
    (0.0, 0, 0, 1.0, 0.0), (30.0, 0, 0, 1.0, 0.0), (-30.0, 0, 0, 1.0, 0.0), (90.0, 0, 0, 1.0, 0.0),
    (180.0, 0, 0, 1.0, 0.0), (0.0, 0, 0, 0.7, 0.0), (0.0, 0, 0, 1.4, 0.0), (0.0, 2, -1, 1.0, 0.0),
    (0.0, 0, 0, 1.0, 15.0), (0.0, 0, 0, 1.0, -40.0), (17.0, -2, 1, 1.2, -12.0), (-123.0, 1, 3, 0.6, 33.0),
]  # fmt: skip
ROTATIONS = [10.0, -37.0, 90.0]  # counter-clockwise
FACTORS = [0.0, 0.3, 1.0, 1.7]
TURNS = [-0.5, -0.2, -0.05, 0.0, 0.1, 1 / 3, 0.5]
BLURS = [(3, 0.1), (3, 1.0), (3, 10.0), (5, 0.1), (5, 0.8), (5, 4.0), (23, 0.1), (23, 1.5), (23, 2.0), (23, 20.0)]
# colour jitter as a sequence of (operation, factor)
JITTERS = [
    [("brightness", 1.4), ("contrast", 0.6), ("saturation", 1.4), ("hue", 0.1)],
    [("hue", -0.1), ("saturation", 0.3), ("contrast", 1.4), ("brightness", 0.7)],
    [("contrast", 1.8), ("hue", 0.2), ("brightness", 1.7), ("saturation", 0.2)],
]
# height, width, scale, ratio
CROP_DRAWS = [
    (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
    (20, 40, (0.3, 1.0), (3 / 4, 4 / 3)),
    (60, 12, (0.5, 1.0), (3 / 4, 4 / 3)),
]
DRAWS = 20_000


def images() -> dict[str, torch.Tensor]:
    """The tiny images, (3, h, w) floats in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.tensor(
        [
            (0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1),
            (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), (1, 0.5, 0), (0, 0.5, 1), (0.3, 0.3, 0.9), (0.9, 0.3, 0.3),
            (0.3, 0.9, 0.3), (0.004, 0, 0), (0.996, 1, 1), (0.7, 0.7, 0.1),
        ]
    )  # fmt: skip
    return {
        "wide": torch.rand(3, 10, 12, generator=generator),
        "square": torch.rand(3, 9, 9, generator=generator),
        "even": torch.rand(1, 8, 8, generator=generator),
        "large": torch.rand(3, 13, 15, generator=generator),
        "extreme": colours.T.reshape(3, 3, 6).contiguous(),
        "black": torch.zeros(3, 3, 6),
        "white": torch.ones(3, 3, 6),
    }


def jittered(image: torch.Tensor, steps: list[tuple[str, float]]) -> torch.Tensor:
    for name, factor in steps:
        image = getattr(tv, f"adjust_{name}")(image, factor)
    return image


def affine(image: torch.Tensor, angle: float, x: int, y: int, zoom: float, shear: float) -> torch.Tensor:
    return tv.affine(image, angle, [x, y], zoom, [shear, 0.0], interpolation=InterpolationMode.BILINEAR)


def crop_counts(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> dict[str, np.ndarray]:
    """How often each top, left, height and width was drawn, and each area."""
    torch.manual_seed(0)
    blank = torch.zeros(1, height, width)
    draws = np.array([RandomResizedCrop.get_params(blank, list(scale), list(ratio)) for _ in range(DRAWS)])
    columns = {name: draws[:, i] for i, name in enumerate(("top", "left", "height", "width"))}
    columns["area"] = draws[:, 2] * draws[:, 3]
    return {name: np.bincount(column).astype(np.uint16) for name, column in columns.items()}


def values() -> dict[str, np.ndarray]:
    picture = images()
    found: dict[str, object] = {f"image_{name}": image for name, image in picture.items()}
    for size in CROP_SIZES:
        crops = [tv.resized_crop(picture["wide"], *box, [size, size], antialias=False) for box in BOXES]
        found[f"crop_{size}"] = torch.stack(crops)
        found[f"crop_flipped_{size}"] = torch.stack([tv.hflip(crop) for crop in crops])
    found["crop_turned_5"] = torch.stack(
        [tv.vflip(tv.resized_crop(picture["wide"], *box, [5, 5], antialias=False)) for box in BOXES]
    )
    for name in ("wide", "square", "even"):
        found[f"affine_{name}"] = torch.stack([affine(picture[name], *setting) for setting in AFFINES])
    found["rotate_square"] = torch.stack(
        [tv.rotate(picture["square"], angle, interpolation=InterpolationMode.BILINEAR) for angle in ROTATIONS]
    )
    for name in ("wide", "extreme", "black", "white"):
        for operation in ("brightness", "contrast", "saturation"):
            change = getattr(tv, f"adjust_{operation}")
            found[f"{operation}_{name}"] = torch.stack([change(picture[name], factor) for factor in FACTORS])
        found[f"hue_{name}"] = torch.stack([tv.adjust_hue(picture[name], turn) for turn in TURNS])
        found[f"gray_{name}"] = tv.rgb_to_grayscale(picture[name])
        found[f"jitter_{name}"] = torch.stack([jittered(picture[name], steps) for steps in JITTERS])
    for operation in ("brightness", "contrast"):
        change = getattr(tv, f"adjust_{operation}")
        found[f"{operation}_even"] = torch.stack([change(picture["even"], factor) for factor in FACTORS])
    found["blur_large"] = torch.stack([tv.gaussian_blur(picture["large"], [k, k], [s, s]) for k, s in BLURS])
    whole = tv.hflip(tv.resized_crop(picture["wide"], *BOXES[4], [8, 8], antialias=False))
    found["all_of_it"] = tv.gaussian_blur(tv.rgb_to_grayscale(jittered(whole, JITTERS[0]), 3), [3, 3], [0.7, 0.7])
    for number, setting in enumerate(CROP_DRAWS):
        found |= {f"draws_{number}_{name}": counts for name, counts in crop_counts(*setting).items()}
    settings = {
        "boxes": BOXES, "affines": AFFINES, "rotations": ROTATIONS, "factors": FACTORS, "turns": TURNS, "blurs": BLURS,
    }  # fmt: skip
    found |= {name: np.array(rows, dtype=np.float64) for name, rows in settings.items()}
    found["crop_draws"] = np.array([(h, w, *scale, *ratio) for h, w, scale, ratio in CROP_DRAWS])
    found["jitter_names"] = np.array([[name for name, _ in steps] for steps in JITTERS])
    found["jitter_factors"] = np.array([[factor for _, factor in steps] for steps in JITTERS])
    found["versions"] = np.array([f"torch {torch.__version__}", f"torchvision {torchvision.__version__}"])
    return {name: np.asarray(value) for name, value in found.items()}


if __name__ == "__main__":
    np.savez_compressed(OUT, **values())
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")
