"""Decodes one picture (file, bytes, Pillow image or array) into a square uint8 array."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from ilk.images.open_picture import Refused, explain, opened
from ilk.images.resize import SMALL_PIXELS, to_square

from . import jpeg

RESIZES = ("squash", "crop", "pad")
MAX_PIXELS = 200_000_000
MAX_SLOW_PIXELS = 16_000_000  # for decoders written in Python: seconds and 500 MB instead of minutes and 6 GB
BAND_PIXELS = SMALL_PIXELS  # of a band of a large picture, which is flattened band by band
GRAY_TOLERANCE = 2  # channels of a gray photo saved as colour JPEG differ by 1 or 2

GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A decoded picture.

    `pixels`: uint8 (c, size, size), c = 1 if it is stored as gray. `coloured`: whether its channels differ by more than
    GRAY_TOLERANCE.
    """

    pixels: np.ndarray
    coloured: bool


@dataclass(frozen=True)
class Header:
    """Size and channels of a picture, known before its pixels are read."""

    height: int
    width: int
    channels: int


_strict_lock = threading.Lock()
_strict_users = 0
_strict_saved: tuple[Any, bool] | None = None


@contextmanager
def strict_pillow() -> Iterator[None]:
    """A block in which Pillow does not warn, and in which truncated files are errors instead of half-gray pictures.

    Both settings hold for the whole process; where such blocks overlap, the last one to end restores them.
    """
    global _strict_users, _strict_saved
    with _strict_lock:
        if _strict_users == 0:
            silence = warnings.catch_warnings()
            silence.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            _strict_saved = silence, ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _strict_users += 1
    try:
        yield
    finally:
        with _strict_lock:
            _strict_users -= 1
            if _strict_users == 0 and _strict_saved is not None:
                silence, ImageFile.LOAD_TRUNCATED_IMAGES = _strict_saved
                silence.__exit__(None, None, None)


def decode(item: Any, size: int, resize: str) -> Decoded | str:
    """The picture as a square with sides of `size` pixels, or the reason why it cannot be read. Raises nothing.

    `item`: a path, encoded bytes, a Pillow image, or a uint8 array (c, h, w). Animations give their first frame,
    EXIF rotation is applied, transparent pixels are put on white, and 16-bit and float values scaled to 8 bits.
    """
    try:
        if isinstance(item, np.ndarray):
            return _decode_array(item, size, resize)
        if isinstance(item, Image.Image):
            return _decode_picture(item, size, resize)
        with opened(item) as picture:
            if picture.format not in ("JPEG", "MPO"):
                return _decode_picture(picture, size, resize)
            jpeg.shrink(picture, size)  # not for a caller's picture, which it would change
            return _decode_picture(picture, size, resize, quickly=jpeg.quick_pixels)
    except Exception as error:  # decoders raise errors of any type for damaged files
        return explain(error, item)


def read_header(item: Any) -> Header | None:
    """Size after rotation and stored channels of a picture, without reading its pixels; None if it is unreadable."""
    if isinstance(item, np.ndarray):
        return Header(item.shape[1], item.shape[2], item.shape[0])
    try:
        if isinstance(item, Image.Image):
            return _header(item)
        with opened(item) as picture:
            return _header(picture)
    except Exception:  # `decode` reads the item again and says why
        return None


def _header(picture: Image.Image) -> Header:
    width, height = picture.size
    # Other formats may read all pixels to find the tag, or have applied it already.
    if picture.format in ("JPEG", "MPO") and _orientation(picture) >= 5:
        width, height = height, width
    return Header(height, width, 1 if _is_gray(picture.mode) else 3)


def _is_gray(mode: str) -> bool:
    return mode in GRAY_MODES or mode.startswith("I;16")


def _orientation(picture: Image.Image) -> int:
    try:
        tag = picture.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return 1
    return tag if isinstance(tag, int) else 1


def _decode_picture(
    picture: Image.Image, size: int, resize: str, *, quickly: Callable[[Image.Image], np.ndarray | None] | None = None
) -> Decoded | str:
    """See `decode`. `quickly`: a faster decoder that gives the pixels, (h, w) or (h, w, 3), or None if it cannot."""
    refusal = _refusal(picture)
    if refusal:
        return refusal
    width, height = picture.size
    with _room(width * height):
        flat = quickly(picture) if quickly is not None else None
        if flat is None:
            picture.load()
            refusal = _refusal(picture)  # the true size of an icon is known only now
            if refusal:
                return refusal
        turn = TURN.get(_orientation(picture))
        if turn is not None:
            picture, flat = (picture if flat is None else Image.fromarray(flat)).transpose(turn), None
        pixels = to_square(_flatten(picture) if flat is None else flat, size, resize)
    return Decoded(pixels, len(pixels) == 3 and _is_coloured(pixels))


