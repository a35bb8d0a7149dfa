"""`ilk compare`: what is run, what the tables say of it, and what is said where something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import ilk.research.compare.jobs as compare_jobs
import ilk.research.compare.results as compare_results
from ilk.cli import main
from ilk.research import published
from ilk.research.compare import comparison_jobs, write_comparison
from ilk.research.compare.comparison_table import HEADER, PUBLISHED, comparison_table
from ilk.research.compare.published_figures import our_protocol, protocol_differences, triple
from ilk.system.lock import InUse, held

QUICK = ["--epochs", "1", "--backbone", "small", "--views", "object", "--set", "batch_size=32", "--set", "warm_start=0"]


@pytest.fixture
def npz(tmp_path: Path, pictures: Callable[..., Any]) -> str:
    x, y = pictures(40)
    np.savez(tmp_path / "kinds.npz", x=x, y=y)
    return str(tmp_path / "kinds.npz")


def ilk(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ilk", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def row(method: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "source": "sets.py:cifar10", "method": method, "seed": seed, "on": "pixels", "read_out": "heads",
        "select": "last", "split": "train+test", "image_size": 32, "backbone": "small", "epochs": 20, "images": None,
        "imbalance": None, "n_images": 60000, "n_clusters": 10, "accuracy": accuracy, "nmi_arithmetic": 0.4,
        "ari": 0.3, "nmi_geometric": 0.4, "effective_clusters": 9.0, "training_seconds": 120.0, "error": None,
        "machine": "a machine", "threads": 1, "versions": {"ilk": "1", "torch": "2", "scikit-learn": "3"}, **more,
    }  # fmt: skip


# what is planned


def test_every_method_gets_every_seed_and_a_baseline_without_chance_one() -> None:
    jobs = comparison_jobs(["digits", "b.npz", "digits"], ["cc", "kmeans", "agglomerative"], 2, epochs=3)
    found = [(job.source, job.method, job.seed, job.epochs) for job in jobs]
    each = [("cc", 0, 3), ("cc", 1, 3), ("kmeans", 0, None), ("kmeans", 1, None), ("agglomerative", 0, None)]
    assert found == [(source, *one) for source in ("digits", "b.npz") for one in each]


def test_a_long_tail_that_differs_by_seed_is_clustered_for_each() -> None:
    jobs = comparison_jobs(["digits"], ["agglomerative"], 3, imbalance=10.0)
    assert [(job.seed, job.imbalance) for job in jobs] == [(0, 10), (1, 10), (2, 10)]


def test_baselines_run_on_each_representation_and_trainings_on_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_jobs.Run, "open", lambda self: self)
    jobs = comparison_jobs(["digits"], ["cc", "kmeans"], 1, on=["pixels", "runs/a"])
    assert [(job.method, job.on) for job in jobs] == [("cc", "pixels"), ("kmeans", "pixels"), ("kmeans", "runs/a")]


def test_a_setting_that_one_of_the_methods_knows_is_left_to_it_and_one_that_none_knows_is_refused() -> None:
    assert len(comparison_jobs(["digits"], ["cc", "dcdc"], 1, settings={"over_clusters": 20})) == 2
    with pytest.raises(ValueError, match="There is no setting 'overclusters'"):
        comparison_jobs(["digits"], ["cc", "dcdc"], 1, settings={"overclusters": 20})


# what is said of the results


def test_means_and_spreads_stand_beside_the_published_figure() -> None:
    header, (cc, kmeans) = comparison_table([row("cc", 0, 0.5), row("cc", 1, 0.7), row("kmeans", 0, 0.2)])
    assert header == [*HEADER, PUBLISHED]
    assert cc == [
        "cifar10", "cc", "0.600 +- 0.141", "0.400 +- 0.000", "0.300 +- 0.000", "2", "0", "2 min",
        "0.790 / 0.705 / 0.637",
    ]  # fmt: skip
    assert (
        kmeans[-1] == "; ".join(map(triple, published.published_scores("kmeans", "cifar10"))) and "0.229" in kmeans[-1]
    )


def test_where_nothing_is_published_there_is_no_column_for_it() -> None:
    header, cells = comparison_table([row("cc", 0, 0.5, source="digits")])
    assert header == list(HEADER) and len(cells[0]) == len(header)


def test_collapsed_and_failed_seeds_are_counted() -> None:
    failed = row("cc", 2, 0.0, source="digits", error="diverged")
    rows = [row("cc", 0, 0.5, source="digits", effective_clusters=1.2), row("cc", 1, 0.5, source="digits"), failed]
    _, (cells,) = comparison_table(rows)
    assert cells[5:7] == ["2 (1 failed)", "1"]


def test_the_difference_to_a_published_protocol_is_named_field_by_field() -> None:
    rows = [row("cc", 0, 0.5), row("cc", 1, 0.5)]
    (figure,) = published.published_scores("cc", "cifar10")
    text = protocol_differences(figure, our_protocol(rows[0], rows))
    for part in ("resolution 224 (here 32)", "backbone ResNet-34 (here small)", "epochs 1000 (here 20)",
                 "trials unknown (here 2)"):  # fmt: skip
        assert part in text
    assert "selection" not in text  # last in both
    same = dict(zip(published.PROTOCOL, ("x",) * 6, strict=True))
    unknown = {"source": "elsewhere", "protocol": "said so"}
    assert protocol_differences(unknown, same).startswith("there said so; here x")


def test_a_published_figure_is_never_shown_without_what_differs(tmp_path: Path) -> None:
    write_comparison(tmp_path, [row("cc", 0, 0.5)])
    for name in ("results.md", "results.tex"):
        text = (tmp_path / name).read_text()
        assert "0.790 / 0.705 / 0.637" in text and "resolution 224 (here 32)" in text


def test_an_oracle_says_in_every_table_that_labels_chose(tmp_path: Path) -> None:
    write_comparison(tmp_path, [row("cc", 0, 0.5, select="oracle_acc"), row("kmeans", 0, 0.2, select="oracle_acc")])
    for name in ("results.md", "results.tex"):
        text = (tmp_path / name).read_text()
        assert text.count("labels chose the epoch") == 2  # in the row of cc and below; k-means has no epochs


def test_a_comparison_of_failures_alone_still_writes_its_page(tmp_path: Path) -> None:
    write_comparison(tmp_path, [row("cc", 0, 0.5, error="the loss is no number")])
    text = (tmp_path / "results.md").read_text()
    assert "- cc on cifar10, seed 0: the loss is no number" in text and "| 0 (1 failed) |" in text
    assert not (tmp_path / "results.png").exists()


def test_rows_that_differ_in_preset_settings_or_balance_are_never_averaged() -> None:
    rows = [row("cc", seed, 0.5, preset="default", settings={}, balance=None) for seed in (0, 1)]
    rows += [row("cc", 0, 0.9, preset="paper", settings={}, balance=None)]
    rows += [row("cc", 0, 0.7, preset="default", settings={"batch_size": 8}, balance="off")]
    found = [(line[1], line[5]) for line in comparison_table(rows)[1]]
    assert found == [
        ("cc [preset default, no settings, balance as preset]", "2"),
        ("cc [preset paper, no settings, balance as preset]", "1"),
        ("cc [preset default, batch_size=8, balance off]", "1"),
    ]
    assert [line[1] for line in comparison_table(rows[:2])[1]] == ["cc"]


def test_a_picture_of_an_earlier_command_does_not_outlive_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "results.png").write_bytes(b"of an earlier one")
    write_comparison(tmp_path, [row("cc", 0, 0.5)])
    assert not (tmp_path / "results.png").exists()


def test_a_path_that_is_no_unicode_is_written_in_escapes(tmp_path: Path) -> None:
    write_comparison(
        tmp_path, [row("kmeans", 0, 0.5, source="caf\udce9.npz", on="runs/\udcff")], "ilk compare caf\udce9"
    )
    assert pq.read_table(tmp_path / "results.parquet").to_pylist()[0]["source"] == "caf\\udce9.npz"
    assert "caf\\udce9" in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_the_results_are_written_while_the_folder_is_still_held(
    tmp_path: Path, npz: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path, *_: Any) -> None:
        with pytest.raises(InUse), held(folder):
            pass
        seen.append(folder)

    seen: list[Path] = []
    monkeypatch.setattr(compare_results, "write_comparison", write)
    compare_results.run_comparison(comparison_jobs([npz], ["kmeans"], 1), tmp_path / "out")
    assert seen == [tmp_path / "out"]


# the command


def test_the_command_writes_a_table_a_paper_can_take_and_a_picture(
    tmp_path: Path, npz: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    words = ["compare", npz, "--methods", "cc,kmeans,agglomerative", "--seeds", "2", *QUICK, "--out", str(out)]
    assert ilk(monkeypatch, *words) == 0
    said = capsys.readouterr()
    assert "accuracy" in said.err and "kmeans" in said.out and "results.png" in said.out
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert [(one["method"], one["seed"]) for one in rows] == [("cc", 0), ("cc", 1), ("kmeans", 0), ("kmeans", 1),
                                                              ("agglomerative", 0)]  # fmt: skip
    text = (out / "results.md").read_text()
    mean = np.mean([one["accuracy"] for one in rows[:2]])
    assert f"| kinds | cc | {mean:.3f} +- " in text and "--seeds 2" in text
    assert "\\toprule" in (out / "results.tex").read_text()
    with Image.open(out / "results.png") as picture:
        assert picture.width > 1000
    stamp = (out / "rows.jsonl").stat().st_mtime_ns
    assert ilk(monkeypatch, *words) == 0  # all is done
    assert (out / "rows.jsonl").stat().st_mtime_ns == stamp and "1 of" not in capsys.readouterr().err


def test_without_matplotlib_all_but_the_picture_is_written(
    tmp_path: Path, npz: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert ilk(monkeypatch, "compare", npz, "--methods", "kmeans", "--seeds", "1", "--out", str(tmp_path / "out")) == 0
    assert "results.png needs matplotlib: pip install 'ilk[figures]'" in capsys.readouterr().err
    assert sorted(file.name for file in (tmp_path / "out").glob("results.*")) == [
        "results.md", "results.parquet", "results.tex"]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["digits", "--methods", "kmean"], "Unknown method 'kmean'. Did you mean 'kmeans'?"),
        (["digits", "--methods", ""], "Name at least one method"),
        (["digits", "--seeds", "0"], "at least 1 seed"),
        (["digits", "--split", "val"], "--split must be train+test, train or test; got 'val'"),
        (["digits", "--epochs", "2", "--minutes", "1"], "Give --epochs or --minutes, not both"),
        (["digits", "--set", "nothing"], "--set takes NAME=VALUE"),
        (["digits", "--select", "best"], "--select must be last, min_loss or oracle_acc; got 'best'"),
        (["digits", "--clusters", "0"], "--clusters must be at least 2; got 0"),
        (["digits", "--methods", "kmeans", "--set", "nonsense=1"], "do not use --set"),
        (["digits", "--methods", "kmeans", "--backbone", "nope"], "do not use --backbone"),
        (["digits", "--methods", "kmeans", "--on", ""], "Say what baselines cluster with --on"),
        (["no-such-folder"], "does not exist"),
        (["digits", "--labels", "none"], "--labels none"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert ilk(monkeypatch, "compare", *words, "--out", str(tmp_path / "out")) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("Error: ") and sentence in said and "\n" not in said
    assert not (tmp_path / "out").exists()


def test_a_failed_job_makes_the_exit_code_1_and_the_rest_is_there(
    tmp_path: Path, npz: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", npz, "--methods", "kmeans,nmf+kmeans", "--seeds", "1", "--split", "test"]
    assert ilk(monkeypatch, *words, "--out", str(tmp_path / "out")) == 1
    assert "has no split, so its test images are not known" in capsys.readouterr().err
    assert ilk(monkeypatch, *words[:-2], "--out", str(tmp_path / "out")) == 0


def test_labels_none_of_fit_and_predict_means_none_and_without_it_the_source_is_asked(
    tmp_path: Path, npz: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def has_labels(folder: Path) -> bool:
        return any(text is not None for text in pq.read_table(folder / "assignments.parquet")["label"].to_pylist())

    words = ["fit", npz, "-k", "2", *QUICK, "--no-report"]
    refused = [*words, "--labels", "none", "--select", "oracle_acc", "--out", str(tmp_path / "c")]
    assert ilk(monkeypatch, *refused) == 2 and "oracle_acc" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    for name, more in (("a", []), ("b", ["--labels", "none"])):
        run = tmp_path / name
        assert ilk(monkeypatch, *words, *more, "--out", str(run)) == 0
        assert ilk(monkeypatch, "predict", str(run), npz, *more, "--out", str(run / "new"), "--no-report") == 0
        assert has_labels(run) == has_labels(run / "new") == (not more)
