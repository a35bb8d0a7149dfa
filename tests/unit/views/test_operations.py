"""Each image operation equals torchvision's, and its fused look-up equals one step after another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ilk.views import operations as op

STORED = Path(__file__).with_name("torchvision_values.npz")
PICTURES = ["wide", "extreme", "black", "white"]


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """torchvision's numbers as tensors; `make_reference.py` says how they were made."""
    with np.load(STORED) as file:
        return {name: file[name] if file[name].dtype.kind == "U" else torch.from_numpy(file[name]) for name in file}


def close(ours: Tensor, expected: Tensor, atol: float = 2e-6) -> bool:
    assert ours.shape == expected.shape
    return torch.allclose(ours, expected, rtol=0, atol=atol)


def copies(image: Tensor, count: int) -> Tensor:
    return image.expand(count, *image.shape)


def picture(height: int, width: int, seed: int = 0, n: int = 1) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def no(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.bool)


# equal to torchvision


def test_the_stored_values_say_where_they_are_from(theirs: dict[str, Any]) -> None:
    assert [entry.split()[0] for entry in theirs["versions"]] == ["torch", "torchvision"]
    assert STORED.stat().st_size < 200_000


@pytest.mark.parametrize("size", [5, 8])
@pytest.mark.parametrize("flipped", [False, True])
def test_crop_resize_and_flip_equal_torchvision(theirs: dict[str, Any], size: int, flipped: bool) -> None:
    box = theirs["boxes"].float()
    images = copies(theirs["image_wide"], len(box))
    mapping = op.resized_crop_map(box, torch.full((len(box),), flipped), 10, 12)
    name = f"crop_flipped_{size}" if flipped else f"crop_{size}"
    assert close(op.warp(images, mapping, size, box=box), theirs[name], atol=5e-6)


def test_flips_of_single_images_equal_torchvision(theirs: dict[str, Any]) -> None:
    """Every second image of one batch is mirrored."""
    box = theirs["boxes"].float()
    flip = torch.arange(len(box)) % 2 == 1
    ours = op.warp(copies(theirs["image_wide"], len(box)), op.resized_crop_map(box, flip, 10, 12), 5, box=box)
    expected = torch.where(flip[:, None, None, None], theirs["crop_flipped_5"], theirs["crop_5"])
    assert close(ours, expected, atol=5e-6)


def test_upside_down_crops_equal_torchvision(theirs: dict[str, Any]) -> None:
    box = theirs["boxes"].float()
    mapping = op.resized_crop_map(box, no(len(box)), 10, 12)
    mapping[:, :, 1] *= -1
    assert close(op.warp(copies(theirs["image_wide"], len(box)), mapping, 5, box=box), theirs["crop_turned_5"], 5e-6)


def affine_maps(settings: Tensor, height: int, width: int) -> Tensor:
    angle, x, y, zoom, shear = settings.float().unbind(1)
    return op.affine_map(angle, zoom, shear, torch.stack([x, y], 1), height, width)


@pytest.mark.parametrize(("name", "size"), [("square", 9), ("even", 8)])
def test_affine_maps_equal_torchvision(theirs: dict[str, Any], name: str, size: int) -> None:
    """Bilinear, zeros outside; rotation, zoom, shear, shift and all of them."""
    mapping = affine_maps(theirs["affines"], size, size)
    ours = op.warp(copies(theirs[f"image_{name}"], len(mapping)), mapping, size, padding="zeros")
    assert close(ours, theirs[f"affine_{name}"], atol=1e-5)


def test_affine_maps_of_an_oblong_image_equal_torchvision(theirs: dict[str, Any]) -> None:
    mapping = affine_maps(theirs["affines"], 10, 12)
    grid = F.affine_grid(mapping, [len(mapping), 1, 10, 12], align_corners=False)
    ours = F.grid_sample(copies(theirs["image_wide"], len(mapping)), grid, padding_mode="zeros", align_corners=False)
    assert close(ours, theirs["affine_wide"], atol=1e-5)


