"""Image operations on a batch, with parameters for each image; only those with a `generator` are random.

Images are (b, c, h, w) floats in [0, 1]; parameters are (b,) tensors on the same device. Each operation gives the same
result as torchvision's operation on a single image, and is tested against it.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue in a gray value, as in torchvision


@functools.cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values as a tensor on the device, cached: copying numbers to a GPU each time would wait for it."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def resized_crop_map(box: Tensor, flip: Tensor, height: int, width: int) -> Tensor:
    """The affine map from output to input positions for a crop with resize and mirroring, (b, 2, 3).

    `box`: (b, 4) top, left, height, width in input pixels. `flip`: (b,) bool, mirror left-right.
    Positions are -1 at the outer edge of the first pixel and 1 at that of the last.
    """
    top, left, tall, wide = box.unbind(1)
    scale_x, scale_y = wide / width, tall / height
    shift_x = (2 * left + wide) / width - 1
    shift_y = (2 * top + tall) / height - 1
    zero = torch.zeros_like(scale_x)
    sign = 1 - 2 * flip.to(scale_x.dtype)
    return torch.stack([torch.stack([scale_x * sign, zero, shift_x], 1), torch.stack([zero, scale_y, shift_y], 1)], 1)


def affine_map(angle: Tensor, zoom: Tensor, shear: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """The map from output to input positions for a rotation, shear, zoom and shift, (b, 2, 3).

    `angle`, `shear`: degrees, clockwise; the shear is along x. `zoom`: above 1 enlarges.
    `shift`: (b, 2) in pixels, x then y. Equals torchvision's `affine` around the image centre.
    """
    rotation, skew = torch.deg2rad(angle), torch.deg2rad(shear)
    # the forward map, in pixels, is rotation @ shear * zoom; its inverse is written out
    a, b = torch.cos(rotation), -torch.cos(rotation) * torch.tan(skew) - torch.sin(rotation)
    c, d = torch.sin(rotation), -torch.sin(rotation) * torch.tan(skew) + torch.cos(rotation)
    inverse = torch.stack([torch.stack([d, -b], 1), torch.stack([-c, a], 1)], 1) / zoom[:, None, None]
    offset = -(inverse @ shift[:, :, None])
    side = constant((width / 2, height / 2), angle.dtype, angle.device)
    return torch.cat([inverse * side / side[:, None], offset / side[:, None]], 2)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The map that applies `inner` first and `outer` to its result; both (b, 2, 3)."""
    linear = outer[:, :, :2] @ inner[:, :, :2]
    return torch.cat([linear, outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]], 2)


def warp(
    images: Tensor,
    mapping: Tensor,
    size: int,
    *,
    box: Tensor | None = None,
    padding: str = "border",
    displacement: Tensor | None = None,
    straight: bool = False,
) -> Tensor:
    """`images` sampled bilinearly at the input positions of each output pixel, (b, c, size, size).

    `mapping`: (b, 2, 3) from output to input positions. `box`: (b, 4) top, left, height, width; no pixel outside is
    used, as if the image had been cropped first. `padding`: values outside the image, "border" (the nearest pixel) or
    "zeros". `displacement`: (b, size, size, 2) added to the input positions (x, y). `straight`: no map rotates or
    shears, which is faster.
    """
    height, width = images.shape[2:]
    low = high = None
    if box is not None:
        top, left, tall, wide = box.unbind(1)
        low = torch.stack([(2 * left + 1) / width - 1, (2 * top + 1) / height - 1], 1)  # (b, 2), x and y
        high = torch.stack([(2 * (left + wide) - 1) / width - 1, (2 * (top + tall) - 1) / height - 1], 1)
    grid = input_positions(mapping, size, low, high, displacement, straight=straight)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def input_positions(
    mapping: Tensor, size: int, low: Tensor | None, high: Tensor | None, displacement: Tensor | None, *, straight: bool
) -> Tensor:
    """The input position (x, y) of each output pixel, clipped to `low` and `high`, (b, size, size, 2).

    `low`, `high`: (b, 2), or both None. The same as `F.affine_grid`, whose matrix product over all pixels takes as
    long as the sampling itself.
    """
    steps = (2 * torch.arange(size, device=mapping.device, dtype=mapping.dtype) + 1) / size - 1
    grid = mapping.new_empty(len(mapping), size, size, 2)
    for axis in (0, 1):
        across = mapping[:, axis, 0, None] * steps + mapping[:, axis, 2, None]  # (b, size), along x
        down = mapping[:, axis, 1, None] * steps  # along y
        if straight and displacement is None:
            line = across if axis == 0 else down + mapping[:, axis, 2, None]
            if low is not None:
                line = torch.clamp(line, low[:, axis, None], high[:, axis, None])  # type: ignore[index]  # given together
            grid[..., axis] = line[:, None, :] if axis == 0 else line[:, :, None]
            continue
        position = across[:, None, :] + down[:, :, None]
        if displacement is not None:
            position += displacement[..., axis]
        if low is not None:
            position = torch.clamp(position, low[:, axis, None, None], high[:, axis, None, None])  # type: ignore[index]
        grid[..., axis] = position
    return grid


