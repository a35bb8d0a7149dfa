"""Images that look blank or cut off, or differ from the collection in brightness or sharpness, with one reason each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ilk.analysis.duplicates.find import BLANK, detail_of
from ilk.analysis.duplicates.sketches import ImageSet, Progress, blocks, spread_of

DARK, BRIGHT = 50.0, 205.0  # levels of 255: a dark image's light end is below, a bright image's dark end above
USUAL = 50.0  # levels by which the collection's median must differ from that limit
FLAT, EDGE, CUT = 4.0, 12.0, 0.15  # a cut-off part: levels within it, levels to the rest, least share of the height
SAME_BORDER = 0.15  # if more of the rest's border has the colour of the flat part, that is a plain background
BLURRED = 5.0  # robust deviations of log sharpness below the collection's median
COMMON, FEWEST = 0.05, 50  # a flag on a larger share of images is dropped; images needed for a comparison


@dataclass(frozen=True)
class Flag:
    """A reason to look at an image. `flag`: blank, cut, dark, bright or blurred; `value`: the measurement behind it."""

    row: int
    flag: str
    value: float
    sentence: str


def flag_images(images: ImageSet, *, progress: Progress | None = None) -> list[Flag]:
    """The flags of images that look blank, cut off, very dark, very bright or blurred, in order of the images.

    An image has one flag: the first of these that applies. All but "blank" depend on the collection: a property of
    more than 5 % of the images, such as a black background, is not flagged, and with fewer than 50 images only blank
    and cut images are. Blur is measured at the size of `images`, not of the files.
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
    flags: dict[int, Flag] = {}
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
            flags.setdefault(row, Flag(row, flag, float(value[row]), words.format(float(value[row]))))
    return [flags[row] for row in sorted(flags)]


def measure(block: np.ndarray) -> np.ndarray:
    """Spread, light end, dark end, sharpness and cut-off share of the height of each image, (5, b).

    `block`: (b, c, h, w) uint8. The ends are the mean brightness plus and minus two standard deviations.
    """
    values = block.astype(np.float32)
    gray = values.mean(1).reshape(len(block), -1)
    mean, spread = gray.mean(1), gray.std(1)
    sharpness = detail_of(values) if min(block.shape[2:]) > 1 else np.ones(len(block))
    return np.stack([spread_of(values), mean + 2 * spread, mean - 2 * spread, sharpness, cut_off(block)])


def blurred(sharpness: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """Which images are much less sharp than the median of those that are not blank, (n,) bool."""
    logarithm = np.log(np.maximum(sharpness, 1e-6))
    middle = np.median(logarithm[~blank]) if not blank.all() else 0.0
    deviation = 1.4826 * np.median(np.abs(logarithm[~blank] - middle)) if not blank.all() else 0.0
    is_blurred: np.ndarray = ~blank & (logarithm < middle - BLURRED * max(float(deviation), 0.05))
    return is_blurred


def cut_off(block: np.ndarray) -> np.ndarray:
    """The share of the height, from the bottom, with one flat colour that the rest's border lacks, (b,); 0 for none."""
    b, _, height, _ = block.shape
    values = block.astype(np.int16)
    last_row = values[:, :, -1:, :]
    colour = np.median(last_row.reshape(b, block.shape[1], -1), axis=2)[:, :, None, None]
    difference = np.abs(values - colour).max(1)  # (b, h, w)
    flat = (difference.max(2) <= FLAT)[:, ::-1]
    rows = np.where(flat.all(1), height, flat.argmin(1))
    share = np.zeros(b)
    for i in np.flatnonzero((rows >= CUT * height) & (rows < 0.95 * height)):
        rest = difference[i, : height - int(rows[i])]
        border = np.concatenate([rest[0], rest[:, 0], rest[:, -1]])
        if (border <= EDGE).mean() <= SAME_BORDER and rest[-2:].max(0).mean() > EDGE:
            share[i] = rows[i] / height
    return share
