"""Confidence that means something: an estimate, without labels, of how often an image is in the right cluster.

A cluster head is trained to be sure, so its probabilities say little about how often it is right. No labels
are there to tell, but other opinions are. An image's nearest neighbours and the other heads mostly agree with
the head even where it cuts a kind in two, since they go by the same borders; how far its views agree depends on
how strong they are (figures in docs/confidence.md). So the opinions asked here
are partitions that know nothing of the head: trees along the neighbour graph of the embeddings (`hierarchy`),
each from another random part of the images and other fine clusters. Where kinds are well apart all of them
find the clusters of the head; where they run into each other each finds other ones. If head and trees
are equally good guesses at the unknown truth, the head is right as often as they agree (the idea of Jiang et al.,
Assessing Generalization of SGD via Disagreement, ICLR 2022, for two trainings of one network).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ilk.analysis.hierarchy.space import find_space, nearest_centre, place
from ilk.analysis.hierarchy.tree import build_tree
from ilk.analysis.neighbours import near_rows
from ilk.sampling import spaced

__all__ = ["Calibrated", "Calibration", "agreement", "calibrate", "calibration_of", "renamed"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

OPINIONS = 12  # trees; the mean agreement with a single one varies by 0.05 from tree to tree
TREE_ROWS = 3_000  # images that a tree is grown from, at most
LEAST_IMAGES = 20
FITTED = 20_000  # images that the temperatures are fitted to, at most
PRIOR = 20  # images of mean agreement that are added to those of each cluster, or small ones would be extreme
COLDEST, HOTTEST = 0.02, 50.0  # temperatures that are tried
SURE = 0.5  # confidence below which an image belongs nowhere clearly
NEIGHBOURS = 15
FAR = 5.0  # robust standard deviations of the logarithm of the distance beyond which an image is far from all others
CHUNK = 512  # images whose neighbours are held at a time


@dataclass(frozen=True)
class Calibration:
    """The temperatures that turn probabilities into calibrated ones, and what they were fitted to.

    `temperature`: one for each cluster, for the images whose most probable it is. `agreement`: how often head and
    other opinions agree, the mean confidence that was aimed at; None where there were too few images to ask,
    and then nothing is changed (no temperatures). `images`: how many it rests on. `sure`: the confidence below
    which an image is uncertain. Asks nothing of an image but its probabilities, so it fits new images as well.
    """

    temperature: tuple[float, ...] = ()
    agreement: float | None = None
    images: int = 0
    sure: float = SURE

    def __post_init__(self) -> None:
        bad = [value for value in self.temperature if not (math.isfinite(value) and value > 0)]
        if bad:
            raise ValueError(f"The temperatures of a calibration are numbers above 0; got {bad[0]}.")
        if not 0 <= self.sure <= 1:
            raise ValueError(f"sure is a confidence between 0 and 1; got {self.sure}.")

    def apply(self, probability: np.ndarray) -> Floats:
        """Calibrated probabilities, (n, k): softmax(log(probability) / temperature). The order of clusters stays.

        Raises ValueError for another number of clusters than it was made for.
        """
        if not self.temperature:
            return probability.astype(np.float32)
        if probability.ndim != 2 or probability.shape[1] != len(self.temperature):
            raise ValueError(
                f"The calibration is one for {len(self.temperature)} clusters; got probabilities of shape"
                f" {probability.shape}."
            )
        return tempered(probability, np.array(self.temperature)).astype(np.float32)

    def confidence(self, probability: np.ndarray) -> Floats:
        """The calibrated probability of the most probable cluster, (n,)."""
        found: Floats = self.apply(probability).max(1)
        return found

    def uncertain(self, probability: np.ndarray) -> Booleans:
        """Whether no cluster of an image is probable enough, (n,): all that can be said of a new image."""
        found: Booleans = self.confidence(probability) < self.sure
        return found

    def described(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "temperature": list(self.temperature)}


def calibration_of(described: Mapping[str, Any] | None) -> Calibration:
    """What `Calibration.described` gave, read again; one that changes nothing for None, so for runs without."""
    known = {field.name for field in fields(Calibration)}
    found = {name: value for name, value in (described or {}).items() if name in known}
    return Calibration(**{**found, "temperature": tuple(found.get("temperature", ()))})


class Calibrated(NamedTuple):
    calibration: Calibration
    confidence: Floats  # (n,) in [0, 1], that of `calibration`
    uncertain: Booleans  # (n,)
    share: Floats  # (n,) of the other opinions that have the image in its cluster; nan where none was asked


def calibrate(
    probability: np.ndarray, embedding: np.ndarray, *, features: np.ndarray | None = None, seed: int = 0
) -> Calibrated:
    """Calibrated confidence of the images that a method was trained on, without labels.

    `probability`: (n, k) float32, rows summing to 1. `embedding`: (n, d) of any scale. `features`: (n, D) of the
    images by an encoder that was not trained on them, where there is one. An image is uncertain if

    - its calibrated confidence is below 0.5, or
    - less than half of the trees, or of its neighbours, are for its cluster, or
    - its features are far from those of all others (`far_from_all`). Embeddings cannot tell: training
      moves what is unlike everything else among the others.

    With fewer than 20 images, or 4 a cluster, no opinions are asked, and only the first rule holds.
    Raises ValueError for arrays that do not fit together or are not finite.
    """
    refuse_unfit(probability, embedding, probability if features is None else features)
    n, k = probability.shape
    cluster = probability.argmax(1)
    if n < max(LEAST_IMAGES, 4 * k):
        found = Calibration()
        unknown = np.full(n, np.nan, dtype=np.float32)
        return Calibrated(found, found.confidence(probability), found.uncertain(probability), unknown)
    share = agreement(cluster, embedding, k, seed=seed)
    rows = spaced(n, FITTED).numpy()
    temperature = fitted_temperatures(probability[rows], share[rows])
    found = Calibration(tuple(np.round(temperature, 4).tolist()), round(float(share[rows].mean()), 4), len(rows))
    near = near_rows(embedding, NEIGHBOURS, seed=seed)
    uncertain = found.uncertain(probability) | (share < 0.5) | ((cluster[near] == cluster[:, None]).mean(1) < 0.5)
    if features is not None:
        uncertain |= far_from_all(features, seed=seed)
    return Calibrated(found, found.confidence(probability), uncertain, share)


def refuse_unfit(probability: np.ndarray, embedding: np.ndarray, features: np.ndarray) -> None:
    n = len(probability)
    if not probability.ndim == embedding.ndim == features.ndim == 2 or not n == len(embedding) == len(features):
        raise ValueError(
            "There must be a row of probabilities, of embeddings and of features for each image;"
            f" got {probability.shape}, {embedding.shape} and {features.shape}."
        )
    if not (all(np.isfinite(x).all() for x in (probability, embedding, features)) and (probability >= 0).all()):
        raise ValueError(
            "Some probabilities, embeddings or features are not finite, or a probability is negative;"
            " the model's weights are damaged."
        )


def tempered(probability: np.ndarray, temperature: Doubles | float) -> Doubles:
    """softmax(log(probability) / temperature), (n, k); a temperature for all, or (k,) by most probable cluster."""
    by_image = np.broadcast_to(temperature, probability.shape[1])[probability.argmax(1), None]
    tiny = float(np.finfo(np.float32).tiny)  # what is 0 in float32 stays the least probable
    logits = np.log(np.maximum(probability.astype(np.float64), tiny)) / by_image
    y = np.exp(logits - logits.max(1, keepdims=True))
    found: Doubles = y / y.sum(1, keepdims=True)
    return found


def fitted_temperatures(probability: np.ndarray, share: np.ndarray) -> Doubles:
    """The temperature of each cluster, (k,), from the `share` of other opinions that agree on each image, (n,).

    What the head gets systematically wrong, a kind cut in two, is a matter of whole clusters. But opinions
    that all come from the same embeddings can err together on a cluster. So a cluster's temperature is
    half-way, in logarithms, between the one that fits the cluster and the one that fits all; then all are moved
    together until the mean confidence is the mean share.
    """
    k = probability.shape[1]
    cluster, mean = probability.argmax(1), float(share.sum() / (len(share) + 0.5))  # half a wrong image: never certain
    common = factor_for(probability, np.ones(k), mean)
    own = np.full(k, common)
    for j in range(k):
        rows = cluster == j
        if rows.any():
            aim = (float(share[rows].sum()) + PRIOR * mean) / (int(rows.sum()) + PRIOR)
            own[j] = factor_for(probability[rows], np.ones(k), aim)
    between = np.sqrt(common * own)
    found: Doubles = (between * factor_for(probability, between, mean)).clip(COLDEST, HOTTEST)
    return found


def factor_for(probability: np.ndarray, temperature: Doubles, mean: float) -> float:
    """The factor on `temperature`, (k,), at which the mean confidence is `mean`, between `COLDEST` and `HOTTEST`.

    Confidence falls with the temperature, so there is one; found by bisection.
    """
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(30):
        middle = (low + high) / 2
        above = float(tempered(probability, temperature * math.exp(middle)).max(1).mean()) > mean
        low, high = (middle, high) if above else (low, middle)
    return math.exp((low + high) / 2)


def agreement(cluster: np.ndarray, embedding: np.ndarray, k: int, *, seed: int = 0, count: int = OPINIONS) -> Floats:
    """The share of `count` trees that have each image in the cluster it is in, (n,); clusters are matched one to one.

    Trees differ in the images that they are grown from (0.3 to 0.8 of all, 3,000 at most) and in the number
    of fine clusters that they merge (5 to 18 for each of the k). Other images join the nearest fine cluster.
    """
    n, random = len(cluster), np.random.default_rng(seed)
    votes = np.zeros(n, dtype=np.float32)
    for _ in range(count):
        size = min(n, max(min(TREE_ROWS, int(random.uniform(0.3, 0.8) * n)), LEAST_IMAGES, 4 * k))
        rows = np.sort(random.permutation(n)[:size])
        fine = max(k, min(round(random.uniform(5, 18) * k), size // 5))
        own = int(random.integers(2**31))
        space = find_space(embedding[rows], own)
        tree = build_tree(place(embedding[rows], space), fine, own)
        names = tree.names[min(k, len(tree.names)) - 1]  # fewer than k where many embeddings are the same
        votes += renamed(names[nearest_centre(place(embedding, space), tree.centres)], cluster, k) == cluster
    result: Floats = votes / np.float32(count)
    return result


def renamed(other: np.ndarray, cluster: np.ndarray, k: int) -> Integers:
    """The clusters `other` under those names, 0 to k - 1, that agree with `cluster` on most images."""
    table = np.bincount(other * k + cluster, minlength=k * k).reshape(k, k)
    names: Integers = linear_sum_assignment(table, maximize=True)[1]
    result: Integers = names[other]
    return result


def far_from_all(features: np.ndarray, *, seed: int = 0) -> Booleans:
    """Which images are much further from their nearest others than is usual, (n,). `features`: (n, d), n > 15.

    The measure is the logarithm of the mean cosine distance to the 15 nearest; the bound is 5 robust standard
    deviations (1.4826 times the median deviation) above the median. More than 15 of a kind are a kind.
    """
    near, parts = near_rows(features, NEIGHBOURS, seed=seed), []
    for start in range(0, len(features), CHUNK):
        rows = slice(start, start + CHUNK)
        own, others = features[rows].astype(np.float32), features[near[rows]].astype(np.float32)
        length = np.linalg.norm(own, axis=1)[:, None] * np.linalg.norm(others, axis=2)
        parts.append((1 - np.einsum("nd,nmd->nm", own, others) / np.maximum(length, 1e-12)).mean(1))
    distance = np.log(np.maximum(np.concatenate(parts), 1e-6))  # closer than that is the rounding of float16
    median = float(np.median(distance))
    bound = median + FAR * max(1.4826 * float(np.median(np.abs(distance - median))), 0.05)
    found: Booleans = distance > bound
    return found
