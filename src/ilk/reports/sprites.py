"""Thumbnails in the run folder, as sprite sheets, so that a report needs neither the images nor torch."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ilk.reports.choose import choose_rows
from ilk.reports.odd import read_odd
from ilk.runs.tables import Cluster
from ilk.system.files import replacing, write_json
from ilk.system.text import safe_text

if TYPE_CHECKING:
    from ilk.images import Images

FOLDER = "thumbnails"
MOST = 10_000  # images with a thumbnail
TILES = ((2_000, 64, 60), (5_000, 48, 55), (MOST, 36, 40))  # for up to that many images: pixels, WebP quality
COLUMNS, PER_SHEET = 32, 1024
LARGE, LARGE_EACH, LARGE_MOST = 160, 8, 200  # pixels, pictures per cluster, pictures in all
LARGE_QUALITY, AGAIN_QUALITY = 75, 70  # of larger pictures, and of thumbnails put into new sheets
LOSSLESS_BELOW = 17  # pixels; WebP's blocks of 16 would smear smaller tiles into each other
BATCH = 128  # images read together


def write_thumbnails(folder: Path, images: Images, clusters: Sequence[Cluster]) -> None:
    """Writes `folder`/thumbnails: sheets of up to 10,000 images, and larger pictures of typical ones.

    Of more images, a sample: each cluster's typical and uncertain images, duplicates, odd images, those followed
    during training, and others drawn at random.
    """
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    (place / "index.json").unlink(missing_ok=True)  # until it is written again, the pictures do not count
    odd = read_odd(folder, [safe_text(text) for text in images.ids], [])
    rows = choose_rows(clusters, MOST, always=[*odd.rows, *followed(folder, len(images))])
    side = min(images.shape[1:])
    pixels, quality = next((pixels, quality) for most, pixels, quality in TILES if len(rows) <= most)
    tile = min(pixels, side)
    sheets = math.ceil(len(rows) / PER_SHEET)
    for number in range(sheets):
        cells = np.arange(number * PER_SHEET, min((number + 1) * PER_SHEET, len(rows)))
        data = sheet(tile, cells, lambda part: pictures(images, rows[part], tile), quality)
        with replacing(place / f"sheet-{number}.webp") as temporary:
            temporary.write_bytes(data)
    chosen = large_rows(clusters)
    made = [row for row in chosen if write_large(place, images, row, tile)]
    for file in place.glob("*.webp"):
        kind, _, name = file.stem.partition("-")
        kept = made if kind == "large" else range(sheets)
        if not name.isdecimal() or int(name) not in kept:
            file.unlink()
    write_json(
        place / "index.json",
        {"format": 1, "n": len(images), "tile": tile, "columns": COLUMNS, "per_sheet": PER_SHEET,
         "rows": None if len(rows) == len(images) else rows.tolist(), "large": {"tile": LARGE, "rows": made}},
    )  # fmt: skip


def followed(folder: Path, n: int) -> list[int]:
    """The images followed during training; none where moments.npz is missing or damaged."""
    try:
        with np.load(folder / "moments.npz", allow_pickle=False) as saved:
            rows = np.asarray(saved["rows"], dtype=np.int64).ravel()
    except Exception:  # numpy and zipfile raise several kinds
        return []
    return [row for row in rows.tolist() if 0 <= row < n]


def sheet(tile: int, cells: np.ndarray, read: Callable[[np.ndarray], list[Image.Image]], quality: int) -> bytes:
    """One sprite sheet as WebP: the pictures that `read` gives for `cells`, row by row."""
    picture = Image.new("RGB", (COLUMNS * tile, math.ceil(len(cells) / COLUMNS) * tile), (128, 128, 128))
    for start in range(0, len(cells), BATCH):
        for place, thumbnail in enumerate(read(cells[start : start + BATCH]), start):
            picture.paste(thumbnail, (place % COLUMNS * tile, place // COLUMNS * tile))
    return webp(picture, quality, lossless=tile < LOSSLESS_BELOW)


def webp(picture: Image.Image, quality: int, *, lossless: bool = False) -> bytes:
    """A picture as a WebP file."""
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=quality, lossless=lossless, method=4)
    return buffer.getvalue()


def pictures(images: Images, rows: np.ndarray, side: int) -> list[Image.Image]:
    """The images `rows` as squares of `side` pixels."""
    return [picture.resize((side, side), Image.Resampling.BOX) for picture in images.pictures(rows)]


def large_rows(clusters: Sequence[Cluster]) -> list[int]:
    """The rows that get a larger picture: the most typical of each cluster, fewer where there are many clusters."""
    used = [cluster for cluster in clusters if cluster.size]
    each = max(1, min(LARGE_EACH, LARGE_MOST // max(len(used), 1)))
    rows = [int(cluster.rows[rank]) for rank in range(each) for cluster in used if rank < cluster.size]
    return rows[:LARGE_MOST]


def write_large(place: Path, images: Images, row: int, tile: int) -> bool:
    """Writes `large-ROW.webp` if the image is larger than its thumbnail; returns whether it did."""
    picture = original(images.paths[row])
    if picture is None and min(images.shape[1:]) > tile:
        picture = pictures(images, np.array([row]), min(LARGE, *images.shape[1:]))[0]
    if picture is None or max(picture.size) <= tile:
        return False
    with replacing(place / f"large-{row}.webp") as temporary:
        temporary.write_bytes(webp(picture, LARGE_QUALITY))
    return True


def original(path: str) -> Image.Image | None:
    """The image in a file, in its own proportions, at most 160 pixels; None if the file cannot be read any more."""
    from ilk.images.decode import decode, read_header

    if not path or not os.path.isfile(path):
        return None
    header, decoded = read_header(path), decode(path, LARGE, "squash")
    if header is None or isinstance(decoded, str):
        return None
    pixels = decoded.pixels
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    scale = min(LARGE / max(header.width, header.height), 1.0)
    size = max(1, round(header.width * scale)), max(1, round(header.height * scale))
    return picture.convert("RGB").resize(size, Image.Resampling.BOX)


class Thumbnails:
    """The pictures in a run folder. `rows`: the images that have a thumbnail, ascending; cell i is that of rows[i]."""

    def __init__(self, folder: Path, n: int) -> None:
        """Reads the index. Raises ValueError if it is damaged or of other images."""
        self.place = folder / FOLDER
        self.opened: tuple[int, Image.Image] | None = None  # the number of the sheet that was cut last, and the sheet
        try:
            index: dict[str, Any] = json.loads((self.place / "index.json").read_text(encoding="utf-8"))
            self.tile, rows, total = int(index["tile"]), index["rows"], int(index["n"])
            self.rows = np.arange(total) if rows is None else np.asarray(rows, dtype=np.int64)
            self.large_tile = int(index["large"]["tile"])
            self.large = [int(row) for row in index["large"]["rows"]]
            shape = int(index["columns"]), int(index["per_sheet"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{self.place / 'index.json'}' is damaged ({type(error).__name__}).") from None
        if total != n or shape != (COLUMNS, PER_SHEET) or self.tile < 1:
            raise ValueError(f"The pictures in '{self.place}' are not those of this run's {n:,} images.")
        if len(self.rows) and (self.rows.ndim != 1 or self.rows.min() < 0 or self.rows.max() >= n):
            raise ValueError(f"The pictures in '{self.place}' are not those of this run's {n:,} images.")

    def payload(self, rows: np.ndarray) -> dict[str, Any]:
        """The sheets as data addresses: cell i holds rows[i], for the first `count` rows.

        `rows` begins with the images that have a thumbnail.
        """
        cells = self.cells(rows)
        if np.array_equal(cells, np.arange(len(self.rows))):
            sheets = [self.bytes_of(number) for number in range(math.ceil(len(cells) / PER_SHEET))]
        else:
            parts = np.split(cells, np.arange(PER_SHEET, len(cells), PER_SHEET)) if len(cells) else []
            sheets = [sheet(self.tile, part, self.cut, AGAIN_QUALITY) for part in parts]
        return {
            "tile": self.tile, "columns": COLUMNS, "per_sheet": PER_SHEET, "count": len(cells),
            "sheets": [data_address(sheet) for sheet in sheets],
        }  # fmt: skip

    def cells(self, rows: np.ndarray) -> np.ndarray:
        """The cells of those of `rows` that have a thumbnail."""
        place = np.searchsorted(self.rows, rows).clip(0, max(len(self.rows) - 1, 0))
        return place[self.rows[place] == rows] if len(self.rows) else place[:0]

    def bytes_of(self, number: int) -> bytes:
        """The file of a sheet. Raises ValueError for a damaged one."""
        self.open(number)
        return (self.place / f"sheet-{number}.webp").read_bytes()

    def open(self, number: int) -> Image.Image:
        """A sheet as a picture. Raises ValueError for a damaged one."""
        file = self.place / f"sheet-{number}.webp"
        cells = min(PER_SHEET, len(self.rows) - number * PER_SHEET)
        try:
            with Image.open(file, formats=("WEBP",)) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError):
            raise ValueError(f"'{file}' is missing or damaged, so the report is without pictures.") from None
        if picture.size != (COLUMNS * self.tile, math.ceil(cells / COLUMNS) * self.tile):
            raise ValueError(f"'{file}' has another size than its index says, so the report is without pictures.")
        result: Image.Image = picture
        return result

    def cut(self, cells: np.ndarray) -> list[Image.Image]:
        """The thumbnails in those cells. A sheet is read once for consecutive cells in it."""
        thumbnails: list[Image.Image] = []
        for cell in cells:
            if self.opened is None or cell // PER_SHEET != self.opened[0]:
                self.opened = int(cell // PER_SHEET), self.open(int(cell // PER_SHEET))
            x, y = int(cell) % PER_SHEET % COLUMNS * self.tile, int(cell) % PER_SHEET // COLUMNS * self.tile
            thumbnails.append(self.opened[1].crop((x, y, x + self.tile, y + self.tile)))
        return thumbnails

    def large_payload(self, position: dict[int, int]) -> dict[str, Any] | None:
        """The larger pictures of images that are shown (`position`: row to place), without damaged files."""
        index, addresses = [], []
        for row in self.large:
            file = self.place / f"large-{row}.webp"
            if row in position and file.is_file():
                data = file.read_bytes()
                if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
                    index.append(position[row])
                    addresses.append(data_address(data))
        return {"tile": self.large_tile, "index": index, "images": addresses} if index else None


def read_thumbnails(folder: Path, n: int) -> Thumbnails | None:
    """The pictures of a run of n images; None for a run without (an older or an unfinished one)."""
    return Thumbnails(folder, n) if (folder / FOLDER / "index.json").is_file() else None


def data_address(data: bytes, kind: str = "webp") -> str:
    """A picture as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
