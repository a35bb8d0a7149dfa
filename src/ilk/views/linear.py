"""Colour changes as one matrix and one shift per image: all changes are combined first and applied in one pass."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ilk.views.operations import LUMA, constant

CHANGES = ("brightness", "contrast", "saturation", "hue")
# RGB to luma and two colour differences (a 3 x 3 matrix by rows); hue is an angle in the plane of the differences
TO_PLANE = (0.2989, 0.587, 0.114, -0.168736, -0.331264, 0.5, 0.5, -0.418688, -0.081312)


class ColourMap(NamedTuple):
    """An affine map of the colours of each image: `matrix @ colour + shift`."""

    matrix: Tensor  # (n, 3, 3)
    shift: Tensor  # (n, 3)

    def then(self, matrix: Tensor, shift: Tensor | float = 0.0) -> ColourMap:
        """This map followed by `matrix @ colour + shift`. `matrix`: ([n,] 3, 3), `shift`: (n, 3) or a number."""
        return ColourMap(matrix @ self.matrix, (matrix @ self.shift[:, :, None])[:, :, 0] + shift)

    def where(self, on: Tensor, other: ColourMap) -> ColourMap:
        """This map for the images `on`, (n,) bool, the other map for the rest."""
        return ColourMap(
            torch.where(on[:, None, None], self.matrix, other.matrix), torch.where(on[:, None], self.shift, other.shift)
        )

    def __call__(self, images: Tensor) -> Tensor:
        """The images, (n, 3, h, w), with their colours mapped and clipped to [0, 1]."""
        flat = torch.bmm(self.matrix, images.flatten(2)).add_(self.shift[:, :, None])
        return flat.clamp_(0, 1).view_as(images)


def identity(images: Tensor) -> ColourMap:
    """The map that leaves all colours as they are."""
    unit = torch.eye(3, dtype=images.dtype, device=images.device)
    return ColourMap(unit.expand(len(images), 3, 3), images.new_zeros(len(images), 3))


def luma_of(images: Tensor) -> Tensor:
    """The weights of red, green and blue in a gray value, (3,), on the device of the images."""
    return constant(LUMA, images.dtype, images.device)


def jitter_map(images: Tensor, amounts: Tensor, order: Tensor) -> ColourMap:
    """The map of `CHANGES` by `amounts`, (n, 4): factors of the first three, and the hue shift in turns.

    `images`: (n, 3, h, w). `order`: (n, 4), the numbers of the changes in the order of each image. Contrast is
    relative to the mean gray value of the image after the changes before it. Departures from torchvision's jitter,
    which clips after each change and rotates hue in HSV: here colours are clipped once, at the end, and hue is rotated
    in the plane of constant luma.
    """
    luma, unit = luma_of(images), torch.eye(3, dtype=images.dtype, device=images.device)
    bright, contrast, saturation = (amounts[:, i, None, None] for i in range(3))
    gray = luma.expand(3, 3)
    steps = torch.stack(
        [bright * unit, contrast * unit, saturation * unit + (1 - saturation) * gray, hue_rotation(amounts[:, 3])], 1
    )  # (n, 4, 3, 3)
    mean = images.mean((2, 3))  # (n, 3)
    combined, rows = identity(images), torch.arange(len(images), device=images.device)
    for chosen in order.unbind(1):
        level = (combined.matrix @ mean[:, :, None])[:, :, 0] @ luma + combined.shift @ luma  # (n,) mean gray value
        shift = torch.where(chosen == 1, (1 - amounts[:, 1]) * level, 0.0)
        combined = combined.then(steps[rows, chosen], shift[:, None])
    return combined


def hue_rotation(turn: Tensor) -> Tensor:
    """The matrix that rotates colours around the gray axis and keeps luma, (n, 3, 3). `turn`: (n,) in full turns."""
    to_plane = constant(TO_PLANE, turn.dtype, turn.device).view(3, 3)
    from_plane = constant(plane_to_rgb(), turn.dtype, turn.device).view(3, 3)
    angle = 2 * math.pi * turn
    cos, sin = torch.cos(angle), torch.sin(angle)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    return from_plane @ rotation @ to_plane


@functools.cache
def plane_to_rgb() -> tuple[float, ...]:
    """The inverse of `TO_PLANE`, by rows."""
    return tuple(np.linalg.inv(np.array(TO_PLANE).reshape(3, 3)).flatten().tolist())


def without_colour(images: Tensor) -> Tensor:
    """The matrix that maps colours to their gray value, (3, 3)."""
    return luma_of(images).expand(3, 3)
