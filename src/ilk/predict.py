"""Which cluster each image belongs to, and how surely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric

from ilk.distributed import place
from ilk.features import Features
from ilk.images import Images
from ilk.methods.base import Method
from ilk.views import plain


@dataclass(frozen=True)
class Assignments:
    """One row an image, in the order of the source."""

    cluster: np.ndarray  # (n,) int64, 0 to k - 1
    confidence: np.ndarray  # (n,) float32, the probability of `cluster`
    second: np.ndarray  # (n,) int64, the runner-up
    margin: np.ndarray  # (n,) float32, how much more probable `cluster` is than `second`
    embedding: np.ndarray  # (n, d) float16, rows of length 1
    probability: np.ndarray | None = None  # (n, k) float32, only when asked for


def assign(
    method: Method,
    images: Images | Features,
    fabric: Fabric,
    *,
    probabilities: bool = False,
    batch_size: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> Assignments:
    """The assignments of all images by a trained method, on plain images without views.

    `probabilities` keeps the whole (n, k) table too. `progress(done, total)` is called after each batch.
    """
    method.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    source, n = place(images, fabric.device), len(images)
    parts: list[tuple[torch.Tensor, ...]] = []
    for start in range(0, n, batch_size):
        rows = torch.arange(start, min(start + batch_size, n))
        with torch.inference_mode(), fabric.autocast():
            x = plain(source[rows.to(fabric.device)])
            y, z = method.assign_and_embed(x)
        best = y.topk(min(2, y.shape[1]), dim=1)
        parts.append((best.values.cpu(), best.indices.cpu(), z.half().cpu(), y.cpu() if probabilities else y[:0].cpu()))
        if progress is not None:
            progress(int(rows[-1]) + 1, n)
    values, indices, embedding, probability = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Assignments(
        cluster=indices[:, 0],
        confidence=values[:, 0],
        second=indices[:, -1],
        margin=values[:, 0] - values[:, -1],
        embedding=embedding,
        probability=probability if probabilities else None,
    )
