"""Compares an exported ONNX model with `ilk predict`, on pictures of several sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ilk.images import Images, load_images
from ilk.images.decode import strict_pillow
from ilk.images.open_picture import opened
from ilk.methods.base import Method
from ilk.pipeline.onnx import load_runtime
from ilk.reports.sprites import read_thumbnails
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.sampling import spaced
from ilk.system.devices import make_fabric, recorded_precision
from ilk.training.assign import assign
from ilk.training.confidence import read_calibration

COUNT = 48  # pictures that are compared
SCALES = (1.0, 1.7, 0.6, 3.1)  # sides of made pictures, as multiples of the model's
MOST_PIXELS = 1 << 24  # of a picture that is compared; larger ones take memory and time


@dataclass(frozen=True)
class Agreement:
    """How far an ONNX model agrees with `ilk predict`."""

    pictures: int
    kind: str  # which pictures
    sides: tuple[int, int]  # the smallest and the largest side, in pixels
    largest: float  # the largest difference of a probability
    same: int  # pictures in the same cluster

    def __str__(self) -> str:
        return (
            f"compared with ilk predict on {self.pictures} {self.kind} with sides of {self.sides[0]} to"
            f" {self.sides[1]} pixels: {self.same} of {self.pictures} ({self.same / self.pictures:.0%}) in the same"
            f" cluster, probabilities differ by at most {self.largest:.2g}"
        )


def compare_onnx(run: Run, method: Method, file: Path) -> Agreement:
    """How far the ONNX model `file` agrees with the predictions of `run`, whose model from images is `method`."""
    plan = run.config
    pictures, kind, images = pictures_of(run)
    fabric = make_fabric("cpu", recorded_precision(plan.precision, "cpu"))
    temperature = read_calibration(run).temperature
    predicted = assign(method, images, fabric, temperature=temperature, probabilities=True).probability
    assert predicted is not None  # asked for in the line above
    session = load_runtime().InferenceSession(file, providers=["CPUExecutionProvider"])
    exported = np.concatenate([
        session.run(["probabilities"], {"images": picture_input(picture, plan.images.channels)})[0]
        for picture in pictures
    ])  # fmt: skip
    sides = [side for picture in pictures for side in picture.size]
    return Agreement(
        len(pictures), kind, (min(sides), max(sides)), float(np.abs(exported - predicted).max()),
        int((exported.argmax(1) == predicted.argmax(1)).sum()),
    )  # fmt: skip


def picture_input(picture: Image.Image, channels: int) -> np.ndarray:
    """A picture as the input of the model, uint8 (1, channels, h, w): turned by its EXIF tag, on white."""
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels[None, None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def pictures_of(run: Run) -> tuple[list[Image.Image], str, Images]:
    """Pictures to compare on, what they are, and the same as ilk reads them for a prediction.

    Those of the run's own files that are still there; else its thumbnails, else random ones, both in several sizes.
    """
    shape = run.config.images
    if files := own_files(run):
        good = [(file, picture) for file in files if (picture := opened_whole(file)) is not None]
        if good:
            images = load_images(
                [str(file) for file, _ in good], image_size=shape.size, channels=shape.channels, labels="none",
                cache=False,
            )  # fmt: skip
            if len(images) == len(good):
                return [picture for _, picture in good], "pictures of this run", images
    kind, pictures = "thumbnails of this run", thumbnails_of(run)
    if not pictures:
        kind, pictures = "random pictures", random_pictures(shape.size)
    pictures = [scaled(picture, shape.size, SCALES[i % len(SCALES)]) for i, picture in enumerate(pictures)]
    kind += " in several sizes"
    parts = [
        load_images(np.asarray(picture)[None], image_size=shape.size, channels=shape.channels, cache=False)
        for picture in pictures
    ]
    return pictures, kind, load_images(
        torch.cat([part[:] for part in parts]), image_size=shape.size, channels=shape.channels, cache=False
    )  # fmt: skip


def own_files(run: Run) -> list[Path]:
    """Some of the files that the run's images were read from and that are still there, evenly spaced."""
    if not run.finished:
        return []
    paths = read_table(run / "assignments.parquet")["path"].to_pylist()
    there = [Path(path) for path in paths if path and Path(path).is_file()]
    return [there[row] for row in spaced(len(there), min(COUNT, len(there))).tolist()] if there else []


def opened_whole(file: Path) -> Image.Image | None:
    """The picture in a file; None if it cannot be read or is very large."""
    try:
        with strict_pillow(), opened(file) as picture:
            if picture.size[0] * picture.size[1] > MOST_PIXELS:
                return None
            picture.load()
            return picture.copy()
    except Exception:  # decoders raise errors of any type; a file that changed since is no reason to fail
        return None


def thumbnails_of(run: Run) -> list[Image.Image]:
    """Some of the run's thumbnails, evenly spaced; none where there are none or they cannot be read."""
    try:
        thumbnails = read_thumbnails(run.folder, run.config.images.n)
        if thumbnails is None:
            return []
        return thumbnails.cut(spaced(len(thumbnails.rows), COUNT).numpy())
    except (ValueError, OSError):
        return []


def random_pictures(size: int) -> list[Image.Image]:
    """Random pictures with soft shapes and some noise."""
    random, made = np.random.default_rng(0), []
    for _ in range(COUNT):
        small = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        soft = np.asarray(small.resize((2 * size, 2 * size), Image.Resampling.BICUBIC), dtype=np.int64)
        made.append(Image.fromarray((soft + random.integers(-20, 21, soft.shape)).clip(0, 255).astype(np.uint8)))
    return made


def scaled(picture: Image.Image, size: int, factor: float) -> Image.Image:
    """The picture with sides of about `factor` times `size`, one of them a little longer."""
    side = max(1, round(factor * size))
    return picture.convert("RGB").resize((side, side + side // 5), Image.Resampling.BICUBIC)
