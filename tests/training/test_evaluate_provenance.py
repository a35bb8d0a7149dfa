"""What the figures of an evaluation rest on is said, and what cannot be done costs no other figure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import ilk.cli.evaluate  # registers the command
from command import Command
from ilk.evaluation import EvaluationOptions, evaluate_run, evaluation_lines, score_run
from ilk.runs.folder import Run
from ilk.runs.tables import read_table, write_embeddings, write_table
from ilk.system.progress import Watch

assert ilk.cli.evaluate.evaluate  # used by being imported
FAST = ["--resamples", "20", "--device", "cpu", "--views-of", "20"]
CHOSEN = {"by": "oracle_acc", "epoch": 3, "epochs": 4, "used_labels": True}


@pytest.fixture
def call(call: Command) -> Command:
    return partial(call, "evaluate")


class Listening(Watch):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def read(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return found


def change_config(run: Run, **changes: Any) -> None:
    run.write_config(run.config.replace(**changes))


def like_array(run: Run, fingerprint: str) -> None:
    """Makes the images of a run those of an array: ids are positions, and there are no paths."""
    change(run, "id", [f"{row:06}" for row in range(len(read_table(run / "assignments.parquet")))])
    change(run, "path", [""] * len(read_table(run / "assignments.parquet")))
    change_config(run, source=run.config.source.replace(name="array", kind="array", fingerprint=fingerprint))


def change(run: Run, name: str, values: list[Any]) -> None:
    table = read_table(run / "assignments.parquet")
    column = pa.array(values, pa.string())
    write_table(table.set_column(table.column_names.index(name), name, column), run.folder, "assignments")


def cut(run: Run, rows: list[int]) -> None:
    """Removes all other images from a run."""
    write_table(read_table(run / "assignments.parquet").take(rows), run.folder, "assignments")
    write_embeddings(run / "embeddings.npy", np.array(np.load(run / "embeddings.npy")[rows]))


@pytest.fixture
def copied(run: Run, tmp_path: Path) -> Callable[[str], Run]:
    """`copied(name)`: a copy of `run` that is called a prediction by it."""

    def make(name: str) -> Run:
        copy = Run(shutil.copytree(run.folder, tmp_path / name))
        change_config(copy, predicted_with=str(run.folder.resolve()))
        return copy

    return make


def test_an_epoch_that_labels_chose_is_said_and_kept(run: Run) -> None:
    (run / "selection.json").write_text(json.dumps(CHOSEN))
    found = evaluate_run(run, EvaluationOptions(only=("labels",), resamples=10))
    text = "\n".join(evaluation_lines(found))
    assert "LABELS CHOSE epoch 3 of 4" in text and "Labels chose nothing" not in text
    assert read(run)["selection"] == {"epoch": CHOSEN, "labels_chose_epoch": True, "known_labels": None}
    (run / "selection.json").unlink()
    change_config(run, select="oracle_acc")
    assert "LABELS CHOSE" in evaluation_lines(evaluate_run(run, EvaluationOptions(only=("labels",), resamples=10)))[-1]


def test_labels_that_were_given_to_the_training_are_said_and_kept(run: Run) -> None:
    change_config(run, known_labels={"images": 6, "names": ["disc", "stripes"]})
    found = evaluate_run(run, EvaluationOptions(only=("labels",), resamples=10))
    assert "given the labels of 6 images" in evaluation_lines(found)[-1]
    assert read(run)["selection"]["known_labels"] == 6


def test_labels_chose_nothing_where_they_did_not(run: Run) -> None:
    (run / "selection.json").write_text(json.dumps({**CHOSEN, "by": "min_loss", "used_labels": False}))
    found = evaluate_run(run, EvaluationOptions(only=("labels",), resamples=10))
    assert evaluation_lines(found)[-1] == "Labels chose nothing here."
    assert found["selection"]["labels_chose_epoch"] is False


@pytest.mark.parametrize("images", [60, 40])
def test_a_prediction_of_another_array_is_held_out_though_its_positions_are_the_same(
    run: Run, copied: Callable[[str], Run], images: int
) -> None:
    like_array(run, "a" * 32)
    other = copied("p")
    cut(other, list(range(images)))
    like_array(other, "b" * 32)
    watch = Listening()
    found = evaluate_run(run, EvaluationOptions(only=("labels",), test=other.folder, resamples=10), watch=watch)
    parts = found["protocols"]["labels"]["parts"]
    assert watch.said == [] and parts["test"]["images"] == images
    assert [parts[name]["unseen"] for name in ("train", "test", "train+test")] == [False, True, False]


def test_a_prediction_of_the_array_of_the_run_is_refused(run: Run, copied: Callable[[str], Run]) -> None:
    like_array(run, "a" * 32)
    with pytest.raises(ValueError, match="has the same images as"):
        evaluate_run(run, EvaluationOptions(only=("labels",), test=copied("p").folder))


def test_runs_of_two_arrays_are_not_compared_by_their_positions(run: Run, tmp_path: Path) -> None:
    other = Run(shutil.copytree(run.folder, tmp_path / "other"))
    like_array(run, "a" * 32)
    like_array(other, "b" * 32)
    options = EvaluationOptions(only=("label-free",), against=(other.folder,), resamples=10)
    with pytest.raises(ValueError, match="only positions, and their sources differ"):
        evaluate_run(run, options)
    like_array(other, "a" * 32)
    assert evaluate_run(run, options)["protocols"]["label-free"]["runs"][0]["ari"] == 1


@pytest.mark.parametrize("rows", [[0], [0, 59], [0, 1, 2]])
def test_a_protocol_that_cannot_be_done_ends_no_other(call: Command, run: Run, rows: list[int]) -> None:
    cut(run, rows)
    change_config(run, n_clusters=4)
    outcome = call(run, *FAST)
    assert outcome.code == 0, outcome.err
    found = read(run)["protocols"]
    assert list(found) == ["labels", "knn", "probe", "retrieval", "opinions", "label-free"]
    assert "4 clusters need at least 4 images" in found["opinions"]["left_out"]
    assert "opinions is left out: 4 clusters" in outcome.err and "opinions is left out: 4 clusters" in outcome.out
    assert found["labels"]["parts"]["train"]["images"] == len(rows)
    assert "left_out" not in found["label-free"]
    refused = call(run, *FAST, "--only", "opinions")
    assert refused.code == 2 and "4 clusters need at least 4 images" in refused.err


def test_queries_without_partners_cost_the_scores_and_not_the_picture(call: Command, run: Run) -> None:
    cut(run, [0, 59])
    outcome = call(run, *FAST, "--only", "retrieval")
    assert outcome.code == 0, outcome.err
    found = read(run)["protocols"]["retrieval"]
    assert "No query has another image with its label" in found["no_scores"] and found["picture"] == "retrieval.png"


def test_the_part_that_has_labels_is_scored_where_the_other_has_none(run: Run, copied: Callable[[str], Run]) -> None:
    test = copied("p")
    change_config(test, source=test.config.source.replace(fingerprint="b" * 32))
    change(test, "id", [f"new/{row}.png" for row in range(60)])
    change(test, "path", [""] * 60)
    change(run, "label", [None] * 60)
    found = evaluate_run(run, EvaluationOptions(test=test.folder, resamples=10))["protocols"]
    assert list(found["labels"]["parts"]) == ["test"] and found["labels"]["parts"]["test"]["images"] == 60
    assert found["labels"]["labels"] == {"run": None, "test": "recorded"}
    assert found["labels"]["parts_without_labels"] == ["train"]
    assert "None of the train images has a label" in found["knn"]["left_out"]
    assert found["retrieval"]["no_scores"] == "no labels" and found["retrieval"]["gallery"] == 60
    options = EvaluationOptions(only=("labels",), test=test.folder, test_labels="folders", resamples=10)
    given = evaluate_run(run, options)
    assert given["protocols"]["labels"]["labels"] == {"run": None, "test": "folders"}


def test_a_random_split_says_its_part_and_that_the_network_knows_its_images(run: Run) -> None:
    found = evaluate_run(run, EvaluationOptions(only=("knn",), held_out=0.3, resamples=10))["protocols"]["knn"]
    assert found["split"] == {"name": "random 30 %", "kind": "random", "source": None, "held_out": 0.3}
    assert found["unseen"] is False and found["labels"] == {"run": "recorded"}


@pytest.mark.parametrize("said", ["{", "[]", "{}", '{"by": "oracle_acc"}', "\x00"])
def test_a_damaged_selection_is_a_sentence(call: Command, run: Run, said: str) -> None:
    (run / "selection.json").write_text(said)
    outcome = call(run, *FAST, "--only", "labels")
    assert outcome.code == 2 and "selection.json'" in outcome.err and "Traceback" not in outcome.err
    with pytest.raises(ValueError, match="selection.json"):
        score_run(run)


@pytest.mark.parametrize("size", [0, 60, 200, 1000])
def test_truncated_embeddings_are_a_sentence(call: Command, run: Run, size: int) -> None:
    data = (run / "embeddings.npy").read_bytes()
    (run / "embeddings.npy").write_bytes(data[:size])
    outcome = call(run, *FAST, "--only", "labels")
    assert outcome.code == 2 and "embeddings.npy'" in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize("said", ["{", "[]", "null", '{"format": 2, "protocols": 3}', "\udcff"])
def test_a_damaged_evaluation_is_made_anew_and_said(call: Command, run: Run, said: str) -> None:
    (run / "evaluation.json").write_bytes(said.encode("utf-8", "surrogateescape"))
    outcome = call(run, *FAST, "--only", "labels")
    assert outcome.code == 0 and list(read(run)["protocols"]) == ["labels"]
    assert "evaluation.json' is damaged or was not written by ilk" in outcome.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predicted_with": 3}, "predicted_with must be text; got 3"),
        ({"known_labels": {"names": ["a"], "images": "x"}}, "known_labels.images must be a whole number; got 'x'"),
    ],
)
def test_damaged_settings_are_a_sentence(call: Command, run: Run, changes: dict[str, Any], message: str) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, **changes}))
    outcome = call(run, *FAST, "--only", "labels,label-free")
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


def test_a_prediction_whose_model_is_gone_loses_only_the_views(call: Command, run: Run, tmp_path: Path) -> None:
    change_config(run, predicted_with=str(tmp_path / "gone"))
    outcome = call(run, *FAST, "--only", "label-free,labels")
    assert outcome.code == 0, outcome.err
    found = read(run)["protocols"]
    assert "There is no run folder" in found["label-free"]["views"]["left_out"]
    assert found["labels"]["parts"]["test"]["unseen"] is True


def test_the_digits_and_a_python_file_are_opened_again_for_runs_that_have_no_paths(
    call: Command, run: Run, photos: Path, tmp_path: Path
) -> None:
    from ilk import load_images

    like_array(run, "a" * 32)
    images = load_images(photos, image_size=run.config.images.size, channels=3)
    np.save(tmp_path / "x.npy", images[:].numpy().transpose(0, 2, 3, 1))
    (tmp_path / "sets.py").write_text(
        "import numpy as np\nfrom types import SimpleNamespace\n"
        f"def load(name):\n    x = np.load({str(tmp_path / 'x.npy')!r})\n"
        "    return SimpleNamespace(images=x, labels=np.arange(len(x)) % 2)\n"
    )
    outcome = call(run, *FAST, "--only", "label-free", "--images", f"{tmp_path / 'sets.py'}:photos")
    assert outcome.code == 0, outcome.err
    views = read(run)["protocols"]["label-free"]["views"]
    assert views["images"] == 20 and views["reproduced"] == 1
    assert len(ilk.cli.evaluate.source_of("digits")) == 1797
    assert ilk.cli.evaluate.source_of(str(photos)) == str(photos)
    wrong = call(run, *FAST, "--only", "label-free", "--images", "digits")
    assert "has 1,797 images, not its 60" in wrong.err
