"""Duplicates and odd images (blank, dark, blurred), read from the tables of a run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from ilk.reports.folder import attempt

GROUPS, EACH, FLAGS = 60, 24, 120  # the most that are shown: groups, images of a group, flagged images


@dataclass(frozen=True)
class Odd:
    """The content of duplicates.csv and flags.csv, with row numbers instead of ids."""

    groups: list[list[tuple[int, str, float]]] = field(default_factory=list)  # row, "exact" or "near", similarity
    flags: list[tuple[int, str, str]] = field(default_factory=list)  # row, flag, sentence

    @property
    def rows(self) -> list[int]:
        """The images that a report shows if there is room."""
        copies = [row for group in self.groups[:GROUPS] for row, _, _ in group[:EACH]]
        return list(dict.fromkeys([*copies, *(row for row, _, _ in self.flags[:FLAGS])]))


def read_odd(folder: Path, ids: Sequence[str], notes: list[str]) -> Odd:
    """The two tables, empty where a run has none; a damaged one costs a sentence in `notes`."""
    row_of = {text: row for row, text in enumerate(ids)}
    groups = attempt(lambda: read_groups(folder / "duplicates.csv", row_of), [], notes)
    return Odd(groups, attempt(lambda: read_flags(folder / "flags.csv", row_of), [], notes))


def read_groups(file: Path, row_of: dict[str, int]) -> list[list[tuple[int, str, float]]]:
    """The groups of duplicates. Raises ValueError for a damaged table."""
    try:
        lines = read_rows(file)
        return [
            [(row_of[line["id"]], line["kind"], float(line["similarity"])) for line in group]
            for _, group in groupby(lines, key=lambda line: line["group"])
        ]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ValueError(f"'{file}' is damaged, so duplicates are not shown.") from None


def read_flags(file: Path, row_of: dict[str, int]) -> list[tuple[int, str, str]]:
    """The flagged images. Raises ValueError for a damaged table."""
    try:
        return [(row_of[line["id"]], line["flag"], line["sentence"] or "") for line in read_rows(file)]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ValueError(f"'{file}' is damaged, so odd images are not shown.") from None


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where there is no such file."""
    if not file.is_file():
        return []
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def odd_payload(odd: Odd, position: dict[int, int]) -> dict[str, Any] | None:
    """The part of the payload, with places among the images shown (`position`); None for a run without oddities."""
    if not odd.groups and not odd.flags:
        return None
    groups = []
    for group in odd.groups[:GROUPS]:
        shown = [(position[row], kind, similarity) for row, kind, similarity in group[:EACH] if row in position]
        if len(shown) > 1:
            groups.append({
                "size": len(group), "index": [place for place, _, _ in shown],
                "exact": [kind == "exact" for _, kind, _ in shown],
                "similarity": [round(similarity, 3) for _, _, similarity in shown], "first": group[0][0] in position,
            })  # fmt: skip
    flags = [{"index": position[row], "flag": flag, "text": text} for row, flag, text in odd.flags if row in position]
    return {
        "groups": groups, "n_groups": len(odd.groups), "n_copies": sum(map(len, odd.groups)),
        "flags": flags[:FLAGS], "n_flags": len(odd.flags),
    }  # fmt: skip
