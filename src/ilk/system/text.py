"""Small helpers for text in files and messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches


def safe_text(text: str) -> str:
    """`text` with its invalid characters as escapes such as `\\udcff`: file names may hold any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def in_short(error: BaseException) -> str:
    """The message of an error in one line of at most 200 characters, or its type where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def did_you_mean(name: str, known: Iterable[str], *, shown: Callable[[str], str] = str) -> str:
    """` Did you mean 'x'?`, with the nearest of the `known` names, or nothing where none is near.

    `shown`: how the sentence writes that name, such as a file with its folder.
    """
    near = get_close_matches(name, list(known), 1)
    return f" Did you mean '{shown(near[0])}'?" if near else ""
