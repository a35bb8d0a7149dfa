"""Duplicates and odd images in the report: read from the run's tables, shown where there are any, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ilk.analysis.duplicates import DuplicateGroup, Flag
from ilk.reports.odd import FLAGS, GROUPS, read_odd
from ilk.reports.payload import collect
from ilk.reports.sprites import MOST
from ilk.runs.tables import write_duplicates, write_flags

Written = Callable[..., Path]


def group(*rows: int, near: tuple[int, ...] = ()) -> DuplicateGroup:
    exact = np.array([row not in near for row in rows])
    return DuplicateGroup(np.array(rows), exact, np.where(exact, 1, 0.96).astype(np.float32))


def with_tables(folder: Path, groups: list[DuplicateGroup], flags: list[Flag], n: int = 60) -> Path:
    ids = [f"{i:06d}.jpg" for i in range(n)]
    write_duplicates(folder / "duplicates.csv", groups, ids)
    write_flags(folder / "flags.csv", flags, ids)
    return folder


def test_the_tables_reach_the_page(run_folder: Path) -> None:
    with_tables(run_folder, [group(3, 8, 20, near=(20,)), group(1, 2)], [Flag(7, "blank", 0.25, "Nearly one colour.")])
    assert (run_folder / "duplicates.csv").read_text().splitlines() == [
        "group,id,kind,similarity,kept", "1,000003.jpg,near,1,yes", "1,000008.jpg,exact,1,no",
        "1,000020.jpg,near,0.96,no", "2,000001.jpg,exact,1,yes", "2,000002.jpg,exact,1,no",
    ]  # fmt: skip
    assert (run_folder / "flags.csv").read_text().splitlines()[1] == "000007.jpg,blank,0.25,Nearly one colour."
    assert collect(run_folder)["odd"] == {
        "groups": [
            {"size": 3, "index": [3, 8, 20], "exact": [False, True, False], "similarity": [1, 1, 0.96], "first": True},
            {"size": 2, "index": [1, 2], "exact": [True, True], "similarity": [1, 1], "first": True},
        ],
        "n_groups": 2, "n_copies": 5,
        "flags": [{"index": 7, "flag": "blank", "text": "Nearly one colour."}], "n_flags": 1,
    }  # fmt: skip


def test_a_run_without_the_tables_or_with_empty_ones_shows_nothing(run_folder: Path) -> None:
    older = collect(run_folder)
    assert older["odd"] is None
    assert collect(with_tables(run_folder, [], []))["odd"] is None
    assert older["made"]["notes"] == collect(run_folder)["made"]["notes"]


@pytest.mark.parametrize(
    "text", ["group,id\n1,000001.jpg\n", "group,id,kind,similarity,kept\n1,nobody.jpg,near,0.9,yes\n", '"\x00"\n"x']
)
def test_damaged_tables_cost_a_sentence_and_nothing_else(run_folder: Path, text: str) -> None:
    (run_folder / "duplicates.csv").write_text(text)
    payload = collect(run_folder)
    assert payload["odd"] is None and len(payload["images"]["id"]) == 60
    assert sum("duplicates.csv" in note for note in payload["made"]["notes"]) == 1


def test_a_sample_holds_the_duplicates_and_the_payload_stays_small(tmp_path: Path, written_run: Written) -> None:
    n = 2400
    folder = written_run(tmp_path / "run", n=n, pictures=False, ids=[f"{i:06d}.jpg" for i in range(n)])
    groups = [group(i, i + 800, i + 1600) for i in range(500)]
    with_tables(folder, groups, [Flag(i, "dark", 1.0, "Dark.") for i in range(600, 900)], n)
    payload = collect(folder, 600)
    odd = payload["odd"]
    assert (odd["n_groups"], odd["n_copies"], odd["n_flags"]) == (500, 1500, 300)
    assert len(odd["groups"]) == GROUPS and all(len(one["index"]) == 3 for one in odd["groups"])
    assert len(odd["flags"]) == FLAGS
    shown = [[payload["images"]["row"][place] for place in one["index"]] for one in odd["groups"]]
    assert shown == [[i, i + 800, i + 1600] for i in range(GROUPS)]
    assert len(str(odd)) < 20_000


def test_more_images_than_thumbnails_keep_those_that_are_shown(tmp_path: Path, run_folder: Path) -> None:
    from ilk.images import Images
    from ilk.reports.sprites import read_thumbnails, write_thumbnails
    from ilk.runs.tables import Cluster

    n = MOST + 500
    ids = [f"{i:06d}.jpg" for i in range(n)]
    write_duplicates(tmp_path / "duplicates.csv", [group(77, 5000, n - 1)], ids)
    assert read_odd(tmp_path, ids, []).rows == [77, 5000, n - 1]
    order = np.arange(n)
    images = Images(np.zeros((n, 1, 2, 2), dtype=np.uint8), ids=ids)
    write_thumbnails(tmp_path, images, [Cluster(0, order, order, 0.5)])
    kept = read_thumbnails(tmp_path, n)
    assert kept is not None and len(kept.rows) == MOST and {77, 5000, n - 1} <= set(kept.rows.tolist())
