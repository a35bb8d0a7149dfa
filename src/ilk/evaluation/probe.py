"""How well labels can be predicted from features: nearest neighbours and linear classifiers.

Every classifier learns from the train split only. The one tuned setting, the learning rate of the published recipe,
is chosen by cross-validation inside the train split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ilk.analysis.neighbours import nearest_rows
from ilk.evaluation.intervals import RESAMPLES, mean_with_interval

NEIGHBOURS = (5, 200)
TEMPERATURE = 0.07
ROWS = 4096  # test images whose votes are in memory at a time
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)
EPOCHS, STEPS, BATCH = 300, 20_000, 256
FOLDS = 3
MOMENTUM, DECAY, TRUST = 0.9, 1e-6, 1e-3
MOST_TRAIN = 100_000  # most images that linear classifiers learn from
Progress = Callable[[int, int, str], None]


def vote(near: np.ndarray, cosine: np.ndarray, labels: np.ndarray, classes: int, *, weighted: bool) -> np.ndarray:
    """The label with most votes among the neighbours of each image, (q,); ties go to the label of the nearest one.

    `near`: (q, k) rows of `labels`, nearest first; `cosine`: (q, k). A vote counts exp(cosine / 0.07), or 1.
    Source: Wu et al. 2018, section 3.4.
    """
    winner = np.empty(len(near), dtype=np.int64)
    for start in range(0, len(near), ROWS):
        of = labels[near[start : start + ROWS]]  # (b, k)
        weight = (
            np.exp(cosine[start : start + ROWS].astype(np.float64) / TEMPERATURE) if weighted else np.ones(of.shape)
        )
        votes = np.zeros((len(of), classes))
        np.add.at(votes, (np.arange(len(of))[:, None], of), weight)
        most = votes.max(1, keepdims=True)
        winners = np.take_along_axis(votes, of, 1) >= most * (1 - 1e-12)
        winner[start : start + ROWS] = np.take_along_axis(of, winners.argmax(1)[:, None], 1)[:, 0]
    return winner


def knn_accuracy(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, *,
    neighbours: Sequence[int] = NEIGHBOURS, resamples: int = RESAMPLES, seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The accuracy of the k nearest labelled neighbours, for each k weighted and by plain majority.

    `train`, `test`: features, compared by cosine; `labels`, `truth`: their codes from 0. With fewer than k train
    images all of them vote, and `used` says how many.
    """
    most = min(max(neighbours), len(train))
    near, cosine = nearest_rows(test, train, most, progress=progress)
    classes = int(max(labels.max(), truth.max())) + 1
    accuracies: dict[str, Any] = {}
    for k in neighbours:
        used = min(k, len(train))
        accuracies[str(k)] = {"used": used}
        for name, weighted in (("weighted", True), ("majority", False)):
            votes = vote(near[:, :used], cosine[:, :used], labels, classes, weighted=weighted)
            accuracies[str(k)][name] = mean_with_interval(votes == truth, resamples=resamples, seed=seed)
    return accuracies


