"""The tables: columns, order, and what would make them lies."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ilk.images.collection import BadFile
from ilk.runs.tables import (
    COLUMNS,
    EXAMPLES,
    assignments_table,
    read_table,
    summarise,
    write_bad_files,
    write_clusters,
    write_csv,
    write_embeddings,
    write_table,
)

ODD = ["a,b", 'say "hi"', "two\nlines", "carriage\rreturn", "größe/日本.png", " spaces ", "=1+1", "'", ""]


def columns(n: int = 3, **changes: Any) -> dict[str, Any]:
    return {
        "ids": [f"{i}.png" for i in range(n)],
        "paths": [f"/p/{i}.png" for i in range(n)],
        "cluster": np.arange(n) % 2,
        "confidence": np.linspace(0.5, 1.0, n, dtype=np.float32),
        "second": (np.arange(n) + 1) % 2,
        "margin": np.linspace(0.0, 0.5, n, dtype=np.float32),
        "labels": None,
        **changes,
    }


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def test_the_table_has_the_promised_columns_and_the_order_of_the_source() -> None:
    table = assignments_table(**columns(4, ids=["z", "a", "m", "b"], labels=["cat", None, "dog", "cat"]))
    assert tuple(table.column_names) == COLUMNS
    assert table["id"].to_pylist() == ["z", "a", "m", "b"]
    assert table["cluster"].to_pylist() == [0, 1, 0, 1]
    assert table["second_cluster"].to_pylist() == [1, 0, 1, 0]
    assert table["label"].to_pylist() == ["cat", None, "dog", "cat"]
    assert [str(kind) for kind in table.schema.types] == [
        "string", "string", "int32", "float", "int32", "float", "string"
    ]  # fmt: skip


def test_without_labels_the_column_is_there_and_empty() -> None:
    assert assignments_table(**columns())["label"].null_count == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ids": ["a", "b", "a"]}, "not unique"),
        ({"ids": ["\udcff", "b", "\\udcff"]}, "not unique"),  # two names that are one when they are written
        ({"paths": ["/p/0.png"]}, "different lengths"),
        ({"cluster": np.zeros(2, dtype=int)}, "different lengths"),
        ({"labels": ["cat"]}, "1 labels.*3 images"),
        ({"confidence": np.array([0.5, np.nan, 0.5])}, "not probabilities"),
        ({"confidence": np.array([0.5, 1.5, 0.5])}, "not probabilities"),
        ({"confidence": np.array([0.5, -0.1, 0.5])}, "not probabilities"),
        ({"margin": np.array([0.5, np.inf, 0.5])}, "not probabilities"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        assignments_table(**columns(**changes))


def test_no_images_make_an_empty_table(tmp_path: Path) -> None:
    write_table(assignments_table(**columns(0)), tmp_path, "assignments")
    assert read_table(tmp_path / "assignments.parquet").num_rows == 0


def test_odd_ids_survive_csv_and_parquet(tmp_path: Path) -> None:
    table = assignments_table(**columns(len(ODD), ids=ODD, paths=ODD, labels=[*ODD[:-1], None]))
    write_table(table, tmp_path, "assignments")
    assert read_table(tmp_path / "assignments.parquet")["id"].to_pylist() == ODD
    rows = rows_of(tmp_path / "assignments.csv")
    assert [row["id"] for row in rows] == [row["path"] for row in rows] == [row["label"] for row in rows] == ODD
    assert [int(row["cluster"]) for row in rows] == table["cluster"].to_pylist()
    assert [float(row["margin"]) for row in rows] == pytest.approx(table["margin"].to_pylist(), rel=1e-5)


@pytest.mark.parametrize("name", ["caf\udce9.png", "lone\ud800.png"])
def test_names_that_are_no_unicode_are_written_as_escapes(tmp_path: Path, name: str) -> None:
    shown = name.encode("utf-8", "backslashreplace").decode()
    write_table(assignments_table(**columns(1, ids=[name], paths=[name], labels=[name])), tmp_path, "t")
    assert pq.read_table(tmp_path / "t.parquet")["id"].to_pylist() == [shown]
    assert rows_of(tmp_path / "t.csv")[0]["label"] == shown


def test_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    table = assignments_table(**columns(5, labels=["x", None, "y", "x", ""]))
    write_table(table, tmp_path, "t")
    for row, whole in zip(rows_of(tmp_path / "t.csv"), pq.read_table(tmp_path / "t.parquet").to_pylist(), strict=True):
        assert row["id"] == whole["id"]
        assert int(row["cluster"]) == whole["cluster"]
        assert float(row["confidence"]) == pytest.approx(whole["confidence"], abs=1e-6)
        assert row["label"] == (whole["label"] or "")


def test_numbers_in_csv_have_six_digits_and_none_is_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["x", "y", "z"], [[1 / 3, None, 7]])
    assert (tmp_path / "a.csv").read_text() == "x,y,z\n0.333333,,7\n"


def test_a_csv_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["x"], [[1]])

    def rows() -> Any:
        yield [2]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_csv(tmp_path / "a.csv", ["x"], rows())
    assert (tmp_path / "a.csv").read_text() == "x\n1\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_table_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"assignments.parquet.*--resume"):
        read_table(tmp_path / "assignments.parquet")


def test_a_damaged_or_foreign_table_is_named(tmp_path: Path) -> None:
    file = tmp_path / "assignments.parquet"
    file.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="assignments.parquet'.*Parquet"):
        read_table(file)
    pq.write_table(assignments_table(**columns()).drop_columns(["margin", "label"]), file)
    with pytest.raises(ValueError, match="columns margin, label"):
        read_table(file)


EMBEDDING = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [0, 1], [-1, 0]], dtype=np.float16)
CLUSTER = np.array([0, 0, 0, 2, 2, 2])
CONFIDENCE = np.array([0.9, 0.9, 0.9, 0.5, 1.0, 0.9], dtype=np.float32)
MARGIN = np.array([0.3, 0.1, 0.2, 0.4, 0.6, 0.5], dtype=np.float32)


def test_typical_and_uncertain_images_are_those_one_finds_by_hand() -> None:
    """Cluster 0 has its mean along (0.8, 0.467): image 1 is nearest (0.92), then 2 (0.85), then 0 (0.8)."""
    first, empty, last = summarise(CLUSTER, CONFIDENCE, MARGIN, EMBEDDING, 3)
    assert first.rows.tolist() == [1, 2, 0]
    assert first.uncertain.tolist() == [1, 2, 0]
    assert first.confidence == pytest.approx(0.9)
    assert last.rows.tolist() == [4, 3, 5]  # the mean is along (-1/3, 2/3): 4 is as near as 3 and twice as sure
    assert last.uncertain.tolist() == [3, 5, 4]
    assert last.confidence == pytest.approx(0.8)
    assert (empty.size, empty.rows.tolist(), np.isnan(empty.confidence)) == (0, [], True)


def test_sizes_add_up_to_n() -> None:
    found = summarise(CLUSTER, CONFIDENCE, MARGIN, EMBEDDING, 4)
    assert [one.size for one in found] == [3, 0, 3, 0]
    assert [one.number for one in found] == [0, 1, 2, 3]


@pytest.mark.parametrize("wrong", [-1, 2, 99])
def test_a_cluster_that_does_not_exist_is_refused(wrong: int) -> None:
    cluster = np.array([0, 1, 0, 1, 0, wrong])
    with pytest.raises(ValueError, match="do not add up"):
        summarise(cluster, CONFIDENCE, MARGIN, EMBEDDING, 2)


def test_clusters_csv_lists_every_cluster_the_empty_ones_too(tmp_path: Path) -> None:
    ids = ["a,1", "b", "c", "d", "e", "f"]
    write_clusters(tmp_path / "clusters.csv", summarise(CLUSTER, CONFIDENCE, MARGIN, EMBEDDING, 3), ids)
    rows = rows_of(tmp_path / "clusters.csv")
    assert [row["cluster"] for row in rows] == ["0", "1", "2"]
    assert sum(int(row["size"]) for row in rows) == 6
    assert [row["mean_confidence"] for row in rows] == ["0.9", "", "0.8"]
    assert [rows[0][f"typical_{i}"] for i in (1, 2, 3, 4)] == ["b", "c", "a,1", ""]
    assert [rows[2][f"uncertain_{i}"] for i in (1, 2, 3)] == ["d", "f", "e"]
    assert set(rows[1].values()) == {"1", "0", ""}
    assert len(rows[0]) == 3 + 2 * EXAMPLES


def test_bad_files_are_listed_with_their_reasons(tmp_path: Path) -> None:
    write_bad_files(tmp_path / "bad.csv", [BadFile("a.jpg", "/p/a.jpg", "is empty, 0 bytes")])
    assert rows_of(tmp_path / "bad.csv") == [{"id": "a.jpg", "path": "/p/a.jpg", "reason": "is empty, 0 bytes"}]
    write_bad_files(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "id,path,reason\n"


def test_embeddings_are_float16_in_the_order_of_the_rows(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "embeddings.npy", EMBEDDING.astype(np.float32))
    stored = np.load(tmp_path / "embeddings.npy", allow_pickle=False)
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored, EMBEDDING)
