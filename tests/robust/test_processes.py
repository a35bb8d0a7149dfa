"""Several processes learn what one would, write what one would, and end together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import workers
from ilk.pipeline.build import load_method
from ilk.pipeline.predicting import predict
from ilk.runs.folder import Run

METHODS = ("cc", "crlc", "scl", "dcdc", "c2bin")


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Any]]:
    """What two processes found with each method, saved by rank."""
    folder = tmp_path_factory.mktemp("halves")
    children = [workers.started(workers.methods_in_two, rank, folder, METHODS) for rank in range(2)]
    assert workers.ended(children, 240) == [0, 0]
    return lambda name: [torch.load(folder / f"{name}-{rank}.pt") for rank in range(2)]


def largest(tensors: dict[str, torch.Tensor]) -> float:
    return max(float(t.abs().max()) for t in tensors.values())


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_give_the_loss_and_gradients_of_one_with_batch_norm(halves: Any, name: str) -> None:
    """In float64 and in training mode; the parts of SCL's batches, which are cut in each process, are left out."""
    method = workers.method_in_float64(name)
    alone = workers.gradients_of(method, method, workers.batch_of(0, 1))
    assert largest(alone["gradients"]) > 1e-3
    found = halves(name)
    mean = sum(float(half["loss"]) for half in found) / 2
    assert mean == pytest.approx(float(alone["loss"]), abs=1e-10)
    for half in found:
        assert half["gradients"].keys() == alone["gradients"].keys()
        for key, gradient in alone["gradients"].items():
            assert torch.allclose(half["gradients"][key], gradient, rtol=0, atol=1e-10), key
        for key, buffer in alone["buffers"].items():
            assert torch.allclose(half["buffers"][key].double(), buffer.double(), rtol=0, atol=1e-10), key


@pytest.mark.parametrize("name", METHODS)
def test_after_a_training_all_processes_hold_the_same_state(halves: Any, name: str) -> None:
    """Weights, banks, labels, followers and running statistics, to the last bit; and the records say the same."""
    (first, said), (second, said_too) = halves(f"{name}-trained")
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key
    for one, other in zip(said, said_too, strict=True):
        assert one["terms"] == one["terms"] and one["terms"] == other["terms"] and one["pairs"] == other["pairs"]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_well_as_one(halves: Any, name: str) -> None:
    """Other random views, so not the same numbers, but in the range of what one process gives with four seeds.

    70 images leave a short last batch out in both.
    """
    (state, records), _ = halves(f"{name}-trained")
    method, alone = workers.short_training(name)
    assert list(method.state_dict()) == list(state)
    method.load_state_dict(state)
    others = [alone, *(workers.short_training(name, seed)[1] for seed in (1, 2, 3))]
    for ours, *theirs in zip(records, *others, strict=True):
        assert all(ours["terms"].keys() == one["terms"].keys() for one in theirs)
        for term, value in ours["terms"].items():
            if term == "clamp":  # of single large logits
                continue
            values = [one["terms"][term] for one in theirs]
            slack = max(0.15, 0.15 * max(values))
            assert min(values) - slack < value < max(values) + slack, term


@pytest.fixture
def source(tmp_path: Path, photo_folder: Callable[..., Path]) -> Path:
    return photo_folder(tmp_path / "photos")


def fit_by(world: int, folder: Path, source: Path, home: Path, stop: int = 0, dies: int = -1) -> list[int | None]:
    """The exit codes of `world` processes that fit and predict."""
    folder.mkdir()
    arguments = (folder, source, home, stop, dies)
    return workers.ended([workers.started(workers.fit_in_two, rank, world, *arguments) for rank in range(world)], 150)


