"""Resizes a picture to a square: squashed, cropped or padded; bilinear with antialiasing, which never overshoots."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

SMALL_PIXELS = 1 << 20  # a picture up to this size is processed as a whole; a larger one exceeds the CPU cache
Box = tuple[int, int, int, int]  # left, top, right, bottom


def to_square(picture: Image.Image | np.ndarray, size: int, resize: str) -> np.ndarray:
    """The picture resized to `size` x `size`, (c, size, size) uint8, c = 1 for gray.

    `picture`: of mode "L" or "RGB", or its pixels, (h, w) or (h, w, 3) uint8.
    """
    width, height = picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
    if (width, height) == (size, size):
        square = np.asarray(picture)
    elif resize == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = resized(picture, (left, top, left + side, top + side), (size, size))
    elif resize == "squash" or width == height:
        square = resized(picture, (0, 0, width, height), (size, size))
    else:
        scale = size / max(width, height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        small = resized(picture, (0, 0, width, height), inner)
        left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
        square = np.empty((size, size, *small.shape[2:]), dtype=np.uint8)
        square[:] = border_colour(small)
        square[top : top + inner[1], left : left + inner[0]] = small
    return square[None] if square.ndim == 2 else np.ascontiguousarray(square.transpose(2, 0, 1))


def resized(picture: Image.Image | np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The part of a picture inside `box`, resized to `size` (width, height): (h, w) or (h, w, 3) uint8.

    Small pictures are resized by torch, three times as fast as by Pillow and equal to one level.
    """
    left, top, right, bottom = box
    width, height = picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
    bilinear = Image.Resampling.BILINEAR
    if width * height > SMALL_PIXELS:
        large = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
        return np.asarray(large.resize(size, bilinear, box=box, reducing_gap=3))  # does not copy the picture
    if not torch_is_serial():
        small = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
        return np.asarray(small.crop(box).resize(size, bilinear))
    array = writable(picture)
    pixels = torch.from_numpy(
        np.ascontiguousarray(array[top:bottom, left:right])
    )  # torch would use several threads for the copy
    planes = pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    planes = F.interpolate(planes[None], size=(size[1], size[0]), mode="bilinear", antialias=True)[0]
    return (planes[:3].permute(1, 2, 0) if pixels.ndim == 3 else planes[0]).numpy()


def writable(picture: Image.Image | np.ndarray) -> np.ndarray:
    """The pixels as a contiguous, writable array, as torch needs it; (h, w, 4) for a picture of mode "RGB".

    Pillow stores RGB with a fourth, unused byte, and dropping it takes longer than copying it.
    """
    if isinstance(picture, np.ndarray):
        return picture if picture.flags.c_contiguous and picture.flags.writeable else np.array(picture, order="C")
    if picture.mode != "RGB":
        return np.array(picture)
    stored = bytearray(picture.tobytes("raw", "RGBX"))
    return np.frombuffer(stored, dtype=np.uint8).reshape(picture.height, picture.width, 4)


@functools.cache
def torch_is_serial() -> bool:
    """Whether torch resizes bytes with vector instructions, in the calling thread.

    On other CPUs its general code is no faster than Pillow and starts several threads in each decoding thread.
    """
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def border_colour(array: np.ndarray) -> np.ndarray:
    """The median colour of the outermost pixels, mostly that of the background; () or (3,)."""
    border = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
    colour: np.ndarray = np.median(border, axis=0).astype(np.uint8)
    return colour