def standardise_by_train(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both centred on the train mean and divided by one number, so that train columns have mean variance 1, float32.

    One number for all columns: scaled one by one, directions in which features hardly vary would count as much as
    those that separate classes (60 images on 128 principal directions are then refitted worse than by chance).
    """
    x = np.asarray(train, dtype=np.float32)
    mean = x.mean(0)
    spread = float(np.sqrt(x.var(0).mean())) or 1.0
    return (x - mean) / spread, (np.asarray(test, dtype=np.float32) - mean) / spread


def logistic_probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The labels of the test images by logistic regression (L2, C = 1, not tuned), (q,).

    The features are `standardise_by_train` by the train split.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) == 1:
        return np.full(len(test), labels[0])
    x, other = standardise_by_train(train, test)
    predicted: np.ndarray = LogisticRegression(C=1.0, max_iter=500, tol=1e-3).fit(x, labels).predict(other)
    return predicted


def published_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, optimizer: str = "lars", seed: int = 0,
    epochs: int = EPOCHS, steps: int = STEPS, rates: Sequence[float] = RATES, progress: Progress | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
    """The labels of the test images by a linear classifier trained with LARS or SGD, (q,), and how it was trained.

    Source: C2BIN (ICLR 2021 submission): LARS, 300 epochs, the best of the learning rates 0.1 to 0.5, batch
    256, momentum 0.9, weight decay 1e-6. Departures: the features are computed once, from images without
    views, and standardised by the train split; the rate follows half a cosine to zero (the paper does not say);
    the best rate is chosen by 3-fold cross-validation inside the train split (the paper does not say on which
    images); at most 20,000 steps. All rates and folds are trained side by side on the same batches.
    """
    if optimizer not in ("lars", "sgd"):
        raise ValueError(f"Unknown optimizer '{optimizer}' of the linear probe. Use lars or sgd.")
    random = torch.Generator().manual_seed(seed)
    x, other = (torch.from_numpy(features) for features in standardise_by_train(train, test))
    classes, y = np.unique(labels, return_inverse=True)
    fold = folds_of(y, seed)
    learns = torch.from_numpy(np.stack([fold != f for f in range(FOLDS)] + [np.ones(len(y), dtype=bool)], 1))
    target = torch.from_numpy(y)
    batch = min(BATCH, len(x))
    per_epoch = len(x) // batch
    total = max(1, min(epochs * per_epoch, max(steps, per_epoch)))
    w, b = trained(
        x, target, learns.repeat_interleave(len(rates), 1), torch.tensor(list(rates) * (FOLDS + 1)), len(classes),
        total=total, batch=batch, lars=optimizer == "lars", random=random, progress=progress,
    )  # fmt: skip
    right = (predicted(x, w, b) == target[:, None]).float()  # (n, models)
    by_rate = torch.stack([
        torch.cat([right[fold == f, f * len(rates) + r] for f in range(FOLDS)]).mean() for r in range(len(rates))
    ])  # fmt: skip
    best = int(by_rate.argmax())
    answer = classes[predicted(other, w, b)[:, FOLDS * len(rates) + best].numpy()]
    return answer, {
        "optimizer": optimizer, "rate": rates[best], "rates": list(rates), "epochs": round(total / per_epoch, 1),
        "steps": total, "batch": batch, "folds": FOLDS, "cross_validated": round(float(by_rate[best]), 4),
    }  # fmt: skip


def folds_of(y: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each image, (n,), drawn within each label."""
    random, fold = np.random.default_rng(seed), np.empty(len(y), dtype=np.int64)
    for code in np.unique(y):
        rows = np.flatnonzero(y == code)
        fold[random.permutation(rows)] = (np.arange(len(rows)) + random.integers(FOLDS)) % FOLDS
    return fold


def trained(
    x: Tensor, target: Tensor, learns: Tensor, rates: Tensor, classes: int, *, total: int, batch: int, lars: bool,
    random: torch.Generator, progress: Progress | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weights (d, models, classes) and biases (models, classes) of linear classifiers trained side by side.

    `x`: (n, d); `target`: (n,) codes; `learns`: (n, models) bool, the images that each learns from; `rates`: (models,).
    Softmax cross entropy, starting from zero weights. Biases have no weight decay and no layer-wise rate of LARS
    (You et al. 2017, coefficient 0.001).
    """
    models = len(rates)
    w, b = torch.zeros(x.shape[1], models, classes), torch.zeros(models, classes)
    moved_w, moved_b = torch.zeros_like(w), torch.zeros_like(b)
    order: list[Tensor] = []
    with torch.no_grad():
        for step in range(total):
            if not order:
                order = list(torch.randperm(len(x), generator=random)[: len(x) // batch * batch].split(batch))
            rows = order.pop()
            xb, use = x[rows], learns[rows]
            gradient = ((xb @ w.flatten(1)).view(len(rows), models, classes) + b).softmax(2)
            gradient[torch.arange(len(rows)), :, target[rows]] -= 1
            gradient *= (use / use.sum(0).clamp_min(1))[:, :, None]
            g_w = (xb.T @ gradient.flatten(1)).view_as(w) + DECAY * w
            scale = rates * (0.5 * (1 + np.cos(np.pi * step / total)))
            length = w.pow(2).sum((0, 2)).sqrt()
            trust = TRUST * length / g_w.pow(2).sum((0, 2)).sqrt().clamp_min(1e-12)
            layer = torch.where(length > 0, trust, torch.ones_like(trust)) if lars else torch.ones_like(length)
            moved_w = MOMENTUM * moved_w + (scale * layer)[None, :, None] * g_w
            moved_b = MOMENTUM * moved_b + scale[:, None] * gradient.sum(0)
            w, b = w - moved_w, b - moved_b
            if progress is not None and step % 50 == 0:
                progress(step, total, "linear probe")
    return w, b


def predicted(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """The most probable class by each model, (n, models)."""
    return torch.cat([((part @ w.flatten(1)).view(len(part), *b.shape) + b).argmax(2) for part in x.split(ROWS)])


def probes(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, *, optimizer: str = "lars",
    resamples: int = RESAMPLES, seed: int = 0, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The accuracy of both linear probes on the test split; of more than 100,000 train images a sample is used."""
    if len(train) > MOST_TRAIN:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[:MOST_TRAIN])
        train, labels = train[chosen], labels[chosen]
    quick = logistic_probe(train, labels, test)
    published, recipe = published_probe(train, labels, test, optimizer=optimizer, seed=seed, progress=progress)
    return {
        "learnt_from": len(train),
        "logistic": {"c": 1.0, **mean_with_interval(quick == truth, resamples=resamples, seed=seed)},
        "published": {**recipe, **mean_with_interval(published == truth, resamples=resamples, seed=seed)},
    }
