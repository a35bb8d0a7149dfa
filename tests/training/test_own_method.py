"""A method in a file of the user's own, by the command line and in Python: the example in examples/own_method.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.base import clone

import ilk
import ilk.training.loop
from ilk import Clusterer
from ilk.methods import METHODS, get_method, use_method
from ilk.runs.folder import Run
from ilk.runs.tables import read_table

FILE = Path(__file__).parents[2] / "examples" / "own_method.py"
OWN = f"{FILE}:Toy"
FIT = (
    "-k",
    "2",
    "--method",
    OWN,
    "--backbone",
    "small",
    "--views",
    "object",
    "--device",
    "cpu",
    "--set",
    "batch_size=16",
)


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """`stranger()`: from now on as in a new process, in which no method of the user's own is known."""

    def forget() -> None:
        monkeypatch.setattr(METHODS, "_given", {})

    forget()
    return forget


@pytest.fixture
def source(pictures: Callable[..., Any], tmp_path: Path) -> Path:
    np.savez(tmp_path / "pictures.npz", images=pictures(60)[0], labels=pictures(60)[1])
    return tmp_path / "pictures.npz"


def test_a_method_of_ones_own_trains_predicts_and_reports_by_the_command_line(
    call: Callable[..., Any], source: Path, stranger: Callable[[], None]
) -> None:
    made = call("fit", source, *FIT, "--epochs", "3", "--out", "run")
    assert made.code == 0, made.err
    config = json.loads(Path("run/config.json").read_text())
    assert config["method"] == "toy" and config["method_config"] == {"temperature": 0.5, "entropy_weight": 2.0}
    assert config["method_from"]["file"] == str(FILE) and config["method_from"]["class"] == "Toy"
    assert set(Run("run").log()[0]["terms"]) == {"instance", "agreement", "entropy"}
    assert Run("run").log()[-1]["effective_clusters"] >= 1
    assert Path("run/report.html").stat().st_size > 10_000

    stranger()
    refused = call("predict", "run", source, "--out", "refused")
    assert refused.code == 2 and "Traceback" not in refused.err
    assert f"not executed unless you name it too: --method {OWN}" in refused.err
    named = call("predict", "run", source, "--out", "again", "--method", OWN, "--no-report")
    assert named.code == 0, named.err
    columns = [np.genfromtxt(f"{name}/assignments.csv", str, delimiter=",")[:, 1:3] for name in ("run", "again")]
    np.testing.assert_array_equal(*columns)
    stranger()
    assert call("report", "run", "--out", "only.html").code == 0  # needs no code of the method
    assert call("export", "run", "--csv", "table.csv").code == 0


def test_a_stopped_training_goes_on_to_the_same_weights(
    call: Callable[..., Any], source: Path, stranger: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0)
    assert call("fit", source, *FIT, "--epochs", "4", "--out", "whole", "--no-report").code == 0
    save = ilk.training.loop.save_checkpoint

    def stop(path: Path, method: Any, optimizer: Any, epoch: int, seconds: float) -> None:
        save(path, method, optimizer, epoch, seconds)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ilk.training.loop, "save_checkpoint", stop)
        assert call("fit", source, *FIT, "--epochs", "4", "--out", "stopped", "--no-report").code == 130
    assert len(Run("stopped").log()) == 2
    stranger()
    resumed = call("fit", source, *FIT, "--epochs", "4", "--out", "stopped", "--no-report", "--resume")
    assert resumed.code == 0, resumed.err
    whole, again = (load_file(f"{name}/model.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == again.keys()
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_a_run_that_names_a_file_does_not_run_it(
    call: Callable[..., Any], source: Path, stranger: Callable[[], None], tmp_path: Path
) -> None:
    file = tmp_path / "trap.py"
    shutil.copy(FILE, file)
    fit = [str(word).replace(str(FILE), str(file)) for word in FIT]
    assert call("fit", source, *fit, "--epochs", "1", "--out", "run", "--no-report").code == 0
    file.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    stranger()
    for command in (
        ["predict", "run", source], ["fit", source, "-k", "2", "--out", "run", "--resume"],
        ["export", "run", "--onnx", "m.onnx"], ["evaluate", "run"],
    ):  # fmt: skip
        call(*command)
    encoder = call("fit", source, "-k", "2", "--backbone", "run:run", "--out", "other")
    assert encoder.code == 2 and "--init" in encoder.err and "'toy', whose code is not run" in encoder.err
    with pytest.raises(ValueError, match=r"not executed unless you name it too.*trap.py:Toy"):
        Clusterer.load("run")
    assert not (tmp_path / "sprung").exists()


def test_a_class_of_ones_own_is_fitted_saved_loaded_and_cloned(
    pictures: Callable[..., Any], tmp_path: Path, stranger: Callable[[], None]
) -> None:
    toy = get_method(use_method(OWN))
    stranger()
    images = pictures(60)[0]
    model = Clusterer(
        2, method=toy, epochs=3, backbone="small", views="object", settings={"batch_size": 16}, device="cpu"
    ).fit(images)
    assert model.predict(images).tolist() == model.labels_.tolist() and len(model.history_) == 3
    origin = model.config_.method_from
    assert model.config_.method == "toy" and origin is not None and origin["class"] == "Toy"
    assert clone(model).get_params()["method"] is toy
    model.save(tmp_path / "run")
    stranger()
    with pytest.raises(ValueError, match=r"Clusterer.load\(folder, method=...\)"):
        Clusterer.load(tmp_path / "run")
    with pytest.raises(ValueError, match="not executed unless you name it too"):
        ilk.load_model(tmp_path / "run")
    assert ilk.load_model(tmp_path / "run", method=OWN).name == "toy"
    stranger()
    predicted = ilk.predict(tmp_path / "run", images, out=tmp_path / "new", method=toy, report=False)
    assert read_table(predicted / "assignments.parquet")["cluster"].to_pylist() == model.labels_.tolist()
    for named in (toy, OWN):
        stranger()
        loaded = Clusterer.load(tmp_path / "run", method=named)
        np.testing.assert_array_equal(loaded.predict(images), model.labels_)
        assert clone(loaded).fit(images).labels_.shape == (60,)


def test_unknown_files_and_classes_are_mistakes_and_no_accidents(call: Callable[..., Any], source: Path) -> None:
    for wrong, sentence in (
        ("nowhere.py:Toy", "There is no file"),
        (f"{FILE}:Tyo", "Did you mean 'Toy'?"),
        (str(FILE), f"Write {FILE}:CLASS"),
    ):
        refused = call("fit", source, "-k", "2", "--method", wrong, "--out", "run")
        assert refused.code == 2 and sentence in refused.err and "Traceback" not in refused.err
    assert not Path("run").exists()
