"""The plots of a report as files for a paper: SVG and PNG, in colours that the colour-blind can tell apart."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ilk.reports.neighbours import LEVELS
from ilk.reports.payload import collect
from ilk.reports.sprites import MOST
from ilk.system.files import replacing

# Okabe and Ito's eight colours; more clusters than that take shades of viridis
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
NAMED = 30  # clusters or labels whose ticks are written out
DOTS_PER_INCH = 200
STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
    "svg.hashsalt": "ilk", "figure.constrained_layout.use": True, "text.parse_math": False,
}  # fmt: skip
EPOCHS = "epoch (passes over the images)"

Draw = Callable[[Any, dict[str, Any]], None]


def write_figures(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], *, most: int = MOST, layout: str | None = None
) -> list[Path]:
    """Writes each plot that the run has something for into `out`, as `NAME.svg` and `NAME.png`; returns the files.

    Raises ValueError, a sentence, without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        raise ValueError(
            "The figures need matplotlib, which is not installed. Install it with: pip install 'ilk[figures]'"
        ) from None
    payload, target = collect(folder, most, layout=layout), Path(out)
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with matplotlib.rc_context(STYLE):
        for name, draw in FIGURES.items():
            if not wanted(name, payload):
                continue
            with figure() as plot:
                draw(plot, payload)
                for ending in ("svg", "png"):
                    file = target / f"{name}.{ending}"
                    with replacing(file) as temporary:
                        plot.savefig(temporary, format=ending, dpi=DOTS_PER_INCH, metadata={"Date": None}
                                     if ending == "svg" else None)  # fmt: skip
                    written.append(file)
    return written


@contextmanager
def figure() -> Iterator[Any]:
    """An empty figure of its own: no window, no state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plot = Figure(figsize=(5, 3.6))
    FigureCanvasAgg(plot)
    yield plot


def wanted(name: str, payload: dict[str, Any]) -> bool:
    """Whether there is anything to draw."""
    training, found = payload["training"], payload["map"]
    if name in ("training", "usage"):
        return bool(training["epoch"])
    if name == "k-curve":
        return payload["how_many"] is not None and payload["how_many"]["curve"] is not None
    if name == "pairs":
        return training["pairs"] is not None
    if not payload["run"]["finished"]:
        return False
    if name == "moments":
        return bool(found["moments"])
    if name == "reliability":
        return payload["confidence"]["reliability"] is not None
    return name != "confusion" or payload["confusion"] is not None


def colours_of(payload: dict[str, Any]) -> Any:
    """A colour for each cluster, (k, 3 or 4)."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    k = len(payload["clusters"])
    if k <= len(OKABE_ITO):
        return np.array([to_rgba(OKABE_ITO[i]) for i in range(k)])
    return colormaps["viridis"](np.linspace(0, 1, k))


def scatter(axes: Any, x: Any, y: Any, cluster: Any, payload: dict[str, Any], size: float) -> None:
    """Dots in the colours of their clusters, grey where there are none yet; both axes on one scale."""
    colours = "#777777" if cluster is None else colours_of(payload)[np.asarray(cluster)]
    axes.scatter(x, y, s=size, c=colours, linewidths=0, rasterized=True)
    axes.set_aspect("equal", adjustable="datalim")


def cluster_key(plot: Any, payload: dict[str, Any]) -> None:
    """Which colour is which cluster, where they are few enough to tell."""
    from matplotlib.lines import Line2D

    colours = colours_of(payload)
    if len(colours) > NAMED:
        return
    dots = [Line2D([], [], marker="o", linestyle="", color=colour, markersize=4) for colour in colours]
    names = [name_of(one) for one in payload["clusters"]]
    plot.legend(dots, names, title="cluster", loc="outside right upper", frameon=False, ncols=math.ceil(len(dots) / 15))


def draw_map(plot: Any, payload: dict[str, Any]) -> None:
    axes, images, found = plot.add_subplot(), payload["images"], payload["map"]
    step = found["step"] or 1.0
    x, y = ((np.asarray(images[axis], dtype=float) - 32767.5) * step for axis in "xy")
    scatter(axes, x, y, images["cluster"], payload, max(0.6, min(9.0, 9000 / max(len(x), 1))))
    if found["method"] == "PCA":
        axes.set_xlabel("first principal component (unit: embedding length)")
        axes.set_ylabel("second principal component (same unit)")
    else:
        axes.set_xlabel(f"{found['method']}, first axis (no unit)")
        axes.set_ylabel(f"{found['method']}, second axis (no unit)")
    cluster_key(plot, payload)


