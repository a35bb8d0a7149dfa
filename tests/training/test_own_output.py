"""Trainings and predictions whose results lie inside the folder of their images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ilk
from command import Command
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.progress import Watch

TINY = {
    "epochs": 2, "backbone": "small", "views": "object", "device": "cpu", "precision": "float32",
    "settings": {"batch_size": 16, "cluster_heads": 2},
}  # fmt: skip
FLAGS = [
    "--backbone", "small", "--views", "object", "--device", "cpu", "--set", "batch_size=16", "--set", "cluster_heads=2",
    "--epochs", "2", "--no-report",
]  # fmt: skip


class Interrupt(Watch):
    """Stops the training in its second epoch."""

    def epoch(self, record: dict[str, object]) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt


def ids_of(run: Path | Run) -> list[str]:
    return list(read_table(Path(str(run)) / "assignments.parquet")["id"].to_pylist())


@pytest.fixture
def folder(tmp_path: Path, photo_folder: Callable[..., Path]) -> Path:
    """24 photographs in a folder of their own, which tests write into."""
    return photo_folder(tmp_path / "pictures", n=24)


def test_a_run_as_the_source_is_refused(call: Command, trained: Path) -> None:
    for command in (("fit", trained, "-k", 2), ("predict", trained, trained)):
        outcome = call(*command)
        assert outcome.code == 2 and "is a run that ilk wrote" in outcome.err


def test_a_second_fit_and_a_prediction_in_the_same_folder_take_the_same_images(
    call: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    images = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.png"))
    first = call("fit", ".", "-k", 2, *FLAGS)
    assert first.code == 0 and "that ilk wrote" not in first.err
    call("export", "runs/pictures", "--folders", "sorted")
    shutil.copytree("runs/pictures", "disc/kept elsewhere")
    second = call("fit", ".", "-k", 2, *FLAGS)
    assert second.code == 0 and "left out: 3 folders that ilk wrote" in second.err
    sorted_out = call("predict", "runs/pictures", ".", "--device", "cpu", "--no-report")
    assert sorted_out.code == 0 and "left out: 4 folders that ilk wrote" in sorted_out.err
    for run in ("runs/pictures", "runs/pictures-2", "runs/pictures/predictions/pictures"):
        assert ids_of(Path(run)) == images
    assert Run("runs/pictures-2").config.source.fingerprint == Run("runs/pictures").config.source.fingerprint


def test_a_run_inside_its_source_is_resumed(folder: Path, photo_folder: Callable[..., Path]) -> None:
    run = folder / "runs" / "a"
    with pytest.raises(KeyboardInterrupt):
        ilk.fit(folder, 2, out=run, watch=Interrupt(), report=False, **TINY)
    assert not Run(run).finished
    ilk.fit(folder, 2, out=run, resume=True, report=False, **TINY)
    ilk.fit(folder, 2, out=run, resume=True, report=False, **TINY)  # it is finished, and has its thumbnails
    assert len(ids_of(run)) == 24
    photo_folder(folder / "more", n=2, start=90)
    with pytest.raises(ValueError, match="files were added"):
        ilk.fit(folder, 2, out=run, resume=True, report=False, **TINY)


def test_patterns_reach_the_training_the_resumed_training_and_the_prediction(call: Command, folder: Path) -> None:
    given = ("fit", folder, "-k", 2, "--out", folder / "run", *FLAGS, "--exclude", "disc/00.png", "--exclude", "*/23.*")
    fitted = call(*given)
    assert fitted.code == 0 and "left out: 2 files by --include and --exclude" in fitted.err
    assert len(ids_of(folder / "run")) == 22 and "disc/00.png" not in ids_of(folder / "run")
    assert call(*given, "--resume").code == 0
    assert "files were added" in call(*given[:-2], "--resume").err
    sorted_out = call("predict", folder / "run", folder, "--include", "stripes", "--device", "cpu", "--no-report")
    assert sorted_out.code == 0
    assert {name.split("/")[0] for name in ids_of(folder / "run" / "predictions" / "pictures")} == {"stripes"}
    assert "leaves none of the 24 images" in call("fit", folder, "--include", "nothing*", "-k", 2).err


def test_the_kinds_of_a_split_are_said_by_name(
    call: Command, tmp_path: Path, photo_folder: Callable[..., Path]
) -> None:
    for number, split in enumerate(("train", "val")):
        photo_folder(tmp_path / "set" / split, n=10, start=10 * number)
    fitted = call("fit", tmp_path / "set", "-k", 2, "--out", tmp_path / "run", "--labels", "folders", *FLAGS)
    assert "20 have a label, 2 kinds; used for scores only" in fitted.err
    assert "the kinds are the names of folders: disc, stripes; train, val are parts of a split" in fitted.err
    assert set(read_table(tmp_path / "run" / "assignments.parquet")["label"].to_pylist()) == {"disc", "stripes"}
