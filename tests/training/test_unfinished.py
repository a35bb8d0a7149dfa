"""Runs without results: what ilk says of them, and that no model is trained over."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ilk.pipeline.fitting import fit
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.runs.unfinished import resume_command, state_of, why_no_model, why_no_results


@pytest.fixture
def model_only(tmp_path: Path, trained: Path) -> Run:
    """A run with a trained model, without results and without a checkpoint."""
    folder = tmp_path / "model only"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "log.jsonl", "calibration.json"):
        shutil.copy(trained / name, folder)
    return Run(folder)


def test_a_model_without_a_checkpoint_is_never_trained_over(model_only: Run, photos: Path) -> None:
    plan, before = model_only.config, (model_only / "model.safetensors").read_bytes()
    request = Request(n_clusters=plan.asked_clusters, method=plan.method)
    with pytest.raises(ValueError, match=r"has no checkpoint.*ilk predict '.*model only' SOURCE.*another --out"):
        fit(request, photos, model_only, resume=True)
    assert (model_only / "model.safetensors").read_bytes() == before
    assert not (model_only / "checkpoint.pt").exists() and not (model_only / "assignments.parquet").exists()


@pytest.mark.parametrize("words", [["score"], ["export", "--csv", "a.csv"], ["evaluate"]], ids=lambda words: words[0])
def test_commands_that_need_results_send_a_lone_model_to_predict(
    call: Callable[..., Any], model_only: Run, words: list[str]
) -> None:
    found = call(words[0], model_only, *words[1:])
    assert found.code == 2
    assert f"ilk predict {shlex.quote(str(model_only))} SOURCE" in " ".join(found.err.split())
    assert "--resume" not in found.err


def test_that_advice_gives_the_results(call: Callable[..., Any], model_only: Run, photos: Path, tmp_path: Path) -> None:
    assert call("predict", model_only, photos, "--out", tmp_path / "new", "--no-report").code == 0
    assert (tmp_path / "new" / "assignments.parquet").is_file()


def test_a_lone_model_is_reported_as_one(call: Callable[..., Any], model_only: Run) -> None:
    found = call("report", model_only)
    assert found.code == 0 and "model without results" in found.out
    assert "--resume" not in (model_only / "report.html").read_text()


def written(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"method": "scl", "n_clusters": 7, **config}))
    return folder


def test_the_command_that_resumes_names_the_folder_where_it_is_now(tmp_path: Path) -> None:
    folder = written(tmp_path / "moved run", command=["ilk", "fit", "my photos", "--out", "old", "-k", "7", "--resume"])
    expected = f"ilk fit 'my photos' -k 7 --out '{folder}' --resume"
    assert resume_command(folder) == expected
    assert why_no_results(folder).endswith(expected) and why_no_model(folder).endswith(expected)


def test_a_training_begun_in_python_is_resumed_with_its_method_and_number(tmp_path: Path) -> None:
    assert resume_command(written(tmp_path / "a")).startswith("ilk fit SOURCE --method scl --clusters 7 --out ")
    asked = written(tmp_path / "b", number={"asked": "5-60"})
    assert "--clusters 5-60 " in resume_command(asked)


def test_the_run_inside_a_run_is_resumed_with_the_outer_one(tmp_path: Path) -> None:
    inner = written(tmp_path / "outer" / "representation", command=["ilk", "fit", "x", "--out=outer"])
    assert resume_command(inner) == f"ilk fit x --out {tmp_path / 'outer'} --resume"


def test_an_unfinished_prediction_is_begun_again_by_predict(tmp_path: Path, trained: Path) -> None:
    folder = tmp_path / "prediction"
    config = json.loads((trained / "config.json").read_text())
    written(folder, **{**config, "predicted_with": "runs/mine"})
    assert state_of(folder) == "prediction"
    assert f"ilk predict runs/mine SOURCE --out {folder}" in why_no_results(folder)
    assert "Use the run that made it: runs/mine" in why_no_model(folder)
    request = Request(n_clusters=config["n_clusters"], method=config["method"])
    with pytest.raises(ValueError, match="cannot be resumed"):
        fit(request, tmp_path, Run(folder), resume=True)
    with pytest.raises(FileExistsError) as refused:
        Run(folder).create()
    assert "--resume" not in str(refused.value)


def test_a_folder_with_a_damaged_config_still_gets_advice(tmp_path: Path) -> None:
    (written(tmp_path / "a") / "config.json").write_text("{")
    assert "has not finished" in why_no_results(tmp_path / "a")
