"""Which sizes of clusters are held for right: equal ones, those that are seen, or any."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ilk import cli, load_images
from ilk.evaluation import long_tailed
from ilk.losses import negative_marginal_entropy
from ilk.methods import METHODS, get_preset, scl_tasks
from ilk.methods.scl_tasks import SCLConfig, Task
from ilk.methods.subheads import FLOOR, PACE, SubHeads
from ilk.pipeline.build import build_method, load_method
from ilk.pipeline.fitting import fit
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.system.progress import Watch
from ilk.training.loop import train

ENTROPY = {"dcdc": {"entropy_weight": 1.0}, "c2bin": {"scales": ""}}  # DCDC is published without it; C2BIN has others
WITH_HEADS = [name for name in METHODS if name != "scl"]


def heads(balance: str, count: int = 2, k: int = 3) -> SubHeads:
    return SubHeads(lambda: nn.Linear(4, k), count, clusters=k, balance=balance)


def assignments(*means: list[float]) -> Tensor:
    """Log-probabilities of two images per head whose mean is as given, (heads, 2, k)."""
    middle = torch.tensor(means, dtype=torch.float64)
    shift = 0.5 * middle.min(1).values[:, None] * torch.tensor([1.0, -1.0] + [0.0] * (middle.shape[1] - 2))
    return torch.stack([middle + shift, middle - shift], 1).log()


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_uniform_is_the_entropy_term_of_the_papers() -> None:
    torch.manual_seed(0)
    log_y = torch.randn(2, 9, 3).log_softmax(2)
    found = heads("uniform").imbalance(log_y)
    assert torch.equal(found, torch.stack([negative_marginal_entropy(y) for y in log_y]))
    by_hand = heads("uniform").imbalance(assignments([0.5, 0.25, 0.25], [1 / 3] * 3))
    assert by_hand.tolist() == pytest.approx([math.log(3) - 1.5 * math.log(2), 0], abs=1e-7)


def test_estimated_is_the_divergence_from_the_sizes_of_each_head() -> None:
    found = heads("estimated")
    found.prior.copy_(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]))
    means = [[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]
    expected = [0, 0.5 * math.log(2.5) + 0.25 * math.log(0.25 / 0.3) - 0.25 * math.log(2)]
    assert found.imbalance(assignments(*means)).tolist() == pytest.approx(expected, abs=1e-6)
    assert expected[1] == pytest.approx(kl(means[1], [0.2, 0.3, 0.5]))


def test_estimated_begins_with_equal_sizes() -> None:
    log_y = assignments([0.7, 0.2, 0.1], [0.4, 0.4, 0.2])
    torch.testing.assert_close(heads("estimated").imbalance(log_y), heads("uniform").imbalance(log_y))


def test_off_holds_any_sizes_for_right() -> None:
    log_y = torch.randn(2, 9, 3).log_softmax(2).requires_grad_()
    assert heads("off").imbalance(log_y).tolist() == [0, 0]


def test_a_cluster_that_died_gives_finite_gradients() -> None:
    logits = torch.tensor([[[200.0, 0.0, -200.0]] * 4] * 2, requires_grad=True)
    heads("estimated").imbalance(logits.log_softmax(2)).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_the_sizes_follow_what_is_seen_slowly_and_never_to_nothing() -> None:
    found = heads("estimated", count=1)
    seen = torch.tensor([[[1.0, 0.0, 0.0]] * 5]).log()
    found.observe(seen)
    target = torch.tensor([1 - FLOOR + FLOOR / 3, FLOOR / 3, FLOOR / 3])
    torch.testing.assert_close(found.prior[0], (1 - PACE) / 3 + PACE * target)
    for _ in range(2000):
        found.observe(seen)
    torch.testing.assert_close(found.prior[0], target, rtol=1e-3, atol=1e-4)
    assert float(found.prior.sum()) == pytest.approx(1, abs=1e-4)


def test_sizes_are_learnt_in_training_only() -> None:
    found = heads("estimated", count=1).eval()
    before = found.prior.clone()
    found.observe(torch.tensor([[[1.0, 0.0, 0.0]] * 5]).log())
    assert torch.equal(found.prior, before)


def test_what_is_observed_are_the_assignments_of_the_best_head_whatever_the_balance() -> None:
    log_y = torch.randn(2, 4, 3).log_softmax(2).requires_grad_()
    for balance in ("uniform", "estimated", "off"):
        one = heads(balance)
        one.loss.copy_(torch.tensor([2.0, 1.0]))
        found = one.observe(log_y)
        assert torch.equal(found, log_y[1].exp()) and not found.requires_grad


def test_a_start_from_partitions_takes_their_sizes() -> None:
    random = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(4)[:3]
    h = torch.cat([centres[i] + 0.1 * torch.randn(size, 4, generator=random) for i, size in enumerate((70, 20, 10))])

    def encode(m: int) -> Tensor:
        return h

    found = SubHeads(lambda: nn.Linear(4, 3), 1, warm_start=0.5, clusters=3, balance="estimated")
    assert "prior" in found.state_dict()
    assert found.start(encode, 3, 0, 0)
    expected = [(1 - FLOOR) * share + FLOOR / 3 for share in (0.7, 0.2, 0.1)]
    assert sorted(found.prior[0].tolist(), reverse=True) == pytest.approx(expected, abs=1e-5)


def test_only_estimated_sizes_are_part_of_the_state() -> None:
    assert [("prior" in heads(balance).state_dict()) for balance in ("uniform", "estimated", "off")] == [0, 1, 0]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_knows_the_three_and_no_fourth(method: str) -> None:
    for balance in ("uniform", "estimated", "off"):
        preset = Request(n_clusters=2, method=method, balance=balance).resolved_preset()
        assert preset.config.balance == balance
    with pytest.raises(ValueError, match="balance must be .*uniform.*estimated.*off; got 'even'"):
        Request(n_clusters=2, method=method, balance="even").resolved_preset()
    for name in METHODS[method].presets:
        assert get_preset(method, name).config.balance == "uniform"  # as published


@pytest.fixture
def uneven(pictures: Callable[..., Any]) -> Any:
    """80 images: 64 of one class and 16 of the other."""
    return load_images(np.concatenate([pictures(128)[0][:64], pictures(32)[0][16:]]))


@pytest.mark.parametrize("method", WITH_HEADS)
def test_with_off_the_entropy_term_is_nothing_in_every_method(
    method: str, uneven: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    terms = {}
    for balance in ("uniform", "off"):
        settings = {"warm_start": 0.0, **ENTROPY.get(method, {})}
        training = planned(uneven, method=method, balance=balance, epochs=1, settings=settings)
        (record,) = train(training.method, uneven, training.views, training.train, fabric)
        (terms[balance],) = (value for name, value in record["terms"].items() if name == "entropy")
    assert terms["off"] == 0 and terms["uniform"] != 0


@pytest.mark.parametrize("method", WITH_HEADS)
def test_the_sizes_are_kept_in_checkpoints_and_a_resumed_training_equals_an_unbroken_one(
    method: str, uneven: Any, planned: Callable[..., Any], fabric: Any, tmp_path: Path
) -> None:
    def plan() -> Any:
        return planned(uneven, method=method, balance="estimated", epochs=3, settings={"warm_start": 0.0})

    whole, broken, resumed = plan(), plan(), plan()
    list(train(whole.method, uneven, whole.views, whole.train, fabric))
    records = train(broken.method, uneven, broken.views, broken.train, fabric, checkpoint=tmp_path / "state.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ilk.training.loop.CHECKPOINT_EVERY", 0.0)
        next(records), next(records), records.close()
        list(train(resumed.method, uneven, resumed.views, resumed.train, fabric, checkpoint=tmp_path / "state.pt"))
    prior = whole.method.cluster_heads.prior
    assert (prior != 1 / 2).any()
    assert torch.equal(resumed.method.cluster_heads.prior, prior)
    state = resumed.method.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.method.state_dict().items())


class Stopped(Exception):
    pass


def test_a_run_with_estimated_sizes_is_resumed_and_loaded(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilk.training.loop.CHECKPOINT_EVERY", 0.0)
    request = Request(
        n_clusters=2, epochs=3, backbone="small", views="object", device="cpu", precision="float32",
        balance="estimated", settings={"batch_size": 32, "cluster_heads": 2, "warm_start": 0.0},
    )  # fmt: skip

    class Stop(Watch):
        def epoch(self, record: dict[str, Any]) -> None:
            if record["epoch"] == 2:
                raise Stopped

    whole = fit(request, photos, Run(tmp_path / "whole"), report=False)
    with pytest.raises(Stopped):
        fit(request, photos, Run(tmp_path / "broken"), report=False, watch=Stop())
    resumed = fit(request, photos, Run(tmp_path / "broken"), resume=True, report=False)
    one, two = load_method(whole).state_dict(), load_method(resumed).state_dict()
    assert "cluster_heads.prior" in one and one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert whole.config.method_config["balance"] == "estimated"


def test_runs_from_before_the_setting_load_as_uniform(run: Run) -> None:
    file = run / "config.json"
    config = json.loads(file.read_text())
    assert config["method_config"].pop("balance") == "uniform"
    file.write_text(json.dumps(config))
    assert load_method(run).config.balance == "uniform"


def test_a_run_whose_balance_is_no_word_of_ours_is_refused(run: Run) -> None:
    training = run.config.replace(method_config={**run.config.method_config, "balance": "even"})
    with pytest.raises(ValueError, match="balance must be"):
        build_method(training)


@pytest.mark.parametrize(
    ("balance", "asked", "least"),
    [("uniform", None, 16), ("estimated", None, 2), ("off", None, 1), ("off", 7, 7), ("estimated", 7, 7)],
)
def test_scl_leaves_smaller_clusters_alone_as_sizes_matter_less(
    balance: str, asked: int | None, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 images in 3 clusters: 0.156 and 0.02 of the average, 100, which are 16 and 2; or one image."""
    seen: list[int] = []

    def record(q: Tensor, labels: Tensor, clusters: int, smallest: int, generator: torch.Generator) -> Tensor:
        seen.append(smallest)
        return labels

    monkeypatch.setattr(scl_tasks, "merge_and_split", record)
    config = SCLConfig(embedding_dim=4, balance=balance, min_cluster=asked)
    labels = torch.arange(300) % 3
    Task(3, 300, config).relabel(torch.randn(300, 4), labels, torch.Generator())
    assert seen == [least]


