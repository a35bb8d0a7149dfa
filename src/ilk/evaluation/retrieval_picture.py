"""A picture of retrieval: each query and its nearest images, with frames for right and wrong where labels are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ilk.system.files import replacing

GAP, MARGIN, HEADER, FRAME, SIDE = 10, 10, 26, 3, 64  # pixels
GROUND, INK, FAINT = (255, 255, 255), (30, 30, 30), (115, 115, 115)
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)  # blue and vermilion, which colour-blind people can tell apart
LONGEST = 24  # characters of a caption


@dataclass(frozen=True)
class Line:
    """One query and its nearest images, nearest first. `right`: whether each has the query's label; None if unknown."""

    texts: tuple[str, ...]  # the first is the caption
    query: Image.Image
    nearest: Sequence[Image.Image]
    right: Sequence[bool] | None


def write_retrieval(path: Path, groups: Sequence[tuple[str, Sequence[Line]]]) -> None:
    """Writes a PNG with a heading for each group and a row for each of its queries; wrong images are crossed out.

    Raises ValueError where there is no query.
    """
    groups = [group for group in groups if group[1]]
    lines = [line for _, members in groups for line in members]
    if not lines:
        raise ValueError("There is no query to show.")
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    texts = [caption(text) for line in lines for text in line.texts]
    left = MARGIN + math.ceil(max(small.getlength(text) for text in texts)) + 2 * MARGIN
    columns, cell = max(len(line.nearest) for line in lines), SIDE + GAP
    width = max(left + (columns + 1) * cell + 2 * GAP + MARGIN, 420)
    sheet = Image.new("RGB", (width, len(lines) * cell + len(groups) * (HEADER + GAP) + 2 * HEADER), GROUND)
    draw, top = ImageDraw.Draw(sheet), 0
    for heading, members in groups:
        draw.text((MARGIN, top + 8), heading, INK, font)
        top += HEADER + GAP
        for line in members:
            for number, text in enumerate(line.texts):
                place = (MARGIN, top + SIDE / 2 + 16 * number - 8 * len(line.texts))
                draw.text(place, caption(text), FAINT if number else INK, small)
            paste(sheet, draw, line.query, left, top, None)
            for column, picture in enumerate(line.nearest):
                right = None if line.right is None else bool(line.right[column])
                paste(sheet, draw, picture, left + (column + 1) * cell + 2 * GAP, top, right)
            top += cell
    draw_legend(draw, top + 6, small, any(line.right is not None for line in lines))
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def paste(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image, x: int, y: int, right: bool | None
) -> None:
    """Pastes one picture at (x, y), with a frame that says whether it is right (None: no frame)."""
    smooth = Image.Resampling.NEAREST if SIDE % picture.width == 0 else Image.Resampling.BICUBIC
    sheet.paste(picture.resize((SIDE, SIDE), smooth), (x, y))
    if right is not None:
        box = (x - FRAME, y - FRAME, x + SIDE + FRAME - 1, y + SIDE + FRAME - 1)
        draw.rectangle(box, outline=RIGHT if right else WRONG, width=FRAME)
        if not right:
            draw.line((x, y, x + SIDE // 5, y + SIDE // 5), WRONG, FRAME)
            draw.line((x, y + SIDE // 5, x + SIDE // 5, y), WRONG, FRAME)


def draw_legend(
    draw: ImageDraw.ImageDraw, top: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, labelled: bool
) -> None:
    draw.text((MARGIN, top), "left: the query; then its nearest images, nearest first", FAINT, font)
    if labelled:
        draw.text((MARGIN, top + 16), "blue: same label as the query", RIGHT, font)
        draw.text((MARGIN + 190, top + 16), "orange, crossed: another label", WRONG, font)


def caption(text: str) -> str:
    """The end of a text that is too long for a caption."""
    return text if len(text) <= LONGEST else "…" + text[1 - LONGEST :]
