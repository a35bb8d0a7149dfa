"""Damaged, hostile and merely odd image files, made from seeds: the corpus of `test_fuzz.py`."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

ENDING = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif", "SPIDER": "png"}  # SPIDER has no ending of its own
MODES = {"GIF": "P", "MSP": "1", "XBM": "1", "SPIDER": "F", "BLP": "P"}
NOT_PICTURES = {"PDF", "EPS", "PALM", "BUFR", "GRIB", "HDF5", "WMF"}  # that Pillow writes, or pretends to


def scene(seed: int, side: int = 40) -> Image.Image:
    """A coloured picture that is neither flat nor noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def every_format(seed: int) -> dict[str, bytes]:
    """The picture of that seed in each format that Pillow writes and reads here."""
    Image.init()
    found = {}
    for kind in sorted((set(Image.SAVE) - NOT_PICTURES) & {*Image.OPEN, "MPO"}):
        picture = scene(seed).convert(MODES.get(kind, "RGB"))
        if kind == "MPO":
            found[kind] = encoded(picture, kind, save_all=True, append_images=[picture])
        elif kind == "DDS":
            found[kind] = encoded(picture.convert("RGBA"), kind)
        else:
            found[kind] = encoded(picture, kind)
    return found


def ending(kind: str) -> str:
    return ENDING.get(kind, kind.lower())


