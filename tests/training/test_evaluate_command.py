"""`ilk evaluate` from end to end: files, words and exit codes, on a tiny run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import ilk.cli.evaluate  # registers the command
from command import Command
from ilk import load_images
from ilk.analysis.metrics import accuracy
from ilk.evaluation import PROTOCOLS, EvaluationOptions, evaluate_run
from ilk.evaluation.inputs import Inputs, open_inputs
from ilk.evaluation.run_protocols import FUNCTIONS
from ilk.runs.folder import Run
from ilk.runs.tables import read_table, write_table
from ilk.system.files import file_hash
from ilk.system.progress import Watch
from ilk.system.text import safe_text

assert ilk.cli.evaluate.evaluate  # used by being imported
FAST = ["--resamples", "30", "--device", "cpu"]


@pytest.fixture
def call(call: Command) -> Command:
    """`call(run, "--only", ...)`: what `ilk evaluate RUN ...` does."""
    return partial(call, "evaluate")


@pytest.fixture(scope="module")
def predicted(
    trained: Path, photo_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A run and a prediction of 20 other photographs by it; do not change them."""
    from ilk.pipeline.predicting import predict

    folder = tmp_path_factory.mktemp("held out")
    source = photo_folder(folder / "new", n=20, start=500)
    cache = tmp_path_factory.mktemp("cache")
    for file in source.rglob("*.png"):
        file.rename(file.with_name(f"new-{file.name}"))
    predict(Run(trained), source, folder / "prediction", device="cpu", labels="folders", cache_dir=cache, report=False)
    return trained, folder / "prediction"


