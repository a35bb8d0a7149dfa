"""Small pictures in the run folder, as sprite sheets, so that a report needs neither the source nor torch."""

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
TILES = ((2_000, 64, 60), (5_000, 48, 55), (MOST, 36, 40))  # up to so many images: pixels, WebP quality
COLUMNS, PER_SHEET = 32, 1024
LARGE, LARGE_EACH, LARGE_MOST = 160, 8, 200  # pixels, pictures a cluster, pictures in all
LARGE_QUALITY, AGAIN_QUALITY = 75, 70  # of larger pictures, and of thumbnails that are put into new sheets
LOSSLESS_BELOW = 17  # pixels; smaller tiles would be smeared into each other by WebP's blocks of 16
BATCH = 128  # images read together


def write_thumbnails(folder: Path, images: Images, clusters: Sequence[Cluster]) -> None:
    """Fills `folder`/thumbnails: sheets of up to 10,000 images, and larger pictures of typical ones.

    With more images, a sample in which every cluster's typical and uncertain ones are, duplicates and
    odd ones, and those that were followed during the training.
    """
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    (place / "index.json").unlink(missing_ok=True)  # without it, no picture is taken for one of this run
    odd = read_odd(folder, [safe_text(text) for text in images.ids], [])
    rows = choose_rows(clusters, MOST, always=[*odd.rows, *followed(folder, len(images))])
    side = min(images.shape[1:])
    pixels, quality = next((pixels, quality) for most, pixels, quality in TILES if len(rows) <= most)
    tile = min(pixels, side)
    sheets = math.ceil(len(rows) / PER_SHEET)
    for number in range(sheets):
        cells = np.arange(number * PER_SHEET, min((number + 1) * PER_SHEET, len(rows)))
        data = sheet(tile, cells, lambda some: pictures(images, rows[some], tile), quality)
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
    """The images whose moments during the training are kept; none where the file is not there or damaged."""
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
        for place, one in enumerate(read(cells[start : start + BATCH]), start):
            picture.paste(one, (place % COLUMNS * tile, place // COLUMNS * tile))
    return webp(picture, quality, lossless=tile < LOSSLESS_BELOW)


def webp(picture: Image.Image, quality: int, *, lossless: bool = False) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=quality, lossless=lossless, method=4)
    return buffer.getvalue()


def pictures(images: Images, rows: np.ndarray, side: int) -> list[Image.Image]:
    """The images of those rows as squares of `side` pixels."""
    return [picture.resize((side, side), Image.Resampling.BOX) for picture in images.pictures(rows)]


def large_rows(clusters: Sequence[Cluster]) -> list[int]:
    """The rows that get a larger picture: the most typical of each cluster, fewer where there are many clusters."""
    used = [one for one in clusters if one.size]
    each = max(1, min(LARGE_EACH, LARGE_MOST // max(len(used), 1)))
    return [int(one.rows[rank]) for rank in range(each) for one in used if rank < one.size][:LARGE_MOST]


def write_large(place: Path, images: Images, row: int, tile: int) -> bool:
    """Writes `large-ROW.webp` where there is something larger than the thumbnail to show; whether there was."""
    picture = original(images.paths[row])
    if picture is None and min(images.shape[1:]) > tile:
        picture = pictures(images, np.array([row]), min(LARGE, *images.shape[1:]))[0]
    if picture is None or max(picture.size) <= tile:
        return False
    with replacing(place / f"large-{row}.webp") as temporary:
        temporary.write_bytes(webp(picture, LARGE_QUALITY))
    return True


def original(path: str) -> Image.Image | None:
    """The picture in a file, in its own proportions, at most 160 pixels; None if it is no readable file any more."""
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
    """The pictures of a run folder, read. `rows`: which images have one, ascending; a cell each."""

    def __init__(self, folder: Path, n: int) -> None:
        """Raises ValueError, a sentence, when the pictures are damaged or of other images."""
        self.place = folder / FOLDER
        self.opened: tuple[int, Image.Image] | None = None  # the sheet cut last, and its number
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
        """The sheets as data addresses, so that the first images of `rows` are in their cells, in order.

        `rows` begins with images that have a thumbnail; `count` says how many of them do.
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
        """The cells of the images of `rows` that have a thumbnail."""
        place = np.searchsorted(self.rows, rows).clip(0, max(len(self.rows) - 1, 0))
        return place[self.rows[place] == rows] if len(self.rows) else place[:0]

    def bytes_of(self, number: int) -> bytes:
        """One sheet as it is in its file, if it is a whole picture."""
        self.open(number)
        return (self.place / f"sheet-{number}.webp").read_bytes()

    def open(self, number: int) -> Image.Image:
        file = self.place / f"sheet-{number}.webp"
        cells = min(PER_SHEET, len(self.rows) - number * PER_SHEET)
        try:
            with Image.open(file, formats=("WEBP",)) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError):
            raise ValueError(f"'{file}' is missing or damaged, so the report is without pictures.") from None
        if picture.size != (COLUMNS * self.tile, math.ceil(cells / COLUMNS) * self.tile):
            raise ValueError(f"'{file}' has another size than its index says, so the report is without pictures.")
        return picture

    def cut(self, cells: np.ndarray) -> list[Image.Image]:
        """The thumbnails in those cells; a sheet is read once for neighbouring cells."""
        found: list[Image.Image] = []
        for cell in cells:
            if self.opened is None or cell // PER_SHEET != self.opened[0]:
                self.opened = int(cell // PER_SHEET), self.open(int(cell // PER_SHEET))
            x, y = int(cell) % PER_SHEET % COLUMNS * self.tile, int(cell) % PER_SHEET // COLUMNS * self.tile
            found.append(self.opened[1].crop((x, y, x + self.tile, y + self.tile)))
        return found

    def large_payload(self, position: dict[int, int]) -> dict[str, Any] | None:
        """The larger pictures of images that are shown; `position` of a row. Files that are damaged are left out."""
        index, found = [], []
        for row in self.large:
            file = self.place / f"large-{row}.webp"
            if row in position and file.is_file():
                data = file.read_bytes()
                if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
                    index.append(position[row])
                    found.append(data_address(data))
        return {"tile": self.large_tile, "index": index, "images": found} if found else None


def read_thumbnails(folder: Path, n: int) -> Thumbnails | None:
    """The pictures of a run of n images; None where it has none (made by an older version, or not finished)."""
    return Thumbnails(folder, n) if (folder / FOLDER / "index.json").is_file() else None


def data_address(data: bytes, kind: str = "webp") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
