"""One picture of all clusters: a row a cluster, its most typical images first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ilk.files import replacing

if TYPE_CHECKING:
    from ilk.images import Images
    from ilk.results import Cluster

CAPTION, GAP, MOST_ROWS = 150, 4, 100
GROUND, INK, FAINT = (255, 255, 255), (30, 30, 30), (115, 115, 115)


def write_sheet(path: Path, images: Images, clusters: Sequence[Cluster], *, columns: int = 16) -> None:
    """Writes a PNG with `columns` images a cluster: three quarters the most typical, then the least certain.

    Clusters stand in order of size; at most 100 are shown, the picture says how many more there are.
    """
    side = max(32, min(64, images.shape[2]))
    shown = sorted((one for one in clusters if one.size), key=lambda one: -one.size)[:MOST_ROWS]
    left_out = sum(1 for one in clusters if one.size) - len(shown)
    typical = columns * 3 // 4
    width = CAPTION + columns * (side + GAP) + 3 * GAP
    header = 26
    sheet = Image.new("RGB", (width, header + len(shown) * (side + GAP) + (24 if left_out else 4)), GROUND)
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(14), ImageFont.load_default(12)
    draw.text((CAPTION, 6), "most typical", INK, small)
    draw.text((CAPTION + typical * (side + GAP) + 2 * GAP, 6), "least certain", INK, small)
    for row, one in enumerate(shown):
        top = header + row * (side + GAP)
        draw.text((8, top + side / 2 - 15), f"cluster {one.number}", INK, font)
        draw.text((8, top + side / 2 + 2), f"{one.size:,} images, {one.confidence:.0%} sure", FAINT, small)
        first = one.rows[:typical]
        last = [i for i in one.uncertain if i not in set(first.tolist())][: columns - typical]
        chosen = np.array([*first, *last], dtype=np.int64)
        for column, tile in enumerate(tiles(images, chosen, side)):
            place = column if column < len(first) else typical + column - len(first)
            sheet.paste(tile, (CAPTION + place * (side + GAP) + (2 * GAP if place >= typical else 0), top))
    if left_out:
        draw.text((8, sheet.height - 20), f"and {left_out} smaller clusters", FAINT, small)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def tiles(images: Images, rows: np.ndarray, side: int) -> list[Image.Image]:
    """The images of those rows as squares of `side` pixels; more than three channels show their first three."""
    pixels = images[rows].numpy()
    if pixels.shape[1] not in (1, 3):
        pixels = pixels[:, :3] if pixels.shape[1] > 3 else pixels[:, :1]
    found = []
    for one in pixels:
        picture = Image.fromarray(one[0], "L") if len(one) == 1 else Image.fromarray(one.transpose(1, 2, 0), "RGB")
        smooth = Image.Resampling.NEAREST if side % one.shape[-1] == 0 else Image.Resampling.BICUBIC
        found.append(picture.convert("RGB").resize((side, side), smooth))
    return found
