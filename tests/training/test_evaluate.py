"""Scores of a finished run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

from ilk.evaluation import score_run
from ilk.runs.folder import Run
from ilk.runs.tables import assignments_table, read_table, write_table


def set_table(run: Run, clusters: list[int], labels: list[str | None] | None, ids: list[str] | None = None) -> None:
    """Replaces the assignments of a run."""
    n = len(clusters)
    ids = ids or [f"{i}.png" for i in range(n)]
    half = np.full(n, 0.75, dtype=np.float32)
    paths = [f"/p/{name}" for name in ids]
    write_table(
        assignments_table(ids, paths, np.array(clusters), half, np.zeros(n, int), half, labels),
        run.folder,
        "assignments",
    )


def test_scores_by_hand(run: Run) -> None:
    """Cluster 0 holds three cats and a dog, cluster 1 two dogs: five of six are right."""
    set_table(run, [0, 0, 0, 0, 1, 1], ["cat", "cat", "cat", "dog", "dog", "dog"])
    found = score_run(run)
    assert (found["images"], found["n_clusters"], found["clusters_used"]) == (6, 2, 2)
    assert found["mean_confidence"] == pytest.approx(0.75)
    p = np.array([4, 2]) / 6
    assert found["effective_clusters"] == pytest.approx(float(np.exp(-(p * np.log(p)).sum())))
    against = found["labels"]
    assert against["accuracy"] == pytest.approx(5 / 6)
    assert against["purity"] == pytest.approx(5 / 6)
    assert (against["classes"], against["images"], against["unlabelled"]) == (2, 6, 0)


def test_scores_equal_those_of_scikit_learn(run: Run) -> None:
    random = np.random.default_rng(0)
    clusters, labels = random.integers(0, 2, 50), random.integers(0, 4, 50)
    labels[clusters == 1] = np.minimum(labels[clusters == 1], 1)
    set_table(run, clusters.tolist(), [f"kind {label}" for label in labels])
    found = score_run(run)["labels"]
    assert found["nmi_arithmetic"] == pytest.approx(metrics.normalized_mutual_info_score(labels, clusters))
    geometric = metrics.normalized_mutual_info_score(labels, clusters, average_method="geometric")
    assert found["nmi_geometric"] == pytest.approx(geometric)
    assert found["ari"] == pytest.approx(metrics.adjusted_rand_score(labels, clusters))
    assert found["classes"] == 4


def test_images_without_a_label_are_left_out_and_counted(run: Run) -> None:
    set_table(run, [0, 0, 1, 1, 1, 0], ["a", "a", "b", "b", None, None])
    found = score_run(run)
    assert found["images"] == 6
    assert found["labels"]["images"] == 4 and found["labels"]["unlabelled"] == 2
    assert found["labels"]["accuracy"] == found["labels"]["ari"] == 1


def test_without_labels_the_other_scores_are_given(run: Run) -> None:
    set_table(run, [0, 1, 0], None)
    found = score_run(run)
    assert found["labels"] is None
    assert found["effective_clusters"] > 1.8


def test_the_scores_are_written_to_the_run(run: Run) -> None:
    (run / "scores.json").unlink()
    found = score_run(run)
    assert json.loads((run / "scores.json").read_text()) == found
    assert found["labels"]["images"] == 60


def test_scoring_changes_nothing_but_the_scores(run: Run) -> None:
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    score_run(run, "none")
    after = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    assert after.keys() == before.keys()
    assert [file.name for file in after if after[file] != before[file]] == ["scores.json"]


def test_folder_names_give_the_labels_that_were_recorded(run: Run) -> None:
    assert score_run(run, "folders") == score_run(run)


def test_none_scores_without_the_recorded_labels(run: Run) -> None:
    assert score_run(run, "none")["labels"] is None


def test_images_outside_all_folders_have_no_folder_label(run: Run) -> None:
    set_table(run, [0, 1, 0], None, ["cat/1.png", "dog/2.png", "3.png"])
    assert score_run(run, "folders")["labels"]["unlabelled"] == 1


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_may_come_from_a_table_in_any_order(run: Run, tmp_path: Path, kind: str) -> None:
    names = read_table(run / "assignments.parquet")["id"].to_pylist()
    rows = [(name, name.split("/")[0]) for name in reversed(names)][:50]
    file = tmp_path / f"labels.{kind}"
    if kind == "csv":
        with open(file, "w", newline="") as stream:
            csv.writer(stream).writerows([("id", "label"), *rows])
    else:
        pq.write_table(pa.table({"id": [row[0] for row in rows], "label": [row[1] for row in rows]}), file)
    found = score_run(run, file)
    assert (found["labels"]["images"], found["labels"]["unlabelled"]) == (50, 10)
    table = read_table(run / "assignments.parquet")
    expected = metrics.adjusted_rand_score(
        [name.split("/")[0] for name in names[10:]], table["cluster"].to_numpy()[10:]
    )
    assert found["labels"]["ari"] == pytest.approx(expected)


def test_a_table_of_labels_for_other_images_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\nother.png,cat\n")
    with pytest.raises(ValueError, match="no row.*labels.csv'"):
        score_run(run, tmp_path / "labels.csv")


def test_labels_that_are_all_empty_are_refused(run: Run, tmp_path: Path) -> None:
    name = read_table(run / "assignments.parquet")["id"][0].as_py()
    (tmp_path / "labels.csv").write_text(f"id,label\n{name},\n")
    with pytest.raises(ValueError, match="None.*label"):
        score_run(run, tmp_path / "labels.csv")


def test_images_without_folders_cannot_be_scored_by_folder(run: Run) -> None:
    set_table(run, [0, 1], None)
    with pytest.raises(ValueError, match="none of the 2"):
        score_run(run, "folders")


@pytest.mark.parametrize(("name", "hint"), [("folder", "'folders'"), ("my.csv", "CSV or Parquet file")])
def test_a_file_of_labels_that_is_not_there_is_named(run: Run, name: str, hint: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"no file of labels '{name}'.*{hint}"):
        score_run(run, name)


def test_a_failed_scoring_keeps_the_old_scores(run: Run, tmp_path: Path) -> None:
    before = (run / "scores.json").read_bytes()
    with pytest.raises(FileNotFoundError):
        score_run(run, tmp_path / "missing.csv")
    assert (run / "scores.json").read_bytes() == before


@pytest.mark.parametrize("missing", ["assignments.parquet", "config.json"])
def test_a_run_that_has_not_finished_cannot_be_scored(run: Run, missing: str) -> None:
    (run / missing).unlink()
    with pytest.raises(FileNotFoundError, match="--resume|config.json"):
        score_run(run)


def test_more_classes_than_clusters_can_be_scored(run: Run, tmp_path: Path) -> None:
    set_table(run, [0, 0, 1, 1, 0, 1], ["a", "b", "c", "d", "a", "c"])
    found: dict[str, Any] = score_run(run)["labels"]
    assert found["accuracy"] == pytest.approx(4 / 6)
