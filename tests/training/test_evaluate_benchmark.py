"""The benchmark that ranks runs by scores without labels."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import spearmanr

from ilk import load_images
from ilk.research.labelled import open_labelled
from ilk.runs.folder import Run
from places import ROOT


@pytest.fixture(scope="module")
def label_free() -> ModuleType:
    spec = importlib.util.spec_from_file_location("label_free", ROOT / "benchmarks" / "label_free.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # the scripts import each other
        spec.loader.exec_module(module)
    return module


def test_two_tiny_runs_are_measured_once(
    label_free: ModuleType, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("grid/a", "grid/b"):
        shutil.copytree(trained, tmp_path / name)
    shutil.copytree(trained, tmp_path / "grid" / "a" / "representation")  # a run in a run is none of its own
    out = tmp_path / "found.jsonl"
    words = ["label_free.py", str(tmp_path / "grid"), "--out", str(out), "--views-of", "30"]
    monkeypatch.setattr(sys, "argv", words)
    before = {file: file.read_bytes() for file in (tmp_path / "grid").rglob("*") if file.is_file()}
    label_free.main()
    first = capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Path(row["run"]).name for row in rows] == ["a", "b"]
    for row in rows:
        assert row["accuracy"] == json.loads((trained / "scores.json").read_text())["labels"]["accuracy"]
        assert all(row[name] is not None for name in label_free.SIGNS)
        assert row["run_agreement"] == row["reproduced"] == 1
    assert f"| score | expected | {Run(trained).config.source.name}: 2 runs | mean over sources |" in first
    assert "| silhouette | + | - | - |" in first  # the order of two runs says nothing
    assert before == {file: file.read_bytes() for file in (tmp_path / "grid").rglob("*") if file.is_file()}
    monkeypatch.setattr(label_free, "measured", None)  # calling it again would fail
    label_free.main()
    assert capsys.readouterr().out == first


def test_the_digits_are_found_by_the_name_that_runs_on_them_record(label_free: ModuleType) -> None:
    images = open_labelled("digits").images
    found = label_free.opened([], Path("data"))
    assert list(found) == [images.name]
    assert load_images(found[images.name], image_size=8).fingerprint == images.fingerprint


def test_a_folder_without_runs_is_named(
    label_free: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["label_free.py", str(tmp_path), "--out", str(tmp_path / "x.jsonl")])
    with pytest.raises(SystemExit, match="no finished run with labels"):
        label_free.main()


def test_correlations_are_those_of_scipy_and_their_intervals_seeded(label_free: ModuleType) -> None:
    random = np.random.default_rng(0)
    group = random.normal(size=(12, 2))
    group[:, 1] += group[:, 0]
    group[3] = group[4]  # a tie
    value, low, high = label_free.correlations([group], 500, 1)
    assert value == pytest.approx(spearmanr(*group.T).statistic)
    assert low < value < high
    assert (value, low, high) == label_free.correlations([group], 500, 1)
    flipped = group * [-1, 1]
    assert label_free.correlations([group, flipped], 50, 1)[0] == pytest.approx(0)


def test_the_table_shows_what_ranks_runs_and_what_does_not(label_free: ModuleType) -> None:
    def row(number: int, **scores: float | None) -> dict[str, object]:
        found: dict[str, object] = dict.fromkeys(label_free.SIGNS)
        return {**found, "source": "set", "accuracy": number / 10, **scores}

    rows = [row(i, silhouette=i**2, confidence_entropy=-i, mean_confidence=0.5) for i in range(8)]
    lines = {line.split("|")[1].strip(): line for line in label_free.table(rows, 200).splitlines()}
    assert lines["silhouette"].count("+1.00 [+1.00, +1.00]") == 2
    assert lines["confidence_entropy"].count("-1.00 [-1.00, -1.00]") == 2
    assert lines["mean_confidence"] == "| mean_confidence | + | - | - |"  # all equal
    assert lines["view_stability"] == "| view_stability | + | - | - |"  # none measured
    assert "0.00-0.70" in lines["accuracy, from and to"]
