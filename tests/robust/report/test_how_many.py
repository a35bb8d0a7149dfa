"""How many clusters, on the page of the report: the slider, the cards of a level, the chart and the map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from browser import Show, middle, texts, wait
from ilk.reports.payload import collect
from made_trees import SENTENCE, set_number, with_number
from page_scripts import CONTRAST, OVERFLOW

Written = Callable[..., Path]


@pytest.fixture(scope="module")
def found_number(tmp_path_factory: pytest.TempPathFactory, written_run: Written) -> tuple[dict[str, Any], np.ndarray]:
    """The payload of a run of 400 images in 6 clusters with a tree up to 20, and its levels."""
    folder = written_run(tmp_path_factory.mktemp("runs") / "run", n=400, k=6)
    levels = with_number(folder, most=20)
    return collect(folder), levels


SLIDER = "#how-many input[type=range]"


def card_sizes(page: Page) -> dict[int, int]:
    """Number and size of the clusters that have a card, in the order of the cards."""
    heads = texts(page, ".level-cards h4")
    sizes = texts(page, ".level-cards header p")
    numbers = [int(head.removeprefix("Tree cluster ").removesuffix("just cut")) for head in heads]
    return dict(zip(numbers, [int(text.split()[0].replace(",", "")) for text in sizes], strict=True))


def expected(levels: np.ndarray, k: int) -> dict[int, int]:
    sizes = np.bincount(levels[k - 1]).tolist()
    return dict(sorted(enumerate(sizes), key=lambda one: (-one[1], one[0])))


def test_the_slider_starts_at_the_choice_and_shows_the_cards_of_each_level(show: Show, found_number: Any) -> None:
    payload, levels = found_number
    page = show(payload)
    assert "How many clusters" in texts(page, "main h2")
    assert texts(page, "#how-many .lead") == [SENTENCE]
    assert texts(page, "#how-many .facts dd") == ["6 clusters", "5 to 8", "medium", "auto", "2 to 20"]
    for k in (6, 2, 20, 11):
        page.evaluate(
            f"(() => {{ const s = document.querySelector('{SLIDER}'); s.value = {k};"
            " s.dispatchEvent(new Event('input')); })()"
        )
        assert list(card_sizes(page).items()) == list(expected(levels, k).items())
        assert texts(page, "#how-many .level-control b") == [str(k)]


def test_the_keyboard_alone_moves_through_the_levels_and_the_cut_is_told(show: Show, found_number: Any) -> None:
    payload, levels = found_number
    page = show(payload)
    page.evaluate(f"document.querySelector('{SLIDER}').focus()")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"document.querySelector('{SLIDER}').valueAsNumber") == 7
    assert list(card_sizes(page).items()) == list(expected(levels, 7).items())
    parent = int(levels[5][levels[6] == 6][0])
    kept, new = ((levels[6] == number).sum() for number in (parent, 6))
    assert texts(page, ".cut-words") == [
        f"Tree cluster {parent}, of {kept + new} images, was cut into tree cluster {parent} ({kept} images)"
        f" and tree cluster 6 ({new} images)."
    ]
    assert {text.split()[2] for text in texts(page, ".level-cards .just-cut h4")} == {f"{parent}just", "6just"}
    page.keyboard.press("ArrowLeft")
    valuetext = f"document.querySelector('{SLIDER}').getAttribute('aria-valuetext')"
    assert page.evaluate(valuetext) == "6 clusters, the number chosen"
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate(valuetext) == "2 clusters"
    assert texts(page, ".cut-words")[0].startswith("All 400 images were cut into tree cluster 0 (")
    assert page.evaluate("document.querySelector('#how-many [aria-label=\"One cluster fewer\"]').disabled")
    page.click('#how-many [aria-label="One cluster more"]')
    assert texts(page, "#level-title") == ["The tree at 3 clusters"]


def test_thumbnails_are_of_the_cluster_and_open_all_its_images(show: Show, found_number: Any) -> None:
    payload, levels = found_number
    page = show(payload)
    middle(page, ".level-cards .card")
    wait(page, "document.querySelector('.level-cards .card .tile') !== null")
    first, size = next(iter(card_sizes(page).items()))
    shown = page.evaluate(
        "[...document.querySelectorAll('.level-cards .card:first-child .tile')].map((one) => +one.dataset.image)"
    )
    assert len(shown) == 8 and set(levels[5][shown]) == {first}
    page.click(".level-cards .card:first-child .tile")
    assert texts(page, "dialog.image .steps span") == [f"1 of {size}"]


def test_the_map_takes_the_colours_of_the_level_and_follows_the_slider(show: Show, found_number: Any) -> None:
    payload, levels = found_number
    page = show(payload)
    page.click("#how-many .level-cards .card:first-child footer button")
    first = next(iter(expected(levels, 6)))
    assert page.evaluate("document.querySelector('.map input[value=level]').checked")
    assert texts(page, ".legend h3") == ["Tree at 6 clusters"]
    pressed = texts(page, ".legend li [aria-pressed=true]")
    assert pressed == [f"{first}{(levels[5] == first).sum()}"]
    page.evaluate("document.querySelector('.map .level-control [aria-label=\"One cluster more\"]').click()")
    assert texts(page, ".legend h3") == ["Tree at 7 clusters"]
    sizes = [f"{number}{size}" for number, size in enumerate(np.bincount(levels[6]))]
    assert texts(page, ".legend li button") == sizes
    assert texts(page, "#level-title") == ["The tree at 7 clusters"]
    page.evaluate("document.querySelector('.map input[value=cluster]').click()")
    assert texts(page, ".legend h3") == ["Clusters"]
    assert not page.evaluate("document.querySelector('.map .level-control').checkVisibility()")


def test_the_chart_marks_the_choice_reads_numbers_and_drops_lines(show: Show, found_number: Any) -> None:
    payload, _ = found_number
    page = show(payload)
    middle(page, ".curve-holder svg")
    assert texts(page, ".chosen-mark text") == ["chosen: 6"]
    assert page.evaluate("document.querySelector('.range-band').getBoundingClientRect().width") > 20
    words = page.evaluate("document.querySelector('.curve-holder svg').getAttribute('aria-label')")
    assert words.startswith("Score of 2 to 20 clusters; chosen is 6 with 2.3 \u00b1 0.062 nats; 5 to 8 are nearly as")
    assert len(texts(page, ".chart .thin")) == 4
    page.click("#how-many .curve-key label")
    assert len(texts(page, ".chart .thin")) == 3
    page.evaluate("document.querySelector('#how-many figure').focus()")
    page.keyboard.press("ArrowRight")
    assert texts(page, "#how-many .readout > b") == ["7 clusters"]
    assert texts(page, "#status")[0].startswith("7 clusters, score 2.1")
    page.evaluate("document.querySelector('#how-many details').open = true")
    wait(page, "document.querySelector('#how-many table') !== null")
    assert texts(page, "#how-many tbody th")[3:6] == ["5", "6 (chosen)", "7"]
    assert texts(page, "#how-many tbody tr:nth-child(5) td")[:2] == ["2.3", "0.062"]


@pytest.mark.parametrize("part", ["curve", "levels"])
def test_the_section_stands_with_one_of_its_parts_alone(show: Show, found_number: Any, part: str) -> None:
    payload, _ = found_number
    page = show({**payload, "how_many": {**payload["how_many"], part: None}})
    assert (page.evaluate("document.querySelector('.curve-holder') === null")) == (part == "curve")
    assert page.evaluate(f"document.querySelector('{SLIDER}') === null") == (part == "levels")
    assert ("Level of the tree" in texts(page, ".map .choice span")) == (part == "curve")


def test_one_number_and_the_smallest_tree_make_a_page(show: Show, run_folder: Path) -> None:
    with_number(run_folder, most=2, chosen=2)
    set_number(run_folder, asked="2-2", chosen=2, range=[2, 2], sure="low")
    page = show(collect(run_folder))
    middle(page, ".curve-holder svg")
    assert texts(page, "#how-many .facts dd") == ["2 clusters", "no other", "low", "2-2", "2"]
    words = page.evaluate("document.querySelector('.curve-holder svg').getAttribute('aria-label')")
    assert "stability alone is highest at 2;" in words
    assert len(card_sizes(page)) == 2
    assert page.evaluate("document.querySelectorAll('#how-many .level-control button:disabled').length") == 2


def test_a_page_without_the_part_has_no_such_section(show: Show, found_number: Any) -> None:
    payload, _ = found_number
    page = show({**payload, "how_many": None})
    assert page.evaluate("document.getElementById('how-many') === null")
    assert "Level of the tree" not in texts(page, ".map .choice span")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_only_downwards_and_text_is_readable(show: Show, found_number: Any, dark: bool) -> None:
    payload, _ = found_number
    hostile = {**payload["how_many"], "sentence": "<b>" + "x" * 300, "asked": "</script>" * 20}
    page = show({**payload, "how_many": hostile}, width=360, height=780, touch=True, dark=dark)
    page.evaluate("document.querySelector('.map input[value=level]').click()")
    page.evaluate(f"(() => {{ const s = document.querySelector('{SLIDER}'); s.value = 20;"
             " s.dispatchEvent(new Event('input')); dispatchEvent(new Event('beforeprint')); })()")  # fmt: skip
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(CONTRAST) == []
    assert texts(page, "#how-many .lead") == ["<b>" + "x" * 300]


def test_thumbnails_fill_the_room_that_was_kept_for_them(show: Show, found_number: Any) -> None:
    payload, _ = found_number
    page = show(payload, height=400)
    height = "document.querySelector('.level-cards .card:last-child .level-tiles').getBoundingClientRect().height"
    assert page.evaluate("document.querySelector('.level-cards .card:last-child .tile') === null")
    before = page.evaluate(height)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelector('.level-cards .card:last-child .tile') !== null")
    assert abs(page.evaluate(height) - before) <= 4
