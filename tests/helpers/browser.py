"""Pages in a headless Chromium: fixtures that open them and watch for errors and requests, and a reader's hands."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, sync_playwright

from ilk.reports.page import render

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb")
PATIENCE = 20.0  # seconds until a wait is given up

Show = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser; the program that `ILK_CHROMIUM` names, the system's, or the one that Playwright has installed."""
    with sync_playwright() as playwright:
        program = os.environ.get("ILK_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
        if program is None and not Path(playwright.chromium.executable_path).is_file():
            pytest.skip("no Chromium found; install it, or set ILK_CHROMIUM to the program")
        opened = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """`show(payload, width=, height=, dark=, touch=)` opens the page of a payload and returns it.

    Afterwards there must have been no error or warning, no request to anywhere and no dialog.
    """
    contexts: list[BrowserContext] = []
    troubles: list[str] = []

    def open_page(payload: dict[str, Any], **options: Any) -> Page:
        file = tmp_path / f"report {len(contexts)}.html"
        file.write_text(render(payload), encoding="utf-8")
        contexts.append(new_context(browser, **options))
        page = contexts[-1].new_page()
        troubles.append("")  # where a page's troubles begin
        watch(page, troubles)
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert list(filter(None, troubles)) == []


def new_context(
    browser: Browser, *, width: int = 1280, height: int = 900, dark: bool = False, touch: bool = False
) -> BrowserContext:
    """A window of that size, without the memory of others; a phone's where it is narrow."""
    return browser.new_context(
        viewport={"width": width, "height": height},
        is_mobile=width < 600,
        has_touch=touch,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )


def watch(page: Page, troubles: list[str]) -> None:
    """Adds to `troubles` what the page must not do: errors, warnings, requests but to its own file, dialogs."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            troubles.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith(("data:", "file:")):
            troubles.append(f"request: {request.url[:200]}")

    def on_dialog(dialog: Dialog) -> None:
        troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", on_console)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", on_request)
    page.on("dialog", on_dialog)


def wait(page: Page, script: str, seconds: float = PATIENCE) -> Any:
    """The value of an expression as soon as it is true; Playwright's own wait needs `eval`, which the page forbids."""
    deadline = time.monotonic() + seconds
    while not (value := page.evaluate(script)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"never true: {script}")
        page.wait_for_timeout(20)
    return value


def texts(page: Page, selector: str) -> list[str]:
    """The text of each such element."""
    return page.locator(selector).all_text_contents()


def visible(page: Page, selector: str) -> bool:
    """Whether the first such element is there and can be seen."""
    return page.evaluate("(s) => !!document.querySelector(s)?.checkVisibility()", selector)


def middle(page: Page, selector: str) -> tuple[float, float]:
    """Scrolls the first such element into the middle of the window; its own middle."""
    box = page.locator(selector).first.evaluate(
        "(node) => { node.scrollIntoView({ block: 'center', behavior: 'instant' });"
        " const b = node.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; }"
    )
    return box[0], box[1]


def drag(page: Page, points: Sequence[tuple[float, float]], *, shift: bool = False) -> None:
    """Presses the mouse at the first point, moves it along the others and lets it go."""
    if shift:
        page.keyboard.down("Shift")
    page.mouse.move(*points[0])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(x, y)
    page.mouse.up()
    if shift:
        page.keyboard.up("Shift")
