"""The report in a real browser: it can be used, it is quick, and nothing in it runs that should not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from browser import Show, drag, middle, new_context, texts, visible, wait, watch
from ilk.reports.payload import collect
from made_payloads import HOSTILE, make_payload, unfinished_payload
from page_scripts import CONTRAST, OVERFLOW, UNFOLD
from places import SHARED_DATA

FLOWERS = SHARED_DATA / "flowers"

LABELLED = make_payload(600, 10, labels=True, tile=32, empty=(4,), bad=3)
UNLABELLED = make_payload(200, 5, tile=12)
HOSTILE_RUN = make_payload(60, 4, labels=True, names=HOSTILE, bad=9)


def to_map(page: Page) -> tuple[float, float]:
    """The centre of the map, after scrolling it into view."""
    centre = middle(page, ".stage")
    wait(page, "document.querySelector('.map-canvas').width > 300")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return centre


def test_every_part_of_a_labelled_run_is_there_and_named(show: Show) -> None:
    page = show(LABELLED)
    assert texts(page, "main h2") == [
        "Clusters", "Map", "Confident and unconfident", "Neighbours", "Confusion matrix",
        "Files that could not be read", "What to do next", "How it was made", "Scores", "Training", "Affinity",
    ]  # fmt: skip
    assert texts(page, "h1") == ["600 images in 9 clusters"]
    assert page.evaluate("[...document.querySelectorAll('#nav a')].every((link) => document.querySelector(link.hash))")
    assert len(texts(page, ".card")) == 9
    assert "Cluster 4 is empty." in texts(page, "#clusters .notice")
    assert (
        page.evaluate(
            "[...document.querySelectorAll('button, a')].filter((one) => !one.textContent && !one.ariaLabel).length"
        )
        == 0
    )


def test_without_labels_nothing_speaks_of_them(show: Show) -> None:
    page = show(UNLABELLED)
    assert "Confusion matrix" not in texts(page, "main h2")
    assert page.evaluate("document.querySelector('.contents') === null")
    assert "Label" not in texts(page, ".map .choice span")


def test_a_card_opens_all_its_images_and_sorts_them(show: Show) -> None:
    page = show(LABELLED)
    page.click("#cluster-1 .all")
    cluster = LABELLED["clusters"][1]
    shown = "[...document.querySelectorAll('dialog.cluster .tile')].map((tile) => Number(tile.dataset.image))"
    assert page.evaluate(shown)[:24] == cluster["typical"]
    page.click("dialog.cluster input[value=uncertain] + span")
    assert page.evaluate(shown)[:24] == cluster["uncertain"]
    noted = page.evaluate(
        "[...document.querySelectorAll('dialog.cluster .noted')].map((tile) => Number(tile.dataset.image))"
    )
    assert noted == cluster["uncertain"][: math.ceil(cluster["size"] / 10)]
    page.click("dialog.cluster .turn button:last-child")
    assert texts(page, "dialog.cluster .turn span") == ["Page 2 of 2"]
    assert len(page.evaluate(shown)) == cluster["size"] - 60
    page.keyboard.press("Escape")
    assert not visible(page, "dialog.cluster")
    assert page.evaluate("document.activeElement.className") == "all"


def test_the_keyboard_alone_goes_from_image_to_neighbour_and_back(show: Show) -> None:
    page = show(LABELLED)
    middle(page, "#cluster-0 .tile")
    page.evaluate("document.querySelector('#cluster-0 .tile').focus()")
    page.keyboard.press("ArrowRight")
    second = LABELLED["clusters"][0]["typical"][1]
    assert page.evaluate("Number(document.activeElement.dataset.image)") == second
    page.keyboard.press("Enter")
    sure = round(100 * LABELLED["images"]["confidence"][second] + 1e-9)
    assert page.evaluate("document.querySelector('.image-large [role=img]').ariaLabel").startswith(
        f"image '{LABELLED['images']['id'][second]}', cluster 0, {sure} % sure"
    )
    assert texts(page, "dialog .near b") == ["1st", "2nd", "10th", "50th", "100th"]
    page.keyboard.press("ArrowRight")
    assert texts(page, "dialog.image .steps span") == ["3 of 67"]
    for _ in range(20):  # the focus goes round inside the dialog, or to the browser's own bar
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.evaluate("document.querySelector('dialog .near .tile').focus()")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    third = LABELLED["clusters"][0]["typical"][2]
    assert texts(page, "dialog.image h2") == [LABELLED["images"]["id"][(third + 2) % 600]]
    page.keyboard.press("Escape")
    assert not visible(page, "dialog.image")
    assert page.evaluate("!!document.activeElement.closest('#cluster-0')")


def test_the_map_names_what_the_pointer_is_on_and_opens_it(show: Show) -> None:
    page = show(make_payload(3, 3, tile=32))
    x, y = to_map(page)
    found = None
    for step in range(0, 560, 12):
        for down in range(-280, 281, 40):
            page.mouse.move(x - 280 + step, y + down)
            if visible(page, ".tip"):
                found = x - 280 + step, y + down
                break
        if found:
            break
    assert found is not None
    assert page.evaluate("document.querySelector('.ring').getAttribute('visibility')") == "visible"
    name = texts(page, ".tip b")[0]
    assert name in make_payload(3, 3)["images"]["id"]
    page.mouse.click(*found)
    assert texts(page, "dialog.image h2") == [name]


def test_an_open_image_leads_to_its_cluster_and_to_its_place_on_the_map(show: Show) -> None:
    page = show(LABELLED)
    page.click("#cluster-2 .tile")
    page.evaluate("document.querySelectorAll('dialog.image .facts a')[1].click()")
    second = LABELLED["images"]["second"][LABELLED["clusters"][2]["typical"][0]]
    assert page.evaluate("location.hash") == f"#cluster-{second}"
    assert not visible(page, "dialog.image")
    wait(page, f"Math.abs(document.getElementById('cluster-{second}').getBoundingClientRect().top) < innerHeight")
    page.click("#cluster-2 .tile")
    page.evaluate("[...document.querySelectorAll('dialog.image .actions button')].at(-1).click()")
    assert not visible(page, "dialog.image")
    assert page.evaluate("document.activeElement.className") == "map-canvas"
    wait(page, "document.querySelector('.ring').getAttribute('visibility') === 'visible'")
    width = page.evaluate("document.querySelector('.stage').clientWidth")
    assert abs(float(page.evaluate("document.querySelector('.ring').getAttribute('cx')")) - width / 2) < 2


def test_a_lasso_fills_a_grid_with_the_images_inside_it(show: Show) -> None:
    page = show(LABELLED)
    x, y = to_map(page)
    around = [(x + 400 * math.cos(a / 5), y + 310 * math.sin(a / 5)) for a in range(32)]
    drag(page, around, shift=True)
    assert texts(page, ".chosen h3") == ["600 images chosen"]
    assert len(texts(page, ".chosen .tile")) == 30
    page.evaluate("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    page.evaluate("document.querySelector('.chosen .actions button').click()")
    assert sorted(page.evaluate("window.copied").split("\n")) == sorted(LABELLED["images"]["id"])
    page.evaluate("document.querySelector('.chosen .legend-head button').click()")
    assert not visible(page, ".chosen .tile")
    page.click(".map .actions button")
    to_map(page)
    drag(page, [(x, y - 310), (x + 420, y - 310), (x + 420, y + 310), (x, y + 310)])
    some = int(texts(page, ".chosen h3")[0].split()[0])
    assert 100 < some < 500


def test_the_map_zooms_by_wheel_and_by_keys_and_pans(show: Show) -> None:
    page = show(UNLABELLED)
    x, y = to_map(page)
    look = "document.querySelector('.map-canvas').toDataURL()"
    page.mouse.move(x, y)
    page.mouse.move(x + 5, y + 5)
    views = {page.evaluate(look)}

    def changed() -> None:
        wait(page, f"!{list(map(hash_of, views))}.includes({hash_js(look)})", 3)
        views.add(page.evaluate(look))

    page.mouse.wheel(0, -240)
    changed()
    assert page.evaluate("document.querySelector('.map-hint').hidden")
    drag(page, [(x, y), (x + 30, y + 30), (x + 90, y + 40)])
    changed()
    page.evaluate("document.querySelector('.map-canvas').focus()")
    page.keyboard.press("+")
    changed()
    page.keyboard.press("ArrowLeft")
    changed()
    page.keyboard.press("Enter")
    assert visible(page, "dialog.image")


def test_the_watch_over_errors_and_requests_is_awake(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('told'); missing();</script>")
    context = new_context(browser)
    page, troubles = context.new_page(), list[str]()
    watch(page, troubles)
    page.goto(file.as_uri())
    page.evaluate("alert('hello')")
    context.close()
    words = " ".join(troubles)
    assert "request: http://127.0.0.1:9/x.png" in words and "console: told" in words
    assert "missing is not defined" in words and "dialog: hello" in words


def hash_of(text: str) -> int:
    value = 0
    for character in text[:: max(1, len(text) // 4000)]:
        value = (value * 31 + ord(character)) % 1_000_003
    return value


def hash_js(expression: str) -> str:
    """`hash_of` in the page, so that no long text travels while waiting."""
    return (
        f"((t) => {{ let v = 0; const s = Math.max(1, Math.floor(t.length / 4000));"
        f"for (let i = 0; i < t.length; i += s) v = (v * 31 + t.charCodeAt(i)) % 1000003; return v; }})({expression})"
    )


def test_a_chart_reads_out_an_epoch_on_all_charts(show: Show) -> None:
    page = show(UNLABELLED)
    page.click("#training summary")
    middle(page, "#training .chart")
    page.evaluate("document.querySelector('#training figure').focus()")
    page.keyboard.press("ArrowRight")
    assert set(texts(page, "#training .readout .quiet")) == {"epoch 1"}
    page.keyboard.press("ArrowRight")
    assert set(texts(page, "#training .readout .quiet")) == {"epoch 2"}


def test_the_theme_follows_the_system_and_the_switch(show: Show) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page = show(UNLABELLED, dark=True)
    dark = page.evaluate(ground)
    page.click("#theme")
    light = page.evaluate(ground)
    assert dark != light
    assert page.evaluate("document.getElementById('theme').ariaPressed") == "false"
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(ground) == dark
    page.evaluate("localStorage.clear()")


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_its_ground(show: Show, dark: bool) -> None:
    page = show(LABELLED, dark=dark)
    page.evaluate(UNFOLD)
    assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_names_are_shown_as_text_and_break_nothing(show: Show, width: int) -> None:
    page = show(HOSTILE_RUN, width=width)
    assert page.evaluate(OVERFLOW) <= 0
    assert texts(page, "#bad-files td:first-child") == list(HOSTILE)
    assert page.evaluate("document.querySelectorAll('script:not([type=module]), [onerror], img[src=x]').length") == 0
    page.evaluate("document.querySelector('#nav a[href=\"#clusters\"]').click()")
    for image, name in enumerate(HOSTILE):
        page.evaluate(f"document.querySelector('#cluster-{HOSTILE_RUN['images']['cluster'][image]} .all').click()")
        page.evaluate(f"document.querySelector('dialog.cluster [data-image=\"{image}\"]').click()")
        assert texts(page, "dialog.image h2") == [name]
        page.evaluate("document.querySelectorAll('dialog[open]').forEach((one) => one.close())")


@pytest.mark.parametrize(
    "payload",
    [LABELLED, make_payload(3, 3, tile=32), make_payload(1, 1, labels=True), make_payload(40, 3, tile=None),
     make_payload(800, 200, labels=True, empty=(7, 8)), unfinished_payload()],
    ids=["labelled", "three", "one", "no pictures", "200 clusters", "unfinished"],
)  # fmt: skip
def test_a_phone_scrolls_only_downwards(show: Show, payload: dict[str, Any]) -> None:
    page = show(payload, width=360, height=780, touch=True)
    assert page.evaluate(OVERFLOW) <= 0
    page.evaluate(UNFOLD)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # makes everything that waits to be seen
    assert page.evaluate(OVERFLOW) <= 0


def test_a_link_opens_the_folded_section_that_it_leads_to(show: Show) -> None:
    page = show(LABELLED)
    for section in ("scores", "training", "affinity"):
        assert not visible(page, f"#{section} .lead, #{section} .scores")
        page.evaluate(f"document.querySelector('#nav a[href=\"#{section}\"]').click()")
        wait(page, f"document.querySelector('#{section} details').open")
        assert visible(page, f"#{section} .lead, #{section} .scores")


def test_the_verdict_comes_first_and_counts_clear_and_uncertain(show: Show) -> None:
    payload = make_payload(60, 3)
    payload["scores"].append(
        {
            "key": "uncertain",
            "name": "Uncertain images",
            "value": 0.4,
            "shown": "40.0%",
            "meaning": "-",
            "labels": False,
        }
    )
    for cluster, confidence in zip(payload["clusters"], (0.9, 0.6, 0.5), strict=True):
        cluster["confidence"] = confidence
    page = show(payload)
    words = "1 cluster is clear, 2 are mixed. 40.0% of the images are uncertain: look at these first."
    assert texts(page, "#overview .verdict p")[0] == words
    assert not visible(page, ".verdict.notice")
    payload["clusters"][0]["size"] = 55
    assert "in one cluster" in texts(show(payload), ".verdict.notice p")[1]


def test_the_pictures_of_a_card_are_equally_sharp(show: Show) -> None:
    payload = make_payload(60, 3, tile=16)
    picture = payload["sprites"]["sheets"][0]
    first, second, _ = (cluster["typical"] for cluster in payload["clusters"])
    large = [*first[:8], *second[:3]]
    payload["large"] = {"tile": 160, "index": large, "images": [picture] * len(large)}
    page = show(payload)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    counts = [
        (page.locator(f"#cluster-{number} .tile").count(), page.locator(f"#cluster-{number} .tile img").count())
        for number in range(3)
    ]
    assert counts == [(8, 8), (12, 0), (12, 0)]


def test_an_unfinished_run_says_so_and_how_to_go_on(show: Show) -> None:
    page = show(unfinished_payload())
    assert "epoch 3 of 20" in texts(page, "#overview .notice")[0]
    assert texts(page, "#overview .command code") == ["ilk fit photos --resume"]
    assert texts(page, "#nav a") == ["Overview", "Next", "How", "Training"]


@pytest.mark.parametrize(("n", "tile"), [(10_000, 36), (20_000, 8)])
def test_a_large_report_loads_within_two_seconds(show: Show, n: int, tile: int) -> None:
    page = show(make_payload(n, 20, labels=True, tile=tile))
    timing = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
    assert wait(page, timing) < 2
    assert texts(page, "h1") == [f"{n:,} images in 20 clusters"]


def test_fifty_thousand_points_move_smoothly(show: Show) -> None:
    payload = make_payload(50_000, 50, tile=None)
    payload["neighbours"] = None
    page = show(payload)
    to_map(page)
    gaps = page.evaluate(
        """(async () => {
          const map = document.querySelector(".map-canvas");
          const frame = () => new Promise((done) => requestAnimationFrame(done));
          const times = [];
          for (let i = 0; i < 40; i++) {
            times.push(await frame());
            map.dispatchEvent(new WheelEvent("wheel", { deltaY: i < 20 ? -8 : 8, ctrlKey: true, cancelable: true }));
          }
          return times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
        })()"""
    )
    assert gaps[len(gaps) // 2] < 60  # 17 ms alone on two slow cores, without a graphics card; CI may be busy


@pytest.fixture(scope="module")
def trained_on_photographs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a run on the first n photographs of each class of flowers."""
    if not FLOWERS.is_dir():
        pytest.skip(f"the real photographs are not at {FLOWERS}")
    from ilk.pipeline.fitting import fit
    from ilk.pipeline.request import Request
    from ilk.runs.folder import Run

    def train(each: int, clusters: int, labels: str | None) -> Path:
        files = [file for kind in sorted(FLOWERS.iterdir()) for file in sorted(kind.glob("*.jpg"))[:each]]
        source, folder = tmp_path_factory.mktemp("flowers"), tmp_path_factory.mktemp("runs") / "flowers"
        for file in files:
            (source / file.parent.name).mkdir(exist_ok=True)
            (source / file.parent.name / file.name).symlink_to(file)
        request = Request(n_clusters=clusters, epochs=2, device="cpu", precision="float32", image_size=32)
        fit(request, source, Run(folder), labels=labels, cache_dir=tmp_path_factory.mktemp("cache"))
        return folder

    return train


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("each", "clusters", "labels"), [(12, 5, "folders"), (12, 3, None), (1, 2, None)])
def test_a_report_of_real_photographs_opens(
    show: Show, trained_on_photographs: Callable[..., Path], each: int, clusters: int, labels: str | None
) -> None:
    page = show(collect(trained_on_photographs(each, clusters, labels)))
    assert texts(page, "h1")[0].startswith(f"{5 * each} images in ")
    assert ("Confusion matrix" in texts(page, "main h2")) == (labels is not None)
