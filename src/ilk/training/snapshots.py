"""What is kept of a training for people to look at later; it changes nothing in the training itself."""

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

PAIR_IMAGES = 256
FOLLOWED = 1000
PAIRS = 3072  # random stream beside those of `batches`
BATCH = 512


def pair_similarity(
    method: Method, source: Any, n: int, views: Views | FeatureViews, fabric: Fabric, *, seed: int, clusters: bool
) -> dict[str, float | None]:
    """Mean cosines of two views in evaluation mode: of the same image and of others, of the same cluster and of others.

    Rows of the embeddings give `instance_positive` and `instance_negative`, columns of the assignments
    give `cluster_positive` and `cluster_negative` (None unless `clusters`). Always the same views of the
    same images, a twentieth of all but at most 256, so that epochs can be compared; the draws are its own,
    and the method is left as it was.
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
    """The mean cosine of row i of `a` with row i of `b`, and with its other rows; None where there are no others."""
    a, b = (torch.nn.functional.normalize(x.double(), dim=1) for x in (a, b))
    n, same = len(a), float((a * b).sum())
    other = (float(a.sum(0) @ b.sum(0)) - same) / (n * (n - 1)) if n > 1 else None
    return round(same / n, 4), None if other is None else round(other, 4)


class Moments:
    """Embeddings and assignments of some images before training, after a third, two thirds and all of it.

    With a `path` they are also written there after each moment, and a resumed training goes on with them.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.rows = path, np.zeros(0, dtype=np.int64)
        self.epochs: tuple[int, ...] = ()
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def begin(self, n: int, epochs: int, done: int) -> None:
        """Chooses the images, 1,000 or fewer in short trainings, and takes up what was kept until epoch `done`."""
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
        except Exception:  # numpy and zipfile raise several kinds for a damaged file; it is begun anew
            self.kept = {}

    def keep(self, epoch: int, method: Method, source: Any, fabric: Fabric, *, clusters: bool) -> None:
        """Looks at the images, if `epoch` (0 = before training) is one of the moments. Not `clusters`: -1 for each."""
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
        """Saves what there is; an array a kind, the moments in order along the first axis."""
        order = sorted(self.kept)
        if not order:
            return
        embedding, cluster = (np.stack([self.kept[epoch][part] for epoch in order]) for part in (0, 1))
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, rows=self.rows, epochs=np.array(order), embedding=embedding, cluster=cluster)
