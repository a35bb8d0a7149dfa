"""How many processes train together and which one this is, by the variables of torchrun. Does not import torch."""

from __future__ import annotations

import os


def world() -> int:
    """The number of processes that train together; 1 without torchrun."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """The number of this process among them, from 0."""
    return _number("RANK", 0) if world() > 1 else 0


def _number(name: str, default: int) -> int:
    """The number in an environment variable, or `default` if it holds none."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else default
