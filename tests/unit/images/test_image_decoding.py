"""One odd picture at a time through `decode`."""

from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from ilk.images import jpeg
from ilk.images.decode import Decoded, decode, read_header, strict_pillow
from ilk.images.open_picture import explain, picture_extensions

NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
GRAY = NOISE[..., 0].copy()


def pixels(item, size=8, resize="squash"):
    """(h, w, c) of a picture that must be readable."""
    with strict_pillow():
        outcome = decode(item, size, resize)
    assert isinstance(outcome, Decoded), outcome
    assert outcome.pixels.dtype == np.uint8 and outcome.pixels.shape[1:] == (size, size)
    return outcome.pixels.transpose(1, 2, 0)


def reason(item, size=8):
    """Why a picture is bad."""
    with strict_pillow():
        outcome = decode(item, size, "squash")
    assert isinstance(outcome, str), "was decoded"
    return outcome


def stored_as(upright, orientation):
    """The EXIF definition, literally: which side of the scene row 0 and column 0 of the file are."""
    height, width = upright.shape[:2]
    first = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
    first |= {5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}
    side_of_row, side_of_column = first[orientation].split()
    rows, columns = (height, width) if orientation < 5 else (width, height)
    stored = np.empty((rows, columns, 3), np.uint8)
    for r in range(rows):
        for c in range(columns):
            along = {side_of_row: r, side_of_column: c}
            y = along["top"] if "top" in along else height - 1 - along["bottom"]
            x = along["left"] if "left" in along else width - 1 - along["right"]
            stored[r, c] = upright[y, x]
    return stored


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_is_turned_upright(encode, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(stored_as(NOISE, orientation), kind, exif=exif, **options)
    np.testing.assert_array_equal(pixels(data), NOISE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_turned_after_being_decoded_at_a_reduced_scale(encode, orientation):
    upright = np.full((512, 512, 3), 40, np.uint8)
    upright[:64, :256] = 220  # a bright bar in the upper left and nowhere else
    exif = Image.Exif()
    exif[0x0112] = orientation
    small = pixels(encode(stored_as(upright, orientation), "JPEG", quality=95, exif=exif)).astype(int)
    assert small[0, :4].min() > 150 and small[0, 4:].max() < 100 and small[1:].max() < 100


def test_the_header_tells_the_size_after_turning(encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    header = read_header(encode(np.zeros((20, 30, 3), np.uint8), "JPEG", exif=exif))
    assert (header.height, header.width, header.channels) == (30, 20, 3)


def test_a_damaged_exif_block_leaves_the_picture_readable(encode):
    data = encode(NOISE, exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    np.testing.assert_array_equal(pixels(data), NOISE)


def test_transparency_is_laid_over_white(encode):
    rgba = np.dstack([NOISE, np.full((8, 8), 255, np.uint8)])
    rgba[:4, :, 3] = 0
    rgba[4, :] = (0, 0, 0, 128)
    found = pixels(encode(rgba))
    assert (found[:4] == 255).all()
    assert np.abs(found[4].astype(int) - 127).max() <= 1
    np.testing.assert_array_equal(found[5:], NOISE[5:])


def test_a_palette_with_a_transparent_colour_is_laid_over_white(encode):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.paste(0, (0, 0, 8, 4))
    found = pixels(encode(picture, transparency=0))
    assert (found[:4] == 255).all() and (found[4:] == (200, 100, 50)).all()


def test_a_palette_with_several_alphas_is_laid_over_white(encode):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.paste(0, (0, 0, 8, 4))
    found = pixels(encode(picture, transparency=bytes([128, 255])))
    assert np.abs(found[:4].astype(int) - 127).max() <= 1 and (found[4:] == (200, 100, 50)).all()


def test_a_plain_palette_becomes_its_colours(encode):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    assert (pixels(encode(picture)) == (200, 100, 50)).all()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(encode, kind):
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind)
    assert np.abs(pixels(data).astype(int) - (255, 0, 0)).max() <= 8


def test_sixteen_bits_are_divided_by_257(encode):
    wide = (GRAY.astype(np.uint16) * 257)[..., None]
    found = pixels(encode(Image.fromarray(wide[..., 0])))
    np.testing.assert_array_equal(found, GRAY[..., None])


def test_integers_beyond_255_are_stretched_over_their_own_range(encode):
    values = np.linspace(1000, 5000, 64).reshape(8, 8).astype(np.int32)
    found = pixels(encode(Image.fromarray(values), "TIFF"))[..., 0]
    np.testing.assert_allclose(found, (values - 1000) * 255 / 4000, atol=0.51)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 255)), (0, 200, (0, 200)), (-3, 9, (0, 255)), (0, 4000, (0, 255))],
)
def test_floats_are_taken_as_fractions_or_levels_or_stretched(encode, low, high, expected):
    values = np.linspace(low, high, 64).reshape(8, 8).astype(np.float32)
    found = pixels(encode(Image.fromarray(values), "TIFF"))[..., 0]
    assert (found.min(), found.max()) == expected and (np.diff(found.ravel().astype(int)) >= 0).all()


