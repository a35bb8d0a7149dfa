"""What is kept of a training to look at later: right, the same for every resume, and of no effect on the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ilk.images import Images, load_images
from ilk.methods import METHODS
from ilk.training.loop import train
from ilk.training.snapshots import Moments, mean_cosines, pair_similarity, spaced


def looped(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    same, other = [], []
    for i, x in enumerate(a.double()):
        for j, y in enumerate(b.double()):
            (same if i == j else other).append(float(x @ y / (x.norm() * y.norm())))
    return float(np.mean(same)), float(np.mean(other))


def test_mean_cosines_equal_those_found_pair_by_pair() -> None:
    a, b = torch.randn(7, 4), torch.randn(7, 4)
    assert mean_cosines(a, b) == pytest.approx(looped(a, b), abs=1e-4)
    assert mean_cosines(a, 3 * a)[0] == 1.0
    assert mean_cosines(torch.eye(3), torch.eye(3)) == (1.0, 0.0)
    assert mean_cosines(a[:1], b[:1])[1] is None
    assert mean_cosines(torch.zeros(3, 2), torch.zeros(3, 2)) == (0.0, 0.0)  # dead clusters


@pytest.mark.parametrize(("n", "m"), [(1, 5), (5, 5), (100, 7)])
def test_spaced_positions_reach_from_the_first_to_the_last(n: int, m: int) -> None:
    found = spaced(n, m).tolist()
    assert found[0] == 0 and found[-1] == n - 1 and len(set(found)) == len(found) == min(n, m)


@pytest.fixture(scope="module")
def discs(pictures: Callable[..., Any]) -> Images:
    return load_images(pictures(60)[0])


@pytest.mark.parametrize("method", sorted(METHODS))
def test_looking_at_a_method_leaves_every_bit_of_it_and_of_the_generators(
    method: str, discs: Images, planned: Callable[..., Any], fabric: Any
) -> None:
    training = planned(discs, method=method, epochs=2)
    list(train(training.method, discs, training.views, training.train, fabric))
    state = {name: tensor.clone() for name, tensor in training.method.state_dict().items()}
    observed, random = training.method.observed, torch.get_rng_state()
    for mode in (True, False):
        training.method.train(mode)
        modes = [module.training for module in training.method.modules()]
        found = [
            pair_similarity(training.method, discs, 60, training.views, fabric, seed=0, clusters=True) for _ in range(2)
        ]  # fmt: skip
        moments = Moments()
        moments.begin(60, 2, 0)
        moments.keep(2, training.method, discs, fabric, clusters=True)
        assert [module.training for module in training.method.modules()] == modes
        assert found[0] == found[1] and all(-1 <= value <= 1 for value in found[0].values() if value is not None)
    assert torch.equal(torch.get_rng_state(), random) and training.method.observed is observed
    for name, tensor in training.method.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert not any(parameter.is_inference() for parameter in training.method.parameters())


def test_the_pairs_are_those_of_two_views_in_evaluation_mode(
    discs: Images, planned: Callable[..., Any], fabric: Any
) -> None:
    from ilk.sampling import seeded
    from ilk.training.snapshots import PAIRS
    from ilk.views import channels_last

    training = planned(discs)
    training.method.to(memory_format=torch.channels_last)
    found = pair_similarity(training.method, discs, 60, training.views, fabric, seed=3, clusters=True)
    rows = spaced(60, 16)
    views = training.views(discs[rows], seeded(3, 0, PAIRS, torch.device("cpu")))
    training.method.eval()
    with torch.no_grad():
        (y_a, z_a), (y_b, z_b) = (training.method.assign_and_embed(channels_last(view)) for view in views)
    assert (found["instance_positive"], found["instance_negative"]) == pytest.approx(looped(z_a, z_b), abs=1e-4)
    assert (found["cluster_positive"], found["cluster_negative"]) == pytest.approx(looped(y_a.T, y_b.T), abs=1e-4)
    unknown = pair_similarity(training.method, discs, 60, training.views, fabric, seed=3, clusters=False)
    assert unknown["cluster_positive"] is unknown["cluster_negative"] is None


def test_moments_are_before_training_and_after_each_third() -> None:
    moments = Moments()
    for epochs, expected in ((9, {0, 3, 6, 9}), (4, {0, 1, 3, 4}), (2, {0, 1, 2}), (1, {0, 1})):
        moments.begin(100, epochs, 0)
        assert set(moments.epochs) == expected
    moments.begin(50_000, 100, 0)
    assert len(moments.rows) == 1000
    moments.begin(50, 1, 0)
    assert moments.rows.tolist() == list(range(50))


def test_moments_that_were_written_are_taken_up_until_the_checkpoint(
    tmp_path: Path, discs: Images, planned: Callable[..., Any], fabric: Any
) -> None:
    training, file = planned(discs), tmp_path / "moments.npz"
    first = Moments(file)
    first.begin(60, 4, 0)
    for epoch in range(5):
        first.keep(epoch, training.method, discs, fabric, clusters=epoch > 2)
    with np.load(file) as saved:
        assert saved["epochs"].tolist() == [0, 1, 3, 4] and saved["embedding"].shape[:2] == (4, 60)
        assert (saved["cluster"][:2] == -1).all() and (saved["cluster"][2:] >= 0).all()
    again = Moments(file)
    again.begin(60, 4, 3)
    assert sorted(again.kept) == [0, 1, 3]
    for n, done in ((60, 0), (59, 3)):
        again.begin(n, 4, done)
        assert again.kept == {}
    file.write_bytes(b"damaged")
    again.begin(60, 4, 3)
    assert again.kept == {}
