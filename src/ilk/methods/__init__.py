"""The methods: one paper, one file."""

from __future__ import annotations

from difflib import get_close_matches

from ilk.methods.base import Method
from ilk.methods.c2bin import C2BIN
from ilk.methods.cc import CC
from ilk.methods.crlc import CRLC
from ilk.methods.dcdc import DCDC
from ilk.methods.scl import SCL
from ilk.methods.settings import Preset, Recipe, override

METHODS: dict[str, type[Method]] = {"cc": CC, "crlc": CRLC, "scl": SCL, "dcdc": DCDC, "c2bin": C2BIN}


def get_method(name: str) -> type[Method]:
    """The method called `name`. Raises ValueError with the nearest name."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"Unknown method '{name}'.{hint} Known: {', '.join(METHODS)}.")
    return METHODS[name]


def get_preset(method: str, preset: str) -> Preset:
    """The preset of a method. Raises ValueError with the known names."""
    presets = get_method(method).presets
    if preset not in presets:
        raise ValueError(f"Method '{method}' has no preset '{preset}'. Known: {', '.join(presets)}.")
    return presets[preset]


__all__ = [
    "C2BIN",
    "CC",
    "CRLC",
    "DCDC",
    "METHODS",
    "SCL",
    "Method",
    "Preset",
    "Recipe",
    "get_method",
    "get_preset",
    "override",
]
