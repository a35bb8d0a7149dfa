"""Random views: one draw per image, in the ranges of the recipe, repeatable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from ilk.views import ViewRecipe, Views, channels_last, get_views, plain
from ilk.views import operations as op
from ilk.views.random_views import blurred, jittered

EVERYTHING = ViewRecipe(
    crop_scale=(0.3, 1.0), flip=0.5, vertical_flip=0.5, degrees=20, shear=10, zoom=(0.8, 1.2), shift=0.1, elastic=0.03,
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray=0.2, invert=0.3, blur=0.5,
)  # fmt: skip
DRAWS = 4000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(n: int, side: int = 12, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=seeded(9))


def equal_photos(n: int, side: int = 12, channels: int = 3) -> Tensor:
    return photos(1, side, channels).expand(n, -1, -1, -1)


def view(images: Tensor, recipe: ViewRecipe, seed: int = 0) -> Tensor:
    return Views(recipe, size=images.shape[-1])(images, seeded(seed))[0]


def is_near(count: int, probability: float, n: int = DRAWS) -> bool:
    """Within four standard deviations of what a coin would give."""
    return abs(count / n - probability) < 4 * math.sqrt(probability * (1 - probability) / n)


def is_uniform(values: Tensor, low: float, high: float, slack: float = 1e-3) -> bool:
    """In the range (but for a part `slack` of it), and Kolmogorov-Smirnov's distance passed once in 10,000."""
    share = (values.double().sort().values - low) / (high - low)
    even = torch.linspace(0, 1, len(share), dtype=torch.float64)
    inside = bool(share[0] > -slack and share[-1] < 1 + slack)
    return inside and float((share - even).abs().max()) < 2.23 / math.sqrt(len(share))


# what comes out


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("side", "size"), [(12, 12), (12, 8), (9, 16)])
def test_views_are_floats_between_0_and_1_of_the_asked_size(channels: int, side: int, size: int) -> None:
    a, b = Views(EVERYTHING, size=size)(photos(40, side, channels), seeded())
    for x in (a, b):
        assert x.shape == (40, channels, size, size) and x.dtype == torch.float32
        assert x.min() >= 0 and x.max() <= 1 + 1e-6 and x.std() > 0.05


def test_oblong_images_become_square_views() -> None:
    a, _ = Views(EVERYTHING, size=10)(photos(5)[:, :, :7], seeded())
    assert a.shape == (5, 3, 10, 10)


def test_the_images_are_left_as_they_are() -> None:
    images = photos(16)
    kept = images.clone()
    Views(EVERYTHING, size=12)(images, seeded())
    plain(images)
    assert torch.equal(images, kept)


def test_the_second_view_does_not_depend_on_what_the_first_was_given() -> None:
    """Both start from the image, not one from the other."""
    brighter = ViewRecipe(jitter=1.0, brightness=0.9)
    images = photos(50)
    a, b = Views(brighter, ViewRecipe(), size=12)(images, seeded())
    assert torch.equal(b, plain(images)) and not torch.equal(a, b)


@pytest.mark.parametrize("side", [7, 8, 9, 12, 15, 28, 31, 32, 64])
def test_no_views_are_the_plain_images_to_the_last_bit(side: int) -> None:
    images = photos(3, side)
    for x in Views(*get_views("none"), size=side)(images, seeded()):
        assert torch.equal(x, plain(images))
        assert torch.equal(x, images.float() / 255)


def test_no_views_of_another_size_are_resized() -> None:
    images = photos(3, 12)
    a, _ = Views(*get_views("none"), size=6)(images, seeded())
    expected = torch.nn.functional.interpolate(plain(images), (6, 6), mode="bilinear", align_corners=False)
    assert torch.allclose(a, expected, atol=1e-5)


def test_plain_images_lie_in_memory_as_the_network_wants_them() -> None:
    x = plain(photos(2))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(channels_last(x), x) and x.max() <= 1


# draws


def test_the_same_seed_gives_the_same_views() -> None:
    images = photos(30)
    first, second = (Views(EVERYTHING, size=12)(images, seeded(7)) for _ in "ab")
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    other = Views(EVERYTHING, size=12)(images, seeded(8))
    assert not torch.equal(first[0], other[0])


def test_nothing_is_drawn_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    Views(EVERYTHING, size=12)(photos(8), seeded())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "recipe",
    [
        ViewRecipe(crop_scale=(0.1, 0.9)), ViewRecipe(degrees=30), ViewRecipe(shear=20), ViewRecipe(zoom=(0.5, 1.5)),
        ViewRecipe(shift=0.2), ViewRecipe(elastic=0.05), ViewRecipe(jitter=1, brightness=0.4),
        ViewRecipe(jitter=1, contrast=0.4), ViewRecipe(jitter=1, saturation=0.4), ViewRecipe(jitter=1, hue=0.2),
        ViewRecipe(blur=1, blur_sigma=(10.0, 60.0)),
    ],
)  # fmt: skip
def test_equal_images_get_their_own_draw(recipe: ViewRecipe) -> None:
    a, b = Views(recipe, size=12)(equal_photos(20, 40), seeded())
    both = torch.cat([a, b])
    apart = (both[:, None] - both[None]).abs().amax((2, 3, 4))  # (40, 40)
    assert apart[~torch.eye(40, dtype=torch.bool)].min() > 0


