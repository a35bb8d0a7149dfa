"""Duplicates and odd images in the report: read from the run's tables, shown where there are any, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromium import Browser, find_browser
from ilk.analysis.duplicates import DuplicateGroup, Flag
from ilk.report.odd import FLAGS, GROUPS, read_odd
from ilk.report.page import render
from ilk.report.payload import collect
from ilk.report.sprites import MOST
from ilk.runs.tables import write_duplicates, write_flags
from made_payloads import make_payload

PROGRAM = find_browser()
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
    from ilk.report.sprites import read_thumbnails, write_thumbnails
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


# In a browser.


def odd_of(groups: int, flags: int) -> dict[str, Any]:
    return {
        "groups": [
            {"size": 30 if i == 0 else 3, "index": [i, i + 20, i + 40], "exact": [i % 2 == 0] * 3,
             "similarity": [1, 0.999, 0.934], "first": True} for i in range(groups)
        ],
        "n_groups": groups, "n_copies": 3 * groups, "n_flags": flags,
        "flags": [{"index": i, "flag": "blank", "text": "<b>Nearly</b> one colour."} for i in range(flags)],
    }  # fmt: skip


@pytest.fixture
def show(tmp_path: Path) -> Any:
    if PROGRAM is None:
        pytest.skip("no Chromium found; install it or set ILK_CHROMIUM to the program")
    browser = Browser(PROGRAM, tmp_path / "profile")

    def open_page(payload: dict[str, Any], **options: Any) -> Browser:
        (tmp_path / "report.html").write_text(render(payload), encoding="utf-8")
        browser.open((tmp_path / "report.html").as_uri(), **options)
        return browser

    yield open_page
    troubles = browser.troubles()
    browser.close()
    assert troubles == []


def texts(page: Browser, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll({selector!r})].map((node) => node.textContent)")


def test_the_section_shows_groups_and_reasons_and_opens_images(show: Any) -> None:
    page = show({**make_payload(200, 4, tile=32), "odd": odd_of(10, 30)}, width=390, touch=True)
    assert "Duplicates and odd images" in texts(page, "main h2")
    assert texts(page, "#odd h3") == ["10 groups of duplicates, 30 images", "30 images look odd"]
    page.middle("#odd .sure-row")
    page.wait("document.querySelector('#odd .sure-row .tile') !== null")
    assert texts(page, "#odd .sure-row:first-child .caption") == ["first", "exact", "exact"]
    assert texts(page, "#odd .sure-row:first-child .quiet") == ["30 images, exact copies", "3 shown"]
    assert texts(page, "#odd .sure-row:nth-child(2) .caption") == ["first", "> 0.99", "0.93"]
    assert texts(page, "#odd .odd-list .quiet")[0] == "<b>Nearly</b> one colour."
    assert page.run("document.querySelector('.odd-list .thumb').getBoundingClientRect().width") == 64
    assert len(texts(page, "#odd .sure-row")) == 8 and len(texts(page, ".odd-list li")) == 24
    page.run("document.querySelector('#odd > button').click()")
    assert len(texts(page, "#odd .sure-row")) == 10
    assert page.run("document.activeElement.querySelector('h4').textContent") == "Group 9"
    assert page.run("document.documentElement.scrollWidth - innerWidth") == 0
    page.click(".odd-list li:nth-child(3) .tile")
    assert texts(page, "dialog.image h2") == ["folder/000002.jpg"]


@pytest.mark.parametrize("width", [390, 1280])
def test_duplicates_fill_the_room_that_was_kept_for_them(show: Any, width: int) -> None:
    odd = odd_of(3, 0)
    odd["groups"][1].update(index=list(range(19)), exact=[False] * 19, similarity=[0.95] * 19, size=19)
    page = show({**make_payload(200, 4, tile=32), "odd": odd}, width=width, height=300)
    heights = "[...document.querySelectorAll('.odd-tiles')].map((one) => one.getBoundingClientRect().height)"
    assert page.run("document.querySelector('.odd-tiles .tile') === null")
    before = page.run(heights)
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert len(texts(page, ".odd-tiles .tile")) == 3 + 19 + 3
    assert max(abs(a - b) for a, b in zip(before, page.run(heights), strict=True)) <= 8


def test_a_page_without_oddities_has_no_such_section(show: Any) -> None:
    page = show({**make_payload(60, 3, tile=8), "odd": None})
    assert page.run("document.getElementById('odd') === null && !document.querySelector('#nav a[href=\"#odd\"]')")
    assert "Duplicates and odd images" not in texts(page, "main h2")
