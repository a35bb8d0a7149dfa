"""A griffe extension that turns the docstrings of ilk into Markdown that reads well on a page."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

PARAMETER = re.compile(r"^`[^`]+`(?:, `[^`]+`)*:")
NEW_LINE = re.compile(r"(?<=[.;)]) (?=`[^`]+`(?:, `[^`]+`)*: |(?:Returns|Raises|Source|Departures?)\b)")
FORMULA = re.compile(r"(?:\S = \S|^mean_|\blog\(|\bexp\(|\bsum_)")
SECTION = re.compile(r"^-{3,}$", re.M)  # the underline of a numpydoc section


class ReadableDocstrings(Extension):
    """Lists for lines that explain a parameter, paragraphs for "Returns" and the like, code for formulas."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = numpydoc(text) if SECTION.search(text) else as_markdown(text)


def as_markdown(text: str) -> str:
    """`text` with Markdown's paragraphs, lists and code blocks where the docstring has plain lines."""
    blocks = [as_blocks(block.splitlines()) for block in re.split(r"\n\s*\n", text.expandtabs())]
    return "\n\n".join(line for block in blocks for line in block)


def as_blocks(lines: list[str]) -> list[str]:
    """The Markdown blocks of one paragraph of a docstring."""
    if all(line.startswith(("    ", ">", "|", "- ")) for line in lines):
        return ["\n".join(lines)]
    blocks: list[str] = []
    sentence = ""
    for line in [*lines, ""]:
        formula = is_formula(line)
        if (not line or formula or PARAMETER.match(line)) and sentence:
            blocks += [f"- {part}" if PARAMETER.match(part) else part for part in NEW_LINE.split(sentence)]
            sentence = ""
        if formula:
            blocks.append("    " + line)
        else:
            sentence = f"{sentence} {line.strip()}".strip()
    return blocks


def is_formula(line: str) -> bool:
    """Whether a line is mathematics and not a sentence."""
    return bool(FORMULA.search(line)) and "`" not in line and not re.search(r"[a-z]{3,} [a-z]{3,} [a-z]{3,}", line)


def numpydoc(text: str) -> str:
    """`text` with each `names : description` of a numpydoc section as `name` and an indented description.

    numpydoc has the type between the colon and the end of the line; here types stand in the signature.
    """
    lines = text.splitlines()
    result: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        entry = re.match(r"^(\w+(?:, \w+)*) : (.+)$", line)
        if entry and not following.startswith(" "):
            for name in entry[1].split(", "):
                result += [name, f"    {entry[2]}"]
        else:
            result.append(line)
    return "\n".join(result)
