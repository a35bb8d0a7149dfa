"""What can be said of a clustering without labels, and what each of these figures cannot say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ilk.analysis.metrics import ari, effective_clusters, nmi
from ilk.analysis.neighbours import unit_floats
from ilk.evaluate.probe import standardised
from ilk.images import Images
from ilk.methods.base import Method
from ilk.sampling import seeded, spaced
from ilk.system.devices import fitting, place
from ilk.views import Views, channels_last, from_description, plain

SILHOUETTE = 2_000  # images that the silhouette rests on, at most
REFITTED = 5_000  # images that a linear classifier refits, at most
FOLDS = 5
VIEWED = 500  # images whose views are assigned again, at most
PIXEL_SIDE = 12  # pixels that images are brought to before a classifier sees them
STABILITY = 4096  # random stream beside those of `batches`
BATCH = 256
Progress = Callable[[int, int, str], None]

MEANINGS = {
    "effective_clusters": "Far below the number of clusters: collapsed. It cannot tell right clusters from wrong ones"
    " of the same sizes.",
    "mean_confidence": "High when the heads are sure; calibrated, it estimates how often they are right. Heads can be"
    " sure and wrong together.",
    "confidence_entropy": "0 when every image is in one cluster for certain, 1 when nothing is known. Sure is not"
    " right.",
    "silhouette": "How much nearer images are to their own cluster than to the next, 1 to -1. It says how tight"
    " clusters are; training makes them tight whether they are right or not.",
    "view_stability": "The part of random views that stay in the image's cluster. Low: clusters follow what views"
    " change. High is what training aimed at, and a wrong cut can be as stable as a right one.",
    "view_agreement": "Agreement (ARI) of the clusters of two random views of the same images; as above, chance taken"
    " off.",
    "run_agreement": "Agreement (ARI) with other runs. Low: at least one of them is wrong. High: the same structure was"
    " found again, which may still not be that of the labels.",
    "generalisation": "How well a linear classifier that saw four fifths of the assignments guesses the rest from the"
    " embeddings. Low: the clusters are not in the features. High is easily had, being what heads are.",
    "generalisation_pixels": "The same from small pixels. Near that of the embeddings: the clusters may be no more than"
    " colour and brightness. Low says nothing bad.",
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
    """The mean entropy of the cluster probabilities, divided by that of knowing nothing, log k; in [0, 1].

    `confidence`: (n,) the largest probability, `margin`: how much larger it is than the second. What is left to the
    other k - 2 clusters is taken as spread evenly, which is exact for three clusters or fewer and an upper
    bound for more.
    """
    first = np.clip(np.asarray(confidence, dtype=np.float64), 0, 1)
    second = np.clip(first - np.asarray(margin, dtype=np.float64), 0, 1 - first) if k > 1 else np.zeros_like(first)
    rest = np.clip(1 - first - second, 0, 1)
    parts = [part_entropy(first), part_entropy(second)]
    if k > 2:
        parts.append(part_entropy(rest / (k - 2)) * (k - 2))
    return float(sum(parts).mean() / np.log(k)) if k > 1 else 0.0  # type: ignore[union-attr]  # arrays


def part_entropy(p: np.ndarray) -> np.ndarray:
    found: np.ndarray = -p * np.log(np.where(p > 0, p, 1.0))
    return found


def generalisation(x: np.ndarray, cluster: np.ndarray, *, seed: int = 0) -> dict[str, float | int] | None:
    """How well logistic regression (C = 1, `standardised` features) refits the clusters, 5-fold cross-validated.

    `accuracy` of guesses for images whose cluster it did not see, and `chance`, that of always guessing
    the largest cluster. Clusters with fewer than five of the images are left out; None where fewer than two remain.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    names, counts = np.unique(cluster, return_counts=True)
    rows = np.flatnonzero(np.isin(cluster, names[counts >= FOLDS]))
    if (counts >= FOLDS).sum() < 2:
        return None
    model = LogisticRegression(C=1.0, max_iter=300, tol=1e-3)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    right = cross_val_score(model, standardised(x[rows], x[:0])[0], cluster[rows], cv=folds)
    return {
        "accuracy": float(right.mean()),
        "chance": float(counts[counts >= FOLDS].max() / len(rows)),
        "images": len(rows),
    }


def small_pixels(images: Images) -> np.ndarray:
    """The images brought to 12 x 12 pixels or fewer, as rows of numbers in [0, 1]."""
    parts = []
    for rows in torch.arange(len(images)).split(BATCH):
        x = images[rows].float() / 255
        side = min(PIXEL_SIDE, *x.shape[2:])
        parts.append(torch.nn.functional.adaptive_avg_pool2d(x, side).flatten(1))
    return torch.cat(parts).numpy()


def view_stability(
    method: Method, images: Images, recorded: np.ndarray, views: Mapping[str, Any], fabric: Fabric, *, seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float | int]:  # fmt: skip
    """How stable the clusters of `images` are under the random views that the method was trained with.

    `recorded`: (n,) the clusters that the run's table has. `views`: the run's description of them. `kept`: the part
    of views, two an image, in the cluster of the plain image; `agreement`: ARI between the two views;
    `reproduced`: the part of plain images that come out as recorded, 1 unless images or model have changed.
    """
    method.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    recipes = (from_description(views["a"]), from_description(views["b"]))
    draw = Views(*recipes, size=images.shape[2])
    generator, source = seeded(seed, 0, STABILITY, fabric.device), place(images, fabric.device)
    parts: list[torch.Tensor] = []
    with torch.inference_mode():
        for rows in torch.arange(len(images)).split(BATCH):
            x = source[rows.to(fabric.device)]
            both = draw(x, generator)
            with fabric.autocast():
                seen = [fitting(method.assign_and_embed, one)[0] for one in (plain(x), *map(channels_last, both))]
            parts.append(torch.stack([y.float().argmax(1).cpu() for y in seen]))
            if progress is not None:
                progress(int(rows[-1]) + 1, len(images), "assigning views")
    own, a, b = torch.cat(parts, 1).numpy()
    return {
        "images": len(images), "kept": float(((a == own).mean() + (b == own).mean()) / 2), "agreement": ari(a, b),
        "reproduced": float((own == recorded).mean()),
    }  # fmt: skip


def run_agreement(
    ids: list[str], cluster: np.ndarray, other_ids: list[str], other: np.ndarray
) -> dict[str, float | int]:
    """ARI and NMI between two clusterings of the same images, matched by id. Raises ValueError for fewer than two."""
    at = {name: row for row, name in enumerate(other_ids)}
    rows = [row for row, name in enumerate(ids) if name in at]
    if len(rows) < 2:
        raise ValueError(f"they share {len(rows)} of {len(ids):,} images")
    mine, theirs = cluster[rows], other[[at[ids[row]] for row in rows]]
    return {"images": len(rows), "ari": ari(mine, theirs), "nmi": nmi(mine, theirs)}


@dataclass(frozen=True)
class LabelFree:
    """What the label-free scores need of a run."""

    cluster: np.ndarray  # (n,)
    confidence: np.ndarray  # (n,)
    margin: np.ndarray  # (n,)
    features: np.ndarray  # (n, d), perhaps memory-mapped
    n_clusters: int


def label_free_scores(of: LabelFree, *, seed: int = 0) -> dict[str, Any]:
    """The scores that need neither labels nor images nor the model."""
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
