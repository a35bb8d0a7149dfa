"""Scores of a clustering that need no labels, and what each of them cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ilk.analysis.metrics import ari, effective_clusters, nmi
from ilk.analysis.neighbours import unit_floats
from ilk.evaluation.probe import standardise_by_train
from ilk.images import Images
from ilk.methods.base import Method
from ilk.networks.passes import map_images
from ilk.runs.config import ViewSettings
from ilk.sampling import seeded, spaced
from ilk.system.devices import place
from ilk.views import Views, channels_last, from_description, plain

SILHOUETTE = 2_000  # most images of the silhouette
REFITTED = 5_000  # most images that a linear classifier is fitted to
FOLDS = 5
VIEWED = 500  # most images whose views are assigned again
PIXEL_SIDE = 12  # side of the images that a classifier of pixels sees
STABILITY = 4096  # random stream, apart from those of `batches`
BATCH = 256
Progress = Callable[[int, int, str], None]

MEANINGS = {
    "effective_clusters": "Far below the number of clusters means collapse. It cannot tell right clusters from wrong"
    " ones of the same sizes.",
    "mean_confidence": "High when the heads are confident; calibrated, it estimates how often they are right. Heads"
    " can be confident and wrong.",
    "confidence_entropy": "0 when each image is in one cluster with certainty, 1 when all clusters are equally likely."
    " Certain does not mean right.",
    "silhouette": "How much nearer images are to their own cluster than to the next, 1 to -1. It says how tight"
    " clusters are; training makes right and wrong clusters tight.",
    "view_stability": "The share of random views in the cluster of the plain image. Low: clusters depend on what views"
    " change. Training aims for a high value, and wrong clusters can be as stable as right ones.",
    "view_agreement": "Agreement (ARI) of the clusters of two random views of the same images; as above, corrected for"
    " chance.",
    "run_agreement": "Agreement (ARI) with other runs. Low: at least one of them is wrong. High: both found the same"
    " structure, which need not be that of the labels.",
    "generalisation": "How well a linear classifier trained on four fifths of the assignments predicts the rest from"
    " the embeddings. Low: the clusters are not in the features. High is expected, because heads are linear.",
    "generalisation_pixels": "The same from small pixels. Near that of the embeddings: the clusters may be only colour"
    " and brightness. A low value is no bad sign.",
}


def silhouette(features: np.ndarray, cluster: np.ndarray, *, seed: int = 0, most: int = SILHOUETTE) -> float | None:
    """The mean silhouette by cosine distance on a seeded sample of at most `most` images; None for a single cluster."""
    from sklearn.metrics import silhouette_score

    rows = np.sort(np.random.default_rng(seed).permutation(len(features))[:most])
    if not 2 <= len(np.unique(cluster[rows])) < len(rows):
        return None
    x = unit_floats(features[rows], "embeddings").numpy()
    return float(silhouette_score(x, cluster[rows], metric="cosine"))


def confidence_entropy(confidence: np.ndarray, margin: np.ndarray, k: int) -> float:
    """The mean entropy of the cluster probabilities divided by its maximum, log k; in [0, 1].

    `confidence`: (n,) the largest probability; `margin`: (n,) how much larger it is than the second. The rest is
    spread evenly over the other k - 2 clusters, which is exact for at most three clusters and an upper bound for more.
    """
    first = np.clip(np.asarray(confidence, dtype=np.float64), 0, 1)
    second = np.clip(first - np.asarray(margin, dtype=np.float64), 0, 1 - first) if k > 1 else np.zeros_like(first)
    rest = np.clip(1 - first - second, 0, 1)
    parts = [part_entropy(first), part_entropy(second)]
    if k > 2:
        parts.append(part_entropy(rest / (k - 2)) * (k - 2))
    return float(sum(parts).mean() / np.log(k)) if k > 1 else 0.0  # type: ignore[union-attr]  # arrays


def part_entropy(p: np.ndarray) -> np.ndarray:
    """-p log p, elementwise; 0 at 0."""
    entropy: np.ndarray = -p * np.log(np.where(p > 0, p, 1.0))
    return entropy


def generalisation(x: np.ndarray, cluster: np.ndarray, *, seed: int = 0) -> dict[str, float | int] | None:
    """How well logistic regression (C = 1, standardised features) refits the clusters, 5-fold cross-validated.

    `x`: (n, d) features, `cluster`: (n,). Returns `accuracy` on held-out images, `chance`, the accuracy of always
    predicting the largest cluster, and `images`. Clusters of fewer than five images are left out; None where fewer
    than two clusters remain.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    names, counts = np.unique(cluster, return_counts=True)
    rows = np.flatnonzero(np.isin(cluster, names[counts >= FOLDS]))
    if (counts >= FOLDS).sum() < 2:
        return None
    model = LogisticRegression(C=1.0, max_iter=300, tol=1e-3)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    right = cross_val_score(model, standardise_by_train(x[rows], x[:0])[0], cluster[rows], cv=folds)
    return {
        "accuracy": float(right.mean()),
        "chance": float(counts[counts >= FOLDS].max() / len(rows)),
        "images": len(rows),
    }


