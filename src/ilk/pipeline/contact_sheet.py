"""A contact sheet: one picture with a row of images for each cluster, the most typical ones first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ilk.system.files import replacing

if TYPE_CHECKING:
    from ilk.images import Images
    from ilk.runs.tables import Cluster

GAP, MARGIN, HEADER, MOST_ROWS = 4, 8, 26, 100  # pixels, pixels, pixels, clusters
GROUND, INK, FAINT = (255, 255, 255), (30, 30, 30), (115, 115, 115)


def write_sheet(path: Path, images: Images, clusters: Sequence[Cluster], *, columns: int = 16) -> None:
    """Writes a PNG with `columns` images per cluster: the most typical ones (three quarters), then the least certain.

    The largest cluster is first; at most 100 are shown, and the picture says how many more there are.
    """
    size = images.shape[2]
    side = (
        size * max(math.ceil(32 / size), min(4, 64 // size)) if size < 64 else 64
    )  # small images are enlarged by whole factors
    shown = sorted((cluster for cluster in clusters if cluster.size), key=lambda cluster: -cluster.size)[:MOST_ROWS]
    left_out = sum(1 for cluster in clusters if cluster.size) - len(shown)
    typical = columns * 3 // 4
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    captions = [f"{counted(cluster.size, 'image')}, {cluster.confidence:.0%} sure" for cluster in shown]
    left = MARGIN + math.ceil(max(small.getlength(text) for text in captions)) + 2 * MARGIN
    width = left + columns * (side + GAP) + 2 * GAP + MARGIN
    sheet = Image.new("RGB", (width, HEADER + len(shown) * (side + GAP) + (24 if left_out else GAP)), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((left, 6), "most typical", INK, small)
    draw.text((left + typical * (side + GAP) + 2 * GAP, 6), "least certain", INK, small)
    for row, (cluster, caption) in enumerate(zip(shown, captions, strict=True)):
        top = HEADER + row * (side + GAP)
        draw.text((MARGIN, top + side / 2 - 16), f"cluster {cluster.number}", INK, font)
        draw.text((MARGIN, top + side / 2 + 2), caption, FAINT, small)
        first = cluster.rows[:typical]
        last = [i for i in cluster.uncertain[:columns] if i not in first][: columns - typical]
        chosen = np.array([*first, *last], dtype=np.int64)
        for column, tile in enumerate(tiles(images, chosen, side)):
            place = column if column < len(first) else typical + column - len(first)
            sheet.paste(tile, (left + place * (side + GAP) + (2 * GAP if place >= typical else 0), top))
    if left_out:
        draw.text((MARGIN, sheet.height - 20), f"and {counted(left_out, 'smaller cluster')}", FAINT, small)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def counted(number: int, noun: str) -> str:
    """The number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def tiles(images: Images, rows: np.ndarray, side: int) -> list[Image.Image]:
    """The images `rows` as squares of `side` pixels."""
    resampling = Image.Resampling.NEAREST if side % images.shape[2] == 0 else Image.Resampling.BICUBIC
    return [picture.resize((side, side), resampling) for picture in images.pictures(rows)]
