"""A few known labels: they steer the training, name the clusters, and are never scored as if they had not."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import ilk.training.loop
from ilk import Clusterer, load_images
from ilk.evaluation import score_run
from ilk.pipeline.begin import new_training
from ilk.pipeline.fitting import fit
from ilk.pipeline.known_labels import find_known
from ilk.pipeline.predicting import predict
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.runs.tables import assignments_table, read_table, write_table
from ilk.sampling import batches
from ilk.system.files import write_json
from ilk.system.progress import Watch


def asked(known: Any = None, **changes: Any) -> Request:
    settings = {"batch_size": 32, "cluster_heads": 2, **changes.pop("settings", {})}
    given = {"method": "crlc", "epochs": 4, "backbone": "small", "views": "object", "device": "cpu",
             "precision": "float32", "known_labels": known, **changes}  # fmt: skip
    return Request(n_clusters=given.pop("n_clusters", 2), settings=settings, **given)


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


class Listener(Watch):
    def __init__(self, stop: int = 0) -> None:
        self.stop, self.said, self.warned = stop, list[str](), list[str]()

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def epoch(self, record: dict[str, Any]) -> None:
        if record["epoch"] == self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """The labels of eight of the sixty photographs, and of one that does not exist."""
    file = tmp_path / "few.csv"
    rows = [(f"disc/{i:02}.png", "round") for i in range(0, 8, 2)]
    rows += [(f"stripes/{i:02}.png", "banded") for i in range(30, 38, 2)]
    with open(file, "w", newline="") as stream:
        csv.writer(stream).writerows([("id", "label"), *rows, ("gone.png", "round")])
    return file


@pytest.fixture(scope="module")
def images(pictures: Callable[..., Any]) -> Any:
    return load_images(pictures(60, side=8)[0])


# what is known


@pytest.mark.parametrize("form", ["csv", "parquet", "dict", "list", "integers", "array"])
def test_every_form_of_the_same_labels_gives_the_same_codes(tmp_path: Path, images: Any, form: str) -> None:
    known = {"000003": "b", "000000": "a", "000059": "b"}
    if form == "csv":
        (tmp_path / "k.csv").write_text("id,label\n" + "".join(f"{key},{name}\n" for key, name in known.items()))
    elif form == "parquet":
        pq.write_table(pa.table({"id": list(known), "label": list(known.values())}), tmp_path / "k.parquet")
    row = [known.get(key) for key in images.ids]
    given: Any = {
        "csv": tmp_path / "k.csv",
        "parquet": str(tmp_path / "k.parquet"),
        "dict": known,
        "list": [name or "" for name in row],
        "integers": np.array([-1 if name is None else 4 + (name == "b") for name in row]),
        "array": np.array(row, dtype=object),
    }[form]
    found, warning = find_known(given, images, 3)
    assert warning is None and found.rows == [0, 3, 59]
    assert found.codes[[0, 3, 59]].tolist() == [0, 1, 1]
    assert found.names == (["4", "5"] if form == "integers" else ["a", "b"])


def test_ids_that_no_image_has_are_named_and_the_others_used(images: Any) -> None:
    found, warning = find_known({"000001": "a", "elsewhere": "b", "000002": "b"}, images, 2)
    assert found.rows == [1, 2]
    assert warning == "1 of the known labels belong to no image and are left out: elsewhere"


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"x": "a"}, ValueError, "no row of the table matches an image"),
        ("nowhere.csv", FileNotFoundError, "no file of known labels 'nowhere.csv'"),
        ([None] * 60, ValueError, "all are empty"),
        (["a"] * 59, ValueError, "59 labels were given for 60 images"),
        ({"000000": "a", "000001": "b", "000002": "c"}, ValueError, "3 classes .* more than the 2 clusters"),
        (7, TypeError, "known_labels is a int"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(images: Any, given: Any, error: Any, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        find_known(given, images, 2)


@pytest.mark.parametrize("method", ["cc", "scl", "dcdc", "c2bin"])
def test_a_method_without_use_for_known_labels_says_which_have(images: Any, fabric: Any, method: str) -> None:
    request = Request(n_clusters=2, method=method, known_labels={"000001": "a"})
    with pytest.raises(ValueError, match=rf"{method} has no use for known labels .* Methods that have: crlc"):
        new_training(request, images, fabric)


# batches


@pytest.mark.parametrize("n_known", [1, 3, 4, 5, 11, 60])
def test_known_images_end_every_batch_and_no_image_is_in_one_twice(n_known: int) -> None:
    known = torch.arange(0, 60)[torch.randperm(60, generator=torch.Generator().manual_seed(1))[:n_known]]
    for epoch in range(5):
        found = batches(60, 32, 0, epoch, known=known) + batches(60, 16, 0, epoch, known=known)
        for batch in found:
            assert len(batch) in (16, 32) and len(set(batch.tolist())) == len(batch)
            last = batch[-min(n_known, len(batch) // 8) :]
            assert torch.isin(last, known).all()


def test_known_images_take_turns_and_the_others_come_in_other_epochs() -> None:
    known = torch.arange(8)
    seen = [torch.cat(batches(64, 16, 0, epoch, known=known)).tolist() for epoch in range(6)]
    for one in seen:
        assert all(one.count(i) >= 1 for i in range(8))  # 4 batches with 2 places
    assert set().union(*seen) == set(range(64))
    assert seen[0] != seen[1] and seen[0] == torch.cat(batches(64, 16, 0, 0, known=known)).tolist()


def test_without_known_images_batches_are_those_of_the_permutation() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    for a, b in zip(batches(60, 16, 3, 2), batches(60, 16, 3, 2, known=nothing), strict=True):
        assert torch.equal(a, b)


# a run


def test_the_files_of_a_run_say_what_was_known(tmp_path: Path, photos: Path, few: Path) -> None:
    watch = Listener()
    run = fit(asked(few), photos, Run(tmp_path / "run"), labels="folders", watch=watch)
    assert any("known labels belong to no image and are left out: gone.png" in text for text in watch.warned)
    assert "the labels of 8 images (2 kinds) steer the training" in watch.said
    known = {row["id"]: row["label"] for row in rows_of(run / "known_labels.csv")}
    assert len(known) == 8 and known["disc/02.png"] == "round" and known["stripes/36.png"] == "banded"
    assert run.config.known_labels.as_dict() == {"images": 8, "names": ["banded", "round"]}
    table = read_table(run / "assignments.parquet")
    assert {key for key, given in zip(table["id"].to_pylist(), table["known"].to_pylist(), strict=True) if given} == (
        set(known)
    )
    assert [row["name"] for row in rows_of(run / "clusters.csv")] == ["banded", "round"]
    assert "known" in run.log()[-1]["terms"]
    scores = json.loads((run / "scores.json").read_text())
    assert scores["labels"]["images"] == 52 and scores["known"]["images"] == 8


def test_known_labels_make_their_images_right_and_name_the_clusters(tmp_path: Path, photos: Path, few: Path) -> None:
    """Also in a second training, which has the names in the other order."""
    strong = {"supervised_weight": 5.0, "learning_rate": 5e-3, "warmup": 0}
    run = fit(asked(few, epochs=10, settings=strong), photos, Run(tmp_path / "a"), labels="folders")
    scores = json.loads((run / "scores.json").read_text())
    assert scores["known"]["accuracy"] == 1.0
    assert scores["labels"]["accuracy"] > 0.9
    swapped = tmp_path / "swapped.csv"
    swapped.write_text(few.read_text().replace("round", "a round one").replace("banded", "zebra"))
    other = fit(asked(swapped, epochs=10, settings=strong), photos, Run(tmp_path / "b"))
    assert json.loads((other / "scores.json").read_text())["known"]["accuracy"] == 1.0
    ours, theirs = (np.array(read_table(one / "assignments.parquet")["cluster"]) for one in (run, other))
    assert (ours != theirs).mean() > 0.9  # the names decide which cluster is which


def test_known_labels_change_what_is_learnt(tmp_path: Path, photos: Path, few: Path) -> None:
    with_, without = (fit(asked(one, epochs=2), photos, Run(tmp_path / str(one is None))) for one in (few, None))
    assert (with_ / "model.safetensors").read_bytes() != (without / "model.safetensors").read_bytes()
    assert without.config.known_labels is None and not (without / "known_labels.csv").exists()
    assert "known" not in read_table(without / "assignments.parquet").column_names
    assert "name" not in rows_of(without / "clusters.csv")[0]
    assert json.loads((without / "scores.json").read_text())["known"] is None


@pytest.mark.parametrize("saved", [True, False], ids=["checkpoint", "no checkpoint"])
def test_a_resumed_training_equals_an_unbroken_one(
    tmp_path: Path, photos: Path, few: Path, saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = fit(asked(few), photos, Run(tmp_path / "whole")), Run(tmp_path / "broken")
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0 if saved else 1e9)
    with pytest.raises(KeyboardInterrupt):
        fit(asked(few), photos, broken, watch=Listener(stop=3))
    few.unlink()  # the run has kept them
    fit(asked(), photos, broken, resume=True)
    for name in ("model.safetensors", "assignments.csv", "clusters.csv", "scores.json", "known_labels.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name


def test_resuming_with_other_known_labels_is_refused(tmp_path: Path, photos: Path, few: Path) -> None:
    run = fit(asked(few, epochs=1), photos, Run(tmp_path / "run"))
    fit(asked(few, epochs=1), photos, run, resume=True)  # the same may be given again
    for other in ({"disc/00.png": "round"}, {"disc/00.png": "banded", "stripes/30.png": "round"}):
        with pytest.raises(ValueError, match="known labels are not those that"):
            fit(asked(other, epochs=1), photos, run, resume=True)
    (run / "known_labels.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"has lost its known_labels.csv"):
        fit(asked(epochs=1), photos, run, resume=True)


def test_predictions_name_clusters_and_tell_known_images_apart(
    tmp_path: Path, photos: Path, few: Path, photo_folder: Callable[..., Path]
) -> None:
    run = fit(asked(few), photos, Run(tmp_path / "run"))
    predict(run, photo_folder(tmp_path / "new", 10, start=800), tmp_path / "out", labels="folders")
    assert [row["name"] for row in rows_of(tmp_path / "out" / "clusters.csv")] == ["banded", "round"]
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["known"] is None and scores["labels"]["images"] == 10
    predict(run, photos, tmp_path / "same", labels="folders")
    scores = json.loads((tmp_path / "same" / "scores.json").read_text())
    assert scores["known"]["images"] == 8 and scores["labels"]["images"] == 52
    predict(run, photos / "disc", tmp_path / "part")  # other ids, but files that training knew
    scores = json.loads((tmp_path / "part" / "scores.json").read_text())
    assert scores["known"]["images"] == 4


# scores


def set_table(run: Run, clusters: list[int], labels: list[str | None] | None, known: dict[int, str]) -> None:
    n = len(clusters)
    ids, half = [f"{i}.png" for i in range(n)], np.full(n, 0.75, dtype=np.float32)
    given = np.array([i in known for i in range(n)])
    table = assignments_table(ids, ids, np.array(clusters), half, np.zeros(n, int), half, labels, given)
    write_table(table, run.folder, "assignments")
    (run / "known_labels.csv").write_text("id,label\n" + "".join(f"{i}.png,{name}\n" for i, name in known.items()))
    run.write_config(run.config.replace(known_labels={"images": len(known), "names": ["cat", "dog"]}))


def test_scores_by_hand(run: Run) -> None:
    """Of four known images three are in the cluster of their name; of the four others one is wrong."""
    set_table(
        run,
        [0, 0, 1, 1, 0, 0, 1, 0],
        ["x", "x", "y", "y", "x", "x", "y", "y"],
        {0: "cat", 1: "dog", 2: "dog", 3: "dog"},
    )
    found = score_run(run)
    assert found["known"] == {"images": 4, "accuracy": 0.75}
    assert found["labels"]["images"] == 4 and found["labels"]["accuracy"] == 0.75
    assert found["images"] == 8 and found["labels"]["unlabelled"] == 0


def test_labels_of_known_images_alone_give_no_scores_against_labels(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    from ilk.cli.display import score_lines

    set_table(run, [0, 1, 0], ["cat", "dog", None], {0: "cat", 1: "dog"})
    found = score_run(run)
    assert found["labels"] is None and found["known"] == {"images": 2, "accuracy": 1.0}
    score_lines(run)
    out = capsys.readouterr().out
    assert "labels of 2 images were used in training" in out and "no labels known for the other images" in out


def test_a_cluster_without_a_name_is_wrong_for_every_known_image(run: Run) -> None:
    write_json(run / "config.json", {**run.config.as_dict(), "n_clusters": 6})
    set_table(run, [5, 0], None, {0: "cat", 1: "cat"})
    assert score_run(run)["known"]["accuracy"] == 0.5


# the scikit-learn face


def test_a_clusterer_learns_from_known_labels(
    tmp_path: Path, pictures: Callable[..., Any], clusterer: Callable[..., Any]
) -> None:
    X, kinds = pictures(60)
    known = np.full(60, -1)
    known[[0, 3, 40, 50]] = kinds[[0, 3, 40, 50]]
    strong = {"batch_size": 32, "cluster_heads": 2, "supervised_weight": 5.0, "learning_rate": 5e-3, "warmup": 0}
    found: Clusterer = clusterer(3, method="crlc", epochs=10, settings=strong).fit(X, known_labels=known)
    assert (found.labels_[[0, 3, 40, 50]] == kinds[[0, 3, 40, 50]]).all()
    assert found.cluster_names_ == ["0", "1", None]
    found.save(tmp_path / "run")
    assert len(rows_of(tmp_path / "run" / "known_labels.csv")) == 4
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["known"]["accuracy"] == 1.0
    loaded = Clusterer.load(tmp_path / "run")
    assert loaded.cluster_names_ == found.cluster_names_
    np.testing.assert_array_equal(loaded.predict(X), found.labels_)


def test_training_on_with_other_images_forgets_which_were_known(
    tmp_path: Path, pictures: Callable[..., Any], clusterer: Callable[..., Any]
) -> None:
    found = clusterer(method="crlc", epochs=2).fit(pictures(60)[0], known_labels={"000000": "a", "000050": "b"})
    found.partial_fit(pictures(60)[0])
    assert "known" in found.history_[-1]["terms"]
    found.partial_fit(pictures(80, start=200)[0])
    assert "known" not in found.history_[-1]["terms"] and len(found.labels_) == 80
    found.save(tmp_path / "run")
    loaded = Clusterer.load(tmp_path / "run")
    assert loaded.cluster_names_ == ["a", "b"] and loaded.method_.n_images == 80


def test_a_method_without_use_for_them_refuses_before_images_are_read(clusterer: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="cc has no use for known labels"):
        clusterer().fit("/no/such/folder", known_labels={"a": 1})