def test_angles_are_clockwise_where_those_of_rotate_are_not(theirs: dict[str, Any]) -> None:
    angle = -theirs["rotations"].float()
    one, none = torch.ones(len(angle)), torch.zeros(len(angle))
    mapping = op.affine_map(angle, one, none, torch.zeros(len(angle), 2), 9, 9)
    ours = op.warp(copies(theirs["image_square"], len(angle)), mapping, 9, padding="zeros")
    assert close(ours, theirs["rotate_square"], atol=1e-5)


@pytest.mark.parametrize("image", PICTURES)
@pytest.mark.parametrize("operation", ["brightness", "contrast", "saturation"])
def test_blends_equal_torchvision(theirs: dict[str, Any], operation: str, image: str) -> None:
    factor = theirs["factors"].float()
    ours = getattr(op, operation)(copies(theirs[f"image_{image}"], len(factor)), factor)
    assert close(ours, theirs[f"{operation}_{image}"])


@pytest.mark.parametrize("operation", ["brightness", "contrast"])
def test_blends_of_one_channel_equal_torchvision(theirs: dict[str, Any], operation: str) -> None:
    factor = theirs["factors"].float()
    ours = getattr(op, operation)(copies(theirs["image_even"], len(factor)), factor)
    assert close(ours, theirs[f"{operation}_even"])


@pytest.mark.parametrize("image", PICTURES)
def test_hue_equals_torchvision(theirs: dict[str, Any], image: str) -> None:
    turn = theirs["turns"].float()
    assert close(op.hue(copies(theirs[f"image_{image}"], len(turn)), turn), theirs[f"hue_{image}"], atol=1e-5)


@pytest.mark.parametrize("image", PICTURES)
def test_gray_equals_torchvision(theirs: dict[str, Any], image: str) -> None:
    assert close(op.gray(theirs[f"image_{image}"][None])[0], theirs[f"gray_{image}"])


def test_blur_equals_torchvision(theirs: dict[str, Any]) -> None:
    for (kernel, sigma), expected in zip(theirs["blurs"].tolist(), theirs["blur_large"], strict=True):
        ours = op.gaussian_blur(theirs["image_large"][None], torch.tensor([sigma]), int(kernel))[0]
        assert close(ours, expected)


@pytest.mark.parametrize("kernel", [3, 5, 23])
def test_each_image_of_a_batch_is_blurred_by_its_own_sigma(theirs: dict[str, Any], kernel: int) -> None:
    rows = [i for i, (size, _) in enumerate(theirs["blurs"].tolist()) if size == kernel]
    sigma = theirs["blurs"][rows, 1].float()
    ours = op.gaussian_blur(copies(theirs["image_large"], len(rows)), sigma, kernel)
    assert close(ours, theirs["blur_large"][rows])


def in_order(image: Tensor, names: Any, factors: Tensor) -> Tensor:
    for name, factor in zip(names.tolist(), factors.float(), strict=True):
        image = getattr(op, name)(image, factor.expand(len(image)))
    return image


@pytest.mark.parametrize("image", PICTURES)
def test_colour_jitter_in_three_orders_equals_torchvision(theirs: dict[str, Any], image: str) -> None:
    for names, factors, expected in zip(
        theirs["jitter_names"], theirs["jitter_factors"], theirs[f"jitter_{image}"], strict=True
    ):
        assert close(in_order(theirs[f"image_{image}"][None], names, factors)[0], expected, atol=1e-5)


def test_crop_flip_jitter_gray_and_blur_together_equal_torchvision(theirs: dict[str, Any]) -> None:
    box = theirs["boxes"][4:5].float()
    x = op.warp(theirs["image_wide"][None], op.resized_crop_map(box, ~no(1), 10, 12), 8, box=box)
    x = in_order(x, theirs["jitter_names"][0], theirs["jitter_factors"][0])
    x = op.gaussian_blur(op.gray(x).expand_as(x), torch.tensor([0.7]), 3)
    assert close(x[0], theirs["all_of_it"], atol=1e-5)


# random crop boxes


