"""A griffe extension that turns the docstrings of ilk into Markdown that reads well on a page."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

PARAMETER = re.compile(r"^`[^`]+`(?:, `[^`]+`)*:")
PARAGRAPH = re.compile(r"^(Returns|Raises|Source|Departure|Departures|Memory)\b")
FORMULA = re.compile(r"(?: = |^mean_|\blog\(|\bexp\(|\bsum_)")


class ReadableDocstrings(Extension):
    """Lists for lines that explain a parameter, paragraphs for "Returns" and the like, code for formulas."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring and not re.search(r"^-{3,}$", obj.docstring.value, re.M):  # numpydoc sections stay as they are
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """`text` with Markdown's blank lines, bullets and code blocks where the docstring has plain lines."""
    lines: list[str] = []
    kind = "text"
    for line in text.expandtabs().splitlines():
        new = kind_of(line, kind)
        if new != "continued" and (new != kind or new == "paragraph") and lines and lines[-1].strip():
            lines.append("")
        if new == "parameter":
            lines.append("- " + line)
        elif new == "formula":
            lines.append("    " + line)
        elif new == "continued" and kind == "parameter":
            lines.append("  " + line.strip())
        else:
            lines.append(line)
        kind = kind if new == "continued" else new
    return "\n".join(lines)


def kind_of(line: str, before: str) -> str:
    """What a line is: parameter, paragraph, formula, continued (of what was before) or text."""
    if not line.strip():
        return "text"
    if PARAMETER.match(line):
        return "parameter"
    if PARAGRAPH.match(line):
        return "paragraph"
    if is_formula(line):
        return "formula"
    return "continued" if before != "formula" else "text"


def is_formula(line: str) -> bool:
    """Whether a line is mathematics and not a sentence."""
    return bool(FORMULA.search(line)) and "`" not in line and not re.search(r"[a-z]{3,} [a-z]{3,} [a-z]{3,}", line)
