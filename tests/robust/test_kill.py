"""`kill -9` at any moment: whatever was being written, the same command with --resume ends with the same run."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import load_file

import workers
from ilk.pipeline.export import MANIFEST, undo_folders
from ilk.runs.folder import LAST
from ilk.system.files import TEMPORARY, read_json_lines

METHODS = ("cc", "crlc", "scl", "dcdc", "c2bin")
KILLED = -9
SAME = (
    "model.safetensors", "assignments.csv", "assignments.parquet", "embeddings.npy", "clusters.csv", "bad_files.csv",
    "scores.json", "moments.npz", "thumbnails/index.json",
)  # fmt: skip


def some(numbers: Any, normal: tuple[int, ...]) -> list[Any]:
    """Parameters of which only the `normal` ones are tried in every run of the tests."""
    return [pytest.param(number, marks=[pytest.mark.slow] * (number not in normal)) for number in numbers]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, photo_folder: Callable[..., Path]) -> Path:
    """60 photographs; a finished run on them lies beside."""
    folder = photo_folder(tmp_path_factory.mktemp("kill") / "photos")
    for file in folder.rglob("*.png"):
        os.utime(file, (1.7e9, 1.7e9))  # not of this minute, as photographs are
    home = folder.parent / "home"
    assert workers.run_alone(workers.attempt, "fit", "cc", folder, home, 0) == 0
    shutil.move(home / "run", folder.parent / "trained")
    return folder


@pytest.fixture(scope="module")
def unbroken(source: Path) -> Callable[[str, str], tuple[Path, int]]:
    """`unbroken(phase, method)`: the folder of a run that nobody killed, and how often it changed a file."""
    known: dict[tuple[str, str], tuple[Path, int]] = {}

    def make(phase: str, method: str) -> tuple[Path, int]:
        if (phase, method) not in known:
            home = source.parent / f"unbroken {phase} {method}"
            assert workers.run_alone(workers.attempt, phase, method, source, home, 0, home.with_suffix(".count")) == 0
            known[phase, method] = home / "run", int(home.with_suffix(".count").read_text())
        return known[phase, method]

    return make


def refuse_half(folder: Path) -> None:
    """Every file below `folder` under a final name is whole; of the log all lines but the last are."""
    for file in folder.rglob("*"):
        if (
            not file.is_file()
            or TEMPORARY.search(file.name)
            or ".part" in str(file)
            or file.suffix in (".tmp", ".lock")
        ):
            continue
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".jsonl":
            read_json_lines(file)
        elif file.suffix == ".parquet":
            pq.read_table(file)
        elif file.suffix == ".safetensors":
            load_file(file)
        elif file.suffix in (".npz", ".npy") and not file.parent.name.startswith("features-"):
            np.load(file, allow_pickle=False)
        elif file.suffix in (".png", ".webp"):
            with Image.open(file) as picture:
                picture.load()
        elif file.suffix == ".html":
            assert file.read_text().rstrip().endswith("</html>")
        elif file.suffix == ".csv":
            assert file.read_bytes().endswith(b"\n")


def refuse_other(run: Path, alike: Path) -> None:
    """Checks that a run equals one without interruption, byte by byte and in its log, and has no other files."""
    for name in SAME:
        assert (run / name).read_bytes() == (alike / name).read_bytes(), name
    logs = ([(one["epoch"], one["terms"]) for one in read_json_lines(place / "log.jsonl")] for place in (run, alike))
    assert next(logs) == next(logs)
    names = [{str(file.relative_to(place)) for file in place.rglob("*")} for place in (run, alike)]
    assert names[0] == names[1]


def trial(source: Path, home: Path, unbroken: Any, phase: str, method: str, number: int) -> None:
    """Kills a training at the `number`-th change of a file, checks the folder, and resumes."""
    alike, _ = unbroken(phase, method)
    assert workers.run_alone(workers.attempt, phase, method, source, home, number) == KILLED
    if home.exists():
        refuse_half(home)
    assert workers.run_alone(workers.again, phase, method, source, home) == 0
    refuse_half(home)
    refuse_other(home / "run", alike)
    shutil.rmtree(home)


@pytest.mark.parametrize("eighth", some(range(8), (0, 3, 5, 7)))
def test_a_run_killed_at_some_change_of_a_file_ends_as_if_it_had_not_been(
    source: Path, tmp_path: Path, unbroken: Any, eighth: int
) -> None:
    count = unbroken("fit", "cc")[1]
    number = random.Random(eighth).randint(1 + eighth * count // 8, (eighth + 1) * count // 8)
    trial(source, tmp_path / "home", unbroken, "fit", "cc", number)


@pytest.mark.parametrize("method", METHODS[1:])
def test_each_method_killed_right_after_a_checkpoint_goes_on_with_the_same_numbers(
    source: Path, tmp_path: Path, unbroken: Any, method: str
) -> None:
    count = unbroken("fit", method)[1]
    trial(source, tmp_path / "home", unbroken, "fit", method, count // 3)


@pytest.mark.parametrize("number", some((3, 25, 60), (25,)))
def test_features_killed_while_they_are_computed_are_gone_on_with(
    source: Path, tmp_path: Path, unbroken: Any, number: int
) -> None:
    trial(source, tmp_path / "home", unbroken, "encoder", "cc", number)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10))
@pytest.mark.parametrize(("phase", "method"), [("fit", method) for method in METHODS] + [("encoder", "cc")])
def test_a_kill_at_every_change_of_a_file_is_survived(
    source: Path, tmp_path: Path, unbroken: Any, phase: str, method: str, first: int
) -> None:
    """With cc and with features at each of them, with the other methods at each eighth."""
    step = 10 if phase == "encoder" or method == "cc" else 100
    for number in range(first * (step // 10) + 1, unbroken(phase, method)[1] + 1, step):
        trial(source, tmp_path / "home", unbroken, phase, method, number)


@pytest.mark.parametrize("seed", some(range(60), (0,)))
def test_a_run_killed_again_and_again_at_any_time_still_ends_right(
    source: Path, tmp_path: Path, unbroken: Any, seed: int
) -> None:
    """Times are drawn from the seed; this also stops writers that no hook sees."""
    draw = random.Random(seed)
    method, home = METHODS[seed % 5], tmp_path / "home"
    alike, _ = unbroken("fit", method)
    for _ in range(2):
        child = workers.started(workers.again, "fit", method, source, home)
        time.sleep(draw.uniform(0.1, 2.5))
        child.kill()
        workers.ended([child], 10)
        if home.exists():
            refuse_half(home)
    assert workers.run_alone(workers.again, "fit", method, source, home) == 0
    refuse_other(home / "run", alike)


def test_a_run_killed_after_its_assignments_gets_what_it_lacks(source: Path, tmp_path: Path, unbroken: Any) -> None:
    alike, _ = unbroken("fit", "cc")
    home = tmp_path / "home"
    shutil.copytree(alike.parent, home)
    before = (home / "run" / "assignments.parquet").stat().st_mtime_ns
    for name in LAST:
        (home / "run" / name).unlink()
    assert workers.run_alone(workers.again, "fit", "cc", source, home) == 0
    refuse_other(home / "run", alike)
    assert all((home / "run" / name).is_file() for name in LAST)
    assert (home / "run" / "assignments.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize("number", some((1, 30, 70, 120, 135), (30, 135)))
def test_a_prediction_killed_while_it_is_written_is_made_by_the_same_command(
    source: Path, tmp_path: Path, unbroken: Any, number: int
) -> None:
    alike, count = unbroken("predict", "cc")
    home = tmp_path / "home"
    number = number * count // 141
    assert workers.run_alone(workers.attempt, "predict", "cc", source, home, number) == KILLED
    if home.exists():
        refuse_half(home)
    assert workers.run_alone(workers.again, "predict", "cc", source, home) == 0
    names = [{str(file.relative_to(place)) for file in place.rglob("*")} for place in (home / "run", alike)]
    assert names[0] == names[1]
    for name in ("assignments.csv", "embeddings.npy", "clusters.csv"):
        assert (home / "run" / name).read_bytes() == (alike / name).read_bytes()


@pytest.mark.parametrize("number", some(range(1, 7), (4,)))
def test_a_report_killed_while_it_is_written_leaves_the_old_one_or_the_new_one(
    source: Path, tmp_path: Path, number: int
) -> None:
    home = tmp_path / "home"
    shutil.copytree(source.parent / "trained", home / "run")
    code = workers.run_alone(workers.attempt, "report", "cc", source, home, number)
    assert code in (0, KILLED) and (code == KILLED or number > 4)
    refuse_half(home)
    assert workers.run_alone(workers.again, "report", "cc", source, home) == 0
    refuse_half(home)
    assert not [file for file in home.rglob("*") if TEMPORARY.search(file.name) or file.name == ".lock"]


@pytest.mark.parametrize("number", some((*range(1, 16), 100, 101, 102, 103, 240), (4, 10, 11, 12, 102)))
def test_folders_of_a_killed_export_can_be_undone(source: Path, tmp_path: Path, number: int) -> None:
    home, before = tmp_path / "home", {file: file.read_bytes() for file in source.rglob("*.png")}
    assert workers.run_alone(workers.attempt, "export", "cc", source, home, number) == KILLED
    folder = home / "sorted"
    if (folder / MANIFEST).is_file():
        undo_folders(folder)
    assert not (folder / MANIFEST).is_file()
    left = [file for file in folder.rglob("*") if file.is_file()]
    assert all(TEMPORARY.search(file.name) for file in left)
    assert {file: file.read_bytes() for file in source.rglob("*.png")} == before


# a full disk


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited there")
@pytest.mark.parametrize(
    ("name", "most"),
    [("checkpoint.pt", 20_000), ("model.safetensors", 20_000), ("embeddings.npy", 500), ("assignments.parquet", 500)],
)
def test_a_full_disk_is_told_in_a_sentence_and_costs_nothing_that_was_there(
    source: Path, tmp_path: Path, unbroken: Any, name: str, most: int
) -> None:
    """A limit on the size of files takes the place of a full disk: writes fail at the same places."""
    home = tmp_path / "home"
    assert workers.run_alone(workers.on_a_full_disk, source, home, name, most) == 5
    said = (home / "said").read_text()
    assert said.startswith(f"'{home / 'run' / name}' could not be written: No space left") and "--resume" in said
    assert not (home / "run" / name).exists() and not list(home.rglob("*.tmp"))
    refuse_half(home)
    (home / "said").unlink()
    assert workers.run_alone(workers.again, "fit", "cc", source, home) == 0
    refuse_other(home / "run", unbroken("fit", "cc")[0])