def gray(images: Tensor) -> Tensor:
    """The gray value of RGB images, (b, 1, h, w)."""
    red, green, blue = images.split(1, 1)
    value: Tensor = red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]
    return value


def blend(images: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """`factor * images + (1 - factor) * other`, clipped to [0, 1]."""
    factor = factor[:, None, None, None]
    return (factor * images + (1 - factor) * other).clamp_(0, 1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Images multiplied by their factor, clipped to [0, 1]."""
    return blend(images, 0.0, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Images with their contrast multiplied by the factor: blended with their mean gray value."""
    tones = gray(images) if images.shape[1] == 3 else images
    return blend(images, tones.mean((1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Images with their saturation multiplied by the factor: blended with gray; unchanged unless RGB."""
    return blend(images, gray(images), factor) if images.shape[1] == 3 else images


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Images with their hue (in HSV) shifted by `turn`, in [-0.5, 0.5] full turns; unchanged unless RGB."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)
    value, low = images.amax(1), images.amin(1)
    span = value - low
    safe = torch.where(span == 0, 1, span)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    angle = sixth + 6 * turn[:, None, None]
    # a channel is value - span * clamp(min(d, 4 - d), 0, 1), d = (offset + angle) mod 6
    distance = (constant((5.0, 3.0, 1.0), images.dtype, images.device).view(1, 3, 1, 1) + angle[:, None]) % 6
    part = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return value[:, None] - span[:, None] * part


def gaussian_blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Images blurred by a Gaussian of `sigma` pixels, truncated to `kernel` taps (odd), mirrored at the border."""
    b, c, h, w = images.shape
    half = kernel // 2
    taps = torch.arange(-half, half + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(c, 0)  # (bc, kernel)
    x = F.pad(images, [half] * 4, mode="reflect").reshape(1, b * c, h + 2 * half, w + 2 * half)
    x = F.conv2d(x, weights.view(b * c, 1, kernel, 1), groups=b * c)
    return F.conv2d(x, weights.view(b * c, 1, 1, kernel), groups=b * c).view(b, c, h, w)


def smooth_noise(amount: Tensor, cells: int, size: int, generator: torch.Generator) -> Tensor:
    """A smooth random displacement field, (b, size, size, 2), with a standard deviation of about `amount`, (b,).

    Bicubic interpolation of random values at `cells` x `cells` points.
    """
    coarse = torch.randn(len(amount), 2, cells, cells, generator=generator, device=generator.device)
    fine = F.interpolate(coarse.to(amount.device), size=(size, size), mode="bicubic", align_corners=False)
    return (fine * amount[:, None, None, None]).permute(0, 2, 3, 1)


def crop_boxes(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
    *,
    attempts: int = 10,
) -> Tensor:
    """Random crop boxes, (count, 4): top, left, height, width, with the distribution of RandomResizedCrop.

    `scale`: range of the area, as a fraction of the image's. `ratio`: range of width / height, log-uniform. Of
    `attempts` draws the first that fits into the image is taken, or else the largest centred box within `ratio`.
    """
    draw = torch.rand(4, attempts, count, generator=generator, device=generator.device)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draw[0])
    log_ratio = math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draw[1]
    wide = (area * log_ratio.exp()).sqrt().round()
    tall = (area / log_ratio.exp()).sqrt().round()
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)  # (attempts, count)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    wide, tall = wide.gather(0, first)[0], tall.gather(0, first)[0]
    top = (draw[2].gather(0, first)[0] * (height - tall + 1)).floor()
    left = (draw[3].gather(0, first)[0] * (width - wide + 1)).floor()
    aspect = width / height
    whole_w = width if aspect <= ratio[1] else round(height * ratio[1])
    whole_h = height if aspect >= ratio[0] else round(width / ratio[0])
    centre = constant(
        ((height - whole_h) // 2, (width - whole_w) // 2, whole_h, whole_w), draw.dtype, draw.device
    )  # fmt: skip
    return torch.where(fits.any(0)[:, None], torch.stack([top, left, tall, wide], 1), centre)
