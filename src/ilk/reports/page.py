"""The report's page: one HTML file that holds its style, script and data, and makes no network request."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from ilk.reports.bundle import bundle, small_style

ENTRY = "main.js"
STYLE = "base.css"  # comes before the style sheets of the modules
ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(payload: Mapping[str, Any]) -> str:
    """The whole page as a string; `payload` is what `payload.collect` returns.

    Nothing in the payload can become markup or code: it is in a JSON block without `<`, `>` and `&`, the script turns
    its strings into text nodes, and the policy in the page's head lets only the script run whose hash it names.
    Raises ValueError for a number that is not finite.
    """
    script, modules = bundle(read, ENTRY)
    style = "\n".join(line for name in (STYLE, *styles_of(modules)) for line in small_style(read(name)))
    parts = {
        "policy": policy(script, style),
        "title": html.escape(f"{payload['run']['name']} - ilk report"),
        "style": style,
        "data": as_json(payload),
        "script": script,
    }
    # One pass, so that a payload that holds a placeholder's name stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], read("report.html"))


def read(name: str) -> str:
    """The text of a file of the folder `web`, such as "lib/dom.js"."""
    return (resources.files("ilk.reports") / "web" / name).read_text(encoding="utf-8")


def styles_of(modules: Sequence[str]) -> list[str]:
    """The style sheets beside modules: `lib/grid.css` of `lib/grid.js`, in the order of the modules."""
    web = resources.files("ilk.reports") / "web"
    sheets = [name.removesuffix(".js") + ".css" for name in modules]
    return [sheet for sheet in sheets if (web / sheet).is_file()]


def policy(script: str, style: str) -> str:
    """The content security policy: only this script, this style, and images inside the page."""
    return (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    """The SHA-256 of a text in the notation of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def as_json(value: Any) -> str:
    """JSON that may stand inside a `<script>` element, whatever the strings in it are."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(ESCAPES)
