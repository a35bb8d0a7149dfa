"""What the figures of a report share: a style, colours for clusters, lines, ticks and names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Okabe and Ito's eight colours; more clusters than that take shades of viridis
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
NAMED = 30  # clusters or labels whose ticks are written out
DOTS_PER_INCH = 200
STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
    "svg.hashsalt": "ilk", "figure.constrained_layout.use": True, "text.parse_math": False,
}  # fmt: skip


@contextmanager
def figure() -> Iterator[Any]:
    """An empty figure, without a window and without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plot = Figure(figsize=(5, 3.6))
    FigureCanvasAgg(plot)
    yield plot


def colours_of(payload: dict[str, Any]) -> Any:
    """A colour for each cluster, RGBA, (k, 4)."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    k = len(payload["clusters"])
    if k <= len(OKABE_ITO):
        return np.array([to_rgba(OKABE_ITO[i]) for i in range(k)])
    return colormaps["viridis"](np.linspace(0, 1, k))


def scatter(axes: Any, x: Any, y: Any, cluster: Any, payload: dict[str, Any], size: float) -> None:
    """Draws dots in the colours of their clusters, gray without clusters; both axes have the same scale."""
    colours = "#777777" if cluster is None else colours_of(payload)[np.asarray(cluster)]
    axes.scatter(x, y, s=size, c=colours, linewidths=0, rasterized=True)
    axes.set_aspect("equal", adjustable="datalim")


def cluster_key(plot: Any, payload: dict[str, Any]) -> None:
    """Adds a legend of the clusters, if there are at most 30."""
    from matplotlib.lines import Line2D

    colours = colours_of(payload)
    if len(colours) > NAMED:
        return
    dots = [Line2D([], [], marker="o", linestyle="", color=colour, markersize=4) for colour in colours]
    names = [name_of(cluster) for cluster in payload["clusters"]]
    plot.legend(dots, names, title="cluster", loc="outside right upper", frameon=False, ncols=math.ceil(len(dots) / 15))


def lines(
    axes: Any, x: list[int], columns: dict[str, Any], *, first: int = 0, legend: bool = True, width: float = 1.5
) -> None:
    """Draws a line per column, with gaps where there is no value."""
    styles = ("-", "--", "-.", ":")
    for number, (name, values) in enumerate(columns.items()):
        y = np.array([math.nan if value is None else value for value in values], dtype=float)
        colour = OKABE_ITO[(first + number) % 5]
        marker = "o" if len(x) < 20 else ""
        style = styles[number // 5 % 4]
        axes.plot(x, y, style, color=colour, marker=marker, markersize=3, linewidth=width, label=name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if legend and columns:
        axes.legend(frameon=False)


def ticks(axes: Any, names: list[str], which: str) -> None:
    """Writes names at the ticks of the axes `which` ("x", "y" or "xy"), or none where they would overlap."""
    for axis in which:
        if len(names) > NAMED:
            getattr(axes, f"set_{axis}ticks")([])
        else:
            steep = 90 if axis == "x" and max(map(len, names), default=0) > 4 else 0
            getattr(axes, f"set_{axis}ticks")(range(len(names)), names, rotation=steep)


def name_of(cluster: dict[str, Any]) -> str:
    """The name of a cluster, or its number."""
    return str(cluster["number"]) if cluster["name"] is None else shortened(cluster["name"])


def shortened(text: str) -> str:
    """A name on one line of at most 24 characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= 24 else line[:23] + "…"
