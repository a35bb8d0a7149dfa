"""The pixels of an opened JPEG: at a reduced scale that is large enough, by a faster decoder where there is one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ilk.images.resize import SMALL_PIXELS

# How much larger than the target a JPEG is decoded at least; libjpeg halves it, up to three times, while it
# decodes, which saves most of the work. Mean error against a full decode and one exact resize, in levels of
# 255, over the pictures that each factor lets be halved:
#                                     2      1.5    1.25   1
#   photographs of flowers            1.0    1.1    1.3    1.8     (worst picture 4.1, 4.4, 6.4, 7.3)
#   photo-like, 500 x 375             0.44   0.52   0.70   0.70
#   noise                             1.1    1.9    1.9    2.6
#   stripes of 1 to 5 pixels          1.4    3.0    3.0    5.4     (worst picture 3.9, 16, 16, 24)
# libjpeg drops high frequencies block by block, so that what shows is a little contrast lost or won, not
# moire. A photograph does not notice 1.5, at which 500 x 375 -> 96 takes two thirds of the time of 2.
SURPLUS = 1.5

QUICK_BYTES = 16 << 20  # of a file that is held in memory whole
LEAST_SIDE = 16  # below it two scales give the same size, and the quick decoder takes the other one


def shrink(picture: Image.Image, size: int) -> None:
    """Lets an opened JPEG be decoded at the smallest scale whose sides are SURPLUS times `size` or more."""
    least = math.ceil(SURPLUS * size)
    picture.draft(None, (least, least))


@functools.cache
def quick_decoder() -> Callable[..., np.ndarray] | None:
    """simplejpeg's, which is the same libjpeg-turbo with fewer copies; None where it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    decoder: Callable[..., np.ndarray] = simplejpeg.decode_jpeg
    return decoder


def quick_pixels(picture: Image.Image) -> np.ndarray | None:
    """The pixels that Pillow's `load` would give, (h, w) or (h, w, 3) uint8; None: let Pillow do it.

    Whatever is out of the ordinary, damage above all, is left to Pillow, so that the same files are read
    and the same reasons given whether the quick decoder is there or not.
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
    except Exception:  # of several kinds; Pillow says why, or reads it after all
        return None
    if pixels.shape[:2] != (height, width):
        return None
    return pixels[:, :, 0] if picture.mode == "L" else pixels
