"""Random images with the statistics of photographs, so that nothing needs to be downloaded to measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

WIDTH, HEIGHT = 500, 375
QUALITY = 90
AT_ONCE = 16


def photo_like(n: int, side: int, seed: int = 0) -> np.ndarray:
    """n images, uint8 (n, side, side, 3).

    As in photographs, amplitudes fall with frequency, channels are correlated, and there are edges. JPEG files of such
    images are about as large and as slow to decode as those of a camera.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [drawn(min(AT_ONCE, n - start), side, generator) for start in range(0, n, AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros((0, side, side, 3), dtype=np.uint8)


def drawn(n: int, side: int, generator: torch.Generator) -> np.ndarray:
    """One block of such images."""
    x = torch.zeros(n, 3, side, side)
    cells = 2
    while cells <= side:
        tone = torch.randn(n, 1, cells, cells, generator=generator)
        tint = torch.randn(n, 3, cells, cells, generator=generator)
        x += F.interpolate((tone + 0.4 * tint) * cells**-0.7, size=(side, side), mode="bilinear")
        cells *= 2
    for _ in range(3):
        x = torch.where(discs(n, side, generator), x.flip(0) + torch.randn(n, 3, 1, 1, generator=generator), x)
    x = 115 + 55 * x / x.std((1, 2, 3), keepdim=True)
    return x.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def discs(n: int, side: int, generator: torch.Generator) -> Tensor:
    """A disc at a random place in each image, (n, 1, side, side) bool."""
    place = torch.linspace(0, 1, side)
    across, down, radius = torch.rand(3, n, 1, 1, 1, generator=generator)
    result: Tensor = (place - across) ** 2 + (place[:, None] - down) ** 2 < (0.05 + 0.25 * radius) ** 2
    return result


def write_folder(folder: Path, n: int, seed: int = 0) -> Path:
    """Fills a folder with n JPEG files of 500 x 375 pixels in two sub-folders, and returns it."""
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    top = (WIDTH - HEIGHT) // 2
    for start in range(0, n, AT_ONCE):
        block = photo_like(min(AT_ONCE, n - start), WIDTH, seed * 1_000_003 + start)
        for i, picture in enumerate(block, start):
            file = folder / ("one" if i % 2 == 0 else "two") / f"{i:05}.jpg"
            Image.fromarray(picture[top : top + HEIGHT]).save(file, quality=QUALITY)
    return folder
