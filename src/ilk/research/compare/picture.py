"""The picture of a comparison: scores of each seed, their mean, and what is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ilk.reports.plotting import DOTS_PER_INCH, OKABE_ITO, STYLE, figure
from ilk.research.baselines import BASELINES
from ilk.research.compare.comparison_table import SHOWN
from ilk.research.compare.groups import grouped, method_name, variant
from ilk.research.compare.published_figures import published_for
from ilk.research.labelled import short_name
from ilk.research.score_tables import TITLES
from ilk.system.files import replacing
from ilk.system.text import safe_text

PUBLISHED_NAME = {"accuracy": "acc", "nmi_arithmetic": "nmi", "ari": "ari"}


def draw_comparison(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a PNG: a panel for each source and score, a dot for each seed, a bar at the mean, a cross if published.

    Draws nothing where every row failed. Raises ImportError without matplotlib.
    """
    import matplotlib

    groups = [group for group in grouped(rows) if group["seeds"]]
    sources = list(dict.fromkeys(group["source"] for group in groups))
    if not groups:
        return
    with matplotlib.rc_context(STYLE), figure() as plot:
        tallest = max(sum(group["source"] == source for group in groups) for source in sources)
        plot.set_size_inches(9, 0.8 + len(sources) * (0.7 + 0.3 * tallest))
        axes = plot.subplots(len(sources), len(SHOWN), squeeze=False, sharex="col")
        for source, panels in zip(sources, axes, strict=True):
            members = [group for group in groups if group["source"] == source]
            names = [safe_text(method_name(member) + variant(member, members)) for member in members]
            for score, panel in zip(SHOWN, panels, strict=True):
                draw_scores(panel, members, score)
                lowest = min(value for group in groups for value in group[f"{score}_each"])
                panel.set_xlim(min(0.0, lowest - 0.02), 1)
                panel.set_title(f"{short_name(source)}: {TITLES[score]}", loc="left", fontsize=9)
                panel.set_yticks(range(len(members)) if score == SHOWN[0] else [], names if score == SHOWN[0] else [])
        legend = "dot: one seed, bar: their mean"
        legend += "; cross: published, under another protocol" if any(map(published_for, groups)) else ""
        plot.supxlabel(legend, fontsize=8)
        with replacing(path) as temporary:
            plot.savefig(temporary, format="png", dpi=DOTS_PER_INCH)


def draw_scores(panel: Any, members: Sequence[Mapping[str, Any]], score: str) -> None:
    """One panel, a line for each group."""
    for height, group in enumerate(members):
        colour = OKABE_ITO[5 if group["method"] in BASELINES else 0]
        each = group[f"{score}_each"]
        panel.plot([group[score]] * 2, [height - 0.3, height + 0.3], color=colour, linewidth=2)
        panel.plot(each, [height] * len(each), "o", color=colour, alpha=0.6, markersize=5)
        for published in published_for(group):
            value = published[PUBLISHED_NAME[score]]
            if value is not None:
                panel.plot(value, height, "x", color=OKABE_ITO[4], markersize=6)
    panel.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    panel.set_ylim(len(members) - 0.5, -0.5)
    panel.grid(axis="x", alpha=0.3)