def read(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return found


def rename(run: Run, side: Callable[[int], str]) -> None:
    """Puts `side(row)` before the ids of a run, as if its images lay in such folders."""
    table = read_table(run / "assignments.parquet")
    ids = [f"{side(row)}{name}" for row, name in enumerate(table["id"].to_pylist())]
    write_table(table.set_column(table.column_names.index("id"), "id", pa.array(ids)), run.folder, "assignments")


def test_all_protocols_are_run_written_and_printed(call: Command, run: Run, trained: Path) -> None:
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    outcome = call(run, *FAST, "--against", trained)
    assert outcome.code == 0, outcome.err
    found = read(run.folder)
    assert tuple(found["protocols"]) == PROTOCOLS
    for words in ("accuracy (best matching)", "recall of disc", "k = 5 ", "logistic regression", "precision at 10",
                  "k-means, k = 2", "silhouette", "stability under views", "from pixels", "random 20 %"):  # fmt: skip
        assert words in outcome.out, words
    assert "ARI 1.000, NMI 1.000 (60 images)" in outcome.out
    after = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    new = {file.name for file in after} - {file.name for file in before}
    assert new - {".lock"} <= {"evaluation.json", "retrieval.png"} and {"evaluation.json", "retrieval.png"} <= new
    assert all(after[file] == before[file] for file in before)
    assert Image.open(run / "retrieval.png").size[0] > 400


def test_the_scores_are_those_of_the_table(run: Run) -> None:
    table = read_table(run / "assignments.parquet")
    kinds = [label == "disc" for label in table["label"].to_pylist()]
    blocks = evaluate_run(run, EvaluationOptions(only=("labels",), resamples=10))["protocols"]
    found = blocks["labels"]["parts"]["train"]
    assert found["accuracy"]["value"] == pytest.approx(accuracy(np.array(kinds, int), table["cluster"].to_numpy()))
    assert found["images"] == 60 and set(found["recall"]) == {"disc", "stripes"}


def test_a_run_on_held_out_images_is_train_and_test(
    call: Command, predicted: tuple[Path, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(predicted[0], tmp_path / "r")
    outcome = call(run, *FAST, "--test", predicted[1], "--only", "labels,knn,probe,retrieval")
    assert outcome.code == 0, outcome.err
    assert "which is another folder" in outcome.err  # the copy is not the folder that predicted
    found = read(run)["protocols"]
    assert {name: one["images"] for name, one in found["labels"]["parts"].items()} == {
        "train": 60, "test": 20, "train+test": 80,
    }  # fmt: skip
    for name in ("knn", "probe"):
        assert (found[name]["train_images"], found[name]["test_images"]) == (60, 20)
        assert found[name]["tested_on"] == f"test (prediction {predicted[1]})" and found[name]["unseen"] is True
        assert found[name]["split"]["source"] == str(predicted[1])
        assert found[name]["labels"] == {"run": "recorded", "test": "recorded"}
    assert found["knn"]["k"]["200"]["used"] == 60
    retrieval = found["retrieval"]
    assert retrieval["queries_from"] == f"test (prediction {predicted[1]})"
    assert (retrieval["gallery_from"], retrieval["gallery"]) == ("train", 60)
    assert retrieval["picture"] == "retrieval.png"
    assert (
        "train (60 images, 2 classes)" in outcome.out and f"test (prediction {predicted[1]}) (20 images" in outcome.out
    )
    assert "new to the network" in outcome.out


def test_folders_of_train_and_test_are_the_split_and_labels_lie_below(call: Command, run: Run) -> None:
    rename(run, lambda row: "test/" if row % 3 == 0 else "Train/")
    outcome = call(run, *FAST, "--split", "folders", "--labels", "folders", "--only", "labels,knn")
    assert outcome.code == 0, outcome.err
    found = read(run.folder)["protocols"]
    assert [one["images"] for one in found["labels"]["parts"].values()] == [40, 20, 60]
    assert set(found["labels"]["parts"]["test"]["recall"]) == {"disc", "stripes"}
    assert (found["knn"]["train_images"], found["knn"]["test_images"]) == (40, 20)
    assert found["knn"]["tested_on"] == "test (folders)" and found["knn"]["unseen"] is False
    assert found["knn"]["labels"] == {"run": "folders"} and "test (folders) (20 images" in outcome.out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_of_a_table_may_say_the_split(call: Command, run: Run, tmp_path: Path, kind: str) -> None:
    ids = read_table(run / "assignments.parquet")["id"].to_pylist()
    sides = ["train" if row % 2 else "test" for row in range(50)]  # ten images are in neither
    file = tmp_path / f"sides.{kind}"
    if kind == "csv":
        with open(file, "w", newline="") as stream:
            csv.writer(stream).writerows([("id", "label", "Part"), *((a, "", b) for a, b in zip(ids, sides))])  # noqa: B905
    else:
        pq.write_table(pa.table({"id": ids[:50], "part": sides}), file)
    outcome = call(run, *FAST, "--split", file, "--split-column", "part", "--only", "knn")
    assert outcome.code == 0, outcome.err
    found = read(run.folder)["protocols"]["knn"]
    assert (found["train_images"], found["test_images"], found["in_neither"]) == (25, 25, 10)
    assert found["split"] == {"name": f"test ({file})", "kind": "table", "source": str(file), "column": "part"}


def test_without_labels_what_needs_none_is_done(call: Command, run: Run) -> None:
    outcome = call(run, *FAST, "--labels", "none")
    assert outcome.code == 0, outcome.err
    assert "no labels are known: labels, knn, probe are left out" in outcome.err
    found = read(run.folder)["protocols"]
    assert list(found) == ["retrieval", "opinions", "label-free"]
    assert "mean_average_precision" not in found["retrieval"] and (run / "retrieval.png").is_file()
    assert "scores" not in found["opinions"]["opinions"]["k-means"]


def test_backbone_features_are_what_the_network_gives_before_its_heads(run: Run, photos: Path) -> None:
    from ilk.pipeline.trained import load_model

    options = EvaluationOptions(only=("knn",), features="backbone", resamples=10, device="cpu")
    inputs = open_inputs(run, options, load_model, Watch())
    images = load_images(photos, image_size=run.config.images.size, channels=3)
    with torch.inference_mode():
        expected = load_model(run).backbone(images[:] / 255).numpy()
    assert [safe_text(name) for name in images.ids] == inputs.main.ids
    cosine = (expected * inputs.main.features).sum(1) / np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(cosine / np.linalg.norm(inputs.main.features, axis=1), 1, atol=1e-3)
    found = evaluate_run(run, options, model=load_model)["protocols"]["knn"]
    assert found["features"] == "backbone" and found["dim"] == expected.shape[1]
    with pytest.raises(ValueError, match="the model was not given"):
        evaluate_run(run, options)


def test_views_of_images_are_assigned_by_the_model_that_is_there(run: Run) -> None:
    from ilk.pipeline.trained import load_model

    options = EvaluationOptions(only=("label-free",), resamples=10, device="cpu", views_of=20)
    views = evaluate_run(run, options, model=load_model)["protocols"]["label-free"]["views"]
    assert views["images"] == 20 and views["reproduced"] == 1 and 0 < views["kept"] <= 1


def test_images_that_are_gone_cost_only_what_needs_them(call: Command, run: Run, tmp_path: Path, photos: Path) -> None:
    table = read_table(run / "assignments.parquet")
    gone = [str(tmp_path / "gone" / name) for name in table["id"].to_pylist()]
    write_table(table.set_column(table.column_names.index("path"), "path", pa.array(gone)), run.folder, "assignments")
    outcome = call(run, *FAST, "--only", "retrieval,label-free")
    assert outcome.code == 0, outcome.err
    found = read(run.folder)["protocols"]
    assert "cannot be opened any more" in found["label-free"]["views"]["left_out"]
    assert found["retrieval"]["picture"] is None and found["retrieval"]["queries"] == 60
    assert "stability under views is left out" in outcome.out and "--images SOURCE" in outcome.out
    refused = call(run, *FAST, "--only", "knn", "--features", "backbone")
    assert refused.code == 2 and "cannot be opened any more" in refused.err
    again = call(run, *FAST, "--only", "retrieval,label-free", "--images", photos)
    assert again.code == 0 and "left_out" not in read(run.folder)["protocols"]["label-free"]["views"]
    assert (run / "retrieval.png").is_file()


def test_images_given_to_the_training_with_their_label_do_not_score(run: Run) -> None:
    table = read_table(run / "assignments.parquet")
    known = pa.array([row < 6 for row in range(60)])
    write_table(table.append_column("known", known), run.folder, "assignments")
    found = evaluate_run(run, EvaluationOptions(only=("labels", "knn"), resamples=10))["protocols"]
    assert (found["labels"]["parts"]["train"]["images"], found["labels"]["known_left_out"]) == (54, 6)
    assert found["knn"]["train_images"] + found["knn"]["test_images"] == 54


def test_the_same_seed_gives_the_same_figures(run: Run) -> None:
    options = EvaluationOptions(only=("labels", "knn", "probe", "retrieval", "opinions"), resamples=20, seed=3)
    first, second = (evaluate_run(run, options)["protocols"] for _ in range(2))
    for block in (*first.values(), *second.values()):
        block.pop("seconds")
    assert first == second
    other = evaluate_run(run, EvaluationOptions(only=("labels",), resamples=20, seed=4))["protocols"]
    assert other["labels"]["seed"] == 4


def test_protocols_that_are_not_asked_for_keep_what_was_found(run: Run) -> None:
    evaluate_run(run, EvaluationOptions(only=("knn",), resamples=10))
    second = evaluate_run(run, EvaluationOptions(only=("labels",), resamples=10))
    assert list(second["protocols"]) == ["labels"]
    assert list(read(run.folder)["protocols"]) == ["labels", "knn"]
    table = read_table(run / "assignments.parquet")
    flipped = pa.array(1 - table["cluster"].to_numpy())
    write_table(table.set_column(table.column_names.index("cluster"), "cluster", flipped), run.folder, "assignments")
    evaluate_run(run, EvaluationOptions(only=("opinions",), resamples=10))
    assert list(read(run.folder)["protocols"]) == ["opinions"]  # those of other assignments are forgotten
    assert read(run.folder)["assignments"] == file_hash(run / "assignments.parquet")


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    call: Command, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(inputs: Inputs) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setitem(FUNCTIONS, "probe", stopped)
    outcome = call(run, *FAST)
    assert outcome.code == 130
    assert "labels, knn are kept in" in outcome.err
    assert "--only probe,retrieval,opinions,label-free" in outcome.err
    assert list(read(run.folder)["protocols"]) == ["labels", "knn"]


def test_what_is_wrong_is_said_before_any_work(run: Run, tmp_path: Path) -> None:
    said: list[str] = []

    class Listening(Watch):
        def say(self, text: str) -> None:
            said.append(text)

    for options in (
        EvaluationOptions(split="nowhere.csv"),
        EvaluationOptions(against=(tmp_path / "none",)),
        EvaluationOptions(labels="folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError)):
            evaluate_run(run, options, watch=Listening())
    assert said == [] and not (run / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "labels,kn"], "There is no protocol 'kn'. Did you mean 'knn'?"),
        (["--features", "pixels"], "There is no kind of features 'pixels'. Known: embeddings, backbone."),
        (["--optimizer", "adam"], "There is no optimizer of the linear probe 'adam'"),
        (["--split", "nowhere"], "There is no split 'nowhere'. Use random, folders, or a CSV or Parquet file."),
        (["--split", "folders"], "The first folder of each id must name some images train and some test"),
        (["--held-out", "1.5"], "between 0 and 1; got 1.5"),
        (["--queries", "0"], "queries must be at least 1; got 0"),
        (["--resamples", "0"], "resamples must be at least 1; got 0"),
        (["--seed", "-1"], "The seed must be 0 or more; got -1"),
        (["--labels", "none", "--only", "knn"], "knn cannot be done: no labels are known"),
        (["--labels", "nowhere.csv"], "There is no file of labels 'nowhere.csv'"),
        (["--test-labels", "folders"], "--test PREDICTION"),
        (["--held-out", "0.3", "--split", "folders"], "--split folders already says which images are held out"),
        (["--held-out", "0.3", "--test", "p"], "--test already says which images are held out. Leave --held-out"),
        (["--split-column", "part"], "--split FILE"),
        (["--against", "other", "--only", "knn"], "--against is for label-free. Add it to --only"),
        (["--optimizer", "sgd", "--only", "labels,knn"], "--optimizer is for probe. Add it to --only"),
        (["--held-out", "0.3", "--only", "labels"], "--held-out is for knn, probe. Add one of them"),
        (["--test", "p", "--only", "opinions"], "--test is for labels, knn, probe, retrieval"),
        (["--test", "nowhere"], "There is no run folder 'nowhere'"),
        (["--against", "nowhere"], "There is no run folder 'nowhere'"),
        (["--device", "tpu"], "Unknown device 'tpu'"),
    ],
)
def test_wrong_words_are_one_sentence_and_exit_code_2(call: Command, run: Run, words: list[str], message: str) -> None:
    outcome = call(run, *words)
    assert outcome.code == 2
    assert message in outcome.err and "Traceback" not in outcome.err


def test_a_run_is_no_prediction_and_a_prediction_of_its_own_images_holds_nothing_out(
    call: Command, run: Run, trained: Path
) -> None:
    assert "is not a prediction. Make one with: ilk predict" in call(run, "--test", trained).err
    copy = Run(shutil.copytree(run.folder, run.folder.parent / "copy"))
    copy.write_config(copy.config.replace(predicted_with=str(run.folder)))
    outcome = call(run, "--test", copy)
    assert outcome.code == 2 and "has the same images as" in outcome.err
    both = call(run, "--test", copy, "--split", "folders")
    assert both.code == 2 and "Leave --split out" in both.err


def test_labels_that_are_only_the_split_are_refused(call: Command, run: Run) -> None:
    rename(run, lambda row: "test/" if row % 3 == 0 else "train/")
    table = read_table(run / "assignments.parquet")
    sides = pa.array([name.split("/")[0] for name in table["id"].to_pylist()])
    write_table(table.set_column(table.column_names.index("label"), "label", sides), run.folder, "assignments")
    outcome = call(run, "--split", "folders")
    assert outcome.code == 2 and "Add --labels folders" in outcome.err
