"""The table of a comparison, and the Markdown page around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ilk.research.compare.groups import grouped, method_name, table_notes, variant
from ilk.research.compare.published_figures import notes, published_for, triple
from ilk.research.labelled import short_name
from ilk.research.score_tables import SCORES, TITLES, markdown, spread
from ilk.system.progress import spell

SHOWN = tuple(name for name in SCORES if name != "nmi_geometric")
HEADER = ("set", "method", *(TITLES[name] for name in SHOWN), "seeds", "collapsed", "time each")
PUBLISHED = "published ACC / NMI / ARI"


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells: one line for each source and method, with published figures if there are any.

    Rows that differ in preset, settings or balance have lines of their own, named where a method has several.
    """
    groups = grouped(rows)
    published = [published_for(group) for group in groups]
    header = [*HEADER, *([PUBLISHED] if any(published) else [])]
    lines = []
    for group, figures in zip(groups, published, strict=True):
        line = [
            short_name(group["source"]), method_name(group) + variant(group, groups),
            *(spread(group[name], group[f"{name}_sd"]) for name in SHOWN),
            str(group["seeds"]) + (f" ({group['failed']} failed)" if group["failed"] else ""),
            str(group["collapsed"]), time_of(group["training_seconds"]),
        ]  # fmt: skip
        lines.append([*line, *(["; ".join(map(triple, figures)) or "-"] if any(published) else [])])
    return header, lines


def time_of(seconds: float | None) -> str:
    """A time in words, with two digits below ten seconds."""
    if seconds is None:
        return "-"
    return f"{seconds:.2g} s" if seconds < 10 else spell(seconds)


def results_page(rows: Sequence[Mapping[str, Any]], command: str) -> str:
    """results.md: the table, how published protocols differ, what failed, and the machine and versions."""
    header, lines = comparison_table(rows)
    parts = ["# Comparison", markdown(header, lines)]
    parts += [
        f"Mean +- standard deviation (n - 1) over seeds. {table_notes(rows)} Time: of one training or clustering."
    ]
    published = [f"- {text}" + (f" {note}" if note else "") for text, note in notes(rows)]
    parts += ["Published figures (ACC / NMI / ARI):\n\n" + "\n".join(published)] if published else []
    short = dict.fromkeys(
        f"- {short_name(row['source'])}, seed {row['seed']}: {row['imbalance_reached']:.4g} instead of"
        f" {row['imbalance']:.4g}, because there are too few images" for row in rows
        if row.get("imbalance") and (row.get("imbalance_reached") or math.inf) < 0.95 * row["imbalance"]
    )  # fmt: skip
    parts += ["Tails shorter than was asked for:\n\n" + "\n".join(short)] if short else []
    failed = [
        f"- {row['method']} on {short_name(row['source'])}, seed {row['seed']}: {row['error']}"
        for row in rows
        if row["error"]
    ]
    parts += ["Failed:\n\n" + "\n".join(failed)] if failed else []
    made = dict.fromkeys(
        f"{row['machine']}, {row['threads']} threads, ilk {row['versions']['ilk']}, torch {row['versions']['torch']},"
        f" scikit-learn {row['versions']['scikit-learn']}" for row in rows
    )  # fmt: skip
    parts += [f"Made on {'; '.join(made)}." + (f"\n\n    {command}" if command else "")]
    return "\n\n".join(parts) + "\n"
