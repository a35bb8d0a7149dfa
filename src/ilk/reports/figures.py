"""The plots of a report as SVG and PNG files for a paper, in colours that the colour-blind can tell apart."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ilk.reports.neighbours import LEVELS
from ilk.reports.payload import collect
from ilk.reports.plotting import (
    DOTS_PER_INCH,
    NAMED,
    OKABE_ITO,
    STYLE,
    cluster_key,
    figure,
    lines,
    name_of,
    scatter,
    shortened,
    ticks,
)
from ilk.reports.sprites import MOST
from ilk.system.files import replacing

EPOCHS = "epoch (passes over the images)"

Draw = Callable[[Any, dict[str, Any]], None]


def write_figures(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], *, most: int = MOST, layout: str | None = None
) -> list[Path]:
    """Writes each plot that the run has data for to `out`, as `NAME.svg` and `NAME.png`; returns the files.

    Raises ValueError if matplotlib is not installed.
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


def wanted(name: str, payload: dict[str, Any]) -> bool:
    """Whether the run has data for the plot of that name."""
    training = payload["training"]
    if name in ("training", "usage"):
        return bool(training["epoch"])
    if name == "k-curve":
        return payload["how_many"] is not None and payload["how_many"]["curve"] is not None
    if name == "pairs":
        return training["pairs"] is not None
    if not payload["run"]["finished"]:
        return False
    if name == "moments":
        return bool(payload["map"]["moments"])
    if name == "reliability":
        return payload["confidence"]["reliability"] is not None
    return name != "confusion" or payload["confusion"] is not None


def draw_map(plot: Any, payload: dict[str, Any]) -> None:
    """The map, coloured by cluster."""
    axes, images, plane = plot.add_subplot(), payload["images"], payload["map"]
    step = plane["step"] or 1.0
    x, y = ((np.asarray(images[axis], dtype=float) - 32767.5) * step for axis in "xy")
    scatter(axes, x, y, images["cluster"], payload, max(0.6, min(9.0, 9000 / max(len(x), 1))))
    if plane["method"] == "PCA":
        axes.set_xlabel("first principal component (unit: embedding length)")
        axes.set_ylabel("second principal component (same unit)")
    else:
        axes.set_xlabel(f"{plane['method']}, first axis (no unit)")
        axes.set_ylabel(f"{plane['method']}, second axis (no unit)")
    cluster_key(plot, payload)


def draw_curve(plot: Any, payload: dict[str, Any]) -> None:
    """The score of each number of clusters."""
    axes, how, curve = plot.add_subplot(), payload["how_many"], payload["how_many"]["curve"]
    k, score, error = (np.array(curve[name], dtype=float) for name in ("k", "score", "error"))
    if how["range"] is not None:
        low, high = how["range"]
        axes.axvspan(low - 0.5, high + 0.5, color="#E8E8E8", label="nearly as good", linewidth=0)
    axes.fill_between(k, score - error, score + error, color="#000000", alpha=0.18, linewidth=0)
    axes.plot(k, score, color="#000000", linewidth=2, label="score, with its standard error")
    lines(axes, curve["k"], curve["criteria"], legend=False, width=1)
    if how["chosen"] is not None:
        axes.axvline(how["chosen"], color="#777777", linewidth=1, linestyle=":", label=f"chosen: {how['chosen']}")
    axes.set_xlabel("clusters (number)")
    axes.set_ylabel("gain (nats; silhouette -1 to 1)")
    axes.set_xlim(min(k) - 0.5, max(k) + 0.5)
    plot.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=3)


def draw_training(plot: Any, payload: dict[str, Any]) -> None:
    """The loss terms by epoch."""
    axes, training = plot.add_subplot(), payload["training"]
    lines(axes, training["epoch"], training["terms"])
    axes.set_xlabel(EPOCHS)
    axes.set_ylabel("loss term (nats, mean of the epoch)")


def draw_usage(plot: Any, payload: dict[str, Any]) -> None:
    """Effective clusters and mean confidence by epoch."""
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
    """The mean similarity of positive and negative pairs by epoch."""
    pairs, epoch = payload["training"]["pairs"], payload["training"]["epoch"]
    axes = plot.subplots(1, 2, sharey=True)
    for panel, kind in zip(axes, ("instance", "cluster"), strict=True):
        names = {"positive": "the same, other view", "negative": "different"}
        lines(panel, epoch, {text: pairs[f"{kind}_{sign}"] for sign, text in names.items()})
        panel.set_title("images (rows)" if kind == "instance" else "clusters (columns)")
        panel.set_xlabel("epoch (passes)")
        panel.set_ylim(-1.02, 1.02)
    axes[0].set_ylabel("mean cosine similarity (-1 to 1)")


