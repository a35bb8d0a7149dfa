"""Thumbnails in the run folder: each image in its cell, a stated sample of many, larger pictures of typical ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ilk.images import Images, load_images
from ilk.reports.choose import choose_rows
from ilk.reports.sprites import (
    COLUMNS,
    LARGE_EACH,
    LARGE_MOST,
    PER_SHEET,
    Thumbnails,
    large_rows,
    read_thumbnails,
    write_thumbnails,
)
from ilk.runs.tables import Cluster

Written = Callable[..., Path]


def opened(address: str) -> Image.Image:
    head, _, data = address.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(data))).convert("RGB")


def colours(n: int) -> np.ndarray:
    """A colour for each image that its neighbours on a sheet do not have."""
    return np.stack([np.arange(n) * 37 % 256, np.arange(n) * 101 % 256, np.arange(n) * 53 % 256], axis=1)


def plain(n: int, side: int, channels: int = 3) -> Images:
    pixels = np.repeat(np.repeat(colours(n)[:, :, None, None], side, 2), side, 3).astype(np.uint8)
    pixels = np.concatenate([pixels, pixels], axis=1)[:, :channels]
    return Images(np.ascontiguousarray(pixels))


def clusters_of(n: int, k: int) -> list[Cluster]:
    rows = [np.arange(number, n, k) for number in range(k)]
    return [Cluster(number, own[::-1].copy(), own, 0.5) for number, own in enumerate(rows)]


def cell(sheets: list[Image.Image], place: int, tile: int) -> np.ndarray:
    """The middle pixel of a cell, as the page will find it."""
    at = place % PER_SHEET
    x, y = at % COLUMNS * tile + tile // 2, at // COLUMNS * tile + tile // 2
    return np.array(sheets[place // PER_SHEET].getpixel((x, y)))


@pytest.mark.parametrize(("n", "side"), [(5, 8), (1500, 4), (60, 32)])
def test_image_i_is_in_cell_i(tmp_path: Path, n: int, side: int) -> None:
    write_thumbnails(tmp_path, plain(n, side), clusters_of(n, 3))
    found = read_thumbnails(tmp_path, n)
    assert found is not None
    payload = found.payload(np.arange(n))
    assert payload["tile"] == side and payload["count"] == n and len(payload["sheets"]) == -(-n // PER_SHEET)
    sheets = [opened(one) for one in payload["sheets"]]
    wrong = [np.abs(cell(sheets, i, side) - colours(n)[i]).max() for i in range(n)]
    assert max(wrong) <= (0 if side < 17 else 40)  # lossless where tiles are small, else WebP's rounding of colours


def test_images_chosen_by_the_reader_are_put_into_new_cells(tmp_path: Path) -> None:
    write_thumbnails(tmp_path, plain(1500, 4), clusters_of(1500, 3))
    found = Thumbnails(tmp_path, 1500)
    rows = np.array([3, 700, 1023, 1024, 1499])
    payload = found.payload(rows)
    sheets = [opened(one) for one in payload["sheets"]]
    assert payload["count"] == 5 and len(sheets) == 1
    for place, row in enumerate(rows):
        assert cell(sheets, place, 4).tolist() == colours(1500)[row].tolist()


@pytest.mark.parametrize(("n", "side", "tile"), [(50, 100, 64), (50, 20, 20), (2001, 64, 48), (5001, 64, 36)])
def test_a_tile_is_never_larger_than_the_image_and_smaller_with_more_images(
    tmp_path: Path, n: int, side: int, tile: int
) -> None:
    pixels = np.broadcast_to(np.uint8(99), (n, 1, side, side))
    write_thumbnails(tmp_path, Images(pixels), clusters_of(n, 2))
    found = Thumbnails(tmp_path, n)
    assert found.tile == tile and len(found.rows) == n
    with Image.open(tmp_path / "thumbnails" / "sheet-0.webp") as sheet:
        assert sheet.width == COLUMNS * tile


@pytest.mark.parametrize(("n", "k", "most"), [(500, 10, 100), (500, 40, 60), (500, 3, 5), (50, 3, 50), (500, 400, 50)])
def test_the_sample_is_as_large_as_asked_has_each_clusters_best_and_is_the_same_every_time(
    n: int, k: int, most: int
) -> None:
    clusters = clusters_of(n, k)
    rows = choose_rows(clusters, most, always=[7])
    assert len(rows) == len(set(rows.tolist())) == min(n, most) and rows.tolist() == sorted(rows.tolist())
    assert choose_rows(clusters, most, always=[7]).tolist() == rows.tolist()
    if k <= most:
        assert {int(one.rows[0]) for one in clusters} <= set(rows.tolist())
    among = np.arange(0, n, 2)
    assert set(choose_rows(clusters, most, among=among).tolist()) <= set(among.tolist())


def test_images_that_were_followed_are_in_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilk.reports.sprites.MOST", 200)
    monkeypatch.setattr("ilk.reports.sprites.TILES", ((200, 4, 50),))
    always = [1, 33, 77, 401]
    np.savez(tmp_path / "moments.npz", rows=np.array([*always, 9999]))
    write_thumbnails(tmp_path, plain(500, 4), clusters_of(500, 2))
    assert set(always) <= set(Thumbnails(tmp_path, 500).rows.tolist())
    (tmp_path / "moments.npz").write_bytes(b"damaged")
    write_thumbnails(tmp_path, plain(500, 4), clusters_of(500, 2))
    assert not set(always) <= set(Thumbnails(tmp_path, 500).rows.tolist())


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Ten pictures of 300 x 200 pixels, one of them gray, one turned by its EXIF tag, one tiny."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        picture = Image.new("RGB", (300, 200), (20 * i, 200 - 20 * i, 90))
        exif = Image.Exif()
        if i == 2:
            exif[0x0112] = 6
        if i == 1:
            picture = picture.convert("L")
        if i == 3:
            picture = picture.resize((15, 10))
        picture.save(folder / f"{i}.jpg", exif=exif)
    return folder


def test_typical_images_have_a_larger_picture_from_their_file_in_its_proportions(
    tmp_path: Path, photographs: Path
) -> None:
    images = load_images(photographs, image_size=24)
    write_thumbnails(tmp_path, images, clusters_of(10, 2))
    found = Thumbnails(tmp_path, 10).large_payload({row: row for row in range(10)})
    assert found is not None
    sizes = {place: opened(one).size for place, one in zip(found["index"], found["images"], strict=True)}
    assert set(sizes) == {0, 1, 2, 4, 5, 6, 7, 8, 9}  # not 3: its file has no more pixels than the thumbnail
    assert sizes[0] == (160, 107) and sizes[2] == (107, 160)
    for place, one in zip(found["index"], found["images"], strict=True):
        if place not in (1, 2):
            middle = np.array(opened(one).getpixel((80, 50)))
            assert np.abs(middle - [20 * place, 200 - 20 * place, 90]).max() < 12


def test_without_the_file_the_larger_picture_is_what_was_used_if_that_is_larger(
    tmp_path: Path, photographs: Path
) -> None:
    large, small = load_images(photographs, image_size=128), load_images(photographs, image_size=64)
    for file in photographs.iterdir():
        file.unlink()
    write_thumbnails(tmp_path, large, clusters_of(10, 2))
    found = Thumbnails(tmp_path, 10).large_payload({row: row for row in range(10)})
    assert found is not None and {opened(one).size for one in found["images"]} == {(128, 128)}
    write_thumbnails(tmp_path, small, clusters_of(10, 2))
    assert Thumbnails(tmp_path, 10).large_payload({row: row for row in range(10)}) is None
    assert not list((tmp_path / "thumbnails").glob("large-*"))


@pytest.mark.parametrize(("k", "expected"), [(1, 8), (10, 80), (50, 200), (300, 200)])
def test_there_are_eight_larger_pictures_a_cluster_but_not_more_than_two_hundred(k: int, expected: int) -> None:
    rows = large_rows(clusters_of(3000, k))
    assert len(rows) == len(set(rows)) == expected <= LARGE_MOST and LARGE_EACH == 8


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_images_of_any_number_of_channels_have_thumbnails(tmp_path: Path, channels: int) -> None:
    write_thumbnails(tmp_path, plain(10, 8, channels), clusters_of(10, 2))
    sheet = opened(Thumbnails(tmp_path, 10).payload(np.arange(10))["sheets"][0])
    found = cell([sheet], 7, 8).tolist()
    assert found == (colours(10)[7].tolist() if channels in (3, 6) else [colours(10)[7][0]] * 3)


def test_writing_again_leaves_no_picture_of_before(tmp_path: Path) -> None:
    write_thumbnails(tmp_path, plain(2100, 4), clusters_of(2100, 3))
    write_thumbnails(tmp_path, plain(30, 4), clusters_of(30, 3))
    assert {file.name for file in (tmp_path / "thumbnails").iterdir()} == {"index.json", "sheet-0.webp"}
    with pytest.raises(ValueError, match="31 images"):
        Thumbnails(tmp_path, 31)


def test_an_interrupted_writing_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_thumbnails(tmp_path, plain(30, 4), clusters_of(30, 3))

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("ilk.reports.sprites.sheet", stop)
    with pytest.raises(KeyboardInterrupt):
        write_thumbnails(tmp_path, plain(30, 4), clusters_of(30, 3))
    assert read_thumbnails(tmp_path, 30) is None


@pytest.mark.parametrize(
    "change",
    [{"tile": "x"}, {"rows": [0, 99]}, {"rows": [[0]]}, {"n": 29}, {"per_sheet": 7}, {"tile": 0}, {"large": None}],
)
def test_an_index_that_makes_no_sense_gives_a_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    write_thumbnails(tmp_path, plain(30, 4), clusters_of(30, 3))
    file = tmp_path / "thumbnails" / "index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=r"thumbnails.*(damaged|not those of this run)"):
        Thumbnails(tmp_path, 30)


def test_a_file_that_is_no_picture_is_never_put_into_a_report(tmp_path: Path) -> None:
    write_thumbnails(tmp_path, plain(30, 4), clusters_of(30, 3))
    (tmp_path / "thumbnails" / "sheet-0.webp").write_bytes(b"<svg onload=alert(1)>")
    with pytest.raises(ValueError, match="sheet-0.webp' is missing or damaged"):
        Thumbnails(tmp_path, 30).payload(np.arange(30))
