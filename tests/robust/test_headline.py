"""The CIFAR-10 benchmark, with a budget of a few steps."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import ilk.training.loop
from places import ROOT, SHARED_DATA

DATA = SHARED_DATA / "sets.py"
TINY = [
    "--first", "200", "--epochs", "4", "--score-every", "1", "--backbone", "small", "--device", "cpu",
    "--precision", "float32", "--set", "batch_size=64", "--set", "cluster_heads=2", "--set", "warmup=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def headline() -> Any:
    spec = importlib.util.spec_from_file_location("headline_cifar10", ROOT / "benchmarks" / "headline_cifar10.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 images of ten classes: squares of ten colours with noise."""
    draws = np.random.default_rng(0)
    y = np.arange(200) % 10
    x = draws.integers(0, 256, (10, 1, 1, 3))[y] + draws.normal(0, 30, (200, 32, 32, 3))
    found = tmp_path_factory.mktemp("data") / "kinds.npz"
    np.savez(found, x=x.clip(0, 255).astype(np.uint8), y=y)
    return found


@pytest.fixture(scope="module")
def whole(headline: Any, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without interruption; do not change it."""
    out = tmp_path_factory.mktemp("whole")
    assert headline.main([str(file), "--out", str(out), *TINY]) == 0
    return out


@pytest.fixture
def safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes a checkpoint after every epoch, however short."""
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0)


def curve_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]


Timeless = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


@pytest.fixture
def timeless() -> Timeless:
    return lambda lines: [{k: v for k, v in one.items() if not k.endswith("minutes")} for one in lines]


def test_a_run_cut_into_pieces_ends_as_an_uncut_one(
    headline: Any, file: Path, whole: Path, tmp_path: Path, safe: None, timeless: Timeless
) -> None:
    cut = tmp_path / "cut"
    words = [str(file), "--out", str(cut), *TINY, "--stop-after", "0.00001"]
    codes = [headline.main(words)]
    while codes[-1] == 3 and len(codes) < 9:
        codes.append(headline.main([*words, "--resume"]))
    assert codes == [3, 3, 3, 3, 0]  # the last piece has the results left to write
    ours, theirs = (load_file(out / "seed-0" / "model.safetensors") for out in (cut, whole))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert timeless(curve_of(cut)) == timeless(curve_of(whole))
    assert [line["epoch"] for line in curve_of(cut)] == [1, 2, 3, 4]
    for out in (whole, cut):
        minutes = [line["wall_minutes"] for line in curve_of(out)]
        assert minutes == sorted(minutes)
        assert all(line["wall_minutes"] >= line["training_minutes"] for line in curve_of(out))


def test_epochs_that_were_lost_are_done_again_and_stand_in_the_curve_once(
    headline: Any, file: Path, tmp_path: Path, safe: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(file), "--out", str(tmp_path), *TINY, "--stop-after", "0.00001"]
    assert headline.main(words) == 3
    kept = (tmp_path / "seed-0" / "checkpoint.pt").read_bytes()
    assert headline.main([*words, "--resume"]) == 3
    (tmp_path / "seed-0" / "checkpoint.pt").write_bytes(kept)  # as if the second had not been written in time
    assert headline.main([*words, "--resume"]) == 3
    assert [line["epoch"] for line in curve_of(tmp_path)] == [1, 2]


