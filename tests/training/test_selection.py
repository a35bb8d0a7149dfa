"""Which epoch's model a run keeps: the last one's, that of least loss, or what labels say is best, and it says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ilk import load_images
from ilk.analysis.metrics import accuracy
from ilk.images import Images
from ilk.pipeline.fitting import fit
from ilk.pipeline.request import Request
from ilk.research.oracle import by_accuracy, rule_of
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.devices import make_fabric
from ilk.system.progress import Watch
from ilk.training.selection import MIN_LOSS, RULES, SELECTED, Rule, Selection


class Weight(nn.Module):
    """The part of a method that a selection uses."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


def epoch(number: int, loss: float, *, clusters: bool = True, terms: str = "ab") -> dict[str, Any]:
    return {"epoch": number, "loss": loss, "effective_clusters": 2.0 if clusters else None,
            "terms": dict.fromkeys(terms, loss)}  # fmt: skip


def chosen(folder: Path, records: list[dict[str, Any]], by: str = "min_loss") -> tuple[float, Any]:
    """The weight that is kept, which was the epoch's number in each epoch, and what is written of it."""
    method, run = Weight(), Run(folder)
    folder.mkdir(exist_ok=True)
    images = load_images(np.zeros((4, 8, 8), np.uint8))
    selection = Selection(RULES[by], run, method, images, make_fabric("cpu", "float32"))  # type: ignore[arg-type]
    for record in records:
        method.weight.data.fill_(record["epoch"])
        selection.see(record)
    selection.restore(len(records), Watch())
    file = folder / "selection.json"
    return method.weight.item(), json.loads(file.read_text()) if file.exists() else None


def test_the_last_epoch_is_kept_unless_something_else_is_asked(tmp_path: Path) -> None:
    assert chosen(tmp_path, [epoch(1, 1.0), epoch(2, 5.0)], by="last") == (2.0, None)
    assert not (tmp_path / SELECTED).exists()


def test_the_epoch_of_least_loss_is_kept_and_said(tmp_path: Path) -> None:
    kept, said = chosen(tmp_path, [epoch(1, 3.0), epoch(2, 1.0), epoch(3, 2.0)])
    assert kept == 2.0
    assert said == {"by": "min_loss", "epoch": 2, "epochs": 3, "used_labels": False}


def test_epochs_without_clusters_or_of_fewer_terms_do_not_win(tmp_path: Path) -> None:
    warming = [epoch(1, 0.1, clusters=False, terms="a"), epoch(2, 0.2, terms="a")]
    kept, _ = chosen(tmp_path, [*warming, epoch(3, 3.0), epoch(4, 2.0), epoch(5, 2.5)])
    assert kept == 4.0


def test_where_terms_alternate_the_best_of_those_of_the_last_epoch_is_kept(tmp_path: Path) -> None:
    turns = [epoch(1, 5.0, terms="a"), epoch(2, 0.2, terms="b"), epoch(3, 4.0, terms="a"), epoch(4, 0.1, terms="b"),
             epoch(5, 6.0, terms="a")]  # fmt: skip
    assert chosen(tmp_path / "a", turns)[0] == 3.0
    assert chosen(tmp_path / "b", [*turns, epoch(6, 0.3, terms="b")])[0] == 4.0


def test_a_run_killed_after_its_last_epoch_keeps_the_best_of_that_epochs_terms(tmp_path: Path) -> None:
    records = [epoch(1, 5.0, terms="a"), epoch(2, 0.2, terms="b"), epoch(3, 6.0, terms="a")]
    chosen(tmp_path, records)
    for record in records:
        Run(tmp_path).append_log(record)
    method, images = Weight(), load_images(np.zeros((4, 8, 8), np.uint8))
    Selection(MIN_LOSS, Run(tmp_path), method, images, make_fabric("cpu", "float32")).restore(3, Watch())  # type: ignore[arg-type]
    assert method.weight.item() == 1.0


def test_a_damaged_selection_is_a_sentence_that_says_how_to_go_on(tmp_path: Path) -> None:
    chosen(tmp_path, [epoch(1, 3.0)])
    whole = (tmp_path / SELECTED).read_bytes()
    for data in (b"", b"nonsense", whole[:-3], whole.replace(b"best", b"bost")):
        (tmp_path / SELECTED).write_bytes(data)
        with pytest.raises(ValueError, match="is damaged .* Delete it to go on"):
            chosen(tmp_path, [epoch(2, 2.0)])


def test_a_selection_goes_on_where_a_killed_run_left_it(tmp_path: Path) -> None:
    chosen(tmp_path, [epoch(1, 3.0), epoch(2, 1.0)])
    method, images = Weight(), load_images(np.zeros((4, 8, 8), np.uint8))
    again = Selection(MIN_LOSS, Run(tmp_path), method, images, make_fabric("cpu", "float32"))  # type: ignore[arg-type]
    method.weight.data.fill_(3)
    again.see(epoch(3, 1.5))
    again.restore(3, Watch())
    assert method.weight.item() == 2.0


