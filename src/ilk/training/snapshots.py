"""Records of a training for the report, which do not affect it: similarities of views, embeddings at four moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from ilk.methods.base import Method
from ilk.networks.features import FeatureViews
from ilk.networks.passes import evaluating, map_images
from ilk.sampling import seeded, spaced
from ilk.system.files import replacing
from ilk.views import Views, channels_last

PAIR_IMAGES = 256  # at most so many images for `pair_similarity`
FOLLOWED = 1000  # at most so many images for `Moments`
PAIRS = 3072  # random stream of the views, apart from those in `sampling`
BATCH = 512  # images


def pair_similarity(
    method: Method, source: Any, n: int, views: Views | FeatureViews, fabric: Fabric, *, seed: int, clusters: bool
) -> dict[str, float | None]:
    """Mean cosines between two views, of the same and of different images, and of the same and of different clusters.

    Embeddings (rows) give `instance_positive` and `instance_negative`; assignments (columns) give `cluster_positive`
    and `cluster_negative` (None unless `clusters`). Evaluated on the same views of the same images in every epoch, a
    twentieth of all images but at most 256, so that epochs can be compared. Uses a random stream of its own and leaves
    the method in its mode.
    """
    draws = seeded(seed, 0, PAIRS, fabric.device)

    def both_views(images: Tensor, positions: Tensor) -> list[Tensor]:
        return [channels_last(view) for view in views(images, draws)]  # in float32, as in training

    with evaluating(method):
        y_a, z_a, y_b, z_b = map_images(
            method.assign_and_embed, source, spaced(n, min(PAIR_IMAGES, max(16, n // 20))), fabric, batch_size=BATCH,
            inputs=both_views, keep=lambda *outputs: tuple(output.float() for output in outputs),
        )  # fmt: skip
    instance = mean_cosines(z_a, z_b)
    cluster = mean_cosines(y_a.T, y_b.T) if clusters else (None, None)
    names = ("instance_positive", "instance_negative", "cluster_positive", "cluster_negative")
    return dict(zip(names, (*instance, *cluster), strict=True))


def mean_cosines(a: Tensor, b: Tensor) -> tuple[float | None, float | None]:
    """The mean cosine of row i of `a` with row i of `b`, and with the other rows of `b` (None if there are none)."""
    a, b = (torch.nn.functional.normalize(x.double(), dim=1) for x in (a, b))
    n, same = len(a), float((a * b).sum())
    other = (float(a.sum(0) @ b.sum(0)) - same) / (n * (n - 1)) if n > 1 else None
    return round(same / n, 4), None if other is None else round(other, 4)


class Moments:
    """Embeddings and clusters of some images before training and after a third, two thirds and all of its epochs.

    `path`: the file to which they are written after each moment, and from which a resumed training reads them.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.rows = path, np.zeros(0, dtype=np.int64)
        self.epochs: tuple[int, ...] = ()
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def begin(self, n: int, epochs: int, done: int) -> None:
        """Chooses the images, at most 1,000 of `n`, and reads what was recorded up to epoch `done`."""
        self.epochs = (0, round(epochs / 3), round(2 * epochs / 3), epochs)
        self.rows = spaced(n, min(FOLLOWED, max(64, n * epochs * 15 // 1000))).numpy()
        self.kept = {}
        if self.path is None or done == 0 or not self.path.is_file():
            return
        try:
            with np.load(self.path, allow_pickle=False) as saved:
                if np.array_equal(saved["rows"], self.rows):
                    parts = zip(saved["epochs"], saved["embedding"], saved["cluster"], strict=True)
                    self.kept = {int(epoch): (z, c) for epoch, z, c in parts if epoch <= done}
        except Exception:  # numpy and zipfile raise many types for a damaged file; start again
            self.kept = {}

    def keep(self, epoch: int, method: Method, source: Any, fabric: Fabric, *, clusters: bool) -> None:
        """Records the images if `epoch` (0: before training) is one of the moments; cluster -1 unless `clusters`."""
        if epoch not in self.epochs or epoch in self.kept or not fabric.is_global_zero:
            return
        with evaluating(method):
            columns = map_images(
                method.assign_and_embed, source, torch.from_numpy(self.rows), fabric, batch_size=BATCH,
                keep=lambda y, z: (z.half().cpu(), y.argmax(1).cpu()),
            )  # fmt: skip
        embedding, cluster = (column.numpy() for column in columns)
        self.kept[epoch] = embedding, cluster.astype(np.int32) if clusters else np.full(len(cluster), -1, np.int32)
        if self.path is not None:
            self.write(self.path)

    def write(self, path: Path) -> None:
        """Writes rows, epochs, embeddings and clusters to an .npz file, with moments in order along the first axis."""
        order = sorted(self.kept)
        if not order:
            return
        embedding, cluster = (np.stack([self.kept[epoch][part] for epoch in order]) for part in (0, 1))
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, rows=self.rows, epochs=np.array(order), embedding=embedding, cluster=cluster)
