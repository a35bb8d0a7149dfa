"""Nearest neighbours, linear probes and the splits that they learn and are tested on."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from ilk.evaluation import probe
from ilk.evaluation.probe import (
    folds_of,
    knn_accuracy,
    logistic_probe,
    probes,
    published_probe,
    standardise_by_train,
    trained,
    vote,
)
from ilk.evaluation.splits import stratified


def blobs(n: int, kinds: int = 3, d: int = 8, spread: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, kinds, n)
    centres = np.random.default_rng(99).normal(size=(kinds, d))
    return (centres[labels] + spread * random.normal(size=(n, d))).astype(np.float32), labels


# nearest neighbours


def slow_vote(labels: list[int], cosines: list[float], weighted: bool) -> int:
    votes: dict[int, float] = {}
    for label, cosine in zip(labels, cosines, strict=True):
        votes[label] = votes.get(label, 0.0) + (math.exp(cosine / 0.07) if weighted else 1.0)
    most = max(votes.values())
    return next(label for label in labels if votes[label] >= most * (1 - 1e-12))


@pytest.mark.parametrize("weighted", [True, False])
def test_votes_are_those_of_a_loop(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ROWS", 17)
    random = np.random.default_rng(0)
    labels, near = random.integers(0, 4, 60), random.integers(0, 60, (50, 6))
    cosine = -np.sort(-random.uniform(-1, 1, (50, 6)), axis=1)
    expected = [slow_vote(labels[i].tolist(), c.tolist(), weighted) for i, c in zip(near, cosine, strict=True)]
    assert vote(near, cosine, labels, 4, weighted=weighted).tolist() == expected


def test_a_near_neighbour_outweighs_two_far_ones_only_by_weights() -> None:
    """exp(0.9 / 0.07) is 17 times exp(0.7 / 0.07)."""
    near, cosine, labels = np.array([[0, 1, 2]]), np.array([[0.9, 0.7, 0.7]]), np.array([5, 6, 6])
    assert vote(near, cosine, labels, 7, weighted=True).tolist() == [5]
    assert vote(near, cosine, labels, 7, weighted=False).tolist() == [6]


def test_a_tie_goes_to_the_label_of_the_nearer_neighbour() -> None:
    near, cosine = np.array([[0, 1, 2, 3]]), np.array([[0.9, 0.8, 0.7, 0.6]])
    assert vote(near, cosine, np.array([2, 1, 1, 2]), 3, weighted=False).tolist() == [2]
    assert vote(near, cosine, np.array([1, 2, 2, 1]), 3, weighted=False).tolist() == [1]


def test_knn_accuracy_is_that_of_loops() -> None:
    (train, labels), (test, truth) = blobs(80, spread=1.5), blobs(40, spread=1.5, seed=1)
    found = knn_accuracy(train, labels, test, truth, neighbours=(5, 200), resamples=50)
    for k in (5, 200):
        right = {True: 0, False: 0}
        for x, y in zip(test.astype(np.float64), truth, strict=True):
            unit = train.astype(np.float64) / np.linalg.norm(train.astype(np.float64), axis=1, keepdims=True)
            cosine = unit @ (x / np.linalg.norm(x))
            order = np.argsort(-cosine, kind="stable")[:k]
            for weighted in right:
                right[weighted] += slow_vote(labels[order].tolist(), cosine[order].tolist(), weighted) == y
        assert found[str(k)]["weighted"]["value"] == pytest.approx(right[True] / 40)
        assert found[str(k)]["majority"]["value"] == pytest.approx(right[False] / 40)
    assert found["200"]["used"] == 80 and found["5"]["used"] == 5


def test_a_kind_that_nobody_learnt_counts_as_wrong() -> None:
    train, labels = blobs(30)
    assert knn_accuracy(train, labels, train, np.full(30, 9), resamples=10)["5"]["weighted"]["value"] == 0


# linear probes


def test_both_probes_read_labels_off_features_that_hold_them() -> None:
    (train, labels), (test, truth) = blobs(300), blobs(100, seed=1)
    found = probes(train, labels, test, truth, resamples=50)
    assert found["logistic"]["value"] > 0.9 and found["published"]["value"] > 0.9
    assert found["published"]["rate"] in found["published"]["rates"] and found["learnt_from"] == 300


@pytest.mark.parametrize("optimizer", ["lars", "sgd"])
def test_probes_find_nothing_in_noise(optimizer: str) -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(200, 5)), random.normal(size=(400, 5))
    labels, truth = random.integers(0, 4, 200), random.integers(0, 4, 400)
    found = probes(train, labels, test, truth, optimizer=optimizer, resamples=50)
    for name in ("logistic", "published"):
        assert found[name]["value"] == pytest.approx(0.25, abs=0.1)


def test_the_test_split_cannot_change_what_is_learnt() -> None:
    """Predictions of an image are the same whichever other images are tested, so nothing was fitted to them."""
    (train, labels), (test, _) = blobs(120, spread=1.5), blobs(60, spread=1.5, seed=1)
    odd = np.concatenate([test[:5], 1e3 * test[5:]])
    np.testing.assert_array_equal(logistic_probe(train, labels, test)[:5], logistic_probe(train, labels, odd)[:5])
    (first, how), (second, other) = (published_probe(train, labels, x, epochs=20) for x in (test, odd))
    np.testing.assert_array_equal(first[:5], second[:5])
    assert how == other


def test_the_rate_is_the_best_of_the_folds() -> None:
    """Each rate and fold trained on its own, from the same batches, guesses the held-out images as often."""
    train, labels = blobs(90, spread=2.0)
    rates = (1e-9, 3.0, 0.05)
    _, how = published_probe(train, labels, train, optimizer="sgd", rates=rates, epochs=30)
    x, fold = torch.from_numpy(standardise_by_train(train, train)[0]), folds_of(labels, 0)
    shares = []
    for rate in rates:
        right: list[bool] = []
        for f in range(3):
            w, b = trained(
                x, torch.from_numpy(labels), torch.from_numpy(fold != f)[:, None], torch.tensor([rate]), 3,
                total=how["steps"], batch=how["batch"], lars=False, random=torch.Generator().manual_seed(0),
                progress=None,
            )  # fmt: skip
            right += ((x @ w[:, 0] + b[0]).argmax(1).numpy() == labels)[fold == f].tolist()
        shares.append(np.mean(right))
    assert len(set(shares)) > 1
    assert how["rate"] == rates[int(np.argmax(shares))]
    assert how["cross_validated"] == pytest.approx(max(shares), abs=1e-4)


def slow_lars(x: np.ndarray, y: np.ndarray, rate: float, steps: int, lars: bool) -> tuple[np.ndarray, np.ndarray]:
    """Full-batch softmax regression written out: You et al. 2017 for the weights, plain momentum for the bias."""
    n, classes = len(x), y.max() + 1
    w, b = torch.zeros(x.shape[1], classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    v_w, v_b = torch.zeros_like(w), torch.zeros_like(b)
    for step in range(steps):
        w.requires_grad_(True), b.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(x).double() @ w + b, torch.from_numpy(y))
        g_w, g_b = torch.autograd.grad(loss, (w, b))
        w, b = w.detach(), b.detach()
        g_w = g_w + 1e-6 * w
        local = 1e-3 * float(w.norm()) / float(g_w.norm()) if lars and float(w.norm()) > 0 else 1.0
        now = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        v_w, v_b = 0.9 * v_w + now * local * g_w, 0.9 * v_b + now * g_b
        w, b = w - v_w, b - v_b
    assert n > 0
    return w.numpy(), b.numpy()


@pytest.mark.parametrize("lars", [True, False])
def test_training_side_by_side_equals_the_recipe_written_out(lars: bool) -> None:
    x, y = blobs(40, spread=1.0)
    rates = torch.tensor([0.1, 0.5])
    w, b = trained(
        torch.from_numpy(x), torch.from_numpy(y), torch.ones(40, 2, dtype=torch.bool), rates, 3, total=25, batch=40,
        lars=lars, random=torch.Generator().manual_seed(0), progress=None,
    )  # fmt: skip
    for place, rate in enumerate((0.1, 0.5)):
        expected = slow_lars(x, y, rate, 25, lars)
        np.testing.assert_allclose(w[:, place].numpy(), expected[0], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(b[place].numpy(), expected[1], rtol=1e-3, atol=1e-5)


def test_images_that_a_model_does_not_learn_from_do_not_matter_to_it() -> None:
    x, y = blobs(40)
    learns = torch.ones(40, 1, dtype=torch.bool)
    learns[20:] = False
    answers = []
    for rest in (x[20:], -5 * x[20:]):
        w, _ = trained(
            torch.from_numpy(np.concatenate([x[:20], rest])), torch.from_numpy(y), learns, torch.tensor([0.1]), 3,
            total=10, batch=40, lars=True, random=torch.Generator().manual_seed(0), progress=None,
        )  # fmt: skip
        answers.append(w)
    torch.testing.assert_close(*answers)


def test_few_steps_are_said() -> None:
    train, labels = blobs(600)
    _, how = published_probe(train, labels, train, steps=10)
    assert how["steps"] == 10 and how["epochs"] == 5 and how["batch"] == 256


def test_a_single_kind_or_three_images_are_no_trouble() -> None:
    train, _ = blobs(3)
    assert probes(train, np.zeros(3, int), train, np.zeros(3, int), resamples=5)["published"]["value"] == 1
    assert probes(train, np.arange(3), train, np.arange(3), resamples=5)["logistic"]["value"] == 1


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(ValueError, match="'adam'.*lars.*sgd"):
        published_probe(np.ones((4, 2)), np.array([0, 1, 0, 1]), np.ones((1, 2)), optimizer="adam")


# splits


def test_a_random_split_holds_out_the_share_of_every_label() -> None:
    codes = np.array([0] * 50 + [1] * 10 + [2] * 2 + [3] + [-1] * 9)
    held = stratified(codes, 0.2, 0)
    assert Counter(codes[held].tolist()) == {0: 10, 1: 2, 2: 1}
    np.testing.assert_array_equal(held, stratified(codes, 0.2, 0))
    assert (held != stratified(codes, 0.2, 1)).any()