@pytest.fixture(scope="module")
def digits() -> Images:
    from sklearn.datasets import load_digits

    found = load_digits()
    return load_images((found.images[:150] * (255 / 16)).round().astype(np.uint8), labels=found.target[:150])


@pytest.fixture(scope="module")
def trained(digits: Images, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    def train(by: str | Rule) -> Run:
        folder = tmp_path_factory.mktemp("runs") / "run"
        settings = {"warm_start": 0.3, "cluster_heads": 2, "batch_size": 50, "learning_rate": 0.01}
        select, choose = (by, None) if isinstance(by, str) else ("last", by)
        request = Request(n_clusters=10, epochs=6, settings=settings, select=select, device="cpu")
        return fit(request, digits, Run(folder), report=False, choose=choose)

    return train


def test_labels_choose_the_epoch_of_most_accuracy_only_where_that_was_asked_and_it_is_marked(
    trained: Callable[..., Run], digits: Images
) -> None:
    each: list[float] = []  # accuracies of the epochs that have clusters
    assert digits.labels is not None
    oracle = by_accuracy(digits.labels)

    def measured(record: Mapping[str, Any], clusters: Callable[[], np.ndarray]) -> float:
        each.append(-oracle.value(record, clusters))
        return -each[-1]

    run = trained(replace(oracle, value=measured))
    having = [one["epoch"] for one in run.log() if one["effective_clusters"] is not None]
    assert len(each) == len(having) > 2 and len(set(each)) > 1
    said = json.loads((run / "selection.json").read_text())
    assert said["used_labels"] is True and said["by"] == "oracle_acc"
    assert json.loads((run / "scores.json").read_text())["selection"] == said
    assert run.config.select == "oracle_acc"
    found = read_table(run / "assignments.parquet")["cluster"].to_numpy()
    last = read_table(trained("last") / "assignments.parquet")["cluster"].to_numpy()
    assert said["epoch"] == having[int(np.argmax(each))]
    assert accuracy(digits.labels, found) == pytest.approx(max(each))
    assert max(each) >= accuracy(digits.labels, last)
    assert not (run / SELECTED).exists()


def test_the_model_of_a_run_is_that_of_the_chosen_epoch(
    trained: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def see(self: Selection, record: dict[str, Any]) -> None:
        kept[record["epoch"]] = {name: value.clone() for name, value in self.method.state_dict().items()}
        original(self, record)

    original = Selection.see
    monkeypatch.setattr(Selection, "see", see)
    run = trained("min_loss")
    losses = {one["epoch"]: one["loss"] for one in run.log() if one["epoch"] > 2}
    said = json.loads((run / "selection.json").read_text())
    assert said["epoch"] == min(losses, key=losses.__getitem__)
    model = load_file(run / "model.safetensors")
    assert all(torch.equal(model[name], value) for name, value in kept[said["epoch"]].items())


def test_what_cannot_choose_is_refused() -> None:
    with pytest.raises(ValueError, match="last.*min_loss.*'best'"):
        Request(n_clusters=2, select="best")
    with pytest.raises(ValueError, match="none of these images has one"):
        by_accuracy(np.full(20, -1))


def test_labels_choose_the_epoch_in_comparisons_alone() -> None:
    with pytest.raises(ValueError, match="'oracle_acc'.*ilk compare"):
        Request(n_clusters=2, select="oracle_acc")
    codes = np.array([0, 1])
    assert rule_of("last", codes) is None and rule_of("min_loss", codes) is None
    assert rule_of("oracle_acc", codes) is not None


def test_a_run_is_resumed_by_the_rule_that_it_was_started_with(digits: Images, tmp_path: Path) -> None:
    assert digits.labels is not None
    oracle = by_accuracy(digits.labels)
    request = Request(n_clusters=10, epochs=2, settings={"batch_size": 50, "warm_start": 0.0}, device="cpu")

    def stop(record: Mapping[str, Any], clusters: Callable[[], np.ndarray]) -> float:
        raise KeyboardInterrupt

    run = Run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit(request, digits, run, report=False, choose=replace(oracle, value=stop))
    assert run.config.select == "oracle_acc"
    with pytest.raises(ValueError, match="select=oracle_acc.*ilk compare"):
        fit(request, digits, run, report=False, resume=True)
    with pytest.raises(ValueError, match="select=oracle_acc, not min_loss"):
        fit(request, digits, run, report=False, resume=True, choose=MIN_LOSS)
    fit(request, digits, run, report=False, resume=True, choose=oracle)
    said = json.loads((run / "selection.json").read_text())
    assert (said["by"], said["used_labels"], said["epochs"]) == ("oracle_acc", True, 2)


def test_labels_of_other_images_cannot_choose() -> None:
    oracle = by_accuracy(np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="2 clustered images and 3 labels"):
        oracle.value({}, lambda: np.array([0, 1]))


def test_a_strangers_run_cannot_select_by_something_else(trained: Callable[..., Run]) -> None:
    plan = trained("last").config
    with pytest.raises(ValueError, match="select"):
        plan.replace(select="exec")
