"""ImageSet that look blank or broken, or unlike the whole collection in light or sharpness: one reason each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ilk.analysis.duplicates.find import BLANK, detail_of
from ilk.analysis.duplicates.sketches import ImageSet, Progress, blocks, spread_of

DARK, BRIGHT = 50.0, 205.0  # levels of 255, of an image's light end and of its dark end
USUAL = 50.0  # levels by which the collection's typical image must differ from that
FLAT, EDGE, CUT = 4.0, 12.0, 0.15  # levels a cut-off part varies by and differs from the rest; its share of the height
SAME_BORDER = 0.15  # of the rest's border; where more has the colour of the flat part, it is a plain ground
BLURRED = 5.0  # deviations (robust) of the logarithm of the sharpness below the collection's median
COMMON, FEWEST = 0.05, 50  # what more than so many have is the collection's way; sizes below say nothing about it


@dataclass(frozen=True)
class Flag:
    """Why an image should be looked at. `flag`: blank, cut, dark, bright or blurred; `value` is what was measured."""

    row: int
    flag: str
    value: float
    sentence: str


def flag_images(images: ImageSet, *, progress: Progress | None = None) -> list[Flag]:
    """The images that look blank, cut off, very dark, very bright or blurred, in order; the first reason of these.

    All but blank are judged against the collection: what many have, such as a black ground, is no fault, and in
    collections of fewer than 50 images only blank and cut ones are named. Blur is looked for at the size in use.
    """
    if len(images) == 0:
        return []
    parts = []
    for start, block in blocks(images):
        parts.append(measure(block))
        if progress:
            progress(start + len(block), len(images))
    spread, light_end, dark_end, sharpness, cut = np.concatenate(parts, axis=1)
    many = len(images) >= FEWEST
    blank = spread < BLANK
    dark = (light_end < DARK) & ~blank & (many and np.median(light_end) > DARK + USUAL)
    bright = (dark_end > BRIGHT) & ~blank & (many and np.median(dark_end) < BRIGHT - USUAL)
    blur = blurred(sharpness, blank) if many else np.zeros_like(blank)
    short = (cut >= CUT) & ~blank
    usual = max(float(np.median(sharpness)), 1e-9)
    found: dict[int, Flag] = {}
    for flag, chosen, value, words in (
        ("blank", blank, spread, "Nearly one colour: brightness varies by {:.1f} of 255 levels."),
        ("cut", short, cut, "The lowest {:.0%} is one flat colour, as in a file that was cut short."),
        ("dark", dark, light_end, "Very dark: even its light parts reach only {:.0f} of 255 levels."),
        ("bright", bright, dark_end, "Very bright: even its dark parts have {:.0f} of 255 levels."),
        ("blurred", blur, sharpness / usual, "Blurred: {:.0%} of the sharpness that is usual here."),
    ):
        if flag != "blank" and chosen.sum() > max(1, COMMON * len(images)):
            continue
        for row in np.flatnonzero(chosen).tolist():
            found.setdefault(row, Flag(row, flag, float(value[row]), words.format(float(value[row]))))
    return [found[row] for row in sorted(found)]


def measure(block: np.ndarray) -> np.ndarray:
    """(5, b) of uint8 (b, c, h, w): spread, light end, dark end, sharpness, and the share that is cut off."""
    values = block.astype(np.float32)
    gray = values.mean(1).reshape(len(block), -1)
    mean, spread = gray.mean(1), gray.std(1)
    sharpness = detail_of(values) if min(block.shape[2:]) > 1 else np.ones(len(block))
    return np.stack([spread_of(values), mean + 2 * spread, mean - 2 * spread, sharpness, cut_off(block)])


def blurred(sharpness: np.ndarray, blank: np.ndarray) -> np.ndarray:
    logarithm = np.log(np.maximum(sharpness, 1e-6))
    middle = np.median(logarithm[~blank]) if not blank.all() else 0.0
    deviation = 1.4826 * np.median(np.abs(logarithm[~blank] - middle)) if not blank.all() else 0.0
    result: np.ndarray = ~blank & (logarithm < middle - BLURRED * max(float(deviation), 0.05))
    return result


def cut_off(block: np.ndarray) -> np.ndarray:
    """The share of the height, from the bottom, that is one flat colour which the rest's border has not; (b,)."""
    b, _, height, _ = block.shape
    values = block.astype(np.int16)
    last = values[:, :, -1:, :]
    colour = np.median(last.reshape(b, block.shape[1], -1), axis=2)[:, :, None, None]
    off = np.abs(values - colour).max(1)  # (b, h, w)
    flat = (off.max(2) <= FLAT)[:, ::-1]
    rows = np.where(flat.all(1), height, flat.argmin(1))
    found = np.zeros(b)
    for i in np.flatnonzero((rows >= CUT * height) & (rows < 0.95 * height)):
        rest = off[i, : height - int(rows[i])]
        border = np.concatenate([rest[0], rest[:, 0], rest[:, -1]])
        if (border <= EDGE).mean() <= SAME_BORDER and rest[-2:].max(0).mean() > EDGE:
            found[i] = rows[i] / height
    return found
