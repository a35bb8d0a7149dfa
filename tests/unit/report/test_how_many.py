"""How many clusters, in the report: the levels are those of the files, hostile files cost a sentence, and it works."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chromium import Browser, find_browser
from ilk.report.how_many import MOST_LEVELS, TYPICAL
from ilk.report.page import render
from ilk.report.payload import collect
from ilk.runs.tables import write_csv
from made_trees import CURVE, SENTENCE, curve_rows, nested_levels, set_number, tree_table, with_number
from page_scripts import CONTRAST, OVERFLOW

PROGRAM = find_browser()
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


def test_reading_the_levels_loads_no_torch(run_folder: Path) -> None:
    with_number(run_folder)
    code = "import sys; from ilk.report import write_report; write_report(sys.argv[1]); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code, str(run_folder)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False" and SENTENCE in (run_folder / "report.html").read_text()


# In a browser.


@pytest.fixture(scope="module")
def found_number(tmp_path_factory: pytest.TempPathFactory, written_run: Written) -> tuple[dict[str, Any], np.ndarray]:
    """The payload of a run of 400 images in 6 clusters with a tree up to 20, and its levels."""
    folder = written_run(tmp_path_factory.mktemp("runs") / "run", n=400, k=6)
    levels = with_number(folder, most=20)
    return collect(folder), levels


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no Chromium found; install it or set ILK_CHROMIUM to the program")
    opened = Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    """`show(payload)` opens its page; afterwards there must have been no error, no request and no dialog."""

    def open_page(payload: dict[str, Any], **options: Any) -> Browser:
        (tmp_path / "report.html").write_text(render(payload), encoding="utf-8")
        browser.open((tmp_path / "report.html").as_uri(), **options)
        return browser

    yield open_page
    assert browser.troubles() == []


SLIDER = "#how-many input[type=range]"


def texts(page: Browser, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll({selector!r})].map((node) => node.textContent)")


def card_sizes(page: Browser) -> dict[int, int]:
    """Number and size of the clusters that have a card, in the order of the cards."""
    heads = texts(page, ".level-cards h4")
    sizes = texts(page, ".level-cards header p")
    numbers = [int(head.removeprefix("Tree cluster ").removesuffix("just cut")) for head in heads]
    return dict(zip(numbers, [int(text.split()[0].replace(",", "")) for text in sizes], strict=True))


def expected(levels: np.ndarray, k: int) -> dict[int, int]:
    sizes = np.bincount(levels[k - 1]).tolist()
    return dict(sorted(enumerate(sizes), key=lambda one: (-one[1], one[0])))


def test_the_slider_starts_at_the_choice_and_shows_the_cards_of_each_level(show: Any, found_number: Any) -> None:
    payload, levels = found_number
    page = show(payload)
    assert "How many clusters" in texts(page, "main h2")
    assert texts(page, "#how-many .lead") == [SENTENCE]
    assert texts(page, "#how-many .facts dd") == ["6 clusters", "5 to 8", "medium", "auto", "2 to 20"]
    for k in (6, 2, 20, 11):
        page.run(
            f"(() => {{ const s = document.querySelector('{SLIDER}'); s.value = {k};"
            " s.dispatchEvent(new Event('input')); })()"
        )
        assert list(card_sizes(page).items()) == list(expected(levels, k).items())
        assert texts(page, "#how-many .level-control b") == [str(k)]


def test_the_keyboard_alone_moves_through_the_levels_and_the_cut_is_told(show: Any, found_number: Any) -> None:
    payload, levels = found_number
    page = show(payload)
    page.run(f"document.querySelector('{SLIDER}').focus()")
    page.press("ArrowRight")
    assert page.run(f"document.querySelector('{SLIDER}').valueAsNumber") == 7
    assert list(card_sizes(page).items()) == list(expected(levels, 7).items())
    parent = int(levels[5][levels[6] == 6][0])
    kept, new = ((levels[6] == number).sum() for number in (parent, 6))
    assert texts(page, ".cut-words") == [
        f"Tree cluster {parent}, of {kept + new} images, was cut into tree cluster {parent} ({kept} images)"
        f" and tree cluster 6 ({new} images)."
    ]
    assert {text.split()[2] for text in texts(page, ".level-cards .just-cut h4")} == {f"{parent}just", "6just"}
    page.press("ArrowLeft")
    valuetext = f"document.querySelector('{SLIDER}').getAttribute('aria-valuetext')"
    assert page.run(valuetext) == "6 clusters, the number chosen"
    for _ in range(5):
        page.press("ArrowLeft")
    assert page.run(valuetext) == "2 clusters"
    assert texts(page, ".cut-words")[0].startswith("All 400 images were cut into tree cluster 0 (")
    assert page.run("document.querySelector('#how-many [aria-label=\"One cluster fewer\"]').disabled")
    page.click('#how-many [aria-label="One cluster more"]')
    assert texts(page, "#level-title") == ["The tree at 3 clusters"]


def test_thumbnails_are_of_the_cluster_and_open_all_its_images(show: Any, found_number: Any) -> None:
    payload, levels = found_number
    page = show(payload)
    page.middle(".level-cards .card")
    page.wait("document.querySelector('.level-cards .card .tile') !== null")
    first, size = next(iter(card_sizes(page).items()))
    shown = page.run(
        "[...document.querySelectorAll('.level-cards .card:first-child .tile')].map((one) => +one.dataset.image)"
    )
    assert len(shown) == 8 and set(levels[5][shown]) == {first}
    page.click(".level-cards .card:first-child .tile")
    assert texts(page, "dialog.image .steps span") == [f"1 of {size}"]


def test_the_map_takes_the_colours_of_the_level_and_follows_the_slider(show: Any, found_number: Any) -> None:
    payload, levels = found_number
    page = show(payload)
    page.click("#how-many .level-cards .card:first-child footer button")
    first = next(iter(expected(levels, 6)))
    assert page.run("document.querySelector('.map input[value=level]').checked")
    assert texts(page, ".legend h3") == ["Tree at 6 clusters"]
    pressed = texts(page, ".legend li [aria-pressed=true]")
    assert pressed == [f"{first}{(levels[5] == first).sum()}"]
    page.run("document.querySelector('.map .level-control [aria-label=\"One cluster more\"]').click()")
    assert texts(page, ".legend h3") == ["Tree at 7 clusters"]
    sizes = [f"{number}{size}" for number, size in enumerate(np.bincount(levels[6]))]
    assert texts(page, ".legend li button") == sizes
    assert texts(page, "#level-title") == ["The tree at 7 clusters"]
    page.run("document.querySelector('.map input[value=cluster]').click()")
    assert texts(page, ".legend h3") == ["Clusters"]
    assert not page.run("document.querySelector('.map .level-control').checkVisibility()")


def test_the_chart_marks_the_choice_reads_numbers_and_drops_lines(show: Any, found_number: Any) -> None:
    payload, _ = found_number
    page = show(payload)
    page.middle(".curve-holder svg")
    assert texts(page, ".chosen-mark text") == ["chosen: 6"]
    assert page.run("document.querySelector('.range-band').getBoundingClientRect().width") > 20
    words = page.run("document.querySelector('.curve-holder svg').getAttribute('aria-label')")
    assert words.startswith("Score of 2 to 20 clusters; chosen is 6 with 2.3 \u00b1 0.062 nats; 5 to 8 are nearly as")
    assert len(texts(page, ".chart .thin")) == 4
    page.click("#how-many .curve-key label")
    assert len(texts(page, ".chart .thin")) == 3
    page.run("document.querySelector('#how-many figure').focus()")
    page.press("ArrowRight")
    assert texts(page, "#how-many .readout > b") == ["7 clusters"]
    assert texts(page, "#status")[0].startswith("7 clusters, score 2.1")
    page.run("document.querySelector('#how-many details').open = true")
    page.wait("document.querySelector('#how-many table') !== null")
    assert texts(page, "#how-many tbody th")[3:6] == ["5", "6 (chosen)", "7"]
    assert texts(page, "#how-many tbody tr:nth-child(5) td")[:2] == ["2.3", "0.062"]


@pytest.mark.parametrize("part", ["curve", "levels"])
def test_the_section_stands_with_one_of_its_parts_alone(show: Any, found_number: Any, part: str) -> None:
    payload, _ = found_number
    page = show({**payload, "how_many": {**payload["how_many"], part: None}})
    assert (page.run("document.querySelector('.curve-holder') === null")) == (part == "curve")
    assert page.run(f"document.querySelector('{SLIDER}') === null") == (part == "levels")
    assert ("Level of the tree" in texts(page, ".map .choice span")) == (part == "curve")


def test_one_number_and_the_smallest_tree_make_a_page(show: Any, run_folder: Path) -> None:
    with_number(run_folder, most=2, chosen=2)
    set_number(run_folder, asked="2-2", chosen=2, range=[2, 2], sure="low")
    page = show(collect(run_folder))
    page.middle(".curve-holder svg")
    assert texts(page, "#how-many .facts dd") == ["2 clusters", "no other", "low", "2-2", "2"]
    words = page.run("document.querySelector('.curve-holder svg').getAttribute('aria-label')")
    assert "stability alone is highest at 2;" in words
    assert len(card_sizes(page)) == 2
    assert page.run("document.querySelectorAll('#how-many .level-control button:disabled').length") == 2


def test_a_page_without_the_part_has_no_such_section(show: Any, found_number: Any) -> None:
    payload, _ = found_number
    page = show({**payload, "how_many": None})
    assert page.run("document.getElementById('how-many') === null")
    assert "Level of the tree" not in texts(page, ".map .choice span")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_only_downwards_and_text_is_readable(show: Any, found_number: Any, dark: bool) -> None:
    payload, _ = found_number
    hostile = {**payload["how_many"], "sentence": "<b>" + "x" * 300, "asked": "</script>" * 20}
    page = show({**payload, "how_many": hostile}, width=360, height=780, touch=True, dark=dark)
    page.run("document.querySelector('.map input[value=level]').click()")
    page.run(f"(() => {{ const s = document.querySelector('{SLIDER}'); s.value = 20;"
             " s.dispatchEvent(new Event('input')); dispatchEvent(new Event('beforeprint')); })()")  # fmt: skip
    assert page.run(OVERFLOW) <= 0
    assert page.run(CONTRAST) == []
    assert texts(page, "#how-many .lead") == ["<b>" + "x" * 300]


def test_thumbnails_fill_the_room_that_was_kept_for_them(show: Any, found_number: Any) -> None:
    payload, _ = found_number
    page = show(payload, height=400)
    height = "document.querySelector('.level-cards .card:last-child .level-tiles').getBoundingClientRect().height"
    assert page.run("document.querySelector('.level-cards .card:last-child .tile') === null")
    before = page.run(height)
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelector('.level-cards .card:last-child .tile') !== null")
    assert abs(page.run(height) - before) <= 4
