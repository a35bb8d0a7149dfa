"""Opens a picture from a file or bytes without reading its pixels, and says why a picture cannot be read."""

from __future__ import annotations

import codecs
import errno
import functools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

MAX_FILE_BYTES = 1 << 30  # some decoders read the whole file first
MAX_SCANNED = 4_000_000_000  # pixels times scans of a progressive JPEG, about 7 seconds

# Reading EPS runs Ghostscript on the file; the others Pillow only recognises, or only writes.
NOT_READ = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
USUAL = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"})
HEIF_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})

# Errors that may be gone at the next attempt: no handles or memory left, a network disk out of reach.
TEMPORARY = frozenset(
    getattr(errno, name)
    for name in ("EAGAIN", "EINTR", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ETIMEDOUT")
    if hasattr(errno, name)
)
JUST_NOW = "cannot be read just now: "


class Refused(Exception):
    """A picture that is not decoded; the message is the reason."""


@functools.cache
def picture_formats() -> tuple[str, ...]:
    """The formats that Pillow may read here, the usual ones first; HEIF too if pillow-heif is installed."""
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    Image.init()
    # Pillow tries the formats in this order.
    return tuple(sorted(set(Image.OPEN) - NOT_READ, key=lambda name: (name not in USUAL, name)))


@functools.cache
def picture_extensions() -> frozenset[str]:
    """The file name extensions, in lower case, of formats that Pillow can read, and of HEIC in any case."""
    formats = {*picture_formats(), "MPO"}  # a JPEG followed by more pictures, opened as JPEG
    known = {ending for ending, name in Image.registered_extensions().items() if name in formats}
    return frozenset(known | HEIF_EXTENSIONS)


@contextmanager
def opened(item: Any) -> Iterator[Image.Image]:
    """The picture in a file or in bytes, open until the block ends. Raises Refused and errors of Pillow."""
    # Give Pillow a stream, not a path: it maps files of some formats, and a file that is cut short while it is
    # mapped kills the process.
    with (
        BytesIO(item) if isinstance(item, bytes) else open_plain(item) as stream,
        Image.open(stream, formats=picture_formats()) as picture,
    ):
        if picture.info.get("progressive"):
            _check_scans(stream, picture.size[0] * picture.size[1])
        yield picture


def open_plain(path: Any) -> IO[bytes]:
    """A file open for reading. Raises Refused for a pipe or device, which may never end, and for a huge file."""
    # With this flag opening a pipe does not wait for its other end; for plain files it has no effect.
    flag = getattr(os, "O_NONBLOCK", 0)
    stream = open(path, "rb", buffering=1 << 16, opener=lambda name, flags: os.open(name, flags | flag))  # noqa: SIM115
    status = os.fstat(stream.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES:
        return stream
    stream.close()
    if stat.S_ISREG(status.st_mode):
        raise Refused(f"too large: {status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
    raise Refused("is not a plain file")


def _check_scans(stream: IO[bytes], pixels: int) -> None:
    """Raises Refused for a JPEG whose scans would take minutes to decode. Keeps the position of the stream."""
    place = stream.tell()
    stream.seek(0)
    scans, last = 0, b""
    while part := stream.read(1 << 20):
        scans += (last + part).count(b"\xff\xda")  # marks a scan and never occurs in compressed data
        last = part[-1:]
    stream.seek(place)
    if scans * pixels > MAX_SCANNED:
        raise Refused(f"a JPEG of {scans:,} scans over {pixels:,} pixels, which would take minutes to decode")


def explain(error: Exception, item: Any = None) -> str:
    """The reason why an item cannot be read, a short phrase. `item`: the item, if it was being decoded."""
    if isinstance(error, UnidentifiedImageError):
        return _explain_unknown(item)
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {error}"
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, MemoryError):
        return JUST_NOW + "not enough memory to decode it"
    if isinstance(error, OSError) and error.errno and error.strerror:
        return (JUST_NOW if error.errno in TEMPORARY else "cannot be opened: ") + error.strerror
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    text = " ".join(text.split()) or type(error).__name__
    return text if item is None else f"damaged, or of a kind that is not supported: {text}"


def _explain_unknown(item: Any) -> str:
    """What an item that Pillow does not recognise is, by its first bytes."""
    try:
        if isinstance(item, bytes):
            start = item[:64]
        else:
            with open_plain(item) as stream:
                start = stream.read(64)
    except (OSError, TypeError, Refused):
        return "not an image that Pillow can read"
    if not start:
        return "empty file"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"heim", b"hevc", b"msf1"):
        return "HEIC needs the package pillow-heif (pip install pillow-heif)"
    if start[:4] == b"%!PS":
        return "PostScript is not read, because reading it means running it"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # may end inside a character
    except UnicodeDecodeError:
        return "not an image that Pillow can read"
    text = all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "not an image but text" if text else "not an image that Pillow can read"