@pytest.mark.parametrize(
    ("recipe", "changed", "probability"),
    [
        (ViewRecipe(flip=0.5), lambda x: x.flip(3), 0.5),
        (ViewRecipe(flip=0.2), lambda x: x.flip(3), 0.2),
        (ViewRecipe(vertical_flip=0.3), lambda x: x.flip(2), 0.3),
        (ViewRecipe(gray=0.2), lambda x: op.gray(x).expand_as(x), 0.2),
        (ViewRecipe(invert=0.4), lambda x: 1 - x, 0.4),
    ],
)
def test_coins_fall_with_their_probability(
    recipe: ViewRecipe, changed: Callable[[Tensor], Tensor], probability: float
) -> None:
    """Each view is the image or the changed one, and as often as the recipe says."""
    images = equal_photos(DRAWS, 4)
    x, image = view(images, recipe), plain(images)
    same = torch.isclose(x, image, atol=1e-5).flatten(1).all(1)
    other = torch.isclose(x, changed(image), atol=1e-5).flatten(1).all(1)
    assert (same ^ other).all() and is_near(int(other.sum()), probability)


@pytest.mark.parametrize(
    ("recipe", "probability"),
    [
        (ViewRecipe(brightness=0.4), 0.8),
        (ViewRecipe(jitter=0.3, contrast=0.4), 0.3),
        (ViewRecipe(blur=0.5, blur_sigma=(20.0, 60.0)), 0.5),
        (ViewRecipe(affine=0.6, degrees=30, shear=5, shift=0.1, zoom=(0.7, 1.3)), 0.6),
    ],
)
def test_changes_happen_with_their_probability(recipe: ViewRecipe, probability: float) -> None:
    images = equal_photos(DRAWS, 6)
    moved = ~torch.isclose(view(images, recipe), plain(images), atol=1e-5).flatten(1).all(1)
    assert is_near(int(moved.sum()), probability)


def test_coins_of_one_image_are_thrown_apart() -> None:
    """Mirrored and gray: together as often as the product of both."""
    images = equal_photos(DRAWS, 4)
    x, image = view(images, ViewRecipe(flip=0.5, gray=0.2)), plain(images)
    lost = (x[:, 0] - x[:, 1]).abs().amax((1, 2)) < 1e-5
    mirrored = torch.isclose(op.gray(x), op.gray(image.flip(3)), atol=1e-3).flatten(1).all(1)
    assert is_near(int((lost & mirrored).sum()), 0.1)


def test_both_views_throw_their_own_coins() -> None:
    images = equal_photos(DRAWS, 4)
    a, b = Views(ViewRecipe(flip=0.5), size=4)(images, seeded())
    alike = torch.isclose(a, b, atol=1e-5).flatten(1).all(1)
    assert is_near(int(alike.sum()), 0.5)


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_repeats_are_further_second_views_one_of_every_image_after_the_other(repeats: int) -> None:
    """Row v * b + i of the second batch is a view of image i; colours tell which image it is."""
    images = torch.arange(1, 6, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8) * 40
    views = Views(ViewRecipe(flip=0.5), ViewRecipe(crop_scale=(0.3, 0.9)), size=8)
    a, b = views(images, seeded(), repeats=repeats)
    assert len(a) == 5 and torch.allclose(a, plain(images), atol=1e-6)
    assert torch.allclose(b, plain(images).repeat(repeats, 1, 1, 1), atol=1e-5) and len(b) == 5 * repeats


def test_repeats_have_draws_of_their_own() -> None:
    _, b = Views(ViewRecipe(crop_scale=(0.2, 0.8)), size=12)(photos(4, 24), seeded(), repeats=3)
    for one, other in ((0, 4), (0, 8), (4, 8)):
        apart = (b[one : one + 4] - b[other : other + 4]).abs().amax((1, 2, 3))
        assert apart.min() > 1e-3


def flat(level: int, n: int = DRAWS) -> Tensor:
    return torch.full((n, 3, 2, 2), level, dtype=torch.uint8)


def test_brightness_factors_are_uniform() -> None:
    x = view(flat(100), ViewRecipe(jitter=1, brightness=0.4))
    assert is_uniform(x[:, 0, 0, 0] * 255 / 100, 0.6, 1.4)


