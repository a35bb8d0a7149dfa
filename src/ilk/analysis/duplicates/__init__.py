"""Duplicate images, and images that look blank or broken."""

from __future__ import annotations

from collections.abc import Sequence

from ilk.analysis.duplicates.find import DuplicateGroup, find_duplicates
from ilk.analysis.duplicates.flags import Flag, flag_images

__all__ = ["DuplicateGroup", "Flag", "find_duplicates", "flag_images", "odd_line"]


def odd_line(groups: Sequence[DuplicateGroup], flags: Sequence[Flag]) -> str | None:
    """One line on how many duplicates and odd images there are and which file lists them; None if there are none."""
    parts = []
    if groups:
        kind = "exact copies" if all(group.kind == "exact" for group in groups) else "near-duplicates"
        images = sum(len(group.rows) for group in groups)
        parts.append(f"{counted(len(groups), 'group')} of {kind} ({images:,} images) in duplicates.csv")
    broken = sum(flag.flag in ("blank", "cut") for flag in flags)
    if broken:
        parts.append(f"{counted(broken, 'image')} {'looks' if broken == 1 else 'look'} blank or broken: flags.csv")
    others = len(flags) - broken
    if others:
        parts.append(
            f"{counted(others, 'image')} {'is' if others == 1 else 'are'} very dark, bright or blurred: flags.csv"
        )
    return "; ".join(parts) or None


def counted(number: int, noun: str) -> str:
    """The number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