@pytest.fixture(scope="module")
def boxes(theirs: dict[str, Any]) -> list[dict[str, Tensor]]:
    """As many of our boxes for each of the stored settings."""
    found = []
    for number, (height, width, *ranges) in enumerate(theirs["crop_draws"].tolist()):
        count = int(theirs[f"draws_{number}_top"].long().sum())
        drawn = op.crop_boxes(
            count, int(height), int(width), (ranges[0], ranges[1]), (ranges[2], ranges[3]),
            torch.Generator().manual_seed(number),
        )  # fmt: skip
        columns = dict(zip(("top", "left", "height", "width"), drawn.unbind(1), strict=True))
        found.append({**columns, "area": columns["height"] * columns["width"]})
    return found


@pytest.mark.parametrize("column", ["top", "left", "height", "width", "area"])
@pytest.mark.parametrize("setting", [0, 1, 2])
def test_crop_boxes_are_spread_as_torchvisions(
    theirs: dict[str, Any], boxes: list[dict[str, Tensor]], setting: int, column: str
) -> None:
    """Kolmogorov and Smirnov's distance of two samples of 20,000; 0.022 is passed by chance once in 10,000."""
    expected = theirs[f"draws_{setting}_{column}"].double()
    ours = torch.bincount(boxes[setting][column].long(), minlength=len(expected)).double()
    expected = F.pad(expected, (0, len(ours) - len(expected)))
    distance = (ours.cumsum(0) / ours.sum() - expected.cumsum(0) / expected.sum()).abs().max()
    assert distance < 0.022


def test_crop_boxes_are_whole_pixels_inside_the_image(theirs: dict[str, Any], boxes: list[dict[str, Tensor]]) -> None:
    for (height, width, *_), box in zip(theirs["crop_draws"].tolist(), boxes, strict=True):
        for side in box.values():
            assert torch.equal(side, side.round())
        assert min(box["top"].min(), box["left"].min()) >= 0 and min(box["height"].min(), box["width"].min()) >= 1
        assert (box["top"] + box["height"]).max() <= height and (box["left"] + box["width"]).max() <= width


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(60, 12, (22, 0, 16, 12)), (12, 60, (0, 22, 12, 16)), (20, 20, (0, 0, 20, 20))],
)
def test_a_box_that_never_fits_becomes_the_largest_centred_one(
    height: int, width: int, expected: tuple[int, ...]
) -> None:
    """The whole image where its shape allows, else cut to a ratio of 3/4 or 4/3, as torchvision falls back."""
    too_large = (9.0, 9.0)
    drawn = op.crop_boxes(5, height, width, too_large, (3 / 4, 4 / 3), torch.Generator().manual_seed(0))
    assert drawn.tolist() == [list(expected)] * 5


# the fused look-up


def looked_up(image: np.ndarray, mapping: np.ndarray, size: int, box: tuple[float, ...] | None) -> np.ndarray:
    """What `warp` should give for one image: pixel by pixel, the nearest pixel outside the image or box."""
    channels, height, width = image.shape
    top, left, tall, wide = box if box is not None else (0, 0, height, width)
    out = np.zeros((channels, size, size))
    for i in range(size):
        for j in range(size):
            position = np.array([(2 * j + 1) / size - 1, (2 * i + 1) / size - 1, 1.0])
            u, v = mapping @ position
            x = min(max((u + 1) * width / 2 - 0.5, left), left + wide - 1)
            y = min(max((v + 1) * height / 2 - 0.5, top), top + tall - 1)
            x0, y0 = math.floor(x), math.floor(y)
            for row, weight_y in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
                for column, weight_x in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
                    if weight_x * weight_y > 0:
                        out[:, i, j] += weight_y * weight_x * image[:, min(row, height - 1), min(column, width - 1)]
    return out


