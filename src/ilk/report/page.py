"""The report's page: one HTML file that holds its style, its script and its data, and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

SCRIPTS = (
    "base.js",
    "pictures.js",
    "dialogs.js",
    "charts.js",
    "curve.js",
    "how_many.js",
    "dots.js",
    "map.js",
    "clusters.js",
    "sections.js",
    "odd.js",
    "main.js",
)
ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(payload: Mapping[str, Any]) -> str:
    """The whole page as a string; `payload` is what `payload.collect` returns.

    Nothing in the payload can become markup or code: it stands in a JSON block without `<`, `>` and `&`, the script
    makes text nodes of it, and the policy in the page's head lets no script run but the one whose hash it names.
    Raises ValueError for a number that is not finite.
    """
    script = "\n".join(read(name) for name in SCRIPTS)
    style = read("report.css")
    parts = {
        "policy": policy(script, style),
        "title": html.escape(f"{payload['run']['name']} - ilk report"),
        "style": style,
        "data": as_json(payload),
        "script": script,
    }
    # One pass, so that a payload that holds a placeholder's name stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], read("report.html"))


def read(name: str) -> str:
    """The text of a file of the folder `web`."""
    return (resources.files("ilk.report") / "web" / name).read_text(encoding="utf-8")


def policy(script: str, style: str) -> str:
    """The content security policy: this script, this style, pictures inside the page, and nothing else."""
    return (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    """The text's hash as a content security policy writes it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def as_json(value: Any) -> str:
    """JSON that may stand inside a `<script>` element, whatever the strings in it are."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(ESCAPES)
