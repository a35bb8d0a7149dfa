"""JPEG files at a reduced scale, and by the quick decoder: the same pixels and the same complaints as by Pillow."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import fuzz
from ilk.images import jpeg
from ilk.images.decode import Decoded, decode, strict_pillow
from places import SHARED_DATA

FLOWERS = SHARED_DATA / "flowers"


@pytest.fixture
def both(monkeypatch):
    """`both(data, size)`: what `decode` says with the quick decoder and without, and whether it was used."""
    pytest.importorskip("simplejpeg", reason="the quick decoder is an extra: pip install 'ilk[fast]'")
    real = jpeg.quick_decoder()

    def run(data, size, resize="squash"):
        used = []

        def counted(*args, **options):
            found = real(*args, **options)
            used.append(1)
            return found

        with strict_pillow():
            monkeypatch.setattr(jpeg, "quick_decoder", lambda: counted)
            quick = decode(data, size, resize)
            monkeypatch.setattr(jpeg, "quick_decoder", lambda: None)
            return quick, decode(data, size, resize), bool(used)

    return run


def same(quick, slow):
    if isinstance(slow, str):
        return quick == slow
    return isinstance(quick, Decoded) and np.array_equal(quick.pixels, slow.pixels) and quick.coloured == slow.coloured


def saved(picture, **options):
    stream = BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_quick_decoder_gives_pillows_pixels_at_every_scale(both, mode, subsampling, progressive):
    picture = fuzz.scene(1, 203).resize((307, 203)).convert(mode)
    data = saved(picture, quality=83, subsampling=subsampling, progressive=progressive)
    for size in (16, 30, 60, 120, 250):
        for resize in ("squash", "crop", "pad"):
            quick, slow, used = both(data, size, resize)
            assert used and same(quick, slow), (size, resize)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_quick_decoder_leaves_turning_as_it_is(both, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    quick, slow, used = both(saved(fuzz.scene(2, 120).resize((160, 120)), exif=exif), 32, "pad")
    assert used and same(quick, slow)


@pytest.mark.parametrize(
    ("shape", "quickly"), [((1, 1), False), ((1, 40), False), ((15, 99), False), ((16, 99), True), ((99, 16), True)]
)
def test_tiny_pictures_are_left_to_pillow(both, shape, quickly):
    quick, slow, used = both(saved(fuzz.scene(3, 64).resize(shape)), 12)
    assert same(quick, slow) and used is quickly


def test_what_is_not_gray_or_rgb_is_left_to_pillow(both):
    quick, slow, used = both(saved(fuzz.scene(4, 64).convert("CMYK")), 32)
    assert not used and same(quick, slow)


def test_a_cut_or_damaged_jpeg_is_judged_by_pillow(both):
    whole = saved(fuzz.scene(5, 96), quality=85)
    data = [whole[: len(whole) * part // 20] for part in range(21)]
    data += [whole[:-1], whole[:-2], whole + b"more", whole + whole]
    data += [fuzz.mutated(whole, seed, 1 + seed % 3) for seed in range(250)]
    outcomes = [both(one, 24) for one in data]
    assert [number for number, (quick, slow, _) in enumerate(outcomes) if not same(quick, slow)] == []
    assert {type(slow) for _, slow, _ in outcomes} == {str, Decoded}
    assert {used for _, _, used in outcomes} == {True, False}


@pytest.mark.parametrize("limit", ["QUICK_BYTES", "SMALL_PIXELS"])
def test_what_is_large_is_left_to_pillow(both, monkeypatch, limit):
    monkeypatch.setattr(jpeg, limit, 1000)
    quick, slow, used = both(saved(fuzz.scene(6, 96)), 64)
    assert not used and same(quick, slow)


def fails(*args, **options):
    raise RuntimeError("no")


@pytest.mark.parametrize("decoder", [None, fails, lambda *args, **options: np.zeros((5, 5, 3), np.uint8)])
def test_without_a_quick_decoder_or_with_one_that_fails_pillow_reads_all(monkeypatch, decoder):
    monkeypatch.setattr(jpeg, "quick_decoder", lambda: decoder)
    picture = fuzz.scene(7, 64)
    data = saved(picture)
    found = decode(data, 64, "squash")
    np.testing.assert_array_equal(found.pixels.transpose(1, 2, 0), np.asarray(Image.open(BytesIO(data))))


def test_the_scale_costs_a_photograph_about_a_level():
    """The bound of the table in the module; 2 levels is what saving as JPEG costs anyway."""
    if not FLOWERS.is_dir():
        pytest.skip("the flowers are not here")
    errors = []
    for path in sorted(FLOWERS.glob("*/*.jpg"))[::60]:
        with Image.open(path) as full:
            exact = np.asarray(full.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
        found = decode(str(path), 32, "squash").pixels.transpose(1, 2, 0)
        errors.append(np.abs(found.astype(int) - exact).mean())
    assert 0.2 < np.mean(errors) < 1.5 and max(errors) < 5