def test_scl_with_off_lets_a_cluster_of_one_image_live_and_refills_an_empty_one() -> None:
    config = SCLConfig(embedding_dim=4, balance="off")
    q = torch.nn.functional.normalize(torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    single = torch.zeros(40, dtype=torch.int64)
    single[3] = 1
    task = Task(2, 40, config)
    task.relabel(q, single, torch.Generator().manual_seed(0))
    assert torch.equal(task.labels, single)
    task.relabel(q, torch.zeros_like(single), torch.Generator().manual_seed(0))
    assert set(task.labels.tolist()) == {0, 1}


def test_the_command_line_passes_the_balance_on(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ilk", "fit", str(photos), "--clusters", "2", "--out", str(tmp_path / "run"), "--epochs", "1",
             "--backbone", "small", "--views", "object", "--set", "batch_size=32", "--set", "cluster_heads=1",
             "--device", "cpu", "--no-report", "--quiet"]  # fmt: skip

    def ilk(*more: str) -> int:
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    assert ilk("--balance", "evenly") == 2
    assert "balance must be uniform, estimated or off; got 'evenly'" in capsys.readouterr().err
    assert ilk("--balance", "off") == 0
    assert Run(tmp_path / "run").config.method_config["balance"] == "off"


def test_a_long_tail_has_the_sizes_of_its_definition() -> None:
    labels = np.repeat([0, 1, 2, -1], [100, 120, 110, 30])
    rows = long_tailed(labels, 10, seed=0)
    sizes = sorted(np.bincount(labels[rows]).tolist(), reverse=True)
    assert sizes == [100, 32, 10]  # 100 * 10^0, 10^-0.5, 10^-1
    assert (np.diff(rows) > 0).all() and (labels[rows] >= 0).all()
    np.testing.assert_array_equal(rows, long_tailed(labels, 10, seed=0))
    assert not np.array_equal(rows, long_tailed(labels, 10, seed=1))
    assert sorted(np.bincount(labels[long_tailed(labels, 1, seed=0)]).tolist()) == [100, 100, 100]
    firsts = {int(np.argmax(np.bincount(labels[long_tailed(labels, 10, seed)]))) for seed in range(20)}
    assert firsts == {0, 1, 2}  # which class is large is drawn


@pytest.mark.parametrize(("labels", "ratio"), [([0, 1], 0.5), ([0, 1], float("nan")), ([0, 0, -1], 10)])
def test_a_long_tail_needs_a_ratio_and_classes(labels: list[int], ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio of at least 1 and two classes"):
        long_tailed(np.array(labels), ratio, seed=0)


def test_a_long_tail_keeps_an_image_of_every_class() -> None:
    labels = np.repeat(np.arange(5), 4)
    assert set(labels[long_tailed(labels, 1000, seed=0)]) == set(range(5))
