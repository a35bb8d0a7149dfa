"""Text that can be shown and written anywhere."""

from __future__ import annotations


def safe_text(text: str) -> str:
    """`text` with what is no Unicode (file names may hold any bytes) as escapes such as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def in_short(error: BaseException) -> str:
    """The message of an error in one line of at most 200 characters, or its type where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
