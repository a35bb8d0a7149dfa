"""Which of several processes this is, as their launcher says; no torch, so that it can be asked at any time."""

from __future__ import annotations

import os


def world() -> int:
    """How many processes work together; 1 where nothing says otherwise."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """The number of this process, from 0."""
    return _number("RANK", 0) if world() > 1 else 0


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else default
