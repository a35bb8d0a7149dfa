"""Checks of single options of a request that need more than a type and a range. Torch is loaded only where needed."""

from __future__ import annotations

from ilk.system.text import did_you_mean
from ilk.system.validation import shown


def range_of(text: str) -> tuple[int, int | None]:
    """The least and the greatest number of clusters that "auto" or a range such as "5-60" allows (None: no limit)."""
    if text.strip().lower() == "auto":
        return 2, None
    low, dash, high = (part.strip() for part in text.partition("-"))
    if not (dash and low.isdecimal() and high.isdecimal() and 2 <= int(low) < int(high)):
        raise ValueError(wrong_number(text))
    return int(low), int(high)


def wrong_number(given: object) -> str:
    return (
        "The number of clusters must be a whole number of at least 2, auto, or a range such as 5-60; got"
        f" {shown(given)}."
    )


def is_module(value: object) -> bool:
    """Whether `value` is an `nn.Module`; torch is loaded only where it may be one."""
    if value is None or isinstance(value, str):
        return False
    from torch import nn

    return isinstance(value, nn.Module)


def check_backbone(name: str) -> None:
    """Raises ValueError, before any image is read, for a name that means neither a network nor an encoder."""
    from ilk.networks.backbones import backbone_names
    from ilk.networks.pretrained import SHORT_NAMES

    known = (*backbone_names(), *SHORT_NAMES)
    if name in ("auto", *known) or ":" in name:  # hf:..., run:..., weights:..., which their readers check
        return
    hint = f" For a model of the Hugging Face hub write hf:{name}." if "/" in name else did_you_mean(name, known)
    raise ValueError(
        f"Unknown backbone '{name}'.{hint} Pretrained: {', '.join(SHORT_NAMES)}, hf:ID, run:FOLDER, weights:FILE. From"
        f" scratch: {', '.join(backbone_names())}."
    )


def needless(method: str, what: str, hook: str) -> str:
    from ilk.methods import METHODS

    able = [name for name, kind in METHODS.items() if getattr(kind, hook)]
    return f"Method {method} has no use for {what}. Methods that have: {', '.join(able)}."
