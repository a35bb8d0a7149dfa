"""Random views of images, with one draw per image from the ranges of a `ViewRecipe`."""

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
    """The random changes that turn an image into a view, in this order.

    1. `crop_scale`, `crop_ratio`: ranges of a crop's area (fraction of the image's) and width / height; the crop is
       resized to the view.
    2. `flip`: probability of mirroring left-right; `vertical_flip`: top-bottom.
    3. `degrees`, `shear` (degrees), `shift` (fraction of the side), each uniform in +-value, and `zoom` (range of
       factors): a random affine map, with probability `affine`.
    4. `elastic`: standard deviation of a smooth random displacement, as a fraction of the side.
    5. `brightness`, `contrast`, `saturation`, `hue`: colour jitter in a *random order per image*, with probability
       `jitter`; factors are uniform in 1 +- value, the hue shift in +-value turns.
    6. `gray`: probability of converting to gray. 7. `invert`: probability of inverting (a negative).
    8. `blur`: probability of a Gaussian blur; `blur_sigma`: range of sigma, in pixels of a 224-pixel image.

    `colours`: how 5-7 are computed for three channels: "exact", like torchvision, with clipping after each change, as
    in the papers; or "linear", as one matrix per image, which is several times as fast (see `linear.py`).

    Saturation, hue and gray have no effect unless there are three channels. Raises ValueError for a value outside its
    range.
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
                raise ValueError(f"{name} must be a probability in [0, 1]; got {getattr(self, name)}.")
        for name in ("crop_scale", "crop_ratio", "zoom", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a range (low, high) with 0 < low <= high; got ({low}, {high}).")
        for name in ("degrees", "shear", "shift", "elastic", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number of at least 0; got {getattr(self, name)}.")
        if self.shear >= 90:
            raise ValueError(f"shear must be an angle below 90 degrees; got {self.shear}.")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale must be a fraction of the image's area, at most 1; got {self.crop_scale[1]}.")
        if self.colours not in ("exact", "linear"):
            raise ValueError(f"colours must be exact or linear; got '{self.colours}'.")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue must be a fraction of the colour circle in [0, 0.5]; got {self.hue}.")


class Views:
    """A function from a uint8 batch to two float batches: `views(images, generator) -> (view_a, view_b)`.

    `recipe_a`, `recipe_b`: the recipes of the two views (`recipe_b=None`: the same as `recipe_a`).
    `size`: height and width of the views, in pixels.
    """

    def __init__(self, recipe_a: ViewRecipe, recipe_b: ViewRecipe | None = None, *, size: int) -> None:
        self.recipe_a, self.recipe_b, self.size = recipe_a, recipe_b or recipe_a, size

    def __call__(self, images: Tensor, generator: torch.Generator, *, repeats: int = 1) -> tuple[Tensor, Tensor]:
        """Two views of each image, (b, c, size, size) in [0, 1]. `generator` lives on the images' device.

        `images`: (b, c, h, w) uint8. `repeats`: second views per image, (repeats * b, c, size, size): the first one
        of every image, then the second one of every image, and so on.
        """
        floats = images.float().div_(255)
        view_a = self.view(floats, self.recipe_a, generator)
        repeated = floats if repeats == 1 else floats.repeat(repeats, 1, 1, 1)
        return view_a, self.view(repeated, self.recipe_b, generator)

    def view(self, images: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
        """One view of each image, (b, c, size, size) in [0, 1]. `images`: (b, c, h, w) floats in [0, 1]."""
        x = geometry(images, recipe, self.size, generator)
        x = colour(x, recipe, generator)
        if recipe.blur:
            x = on_some(x, recipe.blur, generator, lambda part, rows: blurred(part, recipe, rows, generator))
        return x


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Random numbers in [low, high), (n,), on the device of the generator."""
    return low + (high - low) * torch.rand(n, generator=generator, device=generator.device)


def selects_rows(x: Tensor) -> bool:
    """Whether to change only the drawn rows; on a GPU their number is not known without waiting, so all are changed."""
    return x.device.type == "cpu"