def test_the_result_is_the_last_epoch_and_labels_do_not_change_the_weights(
    headline: Any, file: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(file) as kept:
        np.savez(tmp_path / "shuffled.npz", x=kept["x"], y=np.random.default_rng(1).permutation(kept["y"]))
    other = tmp_path / "other"
    assert headline.main([str(tmp_path / "shuffled.npz"), "--out", str(other), *TINY]) == 0
    first, second = (load_file(out / "seed-0" / "model.safetensors") for out in (whole, other))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert curve_of(whole)[-1]["accuracy"] != curve_of(other)[-1]["accuracy"]
    last = curve_of(other)[-1]
    scores = json.loads((other / "seed-0" / "scores.json").read_text())
    assert last["epoch"] == 4 and last["accuracy"] == pytest.approx(scores["labels"]["accuracy"], abs=1e-4)
    assert f"accuracy {last['accuracy']:.3f} (200 images, 1 seed, last epoch" in capsys.readouterr().out


def test_seeds_have_runs_of_their_own_and_a_mean(headline: Any) -> None:
    def line(seed: int, accuracy: float, epoch: int = 9) -> dict[str, Any]:
        about = {"epochs": 9, "images": 60_000, "wall_minutes": 10.0 + seed}
        return {"seed": seed, "epoch": epoch, "accuracy": accuracy, **about}

    lines = [line(0, 0.99, epoch=8), line(0, 0.7), line(1, 0.8), line(7, 0.1)]
    assert headline.summary(lines, [0, 1], 9) == (
        "accuracy 0.750 +- 0.071 (60,000 images, 2 seeds, last epoch, scored with labels), 10.5 minutes a seed"
    )


def test_a_kill_between_the_last_checkpoint_and_its_point_loses_no_point(
    headline: Any, file: Path, tmp_path: Path, safe: None, timeless: Timeless, whole: Path
) -> None:
    words = [str(file), "--out", str(tmp_path), *TINY, "--stop-after", "0.00001"]
    codes = [headline.main(words)] + [headline.main([*words, "--resume"]) for _ in range(3)]
    assert codes == [3, 3, 3, 3]
    lines = (tmp_path / "curve.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "curve.jsonl").write_text("".join(lines[:-1]))
    assert headline.main([*words, "--resume"]) == 0
    assert timeless(curve_of(tmp_path)) == timeless(curve_of(whole))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--epochs", "5"], "began with epochs 4, now it is 5"),
        (["--set", "learning_rate=0.5"], "began with learning_rate 0.001, now it is 0.5"),
        (["--set", "cluster_temperature=0.9"], "began with cluster_temperature 1.0, now it is 0.9"),
        (["--views", "photo"], "began with the views cc, now it is photo"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(
    headline: Any, file: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str],
    said: str,
) -> None:  # fmt: skip
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out" / "seed-0" / "assignments.parquet").unlink()
    capsys.readouterr()
    assert headline.main([str(file), "--out", str(tmp_path / "out"), *TINY, *more, "--resume"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("kind", ["TrainingDiverged", "OutOfMemory"])
def test_a_training_that_cannot_go_on_is_one_sentence(
    headline: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def fails(_: object) -> bool:
        raise getattr(headline, kind)("It cannot go on.")

    monkeypatch.setattr(headline, "piece", fails)
    assert headline.main(["FILE"]) == 2 and capsys.readouterr().err == "Error: It cannot go on.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.npz"], "no file 'nothing.npz'"),
        (["FILE", "--stop-after", "0"], "--stop-after must be more than 0"),
        (["FILE", "--set", "batch_size"], "--set takes NAME=VALUE; got 'batch_size'"),
    ],
)
def test_a_mistake_is_one_sentence(
    headline: Any, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    words = [str(file) if word == "FILE" else word for word in words]
    assert headline.main([*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_run_that_is_there_is_not_overwritten(
    headline: Any, file: Path, tmp_path: Path, safe: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(file), "--out", str(tmp_path), *TINY, "--stop-after", "0.00001"]
    assert headline.main(words) == 3
    assert headline.main(words) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_set_comes_from_a_python_file_too(headline: Any, tmp_path: Path) -> None:
    (tmp_path / "sets.py").write_text(
        "import numpy as np\nfrom types import SimpleNamespace\n"
        "def load(name):\n    return SimpleNamespace(images=np.full((9, 32, 32, 3), len(name), np.uint8) *"
        " np.arange(3, dtype=np.uint8), labels=np.arange(9))\n"
    )
    images = headline.open_data(f"{tmp_path / 'sets.py'}:seven__", 5)
    assert images.shape == (3, 32, 32) and images.label_names == ["0", "1", "2", "3", "4"]
    assert images[[0]][0, :, 0, 0].tolist() == [0, 7, 14]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason="the real image sets are not here (../shared/data)")
def test_cifar10_is_read_whole_from_a_python_file(headline: Any) -> None:
    images = headline.open_data(f"{DATA}:cifar10")
    assert images.shape == (3, 32, 32) and len(images) == 60_000 and len(images.label_names) == 10
