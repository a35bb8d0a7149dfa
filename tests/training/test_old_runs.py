"""Runs that a released version wrote can be opened for ever. `runs_v1/make.py` made the stored ones."""

from __future__ import annotations

import json
import lzma
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from ilk import Clusterer
from ilk.cli import main
from ilk.images import load_images
from ilk.methods import METHODS
from ilk.pipeline.build import load_method
from ilk.pipeline.fitting import fit
from ilk.pipeline.request import Request
from ilk.reports import collect, write_report
from ilk.runs.config import Plan, needed
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.files import write_json
from ilk.system.progress import Watch
from places import STORED_RUNS


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[str], Run]:
    """`stored(method)`: a copy of the stored run, its model unpacked."""

    def unpack(method: str) -> Run:
        folder = shutil.copytree(STORED_RUNS / method, tmp_path / "runs" / method)
        packed = folder / "model.safetensors.xz"
        (folder / "model.safetensors").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
        return Run(folder)

    return unpack


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 60 images that the stored runs were made of, as an array on disk."""
    file = tmp_path_factory.mktemp("digits") / "digits.npy"
    np.save(file, (load_digits().images[:60] * (255 / 16)).round().astype("uint8"))
    return file


def clusters(folder: Path) -> list[int]:
    found: list[int] = read_table(folder / "assignments.parquet")["cluster"].to_pylist()
    return found


def test_there_is_a_stored_run_of_each_method_and_all_are_small() -> None:
    assert {place.name for place in STORED_RUNS.iterdir() if place.is_dir() and place.name[0] != "_"} == set(METHODS)
    assert sum(file.stat().st_size for file in STORED_RUNS.rglob("*") if file.is_file()) < 3_000_000


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_run_sorts_its_images_as_it_did_then(method: str, stored: Callable[[str], Run], digits: Path) -> None:
    run = stored(method)
    clusterer = Clusterer.load(run.folder, device="cpu")
    again = clusterer.predict(np.load(digits))
    then = np.array(clusters(run.folder))
    assert len(then) == 60 and clusterer.n_iter_ == len(run.log()) == 16
    assert np.array_equal(again, then)
    assert np.array_equal(clusterer.labels_, then)
    assert np.allclose(clusterer.transform(np.load(digits)), clusterer.embedding_, atol=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_run_gives_the_scores_and_the_report_that_it_gave(method: str, stored: Callable[[str], Run]) -> None:
    from ilk.evaluation import score_run

    run = stored(method)
    then = json.loads((run / "scores.json").read_text())
    assert scores_agree(score_run(run), then)
    found = collect(run.folder)
    assert found["images"]["cluster"] == clusters(run.folder) and found["sprites"]["count"] == 60
    assert found["training"]["epoch"] == list(range(1, 17)) and len(found["map"]["moments"]) == 4
    assert not [note for note in found["made"]["notes"] if "damaged" in note]
    assert write_report(run.folder).stat().st_size > 100_000


def scores_agree(now: dict[str, Any], then: dict[str, Any]) -> bool:
    """Whether all that was scored then is scored alike now; later versions may score more."""
    for name, value in then.items():
        if isinstance(value, dict):
            assert scores_agree(now[name], value)
        else:
            assert now[name] == pytest.approx(value, abs=1e-6), name
    return True


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_run_is_known_to_be_finished_and_stays_as_it_is(
    method: str, stored: Callable[[str], Run], digits: Path
) -> None:
    run, said = stored(method), Listener()
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    request = Request(n_clusters=4, method=method, device="cpu", precision="float32")
    images = load_images(np.load(digits), labels=load_digits().target[:60])
    fit(request, images, run, resume=True, report=False, watch=said)
    assert "is finished; nothing is left to do" in said.text
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before


class Listener(Watch):
    text = ""

    def say(self, text: str) -> None:
        self.text += text + "\n"


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_run_sorts_new_images_on_the_command_line(
    method: str, stored: Callable[[str], Run], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stored(method)
    words = ["predict", run, digits, "--out", tmp_path / "new", "--device", "cpu", "--no-report"]
    monkeypatch.setattr(sys, "argv", ["ilk", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    assert clusters(tmp_path / "new") == clusters(run.folder)


@pytest.mark.parametrize("method", METHODS)
def test_settings_that_were_added_later_may_be_missing(method: str, stored: Callable[[str], Run], digits: Path) -> None:
    run = stored(method)
    config = json.loads((run / "config.json").read_text())
    added_later = Plan.model_fields.keys() - needed()
    for name in added_later:
        config.pop(name, None)
    config["train"].pop("decay_vectors")
    for name in ("warm_start",):  # off in the oldest versions, which had no such settings; off is their default
        config["method_config"].pop(name)
    write_json(run / "config.json", config)
    assert {"init", "select", "source", "precision", "created"} < added_later
    for name in added_later:
        assert getattr(run.config, name) == Plan.model_fields[name].default
    clusterer = Clusterer.load(run.folder, device="cpu")
    assert np.array_equal(clusterer.predict(np.load(digits)), clusters(run.folder))


def test_a_run_of_crlc_from_before_known_labels_opens(stored: Callable[[str], Run], digits: Path) -> None:
    run = stored("crlc")
    tensors = load_file(run / "model.safetensors")
    assert tensors.pop("known").eq(-1).all()
    save_file(tensors, run / "model.safetensors")
    method: Any = load_method(run)
    assert method.known.shape == (60,) and method.known.eq(-1).all() and not method.semi_supervised
    assert np.array_equal(Clusterer.load(run.folder, device="cpu").predict(np.load(digits)), clusters(run.folder))


def test_only_what_was_added_later_may_be_missing_from_a_model(stored: Callable[[str], Run]) -> None:
    run = stored("crlc")
    tensors = load_file(run / "model.safetensors")
    tensors.pop("cluster_heads.loss")
    save_file(tensors, run / "model.safetensors")
    with pytest.raises(ValueError, match=r"Missing key cluster_heads\.loss"):
        load_method(run)
