"""Weights to begin with, and a backbone that stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ilk.training.loop
from ilk import Clusterer, load_images
from ilk.pipeline.begin import new_training
from ilk.pipeline.build import load_method
from ilk.pipeline.fitting import fit
from ilk.pipeline.predicting import predict
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.system.files import write_json
from ilk.system.progress import Watch


def asked(**changes: Any) -> Request:
    settings = {"batch_size": 32, "cluster_heads": 2, "warm_start": 0.5, **changes.pop("settings", {})}
    settings = {name: value for name, value in settings.items() if value is not None}
    given = {"epochs": 3, "views": "object", "device": "cpu", "precision": "float32", **changes}
    return Request(n_clusters=given.pop("n_clusters", 2), settings=settings, **given)


def plan_of(images: Any, fabric: Any, **changes: Any) -> Any:
    return new_training(asked(**changes), images, fabric)


@pytest.fixture(scope="module")
def images(pictures: Callable[..., Any]) -> Any:
    return load_images(pictures(60)[0])


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def change_config(run: Run, **changes: Any) -> None:
    write_json(run / "config.json", {**run.config.as_dict(), **changes})


class Stop(Watch):
    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, record: dict[str, Any]) -> None:
        if record["epoch"] == self.last:
            raise KeyboardInterrupt


# weights


def test_before_training_features_and_embeddings_are_those_of_the_run(
    images: Any, fabric: Any, run: Run, x: torch.Tensor
) -> None:
    training, begun = plan_of(images, fabric, init=run.folder, n_clusters=3), load_method(run)
    training.method.eval()
    assert torch.equal(training.method.backbone(x), begun.backbone(x))
    assert torch.equal(training.method.embed(x), begun.embed(x))  # the representation head came along
    assert training.method.assign(x).shape == (5, 3)
    assert training.plan.init.parts == ["backbone", "instance_head"]
    assert training.plan.init.path == str(run.folder.resolve()) and len(training.plan.init.hash) == 32
    assert any(note.startswith("backbone and instance_head as in") for note in training.plan.notes)


def test_cluster_heads_begin_anew(images: Any, fabric: Any, run: Run) -> None:
    begun, fresh = plan_of(images, fabric, init=run.folder), plan_of(images, fabric, backbone="small")
    ours, theirs = (one.method.cluster_heads.state_dict() for one in (begun, fresh))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_heads_of_another_shape_or_method_begin_anew(images: Any, fabric: Any, run: Run) -> None:
    other = plan_of(images, fabric, init=run.folder, settings={"embedding_dim": 16})
    assert other.plan.init.parts == ["backbone"]
    assert plan_of(images, fabric, init=run.folder, method="crlc").plan.init.parts == ["backbone"]


@pytest.mark.parametrize(("method", "twin"), [("scl", "twin"), ("c2bin", "follower")])
def test_a_moving_average_begins_as_a_copy_of_the_weights(
    images: Any, fabric: Any, run: Run, method: str, twin: str
) -> None:
    settings = {"cluster_heads": None if method == "scl" else 2}
    training = plan_of(images, fabric, init=run.folder, method=method, settings=settings)
    backbone = getattr(training.method, twin).network[0].state_dict()
    stored = load_file(run / "model.safetensors")
    assert all(torch.equal(value, stored[f"backbone.{name}"]) for name, value in backbone.items())


def test_size_and_front_end_are_those_of_the_run(tmp_path: Path, images: Any, fabric: Any, x: torch.Tensor) -> None:
    request = asked(epochs=1, backbone="small", image_size=10, settings={"front_end": "normalize-sobel"})
    run = fit(request, images, Run(tmp_path / "run"))
    assert asked(init=run.folder, preset="paper").wanted_size() == 10
    assert asked(init=run.folder, image_size=14).wanted_size() == 14
    small = load_images(images[:].permute(0, 2, 3, 1).numpy(), image_size=10)
    training = plan_of(small, fabric, init=run.folder)
    assert training.plan.front_end == run.config.front_end != None  # noqa: E711
    assert torch.equal(training.method.eval().backbone(x), load_method(run).backbone(x))
    with pytest.raises(ValueError, match="has the front end normalize-sobel, and sobel was asked for"):
        plan_of(small, fabric, init=run.folder, settings={"front_end": "sobel"})


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_file_of_backbone_weights_is_taken_with_or_without_the_prefix(
    tmp_path: Path, images: Any, fabric: Any, run: Run, x: torch.Tensor, prefix: str
) -> None:
    begun = load_method(run).backbone
    save_file({prefix + name: value for name, value in begun.state_dict().items()}, tmp_path / "w.safetensors")
    training = plan_of(images, fabric, init=tmp_path / "w.safetensors", backbone="small")
    assert torch.equal(training.method.eval().backbone(x), begun(x))


def test_another_backbone_than_the_runs_is_refused(images: Any, fabric: Any, run: Run) -> None:
    with pytest.raises(ValueError, match="has the backbone small, and resnet18 was asked for"):
        plan_of(images, fabric, init=run.folder, backbone="resnet18")
    change_config(run, backbone="custom:Mine")
    with pytest.raises(ValueError, match=r"backbone of your own \(Mine\)"):
        plan_of(images, fabric, init=run.folder)


def test_another_number_of_channels_is_refused(
    tmp_path: Path, pictures: Callable[..., Any], fabric: Any, run: Run
) -> None:
    gray = load_images(pictures(40, gray=True)[0])
    with pytest.raises(ValueError, match="images with 3 channels; .* has 1"):
        plan_of(gray, fabric, init=run.folder)
    save_file(dict(load_method(run).backbone.state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"stem.0.weight is 32x3x3x3 there and 32x1x3x3 here"):
        plan_of(gray, fabric, init=tmp_path / "w.safetensors", backbone="small")


@pytest.mark.parametrize("data", [b"", b"no safetensors at all, but long enough to be read as a header"])
def test_damaged_weights_are_refused(tmp_path: Path, images: Any, fabric: Any, run: Run, data: bytes) -> None:
    for file in (tmp_path / "w.safetensors", run / "model.safetensors"):
        file.write_bytes(data)
    for path in (tmp_path / "w.safetensors", run.folder):
        with pytest.raises(ValueError, match="is damaged or no safetensors file"):
            plan_of(images, fabric, init=path)


def test_weights_of_another_network_are_refused(tmp_path: Path, images: Any, fabric: Any) -> None:
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="another network.*lacks stages.*has fc.weight.*--backbone"):
        plan_of(images, fabric, init=tmp_path / "w.safetensors", backbone="small")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, images: Any, fabric: Any, run: Run) -> None:
    weights = dict(load_method(run).backbone.state_dict())
    weights["stem.0.weight"] = weights["stem.0.weight"] * float("nan")
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="not finite"):
        plan_of(images, fabric, init=tmp_path / "w.safetensors", backbone="small")


def test_pickles_are_refused_unread(tmp_path: Path, images: Any, fabric: Any) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w.pt' is no .safetensors file"):
        plan_of(images, fabric, init=tmp_path / "w.pt")


def test_a_missing_path_or_an_unfinished_run_is_named(tmp_path: Path, images: Any, fabric: Any, run: Run) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere' to start from"):
        plan_of(images, fabric, init=tmp_path / "nowhere")
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no model to start from"):
        plan_of(images, fabric, init=run.folder)


# a frozen backbone


def test_a_frozen_backbone_needs_weights() -> None:
    with pytest.raises(ValueError, match="--freeze-backbone .*--init"):
        asked(freeze_backbone=True)


@pytest.mark.parametrize("method", ["cc", "crlc", "scl", "dcdc", "c2bin"])
def test_a_frozen_backbone_is_the_same_after_training_running_statistics_too(
    tmp_path: Path, images: Any, run: Run, method: str
) -> None:
    settings = {"cluster_heads": None} if method == "scl" else {}
    request = asked(init=run.folder, freeze_backbone=True, method=method, settings=settings)
    done = fit(request, images, Run(tmp_path / "run"))
    before, after = (load_file(one / "model.safetensors") for one in (run, done))
    names = [name for name in before if name.startswith("backbone.")]
    assert any("running_mean" in name for name in names)
    assert all(torch.equal(after[name], before[name]) for name in names)
    assert done.config.freeze_backbone is True and done.log()[-1]["effective_clusters"] is not None
    opened = load_method(done)
    assert opened.frozen and not any(value.requires_grad for value in opened.backbone.parameters())


def test_without_freezing_the_backbone_learns_on(tmp_path: Path, images: Any, run: Run) -> None:
    done = fit(asked(init=run.folder), images, Run(tmp_path / "run"))
    before, after = (load_file(one / "model.safetensors") for one in (run, done))
    assert not torch.equal(after["backbone.stem.0.weight"], before["backbone.stem.0.weight"])
    assert not load_method(done).frozen


# resuming


@pytest.mark.parametrize("saved", [True, False], ids=["checkpoint", "no checkpoint"])
def test_a_resumed_training_equals_an_unbroken_one(
    tmp_path: Path, images: Any, run: Run, saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(init=run.folder, freeze_backbone=True)
    whole, broken = fit(request, images, Run(tmp_path / "whole")), Run(tmp_path / "broken")
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0 if saved else 1e9)
    with pytest.raises(KeyboardInterrupt):
        fit(request, images, broken, watch=Stop(2))
    assert (broken / "checkpoint.pt").exists() == saved
    fit(asked(), images, broken, resume=True)  # what it began with need not be said again
    for name in ("model.safetensors", "assignments.csv", "embeddings.npy"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name


def test_resuming_without_a_checkpoint_needs_the_same_weights(
    tmp_path: Path, images: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", 1e9)
    broken = Run(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        fit(asked(init=run.folder), images, broken, watch=Stop(1))
    shutil.move(run.folder, tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="to start from"):
        fit(asked(), images, broken, resume=True)
    with pytest.raises(KeyboardInterrupt):  # the same weights in another place are the same
        fit(asked(init=tmp_path / "moved"), images, broken, resume=True, watch=Stop(1))
    weights = load_file(tmp_path / "moved" / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, tmp_path / "moved" / "model.safetensors")
    with pytest.raises(ValueError, match=r"cannot go on with --init .*moved"):
        fit(asked(init=tmp_path / "moved"), images, broken, resume=True)
    shutil.move(tmp_path / "moved", run.folder)
    with pytest.raises(ValueError, match="has changed since this run began"):
        fit(asked(), images, broken, resume=True)


def test_runs_of_before_these_options_still_open(tmp_path: Path, photos: Path, run: Run) -> None:
    new = ("init", "freeze_backbone", "extra", "known_labels")
    write_json(run / "config.json", {name: value for name, value in run.config.as_dict().items() if name not in new})
    predict(run, photos, tmp_path / "out")
    assert Clusterer.load(run.folder).predict(photos).shape == (60,)
    (run / "assignments.parquet").unlink()
    fit(asked(epochs=run.config.train.epochs), photos, run, resume=True)
    assert run.finished


# the scikit-learn face


def test_a_clusterer_starts_from_a_run_and_freezes(
    tmp_path: Path, pictures: Callable[..., Any], run: Run, clusterer: Callable[..., Any]
) -> None:
    X = pictures(60)[0]
    found = clusterer(backbone=None, init=run.folder, freeze_backbone=True).fit(X)
    stored = load_file(run / "model.safetensors")
    assert torch.equal(found.method_.backbone.state_dict()["stem.0.weight"], stored["backbone.stem.0.weight"])
    found.save(tmp_path / "saved")
    loaded = Clusterer.load(tmp_path / "saved", device="cpu")
    assert loaded.freeze_backbone and loaded.init == str(run.folder.resolve()) and loaded.method_.frozen
    np.testing.assert_array_equal(loaded.predict(X), found.labels_)
    np.testing.assert_array_equal(loaded.fit(X).embedding_, found.embedding_)


def test_a_backbone_of_your_own_can_be_frozen(pictures: Callable[..., Any], clusterer: Callable[..., Any]) -> None:
    from ilk import build_backbone

    mine = build_backbone("small", image_size=12, in_channels=3)
    found = clusterer(backbone=mine, freeze_backbone=True).fit(pictures(60)[0])
    ours, theirs = found.method_.backbone.state_dict(), mine.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(value.requires_grad for value in mine.parameters())  # a copy was frozen
