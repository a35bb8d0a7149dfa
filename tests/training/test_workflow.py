"""A whole piece of work from end to end, as the faces call it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import ilk.training.epoch
import ilk.training.loop
from ilk.pipeline.fitting import fit
from ilk.pipeline.predicting import predict
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.system.progress import Watch, collapse_warning, epoch_line
from ilk.training.loop import TrainingDiverged

FILES = {
    "assignments.csv", "assignments.parquet", "bad_files.csv", "calibration.json", "checkpoint.pt",
    "clusters.csv", "clusters.png", "duplicates.csv", "flags.csv",
    "config.json", "embeddings.npy", "log.jsonl", "map.npz", "model.safetensors", "moments.npz", "report.html",
    "scores.json", "thumbnails",
}  # fmt: skip


def asked(k: int = 2, **changes: Any) -> Request:
    settings = {"batch_size": 32, "cluster_heads": 2, **changes.pop("settings", {})}
    given = {"epochs": 4, "backbone": "small", "views": "object", "device": "cpu", "precision": "float32", **changes}
    return Request(n_clusters=k, settings=settings, **given)


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


class Listener(Watch):
    def __init__(self, interrupt: tuple[int, str] | None = None) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.epochs: list[int] = []
        self.interrupt = interrupt

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def epoch(self, record: dict[str, Any]) -> None:
        self.epochs.append(record["epoch"])

    def progress(self, done: int, total: int, what: str) -> None:
        assert 0 < done <= total
        if self.interrupt == (done, what):
            raise KeyboardInterrupt


def test_the_files_of_a_run_exist_and_agree_with_each_other(trained: Path, photos: Path) -> None:
    assert {file.name for file in trained.iterdir()} == FILES
    table = pq.read_table(trained / "assignments.parquet").to_pylist()
    ids = [row["id"] for row in table]
    assert ids == sorted(str(file.relative_to(photos)) for file in photos.glob("*/??.png"))
    assert all(Path(row["path"]) == photos / row["id"] for row in table)
    assert [row["label"] for row in table] == [name.split("/")[0] for name in ids]
    assert [row["id"] for row in rows_of(trained / "assignments.csv")] == ids
    clusters = rows_of(trained / "clusters.csv")
    for row in clusters:
        members = [one for one in table if one["cluster"] == int(row["cluster"])]
        assert int(row["size"]) == len(members)
        if members:
            mean = np.mean([one["confidence"] for one in members])
            assert float(row["mean_confidence"]) == pytest.approx(mean, abs=1e-5)
            assert row["typical_1"] in {one["id"] for one in members}
            assert row["uncertain_1"] == min(members, key=lambda one: one["margin"])["id"]
    assert sum(int(row["size"]) for row in clusters) == 60
    embedding = np.load(trained / "embeddings.npy", allow_pickle=False)
    assert embedding.shape == (60, 128) and embedding.dtype == np.float16
    bad = rows_of(trained / "bad_files.csv")
    assert [row["id"] for row in bad] == ["disc/truncated.jpg", "stripes/nothing.png", "stripes/words.jpg"]
    assert all(row["reason"] for row in bad)
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["images"] == scores["labels"]["images"] == 60
    assert scores["mean_confidence"] == pytest.approx(np.mean([row["confidence"] for row in table]))
    with Image.open(trained / "clusters.png") as sheet:
        sheet.load()


@pytest.mark.parametrize(
    ("interrupt", "done"), [((1, "training"), 0), ((2, "training"), 1), ((4, "training"), 3), ((60, "assigning"), 4)]
)
def test_a_run_that_was_interrupted_and_resumed_has_the_files_of_one_that_was_not(
    tmp_path: Path, photos: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, interrupt: Any, done: int
) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0)
    run = Run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit(asked(), photos, run, labels="folders", watch=Listener(interrupt))
    assert run.exists and not run.finished
    assert len(run.log()) == done
    watch = Listener()
    fit(asked(), photos, run, labels="folders", resume=True, watch=watch)
    assert watch.epochs == list(range(done + 1, 5))
    assert any(f"after {done} of 4 epochs" in text for text in watch.said)
    same = FILES - {"config.json", "checkpoint.pt", "log.jsonl", "report.html", "thumbnails"}
    for name in {*same, "thumbnails/index.json", "thumbnails/sheet-0.webp"}:
        assert (run / name).read_bytes() == (trained / name).read_bytes(), name
    assert [record["terms"] for record in run.log()] == [record["terms"] for record in Run(trained).log()]
    assert [record["epoch"] for record in run.log()] == [1, 2, 3, 4]


def test_epochs_after_the_last_checkpoint_are_done_again_and_logged_once(
    tmp_path: Path, photos: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", 1e9)
    run = Run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit(asked(), photos, run, watch=Listener((3, "training")))
    assert len(run.log()) == 2 and not (run / "checkpoint.pt").exists()
    fit(asked(), photos, run, resume=True)
    assert [record["epoch"] for record in run.log()] == [1, 2, 3, 4]
    assert (run / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_resuming_a_finished_run_says_so_and_changes_nothing(run: Run, photos: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in run.folder.iterdir()}
    watch = Listener()
    fit(asked(), photos, run, resume=True, watch=watch)
    assert any("is finished; nothing is left to do" in text for text in watch.said)
    assert watch.epochs == []
    assert {file.name: file.stat().st_mtime_ns for file in run.folder.iterdir()} == before


def test_resume_starts_a_run_that_is_not_there(tmp_path: Path, photos: Path) -> None:
    fit(asked(epochs=1), photos, Run(tmp_path / "new"), resume=True)
    assert Run(tmp_path / "new").finished


def test_resuming_with_other_clusters_is_refused(run: Run, photos: Path) -> None:
    (run / "assignments.parquet").unlink()
    with pytest.raises(ValueError, match="is a run of cc with 2 clusters; it cannot go on as cc with 3"):
        fit(asked(3), photos, run, resume=True)


def test_resuming_with_other_images_is_refused(tmp_path: Path, run: Run, photo_folder: Callable[..., Path]) -> None:
    (run / "assignments.parquet").unlink()
    with pytest.raises(ValueError, match="The images are not those that .* began with"):
        fit(asked(), photo_folder(tmp_path / "other", 20), run, resume=True)


def test_a_used_folder_is_refused_before_any_image_is_read(tmp_path: Path, run: Run) -> None:
    with pytest.raises(FileExistsError, match="not empty"):
        fit(asked(), tmp_path / "does not exist", run)


def test_a_source_that_cannot_be_read_leaves_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, error in ((tmp_path / "nowhere", FileNotFoundError), (tmp_path / "empty", ValueError)):
        with pytest.raises(error):
            fit(asked(), source, Run(tmp_path / "runs" / "run"))
    assert not (tmp_path / "runs").exists()


def test_a_request_that_cannot_be_met_leaves_no_run_folder(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ValueError, match="100 clusters need at least 100 images"):
        fit(asked(100), photos, Run(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_was_found_is_said_before_training(tmp_path: Path, photos: Path) -> None:
    watch = Listener()
    fit(asked(epochs=12), photos, Run(tmp_path / "run"), labels="folders", watch=watch)
    assert "my photos/ (60 images): colour, used at 12 x 12 pixels" in watch.said
    assert "60 have a label, 2 kinds; used for scores only" in watch.said
    assert len(watch.warned) == 1 and "3 files could not be read" in watch.warned[0]


def test_labels_change_nothing_but_the_scores(tmp_path: Path, photos: Path, trained: Path) -> None:
    run = fit(asked(), photos, Run(tmp_path / "run"))
    for name in ("model.safetensors", "embeddings.npy", "clusters.csv"):
        assert (run / name).read_bytes() == (trained / name).read_bytes()
    assert pq.read_table(run / "assignments.parquet")["label"].null_count == 60


def test_a_diverged_training_keeps_the_run_and_its_log(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0)
    run = Run(tmp_path / "run")
    settings = {"learning_rate": 1e30, "warmup": 0, "warm_start": 0, "batch_size": 60, "schedule": "constant"}
    with pytest.raises(TrainingDiverged, match=r"term became nan in epoch (\d)") as caught:
        fit(asked(settings=settings), photos, run)
    epoch = int(str(caught.value).split("in epoch ")[1][0])
    assert len(run.log()) == epoch - 1
    assert not run.finished and not (run / "model.safetensors").exists()


def test_new_images_are_sorted_into_the_same_clusters(
    tmp_path: Path, run: Run, photos: Path, photo_folder: Callable[..., Path]
) -> None:
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    predict(run, photos, tmp_path / "same")
    same, first = (pq.read_table(folder / "assignments.parquet") for folder in (tmp_path / "same", run.folder))
    for name in ("id", "path", "cluster", "confidence", "second_cluster", "margin"):
        assert same[name].equals(first[name])
    found = predict(run, photo_folder(tmp_path / "new", 10, side=20, start=500), tmp_path / "out", labels="folders")
    assert sum(one.size for one in found) == 10
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES - {
        "model.safetensors", "checkpoint.pt", "log.jsonl", "moments.npz"
    }  # fmt: skip
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before


def test_gray_images_can_be_sorted_by_a_model_of_colour_images(
    tmp_path: Path, run: Run, pictures: Callable[..., Any]
) -> None:
    found = predict(run, pictures(6, gray=True)[0], tmp_path / "out")
    assert sum(one.size for one in found) == 6


def test_one_image_can_be_sorted(tmp_path: Path, run: Run, photos: Path) -> None:
    (found,) = (one for one in predict(run, photos / "disc" / "00.png", tmp_path / "out") if one.size)
    first = pq.read_table(run / "assignments.parquet").to_pylist()[0]
    assert found.number == first["cluster"]


def test_a_prediction_that_fails_leaves_no_folder(tmp_path: Path, run: Run) -> None:
    with pytest.raises(FileNotFoundError):
        predict(run, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_collapse_is_told_when_less_than_half_of_the_clusters_are_used() -> None:
    assert collapse_warning(None, 10) is None
    assert collapse_warning(5.0, 10) is None
    assert "only about 4.9 of 10 clusters" in str(collapse_warning(4.9, 10))
    assert "only about 1.0 of 2 clusters" in str(collapse_warning(1.0, 2))  # one of two is a half, and a collapse
    assert collapse_warning(1.9, 2) is None


def test_collapsed_clusters_are_warned_of_once(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ilk.training.epoch, "effective_clusters", lambda counts: 1.0)
    watch = Listener()
    fit(asked(5, epochs=8, settings={"warm_start": 0}), photos, Run(tmp_path / "run"), watch=watch)
    assert len([text for text in watch.warned if "collapsing" in text]) == 1


def test_an_epoch_is_one_line_a_person_can_read() -> None:
    record = {
        "epoch": 5, "epochs": 20, "seconds": 50.0, "images_per_second": 12345.6, "learning_rate": 1e-3, "loss": 3.0,
        "terms": {"instance": 4.0, "cluster": 1.25}, "effective_clusters": None, "confidence": None, "message": None,
    }  # fmt: skip
    assert epoch_line(record) == (
        "epoch 5/20, 12,346 images/s, 2 min left, instance 4.000, cluster 1.250, clusters start later"
    )
    late = epoch_line({**record, "effective_clusters": 9.51, "confidence": 0.876, "epoch": 20})
    assert late.endswith("0 s left, instance 4.000, cluster 1.250, 9.5 effective clusters, 88% sure")
