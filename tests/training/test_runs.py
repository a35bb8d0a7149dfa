"""The run folder: what is written, what is refused, and in which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ilk.pipeline.build import build_method, load_method, save_model
from ilk.runs.folder import FORMAT, Run, free_name
from ilk.system.files import write_json
from ilk.system.versions import PACKAGES, versions


def change_config(run: Run, **changes: Any) -> None:
    write_json(run / "config.json", {**run.config.as_dict(), **changes})


def test_a_finished_run_opens_and_holds_what_it_should(run: Run) -> None:
    assert run.open() is run
    assert run.exists and run.finished
    plan = run.config
    assert plan.format == FORMAT
    assert (plan.method, plan.n_clusters, plan.seed) == ("cc", 2, 0)
    assert (plan.images.n, plan.images.channels, plan.images.size) == (60, 3, 12)
    assert plan.source.bad_files == 3 and plan.source.fingerprint
    assert {"ilk", "python", "machine", *PACKAGES} <= set(plan.versions)
    assert [record["epoch"] for record in run.log()] == [1, 2, 3, 4]
    assert json.loads((run / "config.json").read_text()) == plan.as_dict()


def test_the_saved_model_is_the_trained_one(run: Run) -> None:
    method = load_method(run)
    stored = load_file(run / "model.safetensors")
    assert not method.training
    assert all(torch.equal(value, stored[name]) for name, value in method.state_dict().items())
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    assert all(torch.equal(value, stored[name]) for name, value in checkpoint["method"].items())


def test_create_makes_a_folder_and_its_parents(tmp_path: Path) -> None:
    Run(tmp_path / "some where" / "run").create()
    assert (tmp_path / "some where" / "run").is_dir()
    Run(tmp_path / "some where" / "run").create()  # an empty one is welcome


def test_create_refuses_a_folder_with_something_in_it(tmp_path: Path, run: Run) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="other' is not empty"):
        Run(tmp_path / "other").create()
    with pytest.raises(FileExistsError, match="holds a run.*--resume"):
        run.create()
    with pytest.raises(FileExistsError, match="thesis.txt' is a file"):
        Run(tmp_path / "other" / "thesis.txt").create()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder '.*nowhere'.*ilk fit"):
        Run(tmp_path / "nowhere").open()


def test_a_folder_without_a_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a run folder: it has no config.json"):
        Run(tmp_path).open()


def test_the_config_of_another_program_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit", "hidden_size": 768}')
    with pytest.raises(ValueError, match="is not a run folder of ilk: its config.json lacks format"):
        Run(tmp_path).open()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"{ half", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[1, 2]", "does not hold a run's settings"),
        (b'{"format": 99}', "has format 99; this version of ilk reads format 1"),
        (b'{"format": 1}', "lacks method, preset"),
    ],
)
def test_a_damaged_or_unknown_config_is_explained(tmp_path: Path, text: bytes, sentence: str) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match=sentence):
        Run(tmp_path).open()


def test_a_half_written_last_line_of_the_log_is_left_out(run: Run) -> None:
    whole = run.log()
    with open(run / "log.jsonl", "a") as file:
        file.write('{"epoch": 5, "epo')
    assert run.log() == whole
    run.cut_log(3)
    assert run.log() == whole[:3]
    run.append_log({"epoch": 4})
    assert run.log() == [*whole[:3], {"epoch": 4}]


def test_a_run_that_has_not_begun_has_an_empty_log(tmp_path: Path) -> None:
    assert Run(tmp_path).log() == []


def test_an_unfinished_run_has_no_model_and_says_how_to_go_on(run: Run) -> None:
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors was removed. Put it back"):
        load_method(run)
    (run / "assignments.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="training has not finished.*--resume"):
        load_method(run)


def test_a_model_of_another_shape_is_refused_with_the_tensor_that_differs(run: Run) -> None:
    change_config(run, n_clusters=7)
    with pytest.raises(ValueError, match=r"model.safetensors' is damaged or does not fit.*cluster_heads"):
        load_method(run)


def test_a_model_with_other_tensors_is_refused(run: Run) -> None:
    save_file({"weight": torch.zeros(2)}, run / "model.safetensors")
    with pytest.raises(ValueError, match="does not fit its config.json.*Missing key"):
        load_method(run)


@pytest.mark.parametrize("data", [b"", b"no safetensors at all, but long enough to be read as a header"])
def test_a_damaged_model_is_refused(run: Run, data: bytes) -> None:
    (run / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="model.safetensors' is damaged"):
        load_method(run)


def test_a_truncated_model_is_refused(run: Run) -> None:
    data = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="model.safetensors' is damaged"):
        load_method(run)


def test_settings_of_a_later_version_are_named(run: Run) -> None:
    change_config(run, method_config={**run.config.method_config, "telepathy": 1})
    with pytest.raises(ValueError, match="does not know.*telepathy"):
        load_method(run)


def test_a_method_of_a_later_version_is_named(run: Run) -> None:
    change_config(run, method="cc9")
    with pytest.raises(ValueError, match="Unknown method 'cc9'. Did you mean 'cc'?"):
        build_method(run.config)


def test_a_run_with_a_backbone_of_your_own_asks_for_it(run: Run) -> None:
    change_config(run, backbone="custom:MyNet")
    with pytest.raises(ValueError, match=r"backbone of your own \(MyNet\).*Clusterer.load\(folder, backbone="):
        load_method(run)


def test_writing_a_model_that_fails_keeps_the_old_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    method, before, names = load_method(run), (run / "model.safetensors").read_bytes(), set(run.folder.iterdir())

    def full(_tensors: object, file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ilk.pipeline.build.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_model(run, method)
    assert (run / "model.safetensors").read_bytes() == before
    assert set(run.folder.iterdir()) == names


def test_free_name_counts_on_until_a_name_is_free(tmp_path: Path) -> None:
    assert free_name(tmp_path, "photos") == tmp_path / "photos"
    (tmp_path / "photos").mkdir()
    assert free_name(tmp_path, "photos") == tmp_path / "photos-2"
    (tmp_path / "photos-2").write_text("")
    (tmp_path / "photos-4").mkdir()
    assert free_name(tmp_path, "photos") == tmp_path / "photos-3"
    assert free_name(tmp_path / "nowhere", "x y") == tmp_path / "nowhere" / "x y"


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert "unknown" not in found.values()


def test_a_run_folder_may_be_moved(run: Run, tmp_path: Path) -> None:
    moved = Run(shutil.move(run.folder, tmp_path / "elsewhere"))
    assert load_method(moved.open()).n_clusters == 2


def test_a_frozen_backbone_is_frozen_again(run: Run) -> None:
    assert not load_method(run).frozen
    change_config(run, freeze_backbone=True)
    assert load_method(run).frozen
