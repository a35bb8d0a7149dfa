"""Duplicates and odd images on the page of the report."""

from __future__ import annotations

from typing import Any

import pytest

from browser import Show, middle, texts, wait
from made_payloads import make_payload


def odd_of(groups: int, flags: int) -> dict[str, Any]:
    return {
        "groups": [
            {"size": 30 if i == 0 else 3, "index": [i, i + 20, i + 40], "exact": [i % 2 == 0] * 3,
             "similarity": [1, 0.999, 0.934], "first": True} for i in range(groups)
        ],
        "n_groups": groups, "n_copies": 3 * groups, "n_flags": flags,
        "flags": [{"index": i, "flag": "blank", "text": "<b>Nearly</b> one colour."} for i in range(flags)],
    }  # fmt: skip


def test_the_section_shows_groups_and_reasons_and_opens_images(show: Show) -> None:
    page = show({**make_payload(200, 4, tile=32), "odd": odd_of(10, 30)}, width=390, touch=True)
    assert "Duplicates and odd images" in texts(page, "main h2")
    assert texts(page, "#odd h3") == ["10 groups of duplicates, 30 images", "30 images look odd"]
    middle(page, "#odd .sure-row")
    wait(page, "document.querySelector('#odd .sure-row .tile') !== null")
    assert texts(page, "#odd .sure-row:first-child .caption") == ["first", "exact", "exact"]
    assert texts(page, "#odd .sure-row:first-child .quiet") == ["30 images, exact copies", "3 shown"]
    assert texts(page, "#odd .sure-row:nth-child(2) .caption") == ["first", "> 0.99", "0.93"]
    assert texts(page, "#odd .odd-list .quiet")[0] == "<b>Nearly</b> one colour."
    assert page.evaluate("document.querySelector('.odd-list .thumb').getBoundingClientRect().width") == 64
    assert len(texts(page, "#odd .sure-row")) == 8 and len(texts(page, ".odd-list li")) == 24
    page.evaluate("document.querySelector('#odd > button').click()")
    assert len(texts(page, "#odd .sure-row")) == 10
    assert page.evaluate("document.activeElement.querySelector('h4').textContent") == "Group 9"
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
    page.click(".odd-list li:nth-child(3) .tile")
    assert texts(page, "dialog.image h2") == ["folder/000002.jpg"]


@pytest.mark.parametrize("width", [390, 1280])
def test_duplicates_fill_the_room_that_was_kept_for_them(show: Show, width: int) -> None:
    odd = odd_of(3, 0)
    odd["groups"][1].update(index=list(range(19)), exact=[False] * 19, similarity=[0.95] * 19, size=19)
    page = show({**make_payload(200, 4, tile=32), "odd": odd}, width=width, height=300)
    heights = "[...document.querySelectorAll('.odd-tiles')].map((one) => one.getBoundingClientRect().height)"
    assert page.evaluate("document.querySelector('.odd-tiles .tile') === null")
    before = page.evaluate(heights)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(texts(page, ".odd-tiles .tile")) == 3 + 19 + 3
    assert max(abs(a - b) for a, b in zip(before, page.evaluate(heights), strict=True)) <= 8


def test_a_page_without_oddities_has_no_such_section(show: Show) -> None:
    page = show({**make_payload(60, 3, tile=8), "odd": None})
    assert page.evaluate("document.getElementById('odd') === null && !document.querySelector('#nav a[href=\"#odd\"]')")
    assert "Duplicates and odd images" not in texts(page, "main h2")