def small_pixels(images: Images) -> np.ndarray:
    """The images reduced to at most 12 x 12 pixels, (n, d) float32 in [0, 1]."""
    parts = []
    for rows in torch.arange(len(images)).split(BATCH):
        x = images[rows].float() / 255
        side = min(PIXEL_SIDE, *x.shape[2:])
        parts.append(torch.nn.functional.adaptive_avg_pool2d(x, side).flatten(1))
    return torch.cat(parts).numpy()


def view_stability(
    method: Method, images: Images, recorded: np.ndarray, views: ViewSettings, fabric: Fabric, *, seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float | int]:  # fmt: skip
    """How stable the clusters of `images` are under the random views that the method was trained with.

    `recorded`: (n,) the clusters in the run's table. `views`: the run's description of its views. Returns `kept`, the
    share of views (two for each image) in the cluster of the plain image; `agreement`, the ARI between the two views;
    `reproduced`, the share of plain images that get their recorded cluster, 1 unless images or model have changed.
    """
    method.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    recipes = (from_description(views.a), from_description(views.b))
    draw = Views(*recipes, size=images.shape[2])
    generator = seeded(seed, 0, STABILITY, fabric.device)

    def plain_and_views(x: torch.Tensor, positions: torch.Tensor) -> list[torch.Tensor]:
        return [plain(x), *map(channels_last, draw(x, generator))]

    columns = map_images(
        lambda x: (method.assign_and_embed(x)[0],), place(images, fabric.device), torch.arange(len(images)), fabric,
        batch_size=BATCH, inputs=plain_and_views,
        keep=lambda *assignments: tuple(y.float().argmax(1).cpu() for y in assignments),
        progress=None if progress is None else lambda done, total: progress(done, total, "assigning views"),
    )  # fmt: skip
    own, a, b = (column.numpy() for column in columns)
    return {
        "images": len(images), "kept": float(((a == own).mean() + (b == own).mean()) / 2), "agreement": ari(a, b),
        "reproduced": float((own == recorded).mean()),
    }  # fmt: skip


def run_agreement(
    ids: list[str], cluster: np.ndarray, other_ids: list[str], other: np.ndarray
) -> dict[str, float | int]:
    """ARI and NMI between two clusterings of the same images, matched by id, and how many images they share.

    Raises ValueError for fewer than two shared images.
    """
    position = {name: row for row, name in enumerate(other_ids)}
    rows = [row for row, name in enumerate(ids) if name in position]
    if len(rows) < 2:
        raise ValueError(f"they share {len(rows)} of {len(ids):,} images")
    mine, theirs = cluster[rows], other[[position[ids[row]] for row in rows]]
    return {"images": len(rows), "ari": ari(mine, theirs), "nmi": nmi(mine, theirs)}


@dataclass(frozen=True)
class LabelFree:
    """The results of a run that the label-free scores are computed from."""

    cluster: np.ndarray  # (n,)
    confidence: np.ndarray  # (n,)
    margin: np.ndarray  # (n,)
    features: np.ndarray  # (n, d), perhaps memory-mapped
    n_clusters: int


def label_free_scores(of: LabelFree, *, seed: int = 0) -> dict[str, Any]:
    """The scores that need no labels, images or model; `MEANINGS` says what each can tell."""
    rows = spaced(len(of.cluster), REFITTED).numpy()
    refit = generalisation(np.asarray(of.features[rows]), of.cluster[rows], seed=seed)
    return {
        "effective_clusters": effective_clusters(of.cluster),
        "n_clusters": of.n_clusters,
        "mean_confidence": float(of.confidence.mean()),
        "confidence_entropy": confidence_entropy(of.confidence, of.margin, of.n_clusters),
        "silhouette": silhouette(of.features, of.cluster, seed=seed),
        "silhouette_images": min(SILHOUETTE, len(of.cluster)),
        "generalisation": refit,
    }