def _refusal(picture: Image.Image) -> str | None:
    """Why a picture is too large to decode, or None."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        return f"too large: {width:,} x {height:,} pixels, more than {MAX_PIXELS:,} in all"
    # A picture that is not from a file has no tiles. Image.DECODERS lists the decoders written in Python.
    slow = any(tile[0] in Image.DECODERS for tile in getattr(picture, "tile", ()))
    if slow and width * height > MAX_SLOW_PIXELS:
        return (
            f"too large for a {picture.format} file of this kind: {width:,} x {height:,} pixels, "
            f"more than {MAX_SLOW_PIXELS:,} in all. Save it as PNG"
        )
    return None


_in_flight = threading.Condition()
_pixels_in_flight = 0


@contextmanager
def _room(pixels: int) -> Iterator[None]:
    """A block that decodes so many pixels; waits until all threads together decode at most MAX_PIXELS."""
    global _pixels_in_flight
    with _in_flight:
        _in_flight.wait_for(lambda: _pixels_in_flight == 0 or _pixels_in_flight + pixels <= MAX_PIXELS)
        _pixels_in_flight += pixels
    try:
        yield
    finally:
        with _in_flight:
            _pixels_in_flight -= pixels
            _in_flight.notify_all()


def _decode_array(array: np.ndarray, size: int, resize: str) -> Decoded:
    channels = array.shape[0]
    if array.shape[1:] == (size, size):
        pixels = array
    elif channels == 3:
        pixels = to_square(array.transpose(1, 2, 0), size, resize)
    else:
        pixels = np.concatenate([to_square(plane, size, resize) for plane in array])
    return Decoded(pixels, channels == 3 and _is_coloured(pixels))


def _is_coloured(pixels: np.ndarray) -> bool:
    """Whether the channels of a pixel differ by more than GRAY_TOLERANCE; mostly every eighth row tells."""
    return _spread(pixels[:, ::8]) > GRAY_TOLERANCE or _spread(pixels) > GRAY_TOLERANCE


def _spread(pixels: np.ndarray) -> int:
    """The largest difference between the channels of a pixel."""
    return int((pixels.max(axis=0) - pixels.min(axis=0)).max())


def _flatten(picture: Image.Image) -> Image.Image:
    """The loaded picture in mode "L" or "RGB", without transparency; large ones in bands, since each step copies."""
    if picture.mode in ("L", "RGB") and not picture.has_transparency_data:
        return picture
    levels = _levels(picture) if picture.mode in ("I", "F") else None
    width, height = picture.size
    if width * height <= BAND_PIXELS:
        return _flatten_band(picture, levels)
    flat = Image.new("L" if _is_gray(picture.mode) else "RGB", picture.size)
    for top, bottom in _bands(picture):
        flat.paste(_flatten_band(picture.crop((0, top, width, bottom)), levels), (0, top))
    return flat


def _bands(picture: Image.Image) -> list[tuple[int, int]]:
    """(top, bottom) of bands of the picture with at most BAND_PIXELS, or of one row."""
    width, height = picture.size
    step = max(1, BAND_PIXELS // width)
    return [(top, min(top + step, height)) for top in range(0, height, step)]


def _flatten_band(picture: Image.Image, levels: tuple[float, float] | None) -> Image.Image:
    """`_flatten` of one band; `levels` as `_levels` gives them for the whole picture."""
    gray = _is_gray(picture.mode)
    if gray and picture.mode not in ("1", "L", "LA", "La"):
        return _to_eight_bits(picture, levels)
    if picture.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        return converted if converted is not None else picture
    if picture.has_transparency_data:
        if picture.mode == "La":
            picture = picture.convert("LA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("L" if gray else "RGB")


def _levels(picture: Image.Image) -> tuple[float, float]:
    """The lowest and the highest finite value of a picture of mode "I" or "F"."""
    low, high = np.inf, -np.inf
    for top, bottom in _bands(picture):
        values = np.asarray(picture.crop((0, top, picture.size[0], bottom))).astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = min(low, finite.min(initial=np.inf)), max(high, finite.max(initial=-np.inf))
    if low > high:
        raise Refused("holds no finite number")
    return float(low), float(high)


def _to_eight_bits(picture: Image.Image, levels: tuple[float, float] | None) -> Image.Image:
    """A gray picture in 8 bits: 16-bit values are divided by 257, values of mode "I" and "F" kept if in 0..255.

    Otherwise `levels`, their range, is mapped to 0..255. Mode "F" within [0, 1] is multiplied by 255.
    """
    values = np.asarray(picture)
    if levels is None:
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    low, high = levels
    values = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    if picture.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(values).astype(np.uint8))