def draw_curve(plot: Any, payload: dict[str, Any]) -> None:
    axes, found, curve = plot.add_subplot(), payload["how_many"], payload["how_many"]["curve"]
    k, score, error = (np.array(curve[name], dtype=float) for name in ("k", "score", "error"))
    if found["range"] is not None:
        low, high = found["range"]
        axes.axvspan(low - 0.5, high + 0.5, color="#E8E8E8", label="nearly as good", linewidth=0)
    axes.fill_between(k, score - error, score + error, color="#000000", alpha=0.18, linewidth=0)
    axes.plot(k, score, color="#000000", linewidth=2, label="score, with its standard error")
    lines(axes, curve["k"], curve["criteria"], legend=False, width=1)
    if found["chosen"] is not None:
        axes.axvline(found["chosen"], color="#777777", linewidth=1, linestyle=":", label=f"chosen: {found['chosen']}")
    axes.set_xlabel("clusters (number)")
    axes.set_ylabel("gain (nats; silhouette -1 to 1)")
    axes.set_xlim(min(k) - 0.5, max(k) + 0.5)
    plot.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=3)


def draw_training(plot: Any, payload: dict[str, Any]) -> None:
    axes, training = plot.add_subplot(), payload["training"]
    lines(axes, training["epoch"], training["terms"])
    axes.set_xlabel(EPOCHS)
    axes.set_ylabel("loss term (nats, mean of the epoch)")


def draw_usage(plot: Any, payload: dict[str, Any]) -> None:
    left, training = plot.add_subplot(), payload["training"]
    lines(left, training["epoch"], {"effective clusters": training["effective_clusters"]}, legend=False)
    left.set_xlabel(EPOCHS)
    left.set_ylabel("effective clusters (number)", color=OKABE_ITO[0])
    left.set_ylim(0, payload["run"]["n_clusters"] * 1.02)
    right = left.twinx()
    lines(right, training["epoch"], {"mean confidence": training["confidence"]}, first=4, legend=False)
    right.set_ylabel("mean confidence (probability)", color=OKABE_ITO[4])
    right.set_ylim(0, 1.02)
    right.spines["right"].set_visible(True)


def draw_pairs(plot: Any, payload: dict[str, Any]) -> None:
    pairs, epoch = payload["training"]["pairs"], payload["training"]["epoch"]
    axes = plot.subplots(1, 2, sharey=True)
    for one, kind in zip(axes, ("instance", "cluster"), strict=True):
        names = {"positive": "the same, other view", "negative": "different"}
        lines(one, epoch, {text: pairs[f"{kind}_{sign}"] for sign, text in names.items()})
        one.set_title("images (rows)" if kind == "instance" else "clusters (columns)")
        one.set_xlabel("epoch (passes)")
        one.set_ylim(-1.02, 1.02)
    axes[0].set_ylabel("mean cosine similarity (-1 to 1)")


def lines(
    axes: Any, x: list[int], columns: dict[str, Any], *, first: int = 0, legend: bool = True, width: float = 1.5
) -> None:
    """A line a column; gaps where there is no value."""
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