def test_strong_brightness_starts_at_zero_and_not_below() -> None:
    x = view(flat(100), ViewRecipe(jitter=1, brightness=1.5))
    assert is_uniform(x[:, 0, 0, 0] * 255 / 100, 0.0, 2.5)


def test_contrast_factors_are_uniform() -> None:
    images = flat(100)
    images[..., 0] = 120
    x = view(images, ViewRecipe(jitter=1, contrast=0.4)) * 255
    assert is_uniform((x[:, 0, 0, 0] - x[:, 0, 0, 1]) / 20, 0.6, 1.4)


def test_saturation_factors_are_uniform() -> None:
    images = flat(100)
    images[:, 0] = 120
    x = view(images, ViewRecipe(jitter=1, saturation=0.4)) * 255
    assert is_uniform((x[:, 0] - x[:, 1])[:, 0, 0] / 20, 0.6, 1.4)


def test_hue_turns_are_uniform() -> None:
    """Red turned forwards gains green, backwards blue, one for each sixth of the circle."""
    images = flat(0)
    images[:, 0] = 255
    x = view(images, ViewRecipe(jitter=1, hue=0.1))[:, :, 0, 0]
    assert is_uniform((x[:, 1] - x[:, 2]) / 6, -0.1, 0.1)


def ramps(n: int, side: int) -> Tensor:
    """Images whose red is the column and green the row, so that a view shows where it looked."""
    line = torch.arange(side, dtype=torch.uint8)
    image = torch.zeros(3, side, side, dtype=torch.uint8)
    image[0], image[1] = line, line[:, None]
    return image.expand(n, -1, -1, -1)


def places(x: Tensor) -> Tensor:
    """The (x, y) that each pixel of the views looked at, in pixels, (n, 2, side, side)."""
    return x[:, :2] * 255


def linear(x: Tensor) -> Tensor:
    """Per image the 2 x 2 matrix of d(place looked at) / d(pixel), taken at the centre."""
    p, m = places(x), x.shape[-1] // 2
    return torch.stack([p[..., m, m + 1] - p[..., m, m], p[..., m + 1, m] - p[..., m, m]], 2)


def test_angles_are_uniform() -> None:
    matrix = linear(view(ramps(DRAWS, 16), ViewRecipe(degrees=30)))
    angle = torch.rad2deg(torch.atan2(-matrix[:, 1, 0], matrix[:, 0, 0]))
    assert is_uniform(angle, -30, 30)


def test_zooms_are_uniform() -> None:
    matrix = linear(view(ramps(DRAWS, 16), ViewRecipe(zoom=(0.8, 1.3))))
    assert is_uniform(1 / matrix[:, 0, 0], 0.8, 1.3)


def test_shears_are_uniform_in_degrees() -> None:
    matrix = linear(view(ramps(DRAWS, 16), ViewRecipe(shear=20)))
    assert is_uniform(torch.rad2deg(torch.atan(matrix[:, 0, 1])), -20, 20)


def test_shifts_are_uniform_in_both_directions_and_a_part_of_the_side() -> None:
    moved = places(view(ramps(DRAWS, 16), ViewRecipe(shift=0.1)))[:, :, 8, 8] - 8
    assert is_uniform(moved[:, 0], -1.6, 1.6) and is_uniform(moved[:, 1], -1.6, 1.6)
    assert abs(torch.corrcoef(moved.T)[0, 1]) < 4 / math.sqrt(DRAWS)


def test_elastic_moves_pixels_by_its_part_of_the_side() -> None:
    p = places(view(ramps(500, 32), ViewRecipe(elastic=0.05)))[:, :, 8:24, 8:24]
    still = places(view(ramps(1, 32), ViewRecipe()))[:, :, 8:24, 8:24]
    assert (p - still).std().item() == pytest.approx(0.05 * 32, rel=0.2)


def test_the_area_of_crops_is_uniform() -> None:
    """Small crops, which always fit, so that area and ratio are spread as drawn; sides are whole pixels."""
    side, size = 96, 12
    matrix = linear(view_of_size(ramps(1000, side), ViewRecipe(crop_scale=(0.1, 0.5)), size)) * size / side
    assert is_uniform(matrix[:, 0, 0] * matrix[:, 1, 1], 0.1, 0.5, slack=0.03)
    assert is_uniform((matrix[:, 0, 0] / matrix[:, 1, 1]).log(), math.log(3 / 4), math.log(4 / 3), slack=0.05)


