"""Long-tailed subsets of labelled images: classes of very different sizes, made from classes of similar sizes."""

from __future__ import annotations

import numpy as np

from ilk.images import Images


def long_tailed(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Sorted rows of a subset in which the largest class has `ratio` times the images of the smallest.

    `labels`: (n,) codes, -1 for none (left out). Class i of C, in an order drawn from `seed`, keeps
    m * ratio^(-i / (C - 1)) images drawn at random, where m is the size of the smallest class. A class keeps at least
    one image, so the ratio that is reached (`ratio_reached`) is at most m.
    Source: Cui et al. 2019, section 5.1. Raises ValueError for a ratio below 1 or fewer than two classes.
    """
    classes = np.unique(labels[labels >= 0])
    if not ratio >= 1 or len(classes) < 2:
        raise ValueError(f"A long tail needs a ratio of at least 1 and two classes; got {ratio} and {len(classes)}.")
    random = np.random.default_rng(seed)
    most = min(int((labels == code).sum()) for code in classes)
    kept = [
        random.choice(np.flatnonzero(labels == code), max(1, round(most * ratio ** (-i / (len(classes) - 1)))), False)
        for i, code in enumerate(random.permutation(classes))
    ]
    return np.sort(np.concatenate(kept))


def ratio_reached(labels: np.ndarray) -> float:
    """The size of the largest class divided by that of the smallest; `labels`: (n,) codes, -1 for none."""
    sizes = np.bincount(labels[labels >= 0])
    return float(sizes.max() / sizes[sizes > 0].min())


def long_tailed_images(images: Images, ratio: float, seed: int) -> Images:
    """The images of a long-tailed subset (see `long_tailed`), which share the pixels of `images`.

    Raises ValueError where `images` has no labels.
    """
    if images.labels is None:
        raise ValueError(
            f"A long tail is cut by labels, and {images.name} has none. Give them: load_images(labels=...)."
        )
    return images.subset(long_tailed(images.labels, ratio, seed))
