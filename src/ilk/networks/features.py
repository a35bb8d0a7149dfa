"""Features of a frozen encoder, on which heads alone are trained: as data, as views and as a backbone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Features:
    """Features of n images behind one index: `features[index]` is (b, r, d), or (r, d) for one integer.

    `rows`: (n, 1 + V, d) floats, for each image the feature of the plain image and of V random views. It may be
    memory-mapped. `near`: (n, m) positions of the m images nearest to each. The index gives a copy of an image's
    own rows followed by the plain features of its neighbours, r = 1 + V + m.
    """

    def __init__(self, rows: np.ndarray, near: np.ndarray | None = None, *, name: str = "features") -> None:
        if rows.ndim != 3 or rows.shape[1] < 1 or rows.shape[2] < 1:
            raise ValueError(f"Features have the shape (images, 1 + views, features); got {rows.shape}.")
        if near is not None and (near.ndim != 2 or len(near) != len(rows)):
            raise ValueError(f"There must be one row of neighbours for each image; got {near.shape} for {len(rows):,}.")
        self.rows, self.near, self.name = rows, near, name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Tensor:
        positions = index.cpu().numpy() if isinstance(index, Tensor) else index
        rows = np.array(self.rows[positions])
        if self.near is not None:  # joined by numpy: under CPU autocast to bfloat16, torch.cat refuses float16
            rows = np.concatenate([rows, self.rows[self.near[positions], 0]], -2)
        return torch.from_numpy(rows)

    @property
    def views(self) -> int:
        """V, the random views of each image."""
        return int(self.rows.shape[1]) - 1

    @property
    def neighbours(self) -> int:
        """m, the neighbours of each image."""
        return 0 if self.near is None else int(self.near.shape[1])

    @property
    def dim(self) -> int:
        """d, the number of features."""
        return int(self.rows.shape[2])

    @property
    def nbytes(self) -> int:
        """The bytes of `features[:]`."""
        return len(self) * (1 + self.views + self.neighbours) * self.dim * self.rows.dtype.itemsize

    def plain(self) -> np.ndarray:
        """The features of the plain images, (n, d)."""
        plain: np.ndarray = self.rows[:, 0]
        return plain


class FeatureViews:
    """Draws two different rows of each image: `views(rows, generator) -> (view_a, view_b)`, (b, d) each.

    `own`: the number of rows that belong to the image itself (plain and views); the other rows are those of its
    neighbours. The second view is a neighbour's row with probability `share`, or always if `own` is 1.
    """

    def __init__(self, own: int, neighbours: int, share: float) -> None:
        self.own, self.neighbours = own, neighbours
        self.share = 0.0 if neighbours == 0 else share if own > 1 else 1.0

    def __call__(self, rows: Tensor, generator: torch.Generator, *, repeats: int = 1) -> tuple[Tensor, Tensor]:
        """`repeats`: the number of second views of each image; view_b is then (repeats * b, d), grouped by repeat."""
        b, device = len(rows), rows.device
        first = torch.randint(self.own, (b,), generator=generator, device=device)
        step = torch.randint(max(self.own - 1, 1), (repeats, b), generator=generator, device=device)
        second = (first + 1 + step) % self.own
        if self.share:
            near = self.own + torch.randint(self.neighbours, (repeats, b), generator=generator, device=device)
            other = torch.rand(repeats, b, generator=generator, device=device) < self.share
            second = torch.where(other, near, second)
        image = torch.arange(b, device=device)
        return rows[image, first].float(), rows[image, second].flatten(0, 1).float()


class FeatureBackbone(nn.Module):
    """The backbone of a method that is trained on features: their principal components, centred and scaled.

    Each row, (width,), is scaled to length 1, the mean of the collection is subtracted, and the result is
    projected onto the `feature_dim` directions in which the collection varies most (PCA without whitening). All
    columns are multiplied by one number that makes their mean variance 1. So angles between images stay those of
    the encoder, and the heads get inputs of the size they are initialised for and few of them: a step on 1,280
    features takes 20 times as long as one on 256. Nothing here is trained.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, width: int, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("directions", torch.zeros(width, feature_dim))

    def fit(self, features: np.ndarray) -> None:
        """Sets mean and directions from plain features, (n, width). Raises ValueError if all are equal."""
        x = F.normalize(torch.from_numpy(np.array(features, dtype=np.float32)).double(), dim=1)
        mean = x.mean(0)
        covariance = (x - mean).T @ (x - mean) / len(x)
        values, vectors = torch.linalg.eigh(covariance)  # ascending
        kept = values[-self.feature_dim :].clamp_min(0)
        if not bool(values.isfinite().all()) or float(kept.sum()) < 1e-9:
            raise ValueError(
                "All features are the same: this encoder sees no difference between the images. Choose another"
                " --backbone, or train on the images themselves with --train all."
            )
        vectors = vectors[:, -self.feature_dim :].flip(1)
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        self.mean.copy_(mean)
        self.directions.copy_(vectors * largest.sign() / kept.mean().sqrt())  # fixes the sign, which is arbitrary

    def forward(self, x: Tensor) -> Tensor:
        return (F.normalize(x.float(), dim=1) - self.mean) @ self.directions


ENCODER_BATCH = {"cpu": 32}  # images that an encoder gets at once: 512 of 224 pixels would take gigabytes


class Chained(nn.Module):
    """An encoder followed by the `FeatureBackbone` of trained heads: a backbone that takes images again."""

    def __init__(self, encoder: nn.Module, backbone: nn.Module) -> None:
        super().__init__()
        self.encoder, self.backbone = encoder, backbone
        self.feature_dim = int(backbone.feature_dim)  # type: ignore[arg-type]  # the contract of backbones

    def forward(self, x: Tensor) -> Tensor:
        size = ENCODER_BATCH.get(x.device.type, 256)
        if torch.compiler.is_compiling():  # an exported graph takes batches of any size
            encoded = self.encoder(x)
        else:
            encoded = torch.cat([self.encoder(part) for part in x.split(size)])
        h: Tensor = self.backbone(encoded)
        return h