def test_views_of_a_recipe_crop_as_torchvision_draws() -> None:
    """What a view shows is one of the boxes that `crop_boxes` draws, from edge to edge."""
    side, size = 24, 48
    p = places(view_of_size(ramps(200, side), ViewRecipe(crop_scale=(0.2, 0.8)), size))
    left, right = p[:, 0, size // 2, 0], p[:, 0, size // 2, -1]
    assert torch.allclose(left, left.round(), atol=1e-3) and torch.allclose(right, right.round(), atol=1e-3)
    assert left.min() >= -1e-3 and right.max() <= side - 1 + 1e-3 and (right - left).min() > 5


def view_of_size(images: Tensor, recipe: ViewRecipe, size: int) -> Tensor:
    return Views(recipe, size=size)(images, seeded())[0]


def test_colour_jitter_comes_in_every_order_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operation writes its digit behind those before it: 24 orders, chi-square 49.7 once in a thousand."""
    for digit, name in enumerate(("brightness", "contrast", "saturation", "hue"), 1):
        monkeypatch.setattr(op, name, lambda x, amount, digit=digit: 10 * x + digit)
    n = 4800
    x = jittered(torch.zeros(n, 3, 1, 1), ViewRecipe(brightness=0.4), seeded())
    orders, counts = x[:, 0, 0, 0].unique(return_counts=True)
    assert len(orders) == 24 and all(sorted(str(int(order))) == list("1234") for order in orders)
    assert ((counts - n / 24).square() / (n / 24)).sum() < 49.7


def test_each_image_keeps_its_own_factors_whatever_its_order() -> None:
    """A batch of red images of equal brightness: the hue alone differs, so value and span stay."""
    images = flat(0, 200)
    images[:, 0] = 200
    x = view(images, ViewRecipe(jitter=1, hue=0.5))
    assert torch.allclose(x.amax(1) * 255, torch.tensor(200.0), atol=1e-3) and x.amin(1).max() < 1e-6


@pytest.mark.parametrize("size", [8, 32, 112, 224, 448])
def test_blur_grows_with_the_view(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Sigma is that of a 224-pixel image and the kernel a tenth of the side, so that views look alike."""
    seen: dict[str, Any] = {}

    def spy(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
        seen.update(sigma=sigma, kernel=kernel)
        return x

    monkeypatch.setattr(op, "gaussian_blur", spy)
    blurred(torch.zeros(DRAWS, 1, 1, size), ViewRecipe(blur_sigma=(56.0, 112.0)), torch.arange(DRAWS), seeded())
    assert is_uniform(seen["sigma"] / size, 0.25, 0.5)
    assert seen["kernel"] % 2 == 1 and abs(seen["kernel"] - max(3, 23 * size / 224)) <= 1.5
    if size == 224:
        assert seen["kernel"] == 23


@pytest.mark.parametrize("name", ["saturation", "hue", "gray"])
def test_one_channel_has_no_colour_to_lose(name: str) -> None:
    images = photos(50, 8, 1)
    x = view(images, ViewRecipe(jitter=1, **{name: 0.5}))
    assert torch.equal(x, plain(images))


# mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 1.5}, r"flip.*probability.*\[0, 1\].* 1.5"),
        ({"gray": -0.1}, "gray.*probability.*-0.1"),
        ({"jitter": math.nan}, "jitter.*probability.*nan"),
        ({"blur": 2}, "blur.*probability.* 2"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale.*range.*\(0.0, 1.0\)"),
        ({"crop_scale": (0.9, 0.2)}, r"crop_scale.*range.*\(0.9, 0.2\)"),
        ({"crop_scale": (0.5, 1.2)}, "crop_scale.*area.* 1.2"),
        ({"crop_ratio": (-1.0, 1.0)}, "crop_ratio.*range"),
        ({"zoom": (1.2, 0.8)}, "zoom.*range"),
        ({"blur_sigma": (0.0, 2.0)}, "blur_sigma.*range"),
        ({"hue": 0.6}, r"hue.*\[0, 0.5\].*0.6"),
        ({"hue": -0.1}, "hue.*-0.1"),
        ({"brightness": -0.4}, "brightness.*at least 0.*-0.4"),
        ({"degrees": math.nan}, "degrees.*at least 0.*nan"),
        ({"elastic": math.inf}, "elastic.*at least 0.*inf"),
        ({"shift": -1}, "shift.*at least 0"),
        ({"shear": 90}, "shear.*below 90.* 90"),
    ],
)
def test_impossible_recipes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewRecipe(**settings)


def test_every_setting_of_a_recipe_changes_something() -> None:
    """A setting that no view ever feels is a promise not kept."""
    start = ViewRecipe(
        crop_scale=(0.3, 1.0), degrees=20, brightness=0.4, saturation=0.3, blur=0.5, blur_sigma=(10.0, 20.0)
    )
    values = {name.name: getattr(start, name.name) for name in fields(start)}
    images = photos(64, 16)
    before = view(images, start)
    for name, value in values.items():
        other: Any = (0.7, 0.9) if isinstance(value, tuple) else 0.45
        if name == "colours":
            other = "linear"
        assert not torch.equal(view(images, ViewRecipe(**{**values, name: other})), before), name
