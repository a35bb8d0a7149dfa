"""The methods, one paper a file, and what a method of your own is made of."""

from __future__ import annotations

from ilk.methods.base import Method
from ilk.methods.c2bin import C2BIN
from ilk.methods.cc import CC
from ilk.methods.crlc import CRLC
from ilk.methods.dcdc import DCDC
from ilk.methods.records import (
    Count,
    Number,
    Positive,
    Preset,
    Recipe,
    Share,
    Weight,
    override,
    setting,
    settings,
)
from ilk.methods.registry import METHODS, get_method, get_preset, method_of_run, use_method
from ilk.methods.scl import SCL
from ilk.methods.subheads import SubHeads

__all__ = [
    "C2BIN",
    "CC",
    "CRLC",
    "DCDC",
    "METHODS",
    "SCL",
    "Count",
    "Method",
    "Number",
    "Positive",
    "Preset",
    "Recipe",
    "Share",
    "SubHeads",
    "Weight",
    "get_method",
    "get_preset",
    "method_of_run",
    "override",
    "setting",
    "settings",
    "use_method",
]