def draw_moments(plot: Any, payload: dict[str, Any]) -> None:
    """The map at some moments of the training."""
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
    """The similarity of sampled images."""
    axes, samples = plot.add_subplot(), payload["affinity"]["samples"]
    data = base64.b64decode(samples["png"].partition(",")[2])
    with Image.open(BytesIO(data)) as picture:
        levels = np.asarray(picture, dtype=float) / (LEVELS - 1)
    values = samples["low"] + levels * (samples["high"] - samples["low"])
    drawn = axes.imshow(values, cmap="viridis", vmin=samples["low"], vmax=samples["high"], interpolation="nearest")
    order = payload["affinity"]["clusters"]["order"]
    middles = (np.array(samples["bounds"]) + np.array([*samples["bounds"][1:], samples["count"]]) - 1) / 2
    if len(order) <= NAMED:
        axes.set_yticks(middles, [str(number) for number in order])
    axes.set_xlabel(f"image ({samples['count']} of a sample)")
    axes.set_ylabel("cluster of the image (number)")
    plot.colorbar(drawn, label="cosine similarity of embeddings (-1 to 1)")


def draw_clusters(plot: Any, payload: dict[str, Any]) -> None:
    """The similarity of clusters."""
    similarity = payload["affinity"]["clusters"]
    axes = plot.add_subplot()
    drawn = axes.imshow(np.array(similarity["matrix"]), cmap="viridis", interpolation="nearest")
    ticks(axes, [str(number) for number in similarity["order"]], "xy")
    axes.set_xlabel("cluster (number)")
    axes.set_ylabel("cluster (number)")
    plot.colorbar(drawn, label="cosine similarity of mean embeddings (-1 to 1)")


def draw_confidence(plot: Any, payload: dict[str, Any]) -> None:
    """A histogram of confidences."""
    axes, histogram = plot.add_subplot(), payload["confidence"]
    axes.stairs(histogram["counts"], histogram["edges"], fill=True, color=OKABE_ITO[0])
    axes.set_xlabel("confidence (the model's probability of its cluster)")
    axes.set_ylabel("images (number)")
    axes.set_xlim(0, 1)


def draw_reliability(plot: Any, payload: dict[str, Any]) -> None:
    """Accuracy by confidence."""
    axes, bins = plot.add_subplot(), payload["confidence"]["reliability"]
    axes.plot([0, 1], [0, 1], "--", color="#777777", label="perfectly calibrated")
    axes.plot(bins["mean_confidence"], bins["accuracy"], "o-", color=OKABE_ITO[0], label="this run")
    axes.set_xlabel("mean confidence of a bin (probability)")
    axes.set_ylabel("accuracy in the bin (part of images)")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False)


def draw_confusion(plot: Any, payload: dict[str, Any]) -> None:
    """Images by cluster and label."""
    axes, confusion = plot.add_subplot(), payload["confusion"]
    matrix = np.array(confusion["matrix"])
    drawn = axes.imshow(matrix, cmap="viridis", interpolation="nearest", aspect="auto")
    ticks(axes, [shortened(payload["label_names"][code]) for code in confusion["labels"]], "x")
    ticks(axes, [str(number) for number in confusion["clusters"]], "y")
    if matrix.size <= 225:
        for (row, column), count in np.ndenumerate(matrix):
            light = count < matrix.max() / 2
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=7, color="w" if light else "k")
    axes.set_xlabel("label")
    axes.set_ylabel("cluster (number), best matching on the diagonal")
    plot.colorbar(drawn, label="images (number)")


def draw_sizes(plot: Any, payload: dict[str, Any]) -> None:
    """The sizes of the clusters."""
    axes = plot.add_subplot()
    clusters = sorted(payload["clusters"], key=lambda cluster: -cluster["size"])
    axes.bar(range(len(clusters)), [cluster["size"] for cluster in clusters], color=OKABE_ITO[0])
    ticks(axes, [name_of(cluster) for cluster in clusters], "x")
    axes.set_xlabel("cluster (number), largest first")
    axes.set_ylabel("images (number)")


FIGURES: dict[str, Draw] = {
    "map": draw_map, "k-curve": draw_curve, "training": draw_training, "usage": draw_usage, "pairs": draw_pairs,
    "moments": draw_moments,
    "affinity-samples": draw_samples, "affinity-clusters": draw_clusters, "confidence": draw_confidence,
    "reliability": draw_reliability, "confusion": draw_confusion, "sizes": draw_sizes,
}  # fmt: skip