def test_a_float_picture_with_a_nan_keeps_the_rest(encode):
    values = np.linspace(0, 1, 64).reshape(8, 8).astype(np.float32)
    values[3, 3] = np.nan
    found = pixels(encode(Image.fromarray(values), "TIFF"))[..., 0]
    assert found[0, 0] == 0 and found[7, 7] == 255 and found[3, 3] == 0


def test_one_bit_becomes_black_and_white_in_one_channel(encode):
    bits = GRAY > 127
    found = pixels(encode(Image.fromarray(bits)))
    np.testing.assert_array_equal(found, np.where(bits, 255, 0)[..., None])


def test_gray_with_alpha_stays_one_channel(encode):
    la = np.dstack([GRAY, np.full((8, 8), 255, np.uint8)])
    la[0, :, 1] = 0
    found = pixels(encode(Image.fromarray(la, "LA")))
    assert found.shape[2] == 1 and (found[0] == 255).all()
    np.testing.assert_array_equal(found[1:, :, 0], GRAY[1:])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(encode, kind):
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(first, kind, save_all=True, append_images=[second], **options)
    assert np.abs(pixels(data).astype(int) - (250, 0, 0)).max() <= 5


def test_a_progressive_jpeg_is_read(encode):
    smooth = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (1, 32, 3))
    found = pixels(encode(smooth, "JPEG", progressive=True, quality=95), 32)
    assert np.abs(found.astype(int) - smooth).max() < 12


@pytest.mark.parametrize(
    ("size", "expected"),
    [(64, (200, 100)), (66, (200, 100)), (67, (400, 200)), (134, (800, 400)), (266, (800, 400)), (267, (1600, 800))],
)
def test_a_large_jpeg_is_decoded_at_the_smallest_scale_that_keeps_one_and_a_half_times_the_target(
    encode, monkeypatch, size, expected
):
    seen = []
    real = jpeg.quick_pixels
    monkeypatch.setattr(jpeg, "quick_pixels", lambda picture: seen.append(picture.size) or real(picture))
    pixels(encode(np.zeros((800, 1600, 3), np.uint8), "JPEG"), size)
    assert seen == [expected]


def test_a_reduced_jpeg_looks_like_the_full_one(encode):
    y, x = np.mgrid[0:512, 0:512] / 512
    scene = np.dstack([255 * x, 255 * y, 127 + 127 * np.sin(9 * x)]).astype(np.uint8)
    full = pixels(encode(scene, "PNG"), 32)
    reduced = pixels(encode(scene, "JPEG", quality=95), 32)
    assert np.abs(full.astype(int) - reduced).max() <= 6


def test_shrinking_averages_instead_of_picking_pixels():
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(pixels(checks[None], 8).astype(int) - 127).max() <= 4


def test_squash_keeps_everything_crop_the_centre_and_pad_the_shape(encode):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, :8], wide[:, 8:16], wide[:, 16:] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    data = encode(wide)
    squashed, cropped, padded = (pixels(data, 8, resize) for resize in ("squash", "crop", "pad"))
    assert squashed[4, 0].argmax() == 0 and squashed[4, 4].argmax() == 1 and squashed[4, 7].argmax() == 2
    assert (cropped == (0, 200, 0)).all()
    inside = [row for row in range(8) if padded[row, 0].argmax() == 0 and padded[row, 7].argmax() == 2]
    assert len(set(map(tuple, padded[0]))) == 1 and inside in ([2, 3, 4], [3, 4, 5])