@pytest.mark.parametrize("boxed", [True, False])
def test_the_look_up_equals_one_pixel_at_a_time(boxed: bool) -> None:
    random = torch.Generator().manual_seed(0)
    n, height, width, size = 8, 9, 12, 7
    images = picture(height, width, n=n)
    box = op.crop_boxes(n, height, width, (0.1, 0.9), (0.5, 2.0), random).double()
    crop = op.resized_crop_map(box, torch.arange(n) % 2 == 0, height, width)
    draw = torch.rand(5, n, generator=random, dtype=torch.float64)
    turn = op.affine_map(360 * draw[0], 0.5 + draw[1], 60 * (draw[2] - 0.5), 6 * (draw[3:].T - 0.5), size, size)
    mapping = op.compose(crop, turn)
    ours = op.warp(images, mapping, size, box=box if boxed else None)
    for i in range(n):
        expected = looked_up(images[i].numpy(), mapping[i].numpy(), size, tuple(box[i].tolist()) if boxed else None)
        assert np.allclose(ours[i].numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("flipped", [False, True])
def test_crop_and_flip_without_resizing_move_whole_pixels(flipped: bool) -> None:
    images = picture(9, 12, n=6)
    corners = [(0, 0), (4, 0), (0, 7), (4, 7), (2, 3), (1, 6)]
    box = torch.tensor([[*corner, 5, 5] for corner in corners], dtype=torch.float64)
    ours = op.warp(images, op.resized_crop_map(box, torch.full((6,), flipped), 9, 12), 5, box=box)
    for image, found, (top, left) in zip(images, ours, corners, strict=True):
        cut = image[:, top : top + 5, left : left + 5]
        assert close(found, cut.flip(2) if flipped else cut, atol=1e-12)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_crop_flip_and_right_angles_at_once_equal_one_after_another(quarter: int) -> None:
    """Each step moves whole pixels, so that the fused look-up must be exact."""
    images, box = picture(9, 12), torch.tensor([[3.0, 5.0, 6.0, 6.0]], dtype=torch.float64)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    turn = op.affine_map(90.0 * quarter * one, one, zero, torch.zeros(1, 2, dtype=torch.float64), 6, 6)
    mapping = op.compose(op.resized_crop_map(box, ~no(1), 9, 12), turn)
    step_by_step = torch.rot90(images[:, :, 3:9, 5:11].flip(3), -quarter, (2, 3))  # clockwise
    assert close(op.warp(images, mapping, 6, box=box), step_by_step, atol=1e-10)


def test_compose_applies_the_inner_map_first() -> None:
    g = torch.Generator().manual_seed(0)
    outer, inner = (torch.randn(4, 2, 3, generator=g, dtype=torch.float64) for _ in "ab")
    point = torch.randn(4, 2, 1, generator=g, dtype=torch.float64)

    def move(mapping: Tensor, at: Tensor) -> Tensor:
        return mapping[:, :, :2] @ at + mapping[:, :, 2:]

    assert torch.allclose(move(op.compose(outer, inner), point), move(outer, move(inner, point)))


def test_nothing_outside_the_box_is_seen() -> None:
    """The box is black in a white image; enlarged without a box, white would bleed over its edge."""
    images = torch.ones(1, 1, 8, 8)
    images[..., 2:5, 3:6] = 0
    box = torch.tensor([[2.0, 3.0, 3.0, 3.0]])
    mapping = op.resized_crop_map(box, no(1), 8, 8)
    assert op.warp(images, mapping, 16, box=box).max() == 0
    assert op.warp(images, mapping, 16).max() > 0.1


def test_what_lies_outside_is_the_nearest_pixel_or_zero() -> None:
    images, shift = torch.full((1, 1, 4, 4), 0.5), torch.tensor([[2.0, 0.0]])
    mapping = op.affine_map(torch.zeros(1), torch.ones(1), torch.zeros(1), shift, 4, 4)
    assert (op.warp(images, mapping, 4) == 0.5).all()
    assert op.warp(images, mapping, 4, padding="zeros")[0, 0, 0].tolist() == [0, 0, 0.5, 0.5]


def test_a_displacement_moves_the_place_that_is_looked_at() -> None:
    images = picture(6, 6)
    box = torch.tensor([[0.0, 0.0, 6.0, 6.0]], dtype=torch.float64)
    one_right = torch.zeros(1, 6, 6, 2, dtype=torch.float64)
    one_right[..., 0] = 2 / 6
    ours = op.warp(images, op.resized_crop_map(box, no(1), 6, 6), 6, displacement=one_right)
    assert close(ours[..., :-1], images[..., 1:], atol=1e-12)


# colours by hand


@pytest.mark.parametrize(
    ("turn", "red_becomes"),
    [(1 / 3, (0, 1, 0)), (-1 / 3, (0, 0, 1)), (1 / 6, (1, 1, 0)), (0.5, (0, 1, 1)), (-0.5, (0, 1, 1)), (0, (1, 0, 0))],
)
def test_hue_turns_pure_colours_around_the_circle(turn: float, red_becomes: tuple[int, ...]) -> None:
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    assert torch.allclose(op.hue(red, torch.tensor([turn])).flatten(), torch.tensor(red_becomes).float(), atol=1e-6)


def test_hue_and_saturation_leave_gray_pixels_alone() -> None:
    gray = torch.linspace(0, 1, 11).view(1, 1, 1, 11).expand(1, 3, 1, 11)
    assert close(op.hue(gray, torch.tensor([0.3])), gray, atol=1e-7)
    assert close(op.saturation(gray, torch.tensor([1.8])), gray, atol=1e-3)  # the weights add up to 0.9999


def test_a_full_turn_in_halves_is_no_turn() -> None:
    x, half = picture(5, 4).float(), torch.tensor([0.5])
    assert close(op.hue(op.hue(x, half), half), x, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_hue_and_saturation_have_no_meaning_without_three_channels(channels: int) -> None:
    x = torch.rand(2, channels, 4, 4)
    assert op.hue(x, torch.tensor([0.3, 0.2])) is x
    assert op.saturation(x, torch.tensor([0.3, 0.2])) is x


def test_contrast_of_four_channels_blends_with_the_mean_of_all() -> None:
    x = torch.rand(2, 4, 5, 5)
    expected = (0.5 * x + 0.5 * x.mean((1, 2, 3), keepdim=True)).clamp(0, 1)
    assert close(op.contrast(x, torch.tensor([0.5, 0.5])), expected, atol=1e-6)


def test_operations_leave_their_input_as_it_is() -> None:
    x, amount = torch.rand(2, 3, 6, 6), torch.tensor([0.3, 0.4])
    kept = x.clone()
    for change in (op.brightness, op.contrast, op.saturation, op.hue):
        change(x, amount)
    op.gaussian_blur(x, amount, 3)
    box = torch.tensor([[0.0, 0.0, 6.0, 6.0]]).expand(2, 4)
    op.warp(x, op.resized_crop_map(box, no(2), 6, 6), 6, box=box)
    assert torch.equal(x, kept)


def test_blur_keeps_a_flat_image_flat_and_the_mean_of_a_dot() -> None:
    flat = torch.full((1, 2, 9, 7), 0.3)
    assert close(op.gaussian_blur(flat, torch.tensor([1.5]), 5), flat, atol=1e-6)
    dot = torch.zeros(1, 1, 9, 9)
    dot[..., 4, 4] = 1
    spread = op.gaussian_blur(dot, torch.tensor([1.0]), 5)
    assert spread.sum().item() == pytest.approx(1, abs=1e-6)
    weights = [math.exp(-0.5 * tap**2) for tap in (-2, -1, 0, 1, 2)]
    assert spread[0, 0, 4, 4].item() == pytest.approx((1 / sum(weights)) ** 2, abs=1e-6)


def test_smooth_noise_is_smooth_and_as_strong_as_asked() -> None:
    amount = torch.tensor([0.1, 0.2]).repeat(200)
    field = op.smooth_noise(amount, 4, 16, torch.Generator().manual_seed(0))
    assert field.shape == (400, 16, 16, 2)
    assert field[::2].std().item() == pytest.approx(0.1, rel=0.2)
    assert field[1::2].std().item() == pytest.approx(0.2, rel=0.2)
    assert (field[:, 1:] - field[:, :-1]).std() < 0.5 * field.std()
    assert abs(torch.corrcoef(field[..., 0, 0, :].T)[0, 1]) < 0.2  # x and y are moved apart