def draw_moments(plot: Any, payload: dict[str, Any]) -> None:
    moments = payload["map"]["moments"]
    plot.set_size_inches(2.6 * len(moments), 3)
    for axes, moment in zip(plot.subplots(1, len(moments), squeeze=False)[0], moments, strict=True):
        scatter(axes, moment["x"], moment["y"], moment["cluster"], payload, 4)
        axes.set_title(moment["title"], fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("first component (no unit)")
        axes.set_ylabel("second component (no unit)")


def draw_samples(plot: Any, payload: dict[str, Any]) -> None:
    axes, found = plot.add_subplot(), payload["affinity"]["samples"]
    data = base64.b64decode(found["png"].partition(",")[2])
    with Image.open(BytesIO(data)) as picture:
        levels = np.asarray(picture, dtype=float) / (LEVELS - 1)
    values = found["low"] + levels * (found["high"] - found["low"])
    drawn = axes.imshow(values, cmap="viridis", vmin=found["low"], vmax=found["high"], interpolation="nearest")
    order = payload["affinity"]["clusters"]["order"]
    middles = (np.array(found["bounds"]) + np.array([*found["bounds"][1:], found["count"]]) - 1) / 2
    if len(order) <= NAMED:
        axes.set_yticks(middles, [str(number) for number in order])
    axes.set_xlabel(f"image ({found['count']} of a sample)")
    axes.set_ylabel("cluster of the image (number)")
    plot.colorbar(drawn, label="cosine similarity of embeddings (-1 to 1)")


def draw_clusters(plot: Any, payload: dict[str, Any]) -> None:
    found = payload["affinity"]["clusters"]
    axes = plot.add_subplot()
    drawn = axes.imshow(np.array(found["matrix"]), cmap="viridis", interpolation="nearest")
    ticks(axes, [str(number) for number in found["order"]], "xy")
    axes.set_xlabel("cluster (number)")
    axes.set_ylabel("cluster (number)")
    plot.colorbar(drawn, label="cosine similarity of mean embeddings (-1 to 1)")


def draw_confidence(plot: Any, payload: dict[str, Any]) -> None:
    axes, found = plot.add_subplot(), payload["confidence"]
    axes.stairs(found["counts"], found["edges"], fill=True, color=OKABE_ITO[0])
    axes.set_xlabel("confidence (the model's probability of its cluster)")
    axes.set_ylabel("images (number)")
    axes.set_xlim(0, 1)


def draw_reliability(plot: Any, payload: dict[str, Any]) -> None:
    axes, found = plot.add_subplot(), payload["confidence"]["reliability"]
    axes.plot([0, 1], [0, 1], "--", color="#777777", label="perfectly calibrated")
    axes.plot(found["mean_confidence"], found["accuracy"], "o-", color=OKABE_ITO[0], label="this run")
    axes.set_xlabel("mean confidence of a bin (probability)")
    axes.set_ylabel("accuracy in the bin (part of images)")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False)


def draw_confusion(plot: Any, payload: dict[str, Any]) -> None:
    axes, found = plot.add_subplot(), payload["confusion"]
    matrix = np.array(found["matrix"])
    drawn = axes.imshow(matrix, cmap="viridis", interpolation="nearest", aspect="auto")
    ticks(axes, [shortened(payload["label_names"][code]) for code in found["labels"]], "x")
    ticks(axes, [str(number) for number in found["clusters"]], "y")
    if matrix.size <= 225:
        for (row, column), count in np.ndenumerate(matrix):
            light = count < matrix.max() / 2
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=7, color="w" if light else "k")
    axes.set_xlabel("label")
    axes.set_ylabel("cluster (number), best matching on the diagonal")
    plot.colorbar(drawn, label="images (number)")


def draw_sizes(plot: Any, payload: dict[str, Any]) -> None:
    axes = plot.add_subplot()
    found = sorted(payload["clusters"], key=lambda one: -one["size"])
    axes.bar(range(len(found)), [one["size"] for one in found], color=OKABE_ITO[0])
    ticks(axes, [name_of(one) for one in found], "x")
    axes.set_xlabel("cluster (number), largest first")
    axes.set_ylabel("images (number)")


def ticks(axes: Any, names: list[str], which: str) -> None:
    """A name for each cluster or label, or none where they would overlap."""
    for axis in which:
        if len(names) > NAMED:
            getattr(axes, f"set_{axis}ticks")([])
        else:
            steep = 90 if axis == "x" and max(map(len, names), default=0) > 4 else 0
            getattr(axes, f"set_{axis}ticks")(range(len(names)), names, rotation=steep)


def name_of(cluster: dict[str, Any]) -> str:
    return str(cluster["number"]) if cluster["name"] is None else shortened(cluster["name"])


def shortened(text: str) -> str:
    """A label on one short line."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= 24 else line[:23] + "…"


FIGURES: dict[str, Draw] = {
    "map": draw_map, "k-curve": draw_curve, "training": draw_training, "usage": draw_usage, "pairs": draw_pairs,
    "moments": draw_moments,
    "affinity-samples": draw_samples, "affinity-clusters": draw_clusters, "confidence": draw_confidence,
    "reliability": draw_reliability, "confusion": draw_confusion, "sizes": draw_sizes,
}  # fmt: skip
