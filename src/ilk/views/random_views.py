"""Random views: one draw per image from the ranges of a `ViewRecipe`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ilk.views import linear
from ilk.views import operations as op

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """What may happen to an image on its way to a view, in this order.

    1. `crop_scale`, `crop_ratio`: a box of that part of the area and that width / height, resized to the view.
    2. `flip`: probability of mirroring left-right; `vertical_flip`: top-bottom.
    3. `degrees`, `shear` (degrees), `zoom` (range of factors), `shift` (part of the side): a random affine map,
       with probability `affine`; each uniform in +-value.
    4. `elastic`: standard deviation of a smooth random displacement, as a part of the side.
    5. `brightness`, `contrast`, `saturation`, `hue`: colour jitter in a *random order per image*, with
       probability `jitter`; factors uniform in 1 +- value, the hue turned by +- value of the circle.
    6. `gray`: probability of losing all colour. 7. `invert`: probability of a negative.
    8. `blur`: probability of a Gaussian blur with sigma in `blur_sigma` pixels of a 224-pixel image.

    `colours`: how 5-7 are done with three channels: "exact", as torchvision does, clipping after each change,
    which the published lists have; or "linear", as one matrix an image, several times as fast (see `linear.py`).

    Saturation, hue and gray do nothing unless there are three channels; nothing in 5-8 but brightness,
    contrast and blur has a meaning for other channel counts.
    """

    crop_scale: Range = (1.0, 1.0)
    crop_ratio: Range = (3 / 4, 4 / 3)
    flip: float = 0.0
    vertical_flip: float = 0.0
    affine: float = 1.0
    degrees: float = 0.0
    shear: float = 0.0
    zoom: Range = (1.0, 1.0)
    shift: float = 0.0
    elastic: float = 0.0
    jitter: float = 0.8
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    invert: float = 0.0
    colours: str = "exact"
    blur: float = 0.0
    blur_sigma: Range = (0.1, 2.0)

    def __post_init__(self) -> None:
        for name in ("flip", "vertical_flip", "affine", "jitter", "gray", "invert", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability; {getattr(self, name)} is not in [0, 1].")
        for name in ("crop_scale", "crop_ratio", "zoom", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is a range (low, high) with 0 < low <= high; got ({low}, {high}).")
        for name in ("degrees", "shear", "shift", "elastic", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number of at least 0; got {getattr(self, name)}.")
        if self.shear >= 90:
            raise ValueError(f"shear is an angle in degrees below 90; got {self.shear}.")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale is a part of the image's area; {self.crop_scale[1]} is more than 1.")
        if self.colours not in ("exact", "linear"):
            raise ValueError(f"colours must be exact or linear; got '{self.colours}'.")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue is a part of the colour circle in [0, 0.5]; got {self.hue}.")


class Views:
    """A function from a uint8 batch to two float batches: `views(images, generator) -> (view_a, view_b)`.

    `recipe_a`, `recipe_b`: what may happen on each side (`recipe_b=None`: the same as `recipe_a`).
    `size`: height and width of the views in pixels.
    """

    def __init__(self, recipe_a: ViewRecipe, recipe_b: ViewRecipe | None = None, *, size: int) -> None:
        self.recipe_a, self.recipe_b, self.size = recipe_a, recipe_b or recipe_a, size

    def __call__(self, images: Tensor, generator: torch.Generator, *, repeats: int = 1) -> tuple[Tensor, Tensor]:
        """Two views of each image, (b, c, size, size) in [0, 1]. `generator` lives on the images' device.

        `repeats`: how many second views each image gets, (repeats * b, c, size, size): first one of
        every image, then the next of every image.
        """
        floats = images.float().div_(255)
        first = self.view(floats, self.recipe_a, generator)
        again = floats if repeats == 1 else floats.repeat(repeats, 1, 1, 1)
        return first, self.view(again, self.recipe_b, generator)

    def view(self, images: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
        """One view of each image; `images` floats in [0, 1]."""
        x = geometry(images, recipe, self.size, generator)
        x = colour(x, recipe, generator)
        if recipe.blur:
            x = on_some(x, recipe.blur, generator, lambda part, rows: blurred(part, recipe, rows, generator))
        return x


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator, device=generator.device)


def waits(x: Tensor) -> bool:
    """Whether the number of picked rows is at hand, as it is on a CPU; elsewhere all rows are changed instead."""
    return x.device.type == "cpu"


def on_some(
    x: Tensor, probability: float, generator: torch.Generator, change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """`x` with `change(x[rows], rows)` in the rows that a coin of that `probability` picks."""
    coin = uniform(len(x), 0, 1, generator) < probability
    if not waits(x):
        return torch.where(coin[:, None, None, None], change(x, torch.arange(len(x), device=x.device)), x)
    rows = coin.nonzero()[:, 0]
    if len(rows) == len(x):
        return change(x, rows)
    if len(rows):
        x[rows] = change(x[rows], rows)
    return x


def geometry(images: Tensor, recipe: ViewRecipe, size: int, generator: torch.Generator) -> Tensor:
    """Crop, mirror, affine map and elastic displacement as one bilinear look-up."""
    n, _, height, width = images.shape
    moved = recipe.degrees or recipe.shear or recipe.zoom != (1.0, 1.0) or recipe.shift
    cut = recipe.crop_scale != (1.0, 1.0)
    if not (moved or cut or recipe.flip or recipe.vertical_flip or recipe.elastic) and height == width == size:
        return images.clone()  # a look-up at every pixel would be off by its rounding
    if cut:
        box = op.crop_boxes(n, height, width, recipe.crop_scale, recipe.crop_ratio, generator)
    else:
        box = torch.tensor([[0.0, 0.0, height, width]], device=images.device).expand(n, 4)
    mapping = op.resized_crop_map(box, uniform(n, 0, 1, generator) < recipe.flip, height, width)
    if recipe.vertical_flip:
        upside = 1 - 2 * (uniform(n, 0, 1, generator) < recipe.vertical_flip).float()
        mapping[:, :, 1] *= upside[:, None]
    if moved:
        on = (uniform(n, 0, 1, generator) < recipe.affine).float()
        shift = torch.stack([uniform(n, -size, size, generator) for _ in "xy"], 1) * recipe.shift
        zoom = uniform(n, *recipe.zoom, generator)
        inner = op.affine_map(
            uniform(n, -recipe.degrees, recipe.degrees, generator) * on,
            1 + (zoom - 1) * on,
            uniform(n, -recipe.shear, recipe.shear, generator) * on,
            shift * on[:, None],
            size,
            size,
        )
        mapping = op.compose(mapping, inner)
    displacement = None
    if recipe.elastic:
        amount = torch.full((n,), 2 * recipe.elastic, device=images.device)
        displacement = op.smooth_noise(amount, 4, size, generator)
    straight = not (recipe.degrees or recipe.shear)
    return op.warp(images, mapping, size, box=box, displacement=displacement, straight=straight)


def colour(x: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
    """Colour jitter, loss of colour and negative."""
    rgb = x.shape[1] == 3
    if rgb and recipe.colours == "linear":
        return linear_colour(x, recipe, generator)
    if recipe.brightness or recipe.contrast or (rgb and (recipe.saturation or recipe.hue)):
        x = on_some(x, recipe.jitter, generator, lambda part, _: jittered(part, recipe, generator))
    if recipe.gray and rgb:
        x = on_some(x, recipe.gray, generator, lambda part, _: op.gray(part).expand_as(part))
    if recipe.invert:
        x = on_some(x, recipe.invert, generator, lambda part, _: 1 - part)
    return x


def linear_colour(x: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
    """`colour` of RGB images by one matrix each; no step of it waits for the device."""
    n, found = len(x), linear.identity(x)
    if recipe.brightness or recipe.contrast or recipe.saturation or recipe.hue:
        factors = [
            uniform(n, max(0, 1 - size), 1 + size, generator)
            for size in (recipe.brightness, recipe.contrast, recipe.saturation)
        ]
        amounts = torch.stack([*factors, uniform(n, -recipe.hue, recipe.hue, generator)], 1)
        order = torch.rand(n, len(linear.CHANGES), generator=generator, device=generator.device).argsort(1)
        on = uniform(n, 0, 1, generator) < recipe.jitter
        found = linear.jitter_map(x, amounts, order).where(on, found)
    if recipe.gray:
        on = uniform(n, 0, 1, generator) < recipe.gray
        found = found.then(linear.without_colour(x)).where(on, found)
    if recipe.invert:
        on = uniform(n, 0, 1, generator) < recipe.invert
        found = linear.ColourMap(-found.matrix, 1 - found.shift).where(on, found)
    return found(x)


def jittered(x: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue, each image in its own random order (as torchvision does)."""
    n = len(x)
    steps: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = [
        (op.brightness, uniform(n, max(0, 1 - recipe.brightness), 1 + recipe.brightness, generator)),
        (op.contrast, uniform(n, max(0, 1 - recipe.contrast), 1 + recipe.contrast, generator)),
    ]
    if x.shape[1] == 3:
        steps.append((op.saturation, uniform(n, max(0, 1 - recipe.saturation), 1 + recipe.saturation, generator)))
        steps.append((op.hue, uniform(n, -recipe.hue, recipe.hue, generator)))
    order = torch.rand(n, len(steps), generator=generator, device=generator.device).argsort(1)  # (n, steps)
    if not waits(x):
        for chosen in order.unbind(1):
            before = x
            for number, (change, amount) in enumerate(steps):
                x = torch.where((chosen == number)[:, None, None, None], change(before, amount), x)
        return x
    x = x.clone()
    for turn in range(len(steps)):
        for number, (change, amount) in enumerate(steps):
            rows = (order[:, turn] == number).nonzero()[:, 0]
            if len(rows):
                x[rows] = change(x[rows], amount[rows])
    return x


def blurred(x: Tensor, recipe: ViewRecipe, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian blur with torchvision's kernel of 23 at 224 pixels, in proportion at other sizes."""
    size = x.shape[-1]
    kernel = max(3, round(23 * size / 224) // 2 * 2 + 1)
    sigma = uniform(len(rows), *recipe.blur_sigma, generator) * (size / 224)
    return op.gaussian_blur(x, sigma.clamp_min(0.05), kernel)