def on_some(
    x: Tensor, probability: float, generator: torch.Generator, change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """`x` with `change(x[rows], rows)` in rows that are drawn with this `probability`; `x` itself may be changed."""
    drawn = uniform(len(x), 0, 1, generator) < probability
    if not selects_rows(x):
        return torch.where(drawn[:, None, None, None], change(x, torch.arange(len(x), device=x.device)), x)
    rows = drawn.nonzero()[:, 0]
    if len(rows) == len(x):
        return change(x, rows)
    if len(rows):
        x[rows] = change(x[rows], rows)
    return x


def geometry(images: Tensor, recipe: ViewRecipe, size: int, generator: torch.Generator) -> Tensor:
    """Images after crop, mirroring, affine map and elastic displacement, in one bilinear resampling."""
    n, _, height, width = images.shape
    moved = recipe.degrees or recipe.shear or recipe.zoom != (1.0, 1.0) or recipe.shift
    cropped = recipe.crop_scale != (1.0, 1.0)
    if not (moved or cropped or recipe.flip or recipe.vertical_flip or recipe.elastic) and height == width == size:
        return images.clone()  # resampling would add rounding errors
    if cropped:
        box = op.crop_boxes(n, height, width, recipe.crop_scale, recipe.crop_ratio, generator)
    else:
        box = torch.tensor([[0.0, 0.0, height, width]], device=images.device).expand(n, 4)
    mapping = op.resized_crop_map(box, uniform(n, 0, 1, generator) < recipe.flip, height, width)
    if recipe.vertical_flip:
        sign = 1 - 2 * (uniform(n, 0, 1, generator) < recipe.vertical_flip).float()
        mapping[:, :, 1] *= sign[:, None]
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
    """Images after colour jitter, conversion to gray and inversion."""
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
    """`colour` for RGB images with one matrix per image; no step selects_rows for the device."""
    n, colours = len(x), linear.identity(x)
    if recipe.brightness or recipe.contrast or recipe.saturation or recipe.hue:
        factors = [
            uniform(n, max(0, 1 - size), 1 + size, generator)
            for size in (recipe.brightness, recipe.contrast, recipe.saturation)
        ]
        amounts = torch.stack([*factors, uniform(n, -recipe.hue, recipe.hue, generator)], 1)
        order = torch.rand(n, len(linear.CHANGES), generator=generator, device=generator.device).argsort(1)
        on = uniform(n, 0, 1, generator) < recipe.jitter
        colours = linear.jitter_map(x, amounts, order).where(on, colours)
    if recipe.gray:
        on = uniform(n, 0, 1, generator) < recipe.gray
        colours = colours.then(linear.without_colour(x)).where(on, colours)
    if recipe.invert:
        on = uniform(n, 0, 1, generator) < recipe.invert
        colours = linear.ColourMap(-colours.matrix, 1 - colours.shift).where(on, colours)
    return colours(x)


def jittered(x: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
    """Images after changes of brightness, contrast, saturation and hue, in a random order per image."""
    n = len(x)
    steps: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = [
        (op.brightness, uniform(n, max(0, 1 - recipe.brightness), 1 + recipe.brightness, generator)),
        (op.contrast, uniform(n, max(0, 1 - recipe.contrast), 1 + recipe.contrast, generator)),
    ]
    if x.shape[1] == 3:
        steps.append((op.saturation, uniform(n, max(0, 1 - recipe.saturation), 1 + recipe.saturation, generator)))
        steps.append((op.hue, uniform(n, -recipe.hue, recipe.hue, generator)))
    order = torch.rand(n, len(steps), generator=generator, device=generator.device).argsort(1)  # (n, steps)
    if not selects_rows(x):
        for chosen in order.unbind(1):
            before = x
            for number, (change, amount) in enumerate(steps):
                x = torch.where((chosen == number)[:, None, None, None], change(before, amount), x)
        return x
    x = x.clone()
    for place in range(len(steps)):
        for number, (change, amount) in enumerate(steps):
            rows = (order[:, place] == number).nonzero()[:, 0]
            if len(rows):
                x[rows] = change(x[rows], amount[rows])
    return x


def blurred(x: Tensor, recipe: ViewRecipe, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Images after a Gaussian blur with a kernel of 23 taps at 224 pixels, in proportion at other sizes."""
    size = x.shape[-1]
    kernel = max(3, round(23 * size / 224) // 2 * 2 + 1)
    sigma = uniform(len(rows), *recipe.blur_sigma, generator) * (size / 224)
    return op.gaussian_blur(x, sigma.clamp_min(0.05), kernel)