def test_pad_fills_with_the_colour_of_the_border(encode):
    tall = np.full((24, 8, 3), (10, 200, 30), np.uint8)
    tall[8:16, 3:5] = 0
    padded = pixels(encode(tall), 24, "pad")
    assert (padded[:, :8] == (10, 200, 30)).all() and (padded[:, 16:] == (10, 200, 30)).all()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 5)])
def test_any_shape_becomes_a_square(encode, shape, resize):
    assert (pixels(encode(np.full((*shape, 3), 77, np.uint8)), 16, resize) == 77).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_arrays_of_any_channels_are_resized_channel_by_channel(channels):
    levels = np.arange(channels, dtype=np.uint8) * 30
    array = np.broadcast_to(levels[:, None, None], (channels, 12, 20)).copy()
    np.testing.assert_array_equal(pixels(array), np.broadcast_to(levels, (8, 8, channels)))


def test_gray_saved_as_colour_is_not_coloured_and_a_tint_is(encode):
    gray = np.repeat(GRAY[..., None], 3, axis=2)
    tinted = gray.copy()
    tinted[0, 0] = (100, 100, 110)
    assert decode(encode(gray), 8, "squash").coloured is False
    assert decode(encode(tinted), 8, "squash").coloured is True


def test_a_truncated_file_is_bad_and_not_half_gray(encode, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as some libraries do to the whole process
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode(noise, kind)
        assert reason(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_an_empty_file_says_so(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert reason(str(tmp_path / "a.jpg")) == "empty file" and reason(b"") == "empty file"


def test_text_named_jpg_says_so(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>404 not found</html>")
    assert reason(str(tmp_path / "a.jpg")) == "not an image but text"


def test_random_bytes_are_bad():
    assert reason(bytes(range(128, 256)) * 40) == "not an image that Pillow can read"


def test_postscript_is_never_run():
    assert "PostScript" in reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    assert not {".eps", ".ps", ".pdf"} & picture_extensions()


def test_a_missing_file_says_so(tmp_path):
    assert reason(str(tmp_path / "gone.png")) == "file not found"


def test_a_small_file_that_declares_a_huge_picture_is_bad():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    assert len(bomb) < 200 and reason(bomb).startswith("too large")


def test_a_picture_over_our_own_limit_is_bad_even_if_pillow_allows_it(encode, monkeypatch):
    monkeypatch.setattr("ilk.images.decode.MAX_PIXELS", 1100)
    assert reason(encode(np.zeros((50, 50), np.uint8))).startswith("too large: 50 x 50")
    assert pixels(encode(np.zeros((256, 256, 3), np.uint8), "JPEG")).max() == 0  # reduced to 32 x 32 first


def test_every_damaged_byte_gives_a_picture_or_a_reason_and_never_an_exception(encode):
    random = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        data = encode(NOISE, kind)
        for _ in range(15):
            broken = bytearray(data)
            for place in random.integers(0, len(data), 3):
                broken[place] = random.integers(0, 256)
            with strict_pillow():
                assert isinstance(decode(bytes(broken), 8, "squash"), (Decoded, str))


def test_a_users_pillow_image_is_not_changed(tmp_path):
    Image.new("RGB", (512, 512), (9, 90, 200)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as picture:
        pixels(picture, 8)
        assert picture.size == (512, 512)


def test_pillows_warnings_are_silent_and_come_back(encode):
    data = encode(Image.new("P", (8, 8)), transparency=bytes([1, 2]))
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels(data)
        with strict_pillow():
            warnings.warn_explicit("from Pillow", UserWarning, "PIL/x.py", 1, module="PIL.TiffImagePlugin")
            warnings.warn_explicit("from elsewhere", UserWarning, "other.py", 1, module="other")
    assert [str(warning.message) for warning in caught] == ["from elsewhere"]
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied"), "cannot be opened: Permission denied"),
        (MemoryError(), "cannot be read just now: not enough memory to decode it"),
        (ValueError("two\n  lines"), "two lines"),
        (KeyError(), "KeyError"),
    ],
)
def test_reasons_are_one_short_line(error, expected):
    assert explain(error) == expected