def mutated(data: bytes, seed: int, flips: int) -> bytes:
    """`data` with that many bytes replaced, half of them in the first hundred, where headers are."""
    random, broken = np.random.default_rng(seed), bytearray(data)
    places = np.concatenate(
        [
            random.integers(0, min(100, len(data)), flips - flips // 2),
            random.integers(0, len(data), flips // 2),
        ]
    )
    for place in places:
        broken[place] = random.integers(0, 256)
    return bytes(broken)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes, *more: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG of that declared size with that compressed body."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def flat_png(width: int, height: int, level: int = 0, colour: int = 0) -> bytes:
    """A whole PNG of one gray level (colour 0) or of three equal channels (2), made a band at a time."""
    row = b"\0" + bytes([level]) * (width * (3 if colour == 2 else 1))
    packer = zlib.compressobj(1)
    rows = max(1, (1 << 20) // len(row))
    parts = [packer.compress(row * min(rows, height - top)) for top in range(0, height, rows)]
    return png(width, height, b"".join([*parts, packer.flush()]), colour=colour)


def many_scans(width: int, height: int, scans: int) -> bytes:
    """A small progressive JPEG whose last pass over all pixels is repeated."""
    data = encoded(Image.new("L", (width, height), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]


def runs_of_nothing(width: int, height: int) -> bytes:
    """A BMP of empty rows: each of its four-byte runs is a whole row to be filled."""
    body = b"\x01\x00\x00\x00" * height
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(info) + 1024
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + info + bytes(1024) + body


def fits_bomb(side: int) -> bytes:
    """A FITS file that declares a huge compressed table: Pillow would unpack it value by value."""
    cards = [
        "SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0",
        "EXTEND  =                    T", "END",
    ]  # fmt: skip
    table = [
        "XTENSION= 'BINTABLE'", "BITPIX  =                    8", "NAXIS   =                    2",
        f"NAXIS1  = {side:20}", f"NAXIS2  = {side:20}", "ZIMAGE  =                    T",
        "ZBITPIX =                    8",
        "ZNAXIS  =                    2", f"ZNAXIS1 = {side:20}", f"ZNAXIS2 = {side:20}", "ZCMPTYPE= 'GZIP_1  '", "END",
    ]  # fmt: skip
    block = "".join(card.ljust(80) for card in cards).ljust(2880) + "".join(card.ljust(80) for card in table).ljust(
        2880
    )
    return block.encode() + bytes(2880)


def bombs() -> dict[str, bytes]:
    """Small files that claim, or unpack to, what no computer should be asked for; none is readable."""
    tiny = zlib.compress(bytes(1000))
    gif = bytearray(encoded(scene(0).convert("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    tif = encoded(scene(0), "TIFF")
    place = tif.index(struct.pack("<HHI", 256, 4, 1)) if struct.pack("<HHI", 256, 4, 1) in tif else tif.index(
        struct.pack("<HHI", 256, 3, 1)
    )  # fmt: skip
    huge = tif[:place] + struct.pack("<HHII", 256, 4, 1, 2**31 - 1) + tif[place + 12 :]
    return {
        "claims.png": png(2**31 - 1, 2**31 - 1, tiny),
        "wide.png": png(2_000_000_000, 1, tiny),
        "zip.png": png(60_000, 60_000, zlib.compress(bytes(20_000_000), 9)),
        "cut.png": png(13_000, 13_000, tiny),
        "claims.gif": bytes(gif),
        "claims.tif": huge,
        "claims.ppm": b"P6\n2000000 2000000\n255\n" + bytes(100),
        "claims.qoi": b"qoif" + struct.pack(">IIBB", 13_000, 13_000, 3, 0) + b"\xfd" * 100,
        "claims.fits": fits_bomb(13_000),
        "runs.bmp": runs_of_nothing(13_000, 13_000),
        "scans.jpg": many_scans(2000, 2000, 2000),
        "text.png": png(4, 4, zlib.compress(bytes(20)), chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8), 9))),
    }  # fmt: skip


def odd_but_good() -> dict[str, bytes]:
    """Files that look like trouble and are fine."""
    picture, random = scene(1), np.random.default_rng(1)
    frames = [scene(i) for i in range(2, 5)]
    wide = random.integers(0, 65536, (30, 30)).astype(np.uint16)
    animated = {"save_all": True, "append_images": frames, "duration": 50}
    palette = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=200)
    exif = Image.Exif()
    exif[0x0112] = 99
    large = Image.Exif()
    large[0x9286] = b"x" * 60_000
    whole = encoded(picture, "JPEG", exif=exif)
    cut = whole.replace(exif.tobytes(), exif.tobytes()[:-8] + bytes(8))
    return {
        "one.png": encoded(Image.new("RGB", (1, 1), (9, 200, 30)), "PNG"),
        "wide.png": flat_png(60_000, 1, 77),
        "tall.png": flat_png(1, 60_000, 77),
        "frames.gif": encoded(palette, "GIF", **{**animated, "append_images": [f.convert("P") for f in frames]}),
        "frames.webp": encoded(picture, "WEBP", lossless=True, **animated),
        "frames.png": encoded(picture, "PNG", **animated),
        "sixteen.png": encoded(Image.fromarray(wide), "PNG"),
        "sixteen.tif": encoded(Image.fromarray(wide), "TIFF"),
        "float.tif": encoded(Image.fromarray(wide.astype(np.float32) / 65535), "TIFF"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "palette.png": encoded(palette, "PNG", transparency=3),
        "palettes.png": encoded(palette, "PNG", transparency=bytes(range(200))),
        "orientation.jpg": whole,
        "cut exif.jpg": cut,
        "large exif.jpg": encoded(picture, "JPEG", exif=large),
        "large exif.png": encoded(picture, "PNG", exif=b"Exif\0\0" + bytes(3_000_000)),
        "gray.jpg": encoded(ImageOps.grayscale(picture), "JPEG"),
        "really png.jpg": encoded(picture, "PNG"),
        "really jpeg.png": encoded(picture, "JPEG"),
        "really webp.tif": encoded(picture, "WEBP"),
    }


def damaged() -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every format with bytes replaced, and cut at every tenth of its length."""
    for kind, data in every_format(7).items():
        for seed in range(8):
            yield f"{kind}-flip{seed}.{ending(kind)}", mutated(data, seed, 1 + 2 * seed)
        for tenth in range(10):
            yield f"{kind}-cut{tenth}.{ending(kind)}", data[: len(data) * tenth // 10]


def flat_float_tiff(side: int, rows: int) -> bytes:
    """A float TIFF of side x side whose strips of `rows` rows are all the same few bytes; 0.5 everywhere."""
    strip = zlib.compress(struct.pack("<f", 0.5) * side * rows, 9)
    count = side // rows
    entries = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 32), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, count, 0),
        (277, 3, 1, 1), (278, 4, 1, rows), (279, 4, count, 0), (339, 3, 1, 3),
    ]  # fmt: skip
    tables = 8 + 2 + 12 * len(entries) + 4
    places, sizes, start = tables, tables + 4 * count, tables + 8 * count
    values = {273: places, 279: sizes}
    directory = b"".join(struct.pack("<HHII", tag, kind, n, values.get(tag, v)) for tag, kind, n, v in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + bytes(4)
    return head + struct.pack("<I", start) * count + struct.pack("<I", len(strip)) * count + strip
