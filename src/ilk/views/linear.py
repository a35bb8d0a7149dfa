"""Colour changes as one matrix and one shift an image, multiplied together first and applied in one pass."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ilk.views.operations import LUMA, constant

CHANGES = ("brightness", "contrast", "saturation", "hue")
# to luma and two colour differences, in whose plane hue is an angle, row by row
TO_PLANE = (0.2989, 0.587, 0.114, -0.168736, -0.331264, 0.5, 0.5, -0.418688, -0.081312)


class ColourMap(NamedTuple):
    """What each image's colours become: `matrix @ colour + shift`, (n, 3, 3) and (n, 3)."""

    matrix: Tensor
    shift: Tensor

    def then(self, matrix: Tensor, shift: Tensor | float = 0.0) -> ColourMap:
        """This map and another after it."""
        return ColourMap(matrix @ self.matrix, (matrix @ self.shift[:, :, None])[:, :, 0] + shift)

    def where(self, on: Tensor, other: ColourMap) -> ColourMap:
        """This map in the rows `on`, (n,) bool, the other in the rest."""
        return ColourMap(
            torch.where(on[:, None, None], self.matrix, other.matrix), torch.where(on[:, None], self.shift, other.shift)
        )

    def __call__(self, images: Tensor) -> Tensor:
        """The images, (n, 3, h, w), with their colours changed and kept in [0, 1]."""
        flat = torch.bmm(self.matrix, images.flatten(2)).add_(self.shift[:, :, None])
        return flat.clamp_(0, 1).view_as(images)


def identity(images: Tensor) -> ColourMap:
    one = torch.eye(3, dtype=images.dtype, device=images.device)
    return ColourMap(one.expand(len(images), 3, 3), images.new_zeros(len(images), 3))


def luma_of(images: Tensor) -> Tensor:
    return constant(LUMA, images.dtype, images.device)


def jitter_map(images: Tensor, amounts: Tensor, order: Tensor) -> ColourMap:
    """The map of `CHANGES` by `amounts`, (n, 4): factors of the first three, and a part of the colour circle.

    `order`: (n, 4), which change comes first, second, ... for each image. Contrast is about the mean gray
    value of the image as the changes before it left it. Departures from torchvision's jitter, which clips
    after each change and turns the hue in HSV: clipped once, at the end, and the hue turned in the plane
    of equal luma.
    """
    luma, one = luma_of(images), torch.eye(3, dtype=images.dtype, device=images.device)
    bright, contrast, saturation = (amounts[:, i, None, None] for i in range(3))
    gray = luma.expand(3, 3)
    steps = torch.stack(
        [bright * one, contrast * one, saturation * one + (1 - saturation) * gray, hue_turn(amounts[:, 3])], 1
    )  # (n, 4, 3, 3)
    mean = images.mean((2, 3))  # (n, 3)
    found, rows = identity(images), torch.arange(len(images), device=images.device)
    for chosen in order.unbind(1):
        level = (found.matrix @ mean[:, :, None])[:, :, 0] @ luma + found.shift @ luma  # (n,) the mean gray value now
        shift = torch.where(chosen == 1, (1 - amounts[:, 1]) * level, 0.0)
        found = found.then(steps[rows, chosen], shift[:, None])
    return found


def hue_turn(turn: Tensor) -> Tensor:
    """The matrix that turns colours by a part `turn` of the circle around the gray axis, luma kept, (n, 3, 3)."""
    plane = constant(TO_PLANE, turn.dtype, turn.device).view(3, 3)
    back = constant(from_plane(), turn.dtype, turn.device).view(3, 3)
    angle = 2 * math.pi * turn
    cos, sin = torch.cos(angle), torch.sin(angle)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turned = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    return back @ turned @ plane


@functools.cache
def from_plane() -> tuple[float, ...]:
    """The inverse of TO_PLANE."""
    return tuple(np.linalg.inv(np.array(TO_PLANE).reshape(3, 3)).flatten().tolist())


def without_colour(images: Tensor) -> Tensor:
    """The matrix that takes all colour away, (3, 3)."""
    return luma_of(images).expand(3, 3)
