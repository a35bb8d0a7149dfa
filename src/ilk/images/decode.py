"""One encoded picture, Pillow image or array -> a square uint8 array, or the reason why not."""

from __future__ import annotations

import codecs
import functools
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

RESIZES = ("squash", "crop", "pad")
MAX_PIXELS = 200_000_000
GRAY_TOLERANCE = 2  # JPEG's colour rounding makes gray photos saved as colour differ by 1 or 2

# EPS runs Ghostscript on the file; Pillow only recognises the others, or only writes them.
NOT_READ = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
USUAL = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"})
HEIF_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})

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
    """`pixels`: uint8 (c, size, size), c = 1 where the picture is stored as gray.

    `coloured`: its channels differ by more than GRAY_TOLERANCE.
    """

    pixels: np.ndarray
    coloured: bool


@dataclass(frozen=True)
class Header:
    """What is known of a picture before its pixels are read."""

    height: int
    width: int
    channels: int


@functools.cache
def picture_formats() -> tuple[str, ...]:
    """The formats that we let Pillow read, HEIF among them where pillow-heif is installed."""
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    Image.init()
    # Pillow asks in this order, and each one asked in vain costs time.
    return tuple(sorted(set(Image.OPEN) - NOT_READ, key=lambda name: (name not in USUAL, name)))


@functools.cache
def picture_extensions() -> frozenset[str]:
    """Lower-case file name endings that mean a picture: what Pillow can read, and HEIC in any case."""
    formats = set(picture_formats())
    known = {ending for ending, name in Image.registered_extensions().items() if name in formats}
    return frozenset(known | HEIF_EXTENSIONS)


_strict_lock = threading.Lock()
_strict_users = 0
_strict_saved: tuple[Any, bool] | None = None


@contextmanager
def strict_pillow() -> Iterator[None]:
    """While it lasts, Pillow's warnings are silent and truncated files are errors, not half-gray pictures.

    Both switches are global to the process, so overlapping users share one setting and the last restores it.
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
    """The picture as a square of `size`, or a sentence saying why it cannot be read; never an exception.

    `item`: a path, encoded bytes, a Pillow image, or a uint8 array (c, h, w).
    First frame, EXIF rotation applied, transparency over white, 16-bit and float scaled to 8 bits.
    """
    try:
        if isinstance(item, np.ndarray):
            return _decode_array(item, size, resize)
        if isinstance(item, Image.Image):
            return _decode_picture(item, size, resize)
        with _open(item) as picture:
            if picture.format in ("JPEG", "MPO"):  # only ours: draft() changes the picture it is called on
                picture.draft(None, (2 * size, 2 * size))
            return _decode_picture(picture, size, resize)
    except Exception as error:  # the decoders of forty formats raise anything on a damaged file
        return explain(error, item)


def read_header(item: Any) -> Header | None:
    """Size as it will be seen and stored channels, without reading pixels; None for an unreadable item."""
    if isinstance(item, np.ndarray):
        return Header(item.shape[1], item.shape[2], item.shape[0])
    try:
        if isinstance(item, Image.Image):
            return _header(item)
        with _open(item) as picture:
            return _header(picture)
    except Exception:  # the same item is read again by `decode`, which says why
        return None


def _open(item: Any) -> Image.Image:
    return Image.open(BytesIO(item) if isinstance(item, bytes) else item, formats=picture_formats())


def _header(picture: Image.Image) -> Header:
    width, height = picture.size
    # Of the others, some would read all pixels to find the tag and some have turned themselves already.
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


def _decode_picture(picture: Image.Image, size: int, resize: str) -> Decoded | str:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        return f"too large: {width:,} x {height:,} pixels, more than {MAX_PIXELS:,} in all"
    picture.load()
    turn = TURN.get(_orientation(picture))
    if turn is not None:
        picture = picture.transpose(turn)
    flat = np.asarray(_to_square(_flatten(picture), size, resize))
    if flat.ndim == 2:
        return Decoded(flat[None], coloured=False)
    pixels = np.ascontiguousarray(flat.transpose(2, 0, 1))  # (3, size, size)
    return Decoded(pixels, _is_coloured(pixels))


def _decode_array(array: np.ndarray, size: int, resize: str) -> Decoded:
    channels = array.shape[0]
    if array.shape[1:] == (size, size):
        pixels = array
    elif channels == 3:
        picture = Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))
        pixels = np.asarray(_to_square(picture, size, resize)).transpose(2, 0, 1)
    else:
        planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in array]
        pixels = np.stack([np.asarray(_to_square(plane, size, resize)) for plane in planes])
    return Decoded(pixels, channels == 3 and _is_coloured(pixels))


def _is_coloured(pixels: np.ndarray) -> bool:
    return int((pixels.max(axis=0) - pixels.min(axis=0)).max()) > GRAY_TOLERANCE


def _flatten(picture: Image.Image) -> Image.Image:
    """The loaded picture as opaque "L" or "RGB"."""
    gray = _is_gray(picture.mode)
    if gray and picture.mode not in ("1", "L", "LA", "La"):
        return _to_eight_bits(picture)
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


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit gray divided by 257; "I" and "F" kept if within 0..255, else stretched over their own range.

    "F" within 0..1 is taken as a fraction of white.
    """
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError("holds no finite number")
    low, high = float(finite.min()), float(finite.max())
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if picture.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(values).astype(np.uint8))


def _to_square(picture: Image.Image, size: int, resize: str) -> Image.Image:
    """The picture resized to `size` x `size`; bilinear with Pillow's antialiasing, which cannot overshoot."""
    width, height = picture.size
    if (width, height) == (size, size):
        return picture
    bilinear = Image.Resampling.BILINEAR
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return picture.resize((size, size), bilinear, box=(left, top, left + side, top + side), reducing_gap=3)
    if resize == "squash" or width == height:
        return picture.resize((size, size), bilinear, reducing_gap=3)
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    small = picture.resize(inner, bilinear, reducing_gap=3)
    square = Image.new(small.mode, (size, size), _border_colour(small))
    square.paste(small, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return square


def _border_colour(picture: Image.Image) -> int | tuple[int, ...]:
    """The median colour of the outermost pixels: the background, more often than not."""
    array = np.asarray(picture)
    border = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
    middle = np.median(border, axis=0).astype(int)
    return int(middle) if middle.ndim == 0 else tuple(int(v) for v in middle)


def explain(error: Exception, item: Any = None) -> str:
    """The reason why an item is bad, as a short phrase for a list."""
    if isinstance(error, UnidentifiedImageError):
        return _explain_unknown(item)
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {error}"
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"cannot be opened: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _explain_unknown(item: Any) -> str:
    try:
        if isinstance(item, bytes):
            start = item[:64]
        else:
            with open(os.fspath(item), "rb") as stream:
                start = stream.read(64)
    except (OSError, TypeError):
        return "not an image that Pillow can read"
    if not start:
        return "empty file"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"heim", b"hevc", b"msf1"):
        return "HEIC needs the package pillow-heif (pip install pillow-heif)"
    if start[:4] == b"%!PS":
        return "PostScript is not read, because reading it means running it"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # may end within a letter
    except UnicodeDecodeError:
        return "not an image that Pillow can read"
    text = all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "not an image but text" if text else "not an image that Pillow can read"
