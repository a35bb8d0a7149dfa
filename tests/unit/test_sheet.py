"""The picture of all clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ilk.images import Images
from ilk.pipeline.contact_sheet import GROUND, HEADER, write_sheet
from ilk.runs.tables import Cluster

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


def plain_images(n: int, side: int = 8, channels: int = 3) -> Images:
    """Image i is one colour all over: red, green, blue, red, ..."""
    pixels = np.zeros((n, channels, side, side), dtype=np.uint8)
    for i in range(n):
        pixels[i] = np.resize(COLOURS[i % 3], channels)[:, None, None]
    return Images(pixels)


def cluster(number: int, rows: list[int]) -> Cluster:
    return Cluster(number, np.array(rows, dtype=int), np.array(rows[::-1], dtype=int), 0.9 if rows else float("nan"))


def tiles_of(file: Path, side: int) -> np.ndarray:
    """The pixels of the sheet below its header, cut into rows of the given height."""
    with Image.open(file) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("RGB"))[HEADER:]
    count = len(pixels) // (side + 4)
    return pixels[: count * (side + 4)].reshape(count, side + 4, -1, 3)


def colours_in(row: np.ndarray, side: int) -> list[tuple[int, ...]]:
    """The colours of a row, left to right, each as often as there are images of it."""
    line = [tuple(int(v) for v in pixel) for pixel in row[1]]  # above the captions
    strong = [pixel for pixel in line if pixel in COLOURS]
    return strong[side // 2 :: side]


def test_each_cluster_that_has_images_is_a_row_largest_first(tmp_path: Path) -> None:
    clusters = [cluster(0, [0]), cluster(1, []), cluster(2, [1, 4, 7]), cluster(3, [2, 5])]
    write_sheet(tmp_path / "s.png", plain_images(9), clusters)
    rows = tiles_of(tmp_path / "s.png", 32)
    assert [colours_in(row, 32) for row in rows] == [[COLOURS[1]] * 3, [COLOURS[2]] * 2, [COLOURS[0]]]


def test_a_row_shows_the_most_typical_and_then_the_least_certain(tmp_path: Path) -> None:
    images = plain_images(33)
    one = Cluster(0, np.arange(0, 33), np.array([1, 4, 7, 10, 2, 5]), 0.5)
    write_sheet(tmp_path / "s.png", images, [one], columns=8)
    (row,) = tiles_of(tmp_path / "s.png", 32)
    typical = [COLOURS[i % 3] for i in range(6)]
    assert colours_in(row, 32) == [*typical, COLOURS[7 % 3], COLOURS[10 % 3]]  # 1, 4, 2, 5 stand there already


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_any_number_of_channels_can_be_shown(tmp_path: Path, channels: int) -> None:
    write_sheet(tmp_path / "s.png", plain_images(3, channels=channels), [cluster(0, [0, 1, 2])])
    (row,) = tiles_of(tmp_path / "s.png", 32)
    if channels >= 3:
        assert colours_in(row, 32) == COLOURS
    else:
        assert (200, 200, 200) in {tuple(pixel) for pixel in row[1].tolist()}  # the first channel, as gray


@pytest.mark.parametrize(
    ("size", "side"), [(1, 32), (5, 35), (8, 32), (28, 56), (32, 64), (48, 48), (64, 64), (100, 64)]
)
def test_images_are_shown_at_a_size_one_can_see(tmp_path: Path, size: int, side: int) -> None:
    write_sheet(tmp_path / "s.png", plain_images(2, side=size), [cluster(0, [0]), cluster(1, [1])])
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.height == HEADER + 2 * (side + 4) + 4


def test_at_most_a_hundred_clusters_are_shown_and_the_rest_is_mentioned(tmp_path: Path) -> None:
    images = plain_images(150)
    write_sheet(tmp_path / "100.png", images, [cluster(i, [i]) for i in range(100)])
    write_sheet(tmp_path / "150.png", images, [cluster(i, [i]) for i in range(150)])
    with Image.open(tmp_path / "100.png") as whole, Image.open(tmp_path / "150.png") as cut:
        assert cut.height - whole.height == 20  # the line "and 50 smaller clusters"
        line = np.asarray(cut)[-20:]
        assert (line != GROUND).any()
        assert (np.asarray(whole)[-4:] == GROUND).all()


def test_captions_of_large_clusters_are_not_painted_over(tmp_path: Path) -> None:
    class Huge(Cluster):
        @property
        def size(self) -> int:
            return 1_234_567

    rows = np.array([0])
    for name, kind in (("small", Cluster), ("huge", Huge)):
        write_sheet(tmp_path / f"{name}.png", plain_images(1), [kind(0, rows, rows, 1.0)])
    with Image.open(tmp_path / "small.png") as small, Image.open(tmp_path / "huge.png") as huge:
        assert huge.width > small.width


def test_an_old_sheet_is_replaced_and_a_failure_leaves_it(tmp_path: Path) -> None:
    file = tmp_path / "clusters.png"
    write_sheet(file, plain_images(2), [cluster(0, [0])])
    first = file.read_bytes()
    with pytest.raises(IndexError):
        write_sheet(file, plain_images(2), [cluster(0, [5])])
    assert file.read_bytes() == first
    write_sheet(file, plain_images(2), [cluster(0, [0, 1])])
    assert file.read_bytes() != first
    assert list(tmp_path.iterdir()) == [file]
