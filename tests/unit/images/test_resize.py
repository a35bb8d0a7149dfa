"""`to_square` against Pillow's plain bilinear resize, which it must equal to one level whatever does the work."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from ilk.images import resize as module
from ilk.images.decode import decode
from ilk.images.resize import to_square, torch_is_serial

SHAPES = [(37, 90), (90, 37), (64, 64), (8, 8), (1, 50), (50, 1), (1, 1), (5, 3), (700, 900)]
BILINEAR = Image.Resampling.BILINEAR


def scene(height: int, width: int, channels: int) -> np.ndarray:
    """Noise over a slope: neither flat nor without a plan."""
    slope = np.linspace(0, 155, width)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    found = (slope + np.random.default_rng(height).integers(0, 50, (height, width, channels))).astype(np.uint8)
    return found if channels == 3 else found[..., 0]


def expected(picture: Image.Image, size: int, resize: str) -> np.ndarray:
    """(size, size) or (size, size, 3), said literally."""
    width, height = picture.size
    if resize == "squash":
        return np.asarray(picture.resize((size, size), BILINEAR))
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return np.asarray(picture.crop((left, top, left + side, top + side)).resize((size, size), BILINEAR))
    scale = size / max(width, height)
    inner = np.asarray(picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), BILINEAR))
    border = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    square = np.zeros((size, size, *inner.shape[2:]), np.uint8)
    square[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def close(found: np.ndarray, wanted: np.ndarray, share: float = 0.25) -> None:
    """Equal but for rounding: at most one level, in at most a `share` of the pixels, up as often as down."""
    wanted = wanted[None] if wanted.ndim == 2 else wanted.transpose(2, 0, 1)
    difference = np.abs(found.astype(int) - wanted)
    assert found.dtype == np.uint8 and found.shape == wanted.shape and found.flags.c_contiguous
    assert difference.max() <= 1 and difference.mean() <= share
    assert share == 1 or abs((found.astype(int) - wanted).mean()) < 0.03


@pytest.mark.parametrize("serial", [True, False])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_square_is_pillows_bilinear_one_with_and_without_torch(shape, channels, resize, serial, monkeypatch):
    monkeypatch.setattr(module, "torch_is_serial", lambda: serial)
    pixels = scene(*shape, channels)
    picture = Image.fromarray(pixels)
    for size in (8, 33):
        wanted = expected(picture, size, resize)
        share = 1.0 if resize == "pad" else 0.25  # one level in the border's median is one in all that is filled
        close(to_square(picture, size, resize), wanted, share)
        close(to_square(pixels, size, resize), wanted, share)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_large_picture_is_resized_without_a_copy_and_alike(resize, monkeypatch):
    picture = Image.fromarray(scene(300, 400, 3))
    small = to_square(picture, 40, resize)
    monkeypatch.setattr(module, "SMALL_PIXELS", 300 * 400 - 1)
    monkeypatch.setattr(module, "writable", None)  # would be called for a copy
    large = to_square(picture, 40, resize)
    difference = np.abs(small.astype(int) - large)[:, 1:-1, 1:-1]  # at the edge a crop sees what is beside it
    assert difference.max() <= 4 and difference.mean() < 0.5


@pytest.mark.parametrize("how", ["read-only", "backwards", "transposed", "every other"])
def test_arrays_of_any_strides_are_resized_without_a_warning(how):
    array = scene(60, 80, 3).transpose(2, 0, 1)
    given = {
        "read-only": np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8).reshape(array.shape),
        "backwards": array[:, ::-1, ::-1], "transposed": array.swapaxes(1, 2), "every other": array[:, ::2, ::2],
    }[how]  # fmt: skip
    before = given.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(given, 8, "squash").pixels
    close(found, expected(Image.fromarray(np.ascontiguousarray(before.transpose(1, 2, 0))), 8, "squash"))
    np.testing.assert_array_equal(given, before)


def test_torch_resizes_only_where_it_has_vector_code(monkeypatch):
    for capability, serial in (("AVX2", True), ("AVX512", True), ("DEFAULT", False), ("NO AVX", False)):
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda capability=capability: capability)
        torch_is_serial.cache_clear()
        assert torch_is_serial() is serial
    torch_is_serial.cache_clear()
