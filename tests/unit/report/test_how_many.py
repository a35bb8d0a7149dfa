"""How many clusters, in the report: the levels are those of the files, hostile files cost a sentence, and it works."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ilk.reports.how_many import MOST_LEVELS, TYPICAL
from ilk.reports.payload import collect
from ilk.runs.tables import write_csv
from made_trees import CURVE, SENTENCE, curve_rows, nested_levels, set_number, tree_table, with_number

Written = Callable[..., Path]


def decode(levels: dict[str, Any], k: int) -> np.ndarray:
    """The cluster of each image shown when there are k, in the slowest way there is."""
    places = np.frombuffer(base64.b64decode(levels["leaf"]), dtype=levels["dtype"])
    starts = levels["start"][:k]
    return np.array([starts.index(max(start for start in starts if start <= place)) for place in places])


def size_of(levels: dict[str, Any], number: int, k: int) -> int:
    """All images of a cluster when there are k."""
    start, rest = levels["start"][number], sorted(levels["start"][:k])
    end = next((one for one in rest if one > start), len(levels["start"]))
    return sum(levels["sizes"][start:end])


def ids_of(folder: Path) -> list[str]:
    return pq.read_table(folder / "assignments.parquet", columns=["id"])["id"].to_pylist()


def notes_on(payload: dict[str, Any], name: str) -> int:
    return sum(name in note for note in payload["made"]["notes"])


def test_every_level_of_the_file_is_in_the_payload(run_folder: Path) -> None:
    levels = with_number(run_folder, most=14)
    found = collect(run_folder)["how_many"]["levels"]
    assert len(found["start"]) == 14 and found["dtype"] == "uint8"
    for k in range(1, 15):
        assert decode(found, k).tolist() == levels[k - 1].tolist()
        assert [size_of(found, number, k) for number in range(k)] == np.bincount(levels[k - 1]).tolist()


def test_the_choice_and_the_curve_reach_the_page(run_folder: Path) -> None:
    with_number(run_folder, most=12, chosen=6)
    found = collect(run_folder)["how_many"]
    choice = {key: found[key] for key in ("asked", "chosen", "range", "sure", "sentence")}
    assert choice == {"asked": "auto", "chosen": 6, "range": [5, 8], "sure": "medium", "sentence": SENTENCE}
    rows = curve_rows(12, 6)
    for column, name in ((0, "k"), (1, "score"), (2, "error")):
        assert found["curve"][name] == pytest.approx([row[column] for row in rows], abs=1e-4)
    assert list(found["curve"]["criteria"]) == ["stability", "neighbours", "generalisation", "silhouette"]
    assert found["curve"]["criteria"]["silhouette"] == pytest.approx([row[6] for row in rows], abs=1e-4)


def test_views_are_a_criterion_where_there_were_any(run_folder: Path) -> None:
    with_number(run_folder, views=True)
    assert "views" in collect(run_folder)["how_many"]["curve"]["criteria"]


def test_typical_images_are_nearest_to_the_mean_of_their_finest_cluster(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", n=200)
    levels = with_number(folder, most=5)
    found = collect(folder)["how_many"]["levels"]
    embedding = np.load(folder / "embeddings.npy").astype(np.float32)
    for number in range(5):
        rows = np.flatnonzero(levels[-1] == number)
        unit = embedding[rows] / np.linalg.norm(embedding[rows], axis=1, keepdims=True)
        best = rows[np.argsort(-unit @ embedding[rows].mean(0), kind="stable")][:TYPICAL]
        assert found["typical"][found["start"][number]] == best.tolist()


def test_a_sample_keeps_the_sizes_of_all_images_and_takes_examples_with_pictures(
    tmp_path: Path, written_run: Written
) -> None:
    folder = written_run(tmp_path / "run", n=900, pictures=False)
    levels = with_number(folder, most=8)
    payload = collect(folder, 200)
    found, rows = payload["how_many"]["levels"], payload["images"]["row"]
    assert len(rows) == 200 and sum(found["sizes"]) == 900
    assert decode(found, 8).tolist() == levels[-1][rows].tolist()
    for place, typical in enumerate(found["typical"]):
        assert typical and all(np.array(found["start"])[levels[-1][rows[one]]] == place for one in typical)


def test_a_tree_of_more_than_256_clusters_takes_two_bytes_an_image(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", n=1500, pictures=False)
    levels = with_number(folder, most=300)
    found = collect(folder)["how_many"]["levels"]
    assert found["dtype"] == "uint16" and decode(found, 300).tolist() == levels[-1].tolist()


def test_ten_thousand_images_in_240_levels_cost_less_than_50_kilobytes(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", n=10_000, pictures=False, labels=False, moments=False)
    with_number(folder, most=240, views=True)
    found = collect(folder)["how_many"]
    assert len(found["levels"]["start"]) == 240
    assert len(json.dumps(found, separators=(",", ":"))) < 50_000


def test_the_files_of_a_real_tree_are_read(tmp_path: Path, written_run: Written) -> None:
    from ilk.analysis.hierarchy import grow_tree, table

    folder = written_run(tmp_path / "run", n=300, k=6)
    grown = grow_tree(np.load(folder / "embeddings.npy").astype(np.float32), k_high=12)
    curve = grown.rows()
    write_csv(folder / "k_curve.csv", list(curve[0]), (row.values() for row in curve))
    pq.write_table(table(grown, ids_of(folder)), folder / "hierarchy.parquet")
    set_number(folder, chosen=grown.chosen, range=list(grown.range), sure=grown.sure, sentence=grown.sentence)
    payload = collect(folder)
    found = payload["how_many"]
    assert notes_on(payload, "clusters") == 0 and found["sentence"] == grown.sentence
    assert set(CURVE) <= set(curve[0])  # more columns do no harm
    assert found["curve"]["score"] == pytest.approx([level.score for level in grown.curve], abs=1e-5)
    for k in range(2, 13):
        assert decode(found["levels"], k).tolist() == grown.levels(k).tolist()


# Files that are not there, or not as they should be.


def test_a_run_with_neither_file_has_no_such_part_and_no_note(run_folder: Path) -> None:
    before = collect(run_folder)
    assert before["how_many"] is None
    set_number(run_folder)
    after = collect(run_folder)
    assert after["how_many"] is None and after["made"]["notes"] == before["made"]["notes"]


@pytest.mark.parametrize("missing", ["k_curve.csv", "hierarchy.parquet"])
def test_one_file_without_the_other_is_shown_alone(run_folder: Path, missing: str) -> None:
    with_number(run_folder)
    (run_folder / missing).unlink()
    payload = collect(run_folder)
    found = payload["how_many"]
    assert (found["curve"] is None, found["levels"] is None) == (missing == "k_curve.csv", missing != "k_curve.csv")
    assert found["chosen"] == 6 and notes_on(payload, missing) == 0


def test_a_run_that_is_not_finished_shows_the_curve(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", finished=False)
    write_csv(folder / "k_curve.csv", CURVE, curve_rows(12, 6))
    found = collect(folder)["how_many"]
    assert found["levels"] is None and found["chosen"] == 6 and found["curve"]["k"] == list(range(2, 13))


@pytest.mark.parametrize(
    "choice",
    [7, [], {"chosen": 6}, {"range": [8, 5]}, {"range": 5}, {"sure": "very"}, {"chosen": True}, {"chosen": 10**9},
     {"sentence": 5}, {"sentence": "x" * 10**5}, {"range": [5, 8, 9]}, {"sure": []}],
)  # fmt: skip
def test_a_choice_that_makes_no_sense_costs_a_note_and_the_curve_stays(run_folder: Path, choice: Any) -> None:
    with_number(run_folder)
    config = json.loads((run_folder / "config.json").read_text())
    changed = isinstance(choice, dict) and len(choice) == 1 and choice != {"chosen": 6}
    config["number"] = {**config["number"], **choice} if changed else choice
    (run_folder / "config.json").write_text(json.dumps(config))
    payload = collect(run_folder)
    assert notes_on(payload, "config.json") == 1
    assert payload["how_many"]["sentence"] is None and payload["how_many"]["chosen"] == 6  # the curve says so


def bad_curve(change: Callable[[list[list[Any]]], Any]) -> str:
    rows = curve_rows(5, 3)
    change(rows)
    return "\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in [CURVE, *rows]) + "\n"


@pytest.mark.parametrize(
    "text",
    ["", "k,score\n2,1\n", '"\x00"\n"x', bad_curve(lambda rows: rows.reverse()), bad_curve(lambda rows: rows.clear()),
     bad_curve(lambda rows: rows[0].__setitem__(1, "nan")), bad_curve(lambda rows: rows[0].__setitem__(2, -1)),
     bad_curve(lambda rows: rows[0].__setitem__(3, "1e400")), bad_curve(lambda rows: rows[0].__setitem__(8, True)),
     bad_curve(lambda rows: rows[-1].__setitem__(0, MOST_LEVELS + 1)), "k,score\n" + "2,1\n" * 400_000],
)  # fmt: skip
def test_a_damaged_curve_costs_a_note_and_the_levels_stay(run_folder: Path, text: str) -> None:
    with_number(run_folder)
    (run_folder / "k_curve.csv").write_text(text)
    payload = collect(run_folder)
    assert notes_on(payload, "k_curve.csv") == 1
    assert payload["how_many"]["curve"] is None and payload["how_many"]["levels"] is not None
    assert len(payload["images"]["id"]) == 60


def changed_column(name: str, make: Callable[[np.ndarray], Any]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(name)
        return table.set_column(place, name, make(table[name].to_numpy(zero_copy_only=False)))

    return change


def from_two_parents(values: np.ndarray) -> Any:
    """The new part takes an image from each other cluster too."""
    values = values.copy()
    values[[np.flatnonzero(values == number)[0] for number in range(3)]] = 3
    return pa.array(values, pa.int32())


def renumbered(values: np.ndarray) -> Any:
    return pa.array(np.where(values == 3, 40, values), pa.int32())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed_column("k4", renumbered), "not nested"),
        (changed_column("k4", from_two_parents), "not nested (k4)"),
        (changed_column("k4", lambda v: pa.array(v[::-1], pa.int32())), "not nested"),
        (changed_column("k4", lambda v: pa.array(v - 1, pa.int32())), "not nested"),
        (changed_column("k4", lambda v: pa.array(v.astype(str))), "column k4"),
        (changed_column("k4", lambda v: pa.array([None, *v[1:].tolist()], pa.int32())), "column k4"),
        (changed_column("id", lambda v: pa.array(v[::-1].tolist())), "other images"),
        (changed_column("id", lambda v: pa.array(range(len(v)))), "cannot be read"),
        (lambda table: table.slice(1), "59 rows"),
        (lambda table: table.drop_columns(["k3"]), "has not the columns"),
        (lambda table: table.append_column("k2", table["k2"]), "has not the columns"),
        (lambda table: table.select(["id", "fine"]), "has not the columns"),
    ],
)  # fmt: skip
def test_levels_of_another_shape_cost_a_note_and_the_curve_stays(
    run_folder: Path, change: Callable[[pa.Table], pa.Table], words: str
) -> None:
    levels = with_number(run_folder)
    pq.write_table(change(tree_table(levels, ids_of(run_folder))), run_folder / "hierarchy.parquet")
    payload = collect(run_folder)
    assert [words in note for note in payload["made"]["notes"] if "hierarchy.parquet" in note] == [True]
    assert payload["how_many"]["levels"] is None and payload["how_many"]["curve"] is not None


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\xff" * 200 + b"PAR1", b"{}"])
def test_a_file_of_levels_that_is_none_costs_a_note(run_folder: Path, data: bytes) -> None:
    with_number(run_folder)
    (run_folder / "hierarchy.parquet").write_bytes(data)
    payload = collect(run_folder)
    assert notes_on(payload, "hierarchy.parquet") == 1 and payload["how_many"]["levels"] is None


def test_a_file_that_promises_more_than_it_holds_is_refused(run_folder: Path) -> None:
    with_number(run_folder)
    n = 3_000_000
    flat = {f"k{k}": pa.array(np.zeros(n, dtype=np.int32)) for k in (2, 3)}
    table = pa.table({"id": pa.array([""]).take(pa.array(np.zeros(n, dtype=np.int64))), "fine": flat["k2"], **flat})
    pq.write_table(table, run_folder / "hierarchy.parquet", compression="zstd")
    payload = collect(run_folder)
    assert [note for note in payload["made"]["notes"] if "says that it holds 3,000,000 rows" in note]
    assert payload["how_many"]["levels"] is None


def test_a_cluster_that_no_image_is_nearest_to_breaks_nothing(run_folder: Path) -> None:
    with_number(run_folder)
    levels = nested_levels(60, 6)
    levels[3:] = levels[2]  # the cuts to 4, 5 and 6 clusters part nothing
    pq.write_table(tree_table(levels, ids_of(run_folder)), run_folder / "hierarchy.parquet")
    found = collect(run_folder)["how_many"]["levels"]
    assert decode(found, 6).tolist() == levels[-1].tolist()
    assert [size_of(found, number, 6) for number in range(6)] == np.bincount(levels[-1], minlength=6).tolist()
