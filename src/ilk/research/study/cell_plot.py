"""The plot of a study: the scores of each cell, and what is published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ilk.research import published
from ilk.research.study.definition import PRINTED_AS, SCORES, Cell, Study
from ilk.research.study.setting import StudySetting
from ilk.system.files import replacing

OURS, PRINTED = "#0072B2", "#D55E00"  # colour-blind people can tell them apart


def draw_study(study: Study, scores: Mapping[str, Mapping[int, float]], path: Path, setting: StudySetting) -> bool:
    """Writes a PNG with a line for each cell: dots for seeds, a bar for mean and standard deviation, published scores.

    `scores`: {cell: {seed: score}}. Returns False, and draws nothing, without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6, 1.3 + 0.42 * len(study.cells)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for place, cell in enumerate(study.cells):
            draw_cell(axes, place, list(scores[cell.name].values()), study, cell)
        axes.set_yticks(range(len(study.cells)), [cell.name for cell in study.cells])
        axes.set_ylim(len(study.cells) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel(
            f"{SCORES[study.score]} on {setting.source}\na dot per seed, a bar for mean and standard deviation"
        )
        axes.set_title(study.title, loc="left", fontsize=10)
        handles, names = axes.get_legend_handles_labels()
        once = dict(zip(names, handles, strict=True))
        if once:
            figure.legend(once.values(), once.keys(), loc="outside lower right", frameon=False, fontsize=8)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    return True


def draw_cell(axes: Any, place: int, values: list[float], study: Study, cell: Cell) -> None:
    """One line of the plot."""
    import numpy as np

    if values:
        spread_of = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        axes.errorbar(np.mean(values), place, xerr=spread_of, fmt="|", color=OURS, capsize=4, markersize=12)
        axes.scatter(values, [place] * len(values), s=14, color=OURS, alpha=0.6, linewidths=0)
    column = PRINTED_AS[study.score]
    for (name, printed), mark in zip(study.printed(cell).items(), "Dso^v", strict=False):
        if column in printed:
            axes.scatter([printed[column]], [place], marker=mark, s=26, facecolors="none", edgecolors=PRINTED,
                         label=f"published, {published.DATASETS[name]}")  # fmt: skip
