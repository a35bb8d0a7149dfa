"""Whatever the numbers: finite losses and gradients, scores that do not depend on names or order, exact distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ilk import losses
from ilk.analysis import metrics
from ilk.analysis.kmeans import kmeans, merge_and_split, squared_distance

few = settings(derandomize=True, max_examples=40, deadline=None)
KINDS = ("normal", "large", "huge", "zeros", "constant", "identical rows", "one hot")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def draw(kind: str, n: int, d: int, seed: int) -> Tensor:
    """(n, d) numbers of that kind, float64."""
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if kind == "large":
        return x * 100
    if kind == "huge":
        return x.sign() * 1e4
    if kind == "zeros":
        return torch.zeros_like(x)
    if kind == "constant":
        return torch.full_like(x, 7.0)
    if kind == "identical rows":
        return x[:1].repeat(n, 1)
    if kind == "one hot":
        return F.one_hot(x.argmax(1), d).double() * 1e4
    return x


tables = st.tuples(
    st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 6), st.integers(0, 1000), st.sampled_from(DTYPES)
)


def two(table: tuple[str, int, int, int, torch.dtype]) -> tuple[Tensor, Tensor]:
    """Two tables of that kind, leaves that want a gradient."""
    kind, n, d, seed, dtype = table
    return tuple(draw(kind, n, d, seed + i).to(dtype).requires_grad_() for i in range(2))  # type: ignore[return-value]


def finite(loss: Tensor, *leaves: Tensor) -> bool:
    """Whether the loss and its gradients are finite numbers."""
    assert torch.isfinite(loss).all(), loss
    assert loss.dtype in (torch.float32, torch.float64)
    for leaf, gradient in zip(
        leaves, torch.autograd.grad(loss.sum(), leaves, allow_unused=True, retain_graph=True), strict=True
    ):
        assert gradient is None or torch.isfinite(gradient).all(), (leaf, gradient)
    return True


def log_p(x: Tensor) -> Tensor:
    return x.float().log_softmax(1) if x.dtype != torch.float64 else x.log_softmax(1)


def assigned(x: Tensor) -> Tensor:
    return log_p(x).exp()


@few
@given(
    table=tables, temperature=st.sampled_from((0.05, 0.5, 1.0)), include_positive=st.booleans(),
    negatives=st.sampled_from(("both_views", "other_view")), symmetric=st.booleans(),
)  # fmt: skip
def test_contrasts_are_finite(
    table: Any, temperature: float, negatives: str, include_positive: bool, symmetric: bool
) -> None:
    switches: dict[str, Any] = {
        "negatives": negatives, "include_positive": include_positive, "symmetric": symmetric,
    }  # fmt: skip
    a, b = two(table)
    switches["include_positive"] = include_positive or min(a.shape) < 2
    assert finite(losses.contrast(a, b, temperature, **switches), a, b)
    assert finite(losses.cluster_contrast(a, b, temperature, **switches), a, b)
    assert finite(losses.cluster_contrast(assigned(a), assigned(b), temperature, **switches), a, b)
    assert finite(losses.contrast(assigned(a), assigned(b), temperature, normalize=False, **switches), a, b)
    assert finite(losses.nt_xent(a, b, temperature), a, b)
    assert finite(losses.alignment(a, b), a)


def test_a_single_row_without_its_positive_is_refused() -> None:
    for loss in (losses.contrast, losses.cluster_contrast):
        with pytest.raises(ValueError, match="single row"):
            loss(torch.zeros(1, 1), torch.zeros(1, 1), 1.0, include_positive=False)


@few
@given(table=tables, critic=st.sampled_from(losses.CRITICS), smoothing=st.sampled_from((0.0, 0.01, 0.5)))
def test_losses_of_assignments_are_finite(table: Any, critic: str, smoothing: float) -> None:
    a, b = two(table)
    assert finite(losses.negative_marginal_entropy(log_p(a)), a)
    assert finite(losses.probability_contrast(log_p(a), log_p(b), critic, smoothing), a, b)
    bank = assigned(b).detach()
    assert finite(losses.bank_contrast(log_p(a), bank, bank[:1].repeat(5, 1), critic, smoothing), a)
    assert finite(losses.smoothed(log_p(a), smoothing), a)
    assert finite(losses.logit_clamp(a, 25.0), a)
    assert finite(losses.soft_cross_entropy(log_p(a), bank), a)


@few
@given(table=tables, temperature=st.sampled_from((0.05, 0.1, 1.0)), clusters=st.integers(1, 4))
def test_losses_with_banks_are_finite(table: Any, temperature: float, clusters: int) -> None:
    a, b = two(table)
    q, key = F.normalize(a.float(), dim=1), F.normalize(b.float(), dim=1)
    bank = F.normalize(torch.randn(clusters, 3, q.shape[1], generator=torch.Generator().manual_seed(0)), dim=2)
    scores = losses.bank_scores(q, bank, temperature)
    labels = torch.arange(len(q)) % clusters
    assert finite(losses.semantic_contrast(q, key, scores, None, temperature), a, b)
    if clusters > 1:
        assert finite(losses.semantic_contrast(q, key, scores, labels, temperature), a, b)


@few
@given(table=tables, seed=st.integers(0, 1000))
def test_losses_do_not_depend_on_the_order_of_images_or_the_names_of_clusters(table: Any, seed: int) -> None:
    a, b = (x.detach().double() for x in two(table))
    generator = torch.Generator().manual_seed(seed)
    rows, names = torch.randperm(len(a), generator=generator), torch.randperm(a.shape[1], generator=generator)
    log_a, log_b = a.log_softmax(1), b.log_softmax(1)

    def same(loss: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
        moved = loss(x[rows][:, names], y[rows][:, names])
        assert torch.allclose(moved, loss(x, y), rtol=1e-6, atol=1e-6), (moved, loss(x, y))

    same(lambda x, y: losses.nt_xent(x, y, 0.5), a, b)
    same(lambda x, y: losses.cluster_contrast(x, y, 1.0), log_a.exp(), log_b.exp())
    same(losses.probability_contrast, log_a, log_b)
    same(lambda x, _: losses.negative_marginal_entropy(x), log_a, log_b)
    same(losses.alignment, a, b)
    if table[0] in ("normal", "large"):
        assert torch.allclose(losses.nt_xent(a * 3, b / 5, 0.5), losses.nt_xent(a, b, 0.5), rtol=1e-6)


@few
@given(table=tables)
def test_losses_stay_within_their_bounds(table: Any) -> None:
    a, b = (x.detach().double() for x in two(table))
    n, k = a.shape
    entropy = float(losses.negative_marginal_entropy(a.log_softmax(1)))
    assert -1e-9 <= entropy <= np.log(k) + 1e-9
    assert -1e-9 <= float(losses.alignment(a, b)) <= 2 + 1e-9
    assert float(losses.nt_xent(a, b, 0.5)) >= -1e-9
    equal = torch.ones(n, k, dtype=torch.float64)
    assert float(losses.nt_xent(equal, equal, 0.5)) == pytest.approx(np.log(2 * n - 1))


# ---- scores

partitions = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 5), min_size=n, max_size=n) for _ in range(2)))
)


@few
@given(both=partitions, seed=st.integers(0, 1000))
def test_scores_are_finite_in_range_and_blind_to_names_and_order(both: tuple[list[int], list[int]], seed: int) -> None:
    y, c = (np.array(one) for one in both)
    random = np.random.default_rng(seed)
    found = metrics.score(y, c)
    for name, value in found.items():
        low = -1.0 if name == "ari" else 0.0
        assert name == "images" or low <= value <= 1 + 1e-9, (name, value)
    order, names, others = random.permutation(len(y)), random.permutation(9), random.permutation(9)
    assert metrics.score(names[y][order], others[c][order]) == pytest.approx(found, abs=1e-9)
    assert 1 - 1e-9 <= metrics.effective_clusters(c) <= len(set(c.tolist())) + 1e-9
    assert metrics.accuracy(y, y) == metrics.purity(y, y) == 1 and metrics.nmi(y, y) == pytest.approx(1)
    assert metrics.accuracy(y, c) == pytest.approx(metrics.accuracy(c, y))
    assert metrics.accuracy(y, c) <= metrics.purity(y, c) + 1e-12


@pytest.mark.parametrize(
    ("labels", "clusters", "sentence"),
    [
        ([], [], "no labelled images"), ([0, 1], [0], "one length"), ([0, -1], [0, 0], "negative"),
        ([[0], [1]], [[0], [1]], "one length"),
    ],
)  # fmt: skip
def test_scores_of_nothing_or_of_negative_codes_are_a_sentence(labels: Any, clusters: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        metrics.score(labels, clusters)


# ---- k-means


@few
@given(table=tables, k=st.integers(1, 9), far=st.sampled_from((0.0, 1e3)))
def test_kmeans_gives_every_row_its_nearest_centre(table: Any, k: int, far: float) -> None:
    kind, n, d, seed, dtype = table
    x = (draw(kind, n, d, seed) + far).to(dtype)
    if k > n:
        with pytest.raises(ValueError, match=f"{k} clusters.*{k} rows.* {n}"):
            kmeans(x, k, generator=torch.Generator().manual_seed(seed))
        return
    best, *others = kmeans(x, k, generator=torch.Generator().manual_seed(seed), restarts=3)
    assert all(best.inertia <= other.inertia for other in others)
    assert 0 <= int(best.labels.min()) <= int(best.labels.max()) < k
    assert torch.isfinite(best.centres).all() and np.isfinite(best.inertia) and best.inertia >= 0
    exact = torch.cdist(x.double(), best.centres.double()).square()
    chosen = exact.gather(1, best.labels[:, None])[:, 0]
    slack = 1e-5 * float(x.double().abs().max()) ** 2 + 1e-9
    assert (chosen <= exact.min(1).values + slack).all()
    if k == n and len(x.unique(dim=0)) == n and kind == "normal" and far == 0:
        assert best.inertia == pytest.approx(0, abs=1e-4) and len(best.labels.unique()) == n


def test_kmeans_refuses_numbers_that_are_not_finite() -> None:
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="not finite"):
            kmeans(torch.tensor([[0.0], [value], [1.0]]), 2, generator=torch.Generator())
    with pytest.raises(ValueError, match="0 clusters"):
        kmeans(torch.zeros(3, 2), 0, generator=torch.Generator())


@few
@given(n=st.integers(1, 20), k=st.integers(1, 5), far=st.sampled_from((0.0, 1e2, 1e4, 1e6)), seed=st.integers(0, 99))
def test_distances_far_from_the_origin_keep_their_digits(n: int, k: int, far: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, centres = (torch.randn(m, 3, generator=generator) + far for m in (n, k))
    exact = (x.double()[:, None] - centres.double()[None]).square().sum(2)  # of the float32 numbers as they are
    spread = float(exact.max()) + 1
    assert torch.allclose(squared_distance(x, centres).double(), exact, atol=1e-4 * spread, rtol=1e-4)


def test_two_groups_far_from_the_origin_are_told_apart() -> None:
    """Without the move to the centre, squares of 1e10 leave no digit of distances of 1."""
    near = torch.cat([torch.zeros(20, 2), torch.ones(20, 2)])
    found = kmeans(near + 1e5, 2, generator=torch.Generator().manual_seed(0))[0]
    assert found.inertia < 1e-3
    assert len(found.labels[:20].unique()) == len(found.labels[20:].unique()) == 1 != len(found.labels.unique())


@few
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 30),
    k=st.integers(1, 6),
    least=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_merge_and_split_keeps_every_image_and_leaves_no_small_cluster_that_it_could_fill(
    kind: str, n: int, k: int, least: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = F.normalize(draw(kind, n, 3, seed), dim=1)
    labels = torch.randint(k, (n,), generator=generator)
    before = torch.bincount(labels, minlength=k)
    found = merge_and_split(x, labels.clone(), k, least, generator)
    after = torch.bincount(found, minlength=k)
    assert found.shape == labels.shape and len(after) == k
    small = before < least
    if not small.any() or small.all():
        assert torch.equal(found, labels)
    elif n >= 2 * k:
        assert (after > 0).all()  # an emptied cluster got half of the largest


@few
@given(table=tables)
def test_kmeans_repeats_itself(table: Any) -> None:
    kind, n, d, seed, dtype = table
    x = draw(kind, n, d, seed).to(dtype)
    one, two_ = (kmeans(x, min(2, n), generator=torch.Generator().manual_seed(3), restarts=2)[0] for _ in range(2))
    assert torch.equal(one.labels, two_.labels) and torch.equal(one.centres, two_.centres)