@pytest.mark.parametrize(("before", "after"), [(1, 2), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_a_training_goes_on_with_another_number_of_processes(
    tmp_path: Path, source: Path, before: int, after: int
) -> None:
    home = tmp_path / "home"
    assert fit_by(before, tmp_path / "first", source, home, stop=5) == [7] * before
    assert fit_by(after, tmp_path / "second", source, home) == [0] * after
    run = Run(home / "run")
    assert [record["epoch"] for record in run.log()] == [1, 2, 3, 4]
    assert run.config.train.batch_size == 30  # of all processes together
    assert not [file for file in run.folder.iterdir() if file.name == ".lock" or file.suffix == ".tmp"]
    predict(run, source, tmp_path / "alone", cache_dir=home / "cache")  # one process loads what several trained
    parts = home / f"by {after}"
    for name in ("assignments.csv", "embeddings.npy", "clusters.csv"):
        assert (parts / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert not (parts / "parts").exists()
    assert set(load_file(run / "model.safetensors")) == set(load_method(run).state_dict())


def test_a_process_that_is_killed_ends_the_others_with_a_sentence(tmp_path: Path, source: Path) -> None:
    began = time.monotonic()
    codes = fit_by(2, tmp_path / "first", source, tmp_path / "home", stop=5, dies=1)
    assert codes == [3, -9] and time.monotonic() - began < 100
    said = (tmp_path / "first" / "lost").read_text()
    assert said.startswith("process 0 of 2 stops, because another one has ended") and "--resume" in said
    assert len(Run(tmp_path / "home" / "run").log()) == 2


def test_parts_of_a_prediction_that_are_there_are_not_made_again(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ilk.training.assign

    monkeypatch.setattr(ilk.training.assign, "PART", 16)  # for both: batches of another size may differ in the
    monkeypatch.setattr(ilk.training.assign, "BATCH", 16)  # last digit
    predict(run, photos, tmp_path / "whole")
    made: list[range] = []
    work = ilk.training.assign.assign_rows

    def counted(method: Any, images: Any, rows: range, *rest: Any, **options: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(rows)
        return work(method, images, rows, *rest, **options)

    monkeypatch.setattr(ilk.training.assign, "assign_rows", counted)
    with pytest.raises(KeyboardInterrupt):
        predict(run, photos, tmp_path / "out")
    assert len(list((tmp_path / "out" / "parts").glob("*.npz"))) == 2
    with pytest.raises(ValueError, match="an unfinished prediction of other images or by another model"):
        predict(run, photos / "disc", tmp_path / "out")
    again: list[range] = []
    monkeypatch.setattr(
        ilk.training.assign, "assign_rows", lambda m, s, rows, *a, **o: again.append(rows) or work(m, s, rows, *a, **o)
    )
    predict(run, photos, tmp_path / "out")
    assert made == [range(16), range(16, 32)] and again == [range(32, 48), range(48, 60)]
    for name in ("assignments.csv", "clusters.csv"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()
    ours, theirs = (np.load(tmp_path / name / "embeddings.npy") for name in ("out", "whole"))
    np.testing.assert_allclose(ours.astype(float), theirs.astype(float), atol=2e-3)
    assert not (tmp_path / "out" / "parts").exists()


# the real launcher


def torchrun(*words: str, **options: Any) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ilk"]
    return subprocess.Popen(
        [*launcher, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """The started launchers, which are ended with their processes after the test."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for one in running:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait(30)


def children_of(process: int) -> list[int]:
    """The processes that `process` has started, on Linux."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                if int((place / "stat").read_text().rpartition(")")[2].split()[1]) == process:
                    found.append(int(place.name))
            except OSError:
                continue
    return found


@pytest.mark.slow
def test_torchrun_trains_and_predicts_and_speaks_once(tmp_path: Path, photos: Path, launched: list[Any]) -> None:
    words = ["fit", str(photos), "-k", "2", "--out", "run", "--epochs", "4", "--backbone", "small", "--device", "cpu"]
    launched.append(torchrun(*words, "--precision", "float32", "--set", "batch_size=20", cwd=tmp_path))
    out, err = launched[-1].communicate(timeout=240)
    assert launched[-1].returncode == 0, err
    assert err.count("run folder: run") == 1 and out.count("Tables:") == 1
    launched.append(torchrun("predict", "run", str(photos), "--out", "sorted", cwd=tmp_path))
    out, err = launched[-1].communicate(timeout=240)
    assert launched[-1].returncode == 0, err
    assert out.count("Tables:") == 1
    cut = [(tmp_path / name / "assignments.csv").read_text() for name in ("run", "sorted")]
    assert cut[0] == cut[1]


@pytest.mark.slow
def test_a_mistake_is_said_once_and_ends_all(tmp_path: Path, photos: Path, launched: list[Any]) -> None:
    launched.append(torchrun("fit", str(photos), "-k", "100", "--out", "run", cwd=tmp_path))
    _, err = launched[-1].communicate(timeout=120)
    assert launched[-1].returncode != 0
    assert err.count("Error: 100 clusters need at least 100 images") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the processes of torchrun are found in /proc")
def test_kill_9_of_one_process_ends_torchrun_and_resume_goes_on(
    tmp_path: Path, photos: Path, launched: list[Any]
) -> None:
    words = ["fit", str(photos), "-k", "2", "--out", "run", "--backbone", "small", "--device", "cpu", "--resume"]
    words += ["--precision", "float32", "--set", "batch_size=20"]
    launched.append(torchrun(*words, "--epochs", "2000", cwd=tmp_path))
    end = time.monotonic() + 200
    while not (tmp_path / "run" / "checkpoint.pt").exists():
        assert time.monotonic() < end and launched[-1].poll() is None
        time.sleep(0.2)
    began = time.monotonic()
    os.kill(children_of(launched[-1].pid)[1], signal.SIGKILL)
    _, err = launched[-1].communicate(timeout=90)
    assert launched[-1].returncode != 0 and time.monotonic() - began < 80
    assert "--resume" in err
    done = len(Run(tmp_path / "run").log())
    shutil.copy(tmp_path / "run" / "checkpoint.pt", tmp_path)
    alone = subprocess.Popen([sys.executable, "-m", "ilk", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while time.monotonic() < end + 60 and len(Run(tmp_path / "run").log()) <= done:
        time.sleep(0.2)
    alone.send_signal(signal.SIGTERM)  # as a batch system asks
    _, err = alone.communicate(timeout=60)
    assert alone.returncode == 130 and "Go on with:" in err
    assert len(Run(tmp_path / "run").log()) > done - 200
