"""Faster JPEG: decoding at a reduced scale, and by simplejpeg where it is installed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ilk.images.resize import SMALL_PIXELS

# A JPEG is decoded with sides at least this many times the wanted ones. libjpeg can halve it, up to three times, while
# it decodes, which saves most of the work. Mean error compared with full decoding and one exact resize, in levels of
# 255, over the pictures that each factor allows to be halved:
#                                     2      1.5    1.25   1
#   photographs of flowers            1.0    1.1    1.3    1.8     (worst picture 4.1, 4.4, 6.4, 7.3)
#   photo-like, 500 x 375             0.44   0.52   0.70   0.70
#   noise                             1.1    1.9    1.9    2.6
#   stripes of 1 to 5 pixels          1.4    3.0    3.0    5.4     (worst picture 3.9, 16, 16, 24)
# libjpeg drops high frequencies in each block, so the error is a little more or less contrast and no moire. At 1.5 a
# photograph looks the same, and 500 x 375 -> 96 takes two thirds of the time that it takes at 2.
SURPLUS = 1.5

QUICK_BYTES = 16 << 20  # a larger file is left to Pillow: this decoder needs it in memory as a whole
LEAST_SIDE = 16  # below it two scales give the same size, and the quick decoder chooses the other one


def shrink(picture: Image.Image, size: int) -> None:
    """Sets an opened JPEG to the smallest scale at which its sides are at least SURPLUS times `size`."""
    least = math.ceil(SURPLUS * size)
    picture.draft(None, (least, least))


@functools.cache
def quick_decoder() -> Callable[..., np.ndarray] | None:
    """The decoder of simplejpeg, which is libjpeg-turbo with fewer copies; None if it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    decoder: Callable[..., np.ndarray] = simplejpeg.decode_jpeg
    return decoder


def quick_pixels(picture: Image.Image) -> np.ndarray | None:
    """The pixels that Pillow's `load` would give, (h, w) or (h, w, 3) uint8; None to leave the picture to Pillow.

    Unusual and damaged files are left to Pillow, so that the same files are read, with the same reasons for others,
    whether simplejpeg is installed or not.
    """
    decoder, stream, (width, height) = quick_decoder(), getattr(picture, "fp", None), picture.size
    if decoder is None or stream is None or picture.mode not in ("L", "RGB"):
        return None
    if min(width, height) < LEAST_SIDE or width * height > SMALL_PIXELS:
        return None
    place = stream.tell()
    stream.seek(0)
    data: Any = stream.read(QUICK_BYTES + 1)
    stream.seek(place)
    if len(data) > QUICK_BYTES:
        return None
    space = "GRAY" if picture.mode == "L" else "RGB"
    try:
        pixels = decoder(data, space, min_height=height, min_width=width, strict=True)
    except Exception:  # of several types; Pillow reads the file or says why not
        return None
    if pixels.shape[:2] != (height, width):
        return None
    return pixels[:, :, 0] if picture.mode == "L" else pixels
