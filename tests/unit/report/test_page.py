"""The page as text: whole, closed to the network, and safe whatever the files are called."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ilk.reports
from ilk.reports.bundle import bundle, split_imports
from ilk.reports.page import ENTRY, STYLE, as_json, read, render, styles_of
from made_payloads import HOSTILE, make_payload, unfinished_payload

WEB = Path(ilk.reports.__file__).parent / "web"
MODULES = bundle(read, ENTRY)[1]


def policy_of(page: str) -> dict[str, str]:
    """The directives of the page's content security policy."""
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert found is not None
    parts = (part.strip().partition(" ") for part in found[1].split(";"))
    return {name: value for name, _, value in parts}


def digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def without_data(page: str) -> str:
    return re.sub(r'(id="data">).*?(</script>)', r"\1\2", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def hostile() -> str:
    return render(make_payload(30, 4, labels=True, names=HOSTILE, bad=9))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_in_the_data_is_markup(text: str) -> None:
    written = as_json({text: [text]})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {text: [text]}


def test_the_page_holds_the_payload_as_it_was(hostile: str) -> None:
    assert data_of(hostile) == make_payload(30, 4, labels=True, names=HOSTILE, bad=9)


def test_hostile_names_make_no_element_and_no_script(hostile: str) -> None:
    for text in HOSTILE:
        if set("<>") & set(text):
            assert text not in hostile
    harmless = render(make_payload(30, 4, labels=True, bad=9))
    for tag in ("<script", "</script", "<img", "<style", "<!--"):
        assert without_data(hostile).count(tag) == without_data(harmless).count(tag)


def test_the_title_is_escaped() -> None:
    payload = make_payload(3, 1)
    payload["run"]["name"] = "</title><script>alert(1)</script>"
    title = re.search(r"<title>(.*?)</title>", render(payload))
    assert title is not None
    assert html.unescape(title[1]) == "</title><script>alert(1)</script> - ilk report"


def test_a_name_that_is_a_placeholder_stays_a_name(hostile: str) -> None:
    assert "{{script}}{{data}}" in data_of(hostile)["images"]["id"]
    assert not re.search(r"\{\{\w+\}\}", without_data(hostile))


def test_the_policy_lets_only_this_script_and_this_style_in(hostile: str) -> None:
    scripts = re.findall(r'<script type="module">(.*?)</script>', hostile, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", hostile, re.DOTALL)
    assert len(scripts) == len(styles) == 1
    assert policy_of(hostile) == {
        "default-src": "'none'", "script-src": digest(scripts[0]), "style-src": digest(styles[0]),
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip


def test_the_policy_stands_before_anything_it_governs(hostile: str) -> None:
    place = hostile.index("Content-Security-Policy")
    assert place < hostile.index("<style>") < hostile.index("<script")


def test_the_page_asks_the_network_for_nothing(hostile: str) -> None:
    page = without_data(hostile)
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a language, never asked for
    assert not re.search(r"\bsrc\s*=\s*[\"']", page)
    assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]*)"', page))
    assert not re.search(r"@import|url\((?!\"\$\{)", page)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import)\s*\(", page)


def test_no_script_reads_a_string_as_markup_or_code() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|</script|<!--"
    assert {name: re.findall(forbidden, read(name)) for name in MODULES} == {name: [] for name in MODULES}


def test_every_file_of_the_page_is_used() -> None:
    files = {path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.suffix in (".js", ".css")}
    assert files == {*MODULES, STYLE, *styles_of(MODULES)}


def test_modules_and_style_sheets_are_one_thought_long() -> None:
    lengths = {name: len(read(name).splitlines()) for name in (*MODULES, STYLE, *styles_of(MODULES))}
    assert {name: length for name, length in lengths.items() if length > 330} == {}


def test_components_know_nothing_of_the_report() -> None:
    """The modules of lib/ and charts/ can be used by another page."""
    for name in MODULES:
        if name.startswith(("lib/", "charts/")):
            for source, _ in split_imports(read(name), name)[0]:
                assert source.startswith(("lib/", "charts/")), f"{name} imports {source}"


def test_the_lock_file_of_the_web_tools_names_no_registry() -> None:
    lock = json.loads((Path(__file__).parents[3] / "tools" / "web" / "package-lock.json").read_text())
    assert len(lock["packages"]) > 10 and not any("resolved" in package for package in lock["packages"].values())


def test_the_page_is_the_same_each_time(hostile: str) -> None:
    assert render(make_payload(30, 4, labels=True, names=HOSTILE, bad=9)) == hostile


def test_a_number_that_is_not_finite_is_refused() -> None:
    payload = make_payload(3, 1)
    payload["scores"][0]["value"] = float("nan")
    with pytest.raises(ValueError, match="JSON compliant"):
        render(payload)


@pytest.mark.parametrize("payload", [make_payload(3, 2), make_payload(1, 1, tile=None), unfinished_payload()])
def test_small_and_unfinished_runs_make_a_page(payload: dict[str, Any]) -> None:
    assert data_of(render(payload)) == payload


def test_the_page_itself_is_small() -> None:
    assert len(without_data(render(make_payload(3, 1))).encode()) < 160_000


# What the eyes of people with deuteranopia and protanopia make of linear RGB (Machado et al. 2009, table 1).
EYES = {
    "usual": np.eye(3),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def colours(theme: str) -> tuple[np.ndarray, float]:
    """The eight hues of a theme in linear RGB, and the luminance of its ground."""
    pairs = re.findall(r"--(hue-\d|surface): light-dark\(#(\w{6}), #(\w{6})\)", read("lib/theme.css"))
    found = {name: light if theme == "light" else dark for name, light, dark in pairs}
    assert len(found) == 9
    rgb = np.array([[int(found[name][i : i + 2], 16) for i in (0, 2, 4)] for name in sorted(found)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear[:8], float(linear[8] @ TO_XYZ[1])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_hues_of_clusters_differ_to_colour_blind_eyes(theme: str) -> None:
    hues, ground = colours(theme)
    luminance = hues @ TO_XYZ[1]
    contrast = (np.maximum(luminance, ground) + 0.05) / (np.minimum(luminance, ground) + 0.05)
    assert contrast.min() >= 2.99
    for eyes in EYES.values():
        x, y, z = np.cbrt((hues @ eyes.T).clip(0, 1) @ TO_XYZ.T / [0.9505, 1, 1.089]).T  # CIELAB, but for near black
        lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
        far = np.linalg.norm(lab[:, None] - lab[None], axis=2)
        assert far[~np.eye(8, dtype=bool)].min() > 25
