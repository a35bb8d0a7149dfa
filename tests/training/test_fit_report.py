"""Every training ends with a report, and no report ever ends a training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command import Command
from ilk import Clusterer
from ilk.pipeline.fitting import fit
from ilk.pipeline.predicting import predict
from ilk.pipeline.request import Request
from ilk.reports.payload import collect
from ilk.runs.folder import Run
from ilk.system.progress import Watch
from ilk.training.loop import train
from ilk.training.snapshots import Moments

TINY = {"batch_size": 32, "cluster_heads": 2}
NAMES = ("instance_positive", "instance_negative", "cluster_positive", "cluster_negative")


class Listener(Watch):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def request(epochs: int = 4) -> Request:
    return Request(
        n_clusters=2, epochs=epochs, backbone="small", views="object", device="cpu", precision="float32", settings=TINY
    )


def test_a_fit_leaves_a_report_its_pictures_its_moments_and_its_pairs(trained: Path) -> None:
    assert {"report.html", "thumbnails", "moments.npz", "map.npz"} <= {file.name for file in trained.iterdir()}
    payload = collect(trained)
    assert payload["run"]["shown"] == payload["sprites"]["count"] == 60
    assert [moment["epoch"] for moment in payload["map"]["moments"]] == [0, 1, 3, 4]
    pairs = payload["training"]["pairs"]
    assert set(pairs) == set(NAMES) and all(len(column) == 4 for column in pairs.values())
    assert all(-1 <= value <= 1 for name in NAMES[:2] for value in pairs[name])
    for value, effective in zip(pairs["cluster_positive"], payload["training"]["effective_clusters"], strict=True):
        assert (value is None) == (effective is None)
    assert "disc/00.png" in (trained / "report.html").read_text(encoding="utf-8")


def test_no_report_leaves_the_report_out_and_keeps_what_it_is_made_of(tmp_path: Path, photos: Path) -> None:
    fit(request(), photos, Run(tmp_path / "run"), report=False)
    assert not (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "thumbnails" / "index.json").is_file() and (tmp_path / "run" / "moments.npz").is_file()


@pytest.mark.parametrize("broken", ["write_report", "write_thumbnails"])
def test_a_report_that_fails_is_a_warning_and_the_run_is_finished(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("No space left on device")

    monkeypatch.setattr(f"ilk.pipeline.results.{broken}", fail)
    watch = Listener()
    run = fit(request(), photos, Run(tmp_path / "run"), watch=watch)
    assert run.finished and (run / "scores.json").is_file()
    assert len(watch.warnings) == 1 + sum("could not be read" in text for text in watch.warnings)
    assert any("could not be" in text and "No space left on device" in text for text in watch.warnings)


def test_a_prediction_and_a_saved_clusterer_have_a_report(
    tmp_path: Path, run: Run, photos: Path, clusterer: Callable[..., Any]
) -> None:
    predict(run, photos, tmp_path / "predicted")
    payload = collect(tmp_path / "predicted")
    assert (tmp_path / "predicted" / "report.html").is_file() and payload["training"]["epoch"] == []
    assert any(str(run) in note for note in payload["made"]["notes"])
    predict(run, photos, tmp_path / "without", report=False)
    assert not (tmp_path / "without" / "report.html").exists()
    fitted: Clusterer = clusterer().fit(photos)
    fitted.save(tmp_path / "saved")
    payload = collect(tmp_path / "saved")
    assert (tmp_path / "saved" / "report.html").is_file() and payload["sprites"]["count"] == 60
    assert [moment["epoch"] for moment in payload["map"]["moments"]] == [0, 1, 2, 3]
    fitted.partial_fit(photos)
    fitted.save(tmp_path / "further")
    assert collect(tmp_path / "further")["map"]["moments"] is None


def drained(records: Iterator[Any]) -> list[Any]:
    return [{name: record[name] for name in ("terms", "confidence", "pairs")} for record in records]


def test_moments_and_pairs_survive_a_resume_bit_by_bit(
    tmp_path: Path, pictures: Callable[..., Any], planned: Callable[..., Any], fabric: Any
) -> None:
    from ilk.images import load_images

    images = load_images(pictures(60)[0])

    def run(folder: Path, stop: int | None = None) -> list[Any]:
        folder.mkdir(exist_ok=True)
        training = planned(images, epochs=6)
        records = train(
            training.method, images, training.views, training.train, fabric, checkpoint=folder / "checkpoint.pt",
            moments=Moments(folder / "moments.npz"),
        )  # fmt: skip
        found = []
        for record in records:
            found.append(record)
            if record["epoch"] == stop:
                records.close()
                break
        return drained(iter(found))

    whole = run(tmp_path / "whole")
    for stop in (1, 3, 4):
        folder = tmp_path / f"cut {stop}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ilk.training.loop.CHECKPOINT_EVERY", -1.0)
            first = run(folder, stop)
        assert first + run(folder) == whole
        one, other = (dict(np.load(place / "moments.npz")) for place in (tmp_path / "whole", folder))
        assert one["epochs"].tolist() == [0, 2, 4, 6]
        for name in one:
            assert np.array_equal(one[name], other[name]), (stop, name)


def test_a_training_that_is_looked_at_has_the_weights_of_one_that_is_not(
    pictures: Callable[..., Any], planned: Callable[..., Any], fabric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ilk.images import load_images

    images = load_images(pictures(60)[0])

    def weights(moments: Moments | None) -> tuple[dict[str, torch.Tensor], list[Any]]:
        training = planned(images, epochs=4)
        records = list(train(training.method, images, training.views, training.train, fabric, moments=moments))
        return training.method.state_dict(), [record["terms"] for record in records]

    looked, terms = weights(Moments())
    monkeypatch.setattr("ilk.training.loop.pair_similarity", lambda *_, **__: {})
    plain, expected = weights(None)
    assert terms == expected
    for name, tensor in looked.items():
        assert torch.equal(tensor, plain[name]), name


def test_the_command_builds_a_report_and_says_where(run: Run, tmp_path: Path, call: Command) -> None:
    (run / "report.html").unlink()
    code, out, _ = call("report", run)
    assert code == 0 and str(run / "report.html") in out and (run / "report.html").stat().st_size > 10_000
    code, out, _ = call("report", run, "--out", "mine.html", "--most", 20)
    assert code == 0 and "mine.html" in out and "20 of the 60 images" in out
    assert "20 of the 60 images" in (tmp_path / "mine.html").read_text()


def test_the_command_draws_figures(run: Run, tmp_path: Path, call: Command) -> None:
    pytest.importorskip("matplotlib")
    code, out, _ = call("report", run, "--figures", "figures")
    assert code == 0 and "figures" in out
    assert {"map.svg", "map.png", "pairs.svg", "moments.png"} <= {
        file.name for file in (tmp_path / "figures").iterdir()
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--most", "0"], "at least one image"),
        (["--map", "lle"], "Unknown map 'lle'. Use pca, umap, tsne."),
        (["--out", "."], "is a folder; --out needs a file"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, call: Command, words: list[str], sentence: str) -> None:
    code, _, err = call("report", run, *words)
    assert code == 2 and sentence in err and "Traceback" not in err and err.startswith("Error: ")


def test_a_folder_that_is_no_run_or_damaged_is_one_sentence(run: Run, call: Command) -> None:
    code, _, err = call("report", "nowhere")
    assert code == 2 and "There is no run folder 'nowhere'" in err
    (run / "assignments.parquet").write_bytes(b"damaged")
    code, _, err = call("report", run)
    assert code == 2 and "cannot be read as Parquet" in err


def test_an_unfinished_run_has_a_report_of_what_there_is(run: Run, call: Command) -> None:
    for name in ("assignments.parquet", "assignments.csv", "embeddings.npy", "report.html"):
        (run / name).unlink()
    shutil.rmtree(run / "thumbnails")
    code, out, _ = call("report", run)
    assert code == 0 and "has not finished" in out and (run / "report.html").is_file()


@pytest.mark.parametrize("kind", ["embedding-atlas", "fiftyone"])
def test_the_exports_for_viewers_say_how_to_open_them(run: Run, tmp_path: Path, call: Command, kind: str) -> None:
    code, out, _ = call("export", run, "--to", kind, tmp_path / "made")
    assert code == 0 and (tmp_path / "made").exists()
    if kind == "fiftyone":
        assert "60 images" in out and "fo.types.FiftyOneImageClassificationDataset" in out
        assert json.loads((tmp_path / "made" / "labels.json").read_text())["classes"] == ["cluster 00", "cluster 01"]
    else:
        assert "60 images" in out and "embedding-atlas" in out and "--neighbors neighbors" in out


def test_an_unknown_viewer_names_the_nearest(run: Run, call: Command) -> None:
    code, _, err = call("export", run, "--to", "fiftytwo", "there")
    assert code == 2 and "Unknown format 'fiftytwo'" in err and "Did you mean 'fiftyone'?" in err
