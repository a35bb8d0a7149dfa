"""Calibrated confidence: an estimate, without labels, of how often an image is in the right cluster.

A cluster head is trained to be certain, so its probabilities say little about how often it is right. Without
labels, its assignments are compared with other partitions of the same images. The nearest neighbours of an image
and the other heads are of little use for that: they mostly agree with the head even where it splits a class in two,
since they follow the same boundaries. How far the views of an image agree depends on how strong the views are
(figures in docs/confidence.md). So the partitions used here do not depend on the head: trees along the neighbour
graph of the embeddings (`hierarchy`), each grown from another random part of the images and from other fine clusters.
Where classes are well separated, every tree finds the clusters of the head; where classes overlap, the trees disagree.
If head and trees are equally good estimates of the unknown truth, the head is right as often as they agree (the idea
of Jiang et al., Assessing Generalization of SGD via Disagreement, ICLR 2022, for two trainings of one network).
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

__all__ = ["Calibrated", "Calibration", "agreement", "calibrate", "calibration_of", "match_clusters"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

TREES = 12  # the mean agreement with a single tree varies by 0.05 from tree to tree
TREE_ROWS = 3_000  # at most so many images grow a tree
LEAST_IMAGES = 20
FITTED = 20_000  # at most so many images fit the temperatures
PRIOR = 20  # images of mean agreement added to each cluster, so that small clusters get no extreme temperature
COLDEST, HOTTEST = 0.02, 50.0  # range of the temperatures
SURE = 0.5  # an image with less confidence is uncertain
NEIGHBOURS = 15
FAR = 5.0  # an image is far from all others if its log distance is so many robust deviations above the median
CHUNK = 512  # images whose neighbours' features are in memory at a time


@dataclass(frozen=True)
class Calibration:
    """The temperatures that calibrate the probabilities of a run, and what they were fitted to.

    `temperature`: one per cluster, for the images assigned to it; empty: probabilities are left as they are.
    `agreement`: how often the head and the trees agree, which is the mean confidence after calibration; None where
    there were too few images, and then there are no temperatures. `images`: how many images were used. `sure`: the
    confidence below which an image is uncertain. Needs only the probabilities of an image, so it applies to new
    images too. Raises ValueError for a temperature that is not above 0, or `sure` outside [0, 1].
    """

    temperature: tuple[float, ...] = ()
    agreement: float | None = None
    images: int = 0
    sure: float = SURE

    def __post_init__(self) -> None:
        invalid = [value for value in self.temperature if not (math.isfinite(value) and value > 0)]
        if invalid:
            raise ValueError(f"The temperatures of a calibration must be finite and above 0; got {invalid[0]}.")
        if not 0 <= self.sure <= 1:
            raise ValueError(f"sure must be a confidence between 0 and 1; got {self.sure}.")

    def apply(self, probability: np.ndarray) -> Floats:
        """Calibrated probabilities, (n, k): softmax(log(probability) / temperature).

        The order of the clusters of an image does not change. Raises ValueError for another number of clusters than
        the calibration has.
        """
        if not self.temperature:
            return probability.astype(np.float32)
        if probability.ndim != 2 or probability.shape[1] != len(self.temperature):
            raise ValueError(
                f"The calibration has temperatures for {len(self.temperature)} clusters; got probabilities of"
                f" shape {probability.shape}."
            )
        return tempered(probability, np.array(self.temperature)).astype(np.float32)

    def confidence(self, probability: np.ndarray) -> Floats:
        """The calibrated probability of the most probable cluster, (n,)."""
        confidence: Floats = self.apply(probability).max(1)
        return confidence

    def uncertain(self, probability: np.ndarray) -> Booleans:
        """Whether the calibrated confidence of each image is below `sure`, (n,)."""
        uncertain: Booleans = self.confidence(probability) < self.sure
        return uncertain

    def described(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return {**asdict(self), "temperature": list(self.temperature)}


def calibration_of(described: Mapping[str, Any] | None) -> Calibration:
    """The calibration that `Calibration.described` described; for None one that leaves probabilities as they are."""
    names = {field.name for field in fields(Calibration)}
    values = {name: value for name, value in (described or {}).items() if name in names}
    return Calibration(**{**values, "temperature": tuple(values.get("temperature", ()))})


class Calibrated(NamedTuple):
    """A calibration, and what it says about the images it was fitted to."""

    calibration: Calibration
    confidence: Floats  # (n,) in [0, 1], calibrated
    uncertain: Booleans  # (n,)
    share: Floats  # (n,) of the trees that agree with the image's cluster; nan if there were too few images


def calibrate(
    probability: np.ndarray, embedding: np.ndarray, *, features: np.ndarray | None = None, seed: int = 0
) -> Calibrated:
    """Calibrated confidence of the images that a method was trained on, without labels.

    `probability`: (n, k) float32, rows summing to 1. `embedding`: (n, d) of any scale. `features`: (n, D) from an
    encoder that was not trained on these images, if there is one. An image is uncertain if

    - its calibrated confidence is below 0.5, or
    - less than half of the trees, or of its neighbours, have it in its cluster, or
    - its features are far from those of all other images (`far_from_all`). Embeddings do not show that, since
      training moves outliers among the other images.

    With fewer than 20 images, or fewer than 4 per cluster, no trees are grown: confidence is the raw probability,
    and only the first rule applies. Raises ValueError for arrays that do not fit together or are not finite.
    """
    check_arrays(probability, embedding, probability if features is None else features)
    n, k = probability.shape
    cluster = probability.argmax(1)
    if n < max(LEAST_IMAGES, 4 * k):
        unchanged = Calibration()
        unknown = np.full(n, np.nan, dtype=np.float32)
        return Calibrated(unchanged, unchanged.confidence(probability), unchanged.uncertain(probability), unknown)
    share = agreement(cluster, embedding, k, seed=seed)
    rows = spaced(n, FITTED).numpy()
    temperature = fitted_temperatures(probability[rows], share[rows])
    fitted = Calibration(tuple(np.round(temperature, 4).tolist()), round(float(share[rows].mean()), 4), len(rows))
    near = near_rows(embedding, NEIGHBOURS, seed=seed)
    uncertain = fitted.uncertain(probability) | (share < 0.5) | ((cluster[near] == cluster[:, None]).mean(1) < 0.5)
    if features is not None:
        uncertain |= far_from_all(features, seed=seed)
    return Calibrated(fitted, fitted.confidence(probability), uncertain, share)


def check_arrays(probability: np.ndarray, embedding: np.ndarray, features: np.ndarray) -> None:
    """Raises ValueError unless all three have the same number of rows and finite values, and none is below 0."""
    n = len(probability)
    if not probability.ndim == embedding.ndim == features.ndim == 2 or not n == len(embedding) == len(features):
        raise ValueError(
            "Probabilities, embeddings and features must each have one row per image;"
            f" got shapes {probability.shape}, {embedding.shape} and {features.shape}."
        )
    if not (all(np.isfinite(x).all() for x in (probability, embedding, features)) and (probability >= 0).all()):
        raise ValueError(
            "Some probabilities, embeddings or features are not finite, or a probability is negative;"
            " the model's weights are damaged."
        )


def tempered(probability: np.ndarray, temperature: Doubles | float) -> Doubles:
    """softmax(log(probability) / temperature), (n, k).

    `temperature`: one for all images, or (k,): one per cluster, for the images whose most probable cluster it is.
    """
    by_image = np.broadcast_to(temperature, probability.shape[1])[probability.argmax(1), None]
    tiny = float(np.finfo(np.float32).tiny)  # a probability of 0 has no logarithm
    logits = np.log(np.maximum(probability.astype(np.float64), tiny)) / by_image
    y = np.exp(logits - logits.max(1, keepdims=True))
    softmax: Doubles = y / y.sum(1, keepdims=True)
    return softmax


def fitted_temperatures(probability: np.ndarray, share: np.ndarray) -> Doubles:
    """The temperature of each cluster, (k,), for the `share` of trees that agree with the head on each image, (n,).

    A systematic error of the head, such as splitting a class in two, concerns whole clusters. But trees of the same
    embeddings can all be wrong about a cluster. So the temperature of a cluster is the geometric mean of the one that
    fits this cluster and the one that fits all images; then all temperatures are multiplied by the factor at which
    the mean confidence equals the mean share.
    """
    k = probability.shape[1]
    cluster, mean = (
        probability.argmax(1),
        float(share.sum() / (len(share) + 0.5)),
    )  # never 1
    common = factor_for(probability, np.ones(k), mean)
    own = np.full(k, common)
    for j in range(k):
        rows = cluster == j
        if rows.any():
            target = (float(share[rows].sum()) + PRIOR * mean) / (int(rows.sum()) + PRIOR)
            own[j] = factor_for(probability[rows], np.ones(k), target)
    between = np.sqrt(common * own)
    temperature: Doubles = (between * factor_for(probability, between, mean)).clip(COLDEST, HOTTEST)
    return temperature


def factor_for(probability: np.ndarray, temperature: Doubles, mean: float) -> float:
    """The factor on `temperature`, (k,), at which the mean confidence is `mean`; in [`COLDEST`, `HOTTEST`].

    Found by bisection, since confidence falls as the temperature rises.
    """
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(30):
        middle = (low + high) / 2
        above = float(tempered(probability, temperature * math.exp(middle)).max(1).mean()) > mean
        low, high = (middle, high) if above else (low, middle)
    return math.exp((low + high) / 2)


def agreement(cluster: np.ndarray, embedding: np.ndarray, k: int, *, seed: int = 0, count: int = TREES) -> Floats:
    """The share of `count` trees that agree with the cluster of each image, (n,), in [0, 1].

    `cluster`: (n,) in [0, k). `embedding`: (n, d). The k clusters of a tree are matched one to one with these clusters.
    Each tree is grown from other images (0.3 to 0.8 of all, at most 3,000) and another number of fine clusters (5 to
    18 times k). The images a tree is not grown from join their nearest fine cluster.
    """
    n, random = len(cluster), np.random.default_rng(seed)
    votes = np.zeros(n, dtype=np.float32)
    for _ in range(count):
        size = min(n, max(min(TREE_ROWS, int(random.uniform(0.3, 0.8) * n)), LEAST_IMAGES, 4 * k))
        rows = np.sort(random.permutation(n)[:size])
        fine = max(k, min(round(random.uniform(5, 18) * k), size // 5))
        tree_seed = int(random.integers(2**31))
        space = find_space(embedding[rows], tree_seed)
        tree = build_tree(place(embedding[rows], space), fine, tree_seed)
        names = tree.names[min(k, len(tree.names)) - 1]  # fewer than k where many embeddings are equal
        votes += match_clusters(names[nearest_centre(place(embedding, space), tree.centres)], cluster, k) == cluster
    share: Floats = votes / np.float32(count)
    return share


def match_clusters(other: np.ndarray, cluster: np.ndarray, k: int) -> Integers:
    """The partition `other` renumbered to agree with `cluster` on as many images as possible, (n,).

    Both are (n,) with numbers in [0, k), which are matched one to one (Hungarian).
    """
    table = np.bincount(other * k + cluster, minlength=k * k).reshape(k, k)
    matched: Integers = linear_sum_assignment(table, maximize=True)[1]
    renumbered: Integers = matched[other]
    return renumbered


def far_from_all(features: np.ndarray, *, seed: int = 0) -> Booleans:
    """Which images are unusually far from their nearest neighbours, (n,) bool. `features`: (n, d), n > 15.

    The measure is the logarithm of the mean cosine distance to the 15 nearest images; an image is far if it is more
    than 5 robust standard deviations (1.4826 times the median absolute deviation) above the median. So a group of
    more than 15 similar images is never far.
    """
    near, parts = near_rows(features, NEIGHBOURS, seed=seed), []
    for start in range(0, len(features), CHUNK):
        rows = slice(start, start + CHUNK)
        own, others = features[rows].astype(np.float32), features[near[rows]].astype(np.float32)
        length = np.linalg.norm(own, axis=1)[:, None] * np.linalg.norm(others, axis=2)
        parts.append((1 - np.einsum("nd,nmd->nm", own, others) / np.maximum(length, 1e-12)).mean(1))
    distance = np.log(np.maximum(np.concatenate(parts), 1e-6))  # smaller distances are float16 rounding
    median = float(np.median(distance))
    bound = median + FAR * max(1.4826 * float(np.median(np.abs(distance - median))), 0.05)
    is_far: Booleans = distance > bound
    return is_far
