"""Accuracy of the default settings on labelled image sets, several seeds each: the table of RESULTS.md.

    python benchmarks/quality.py digits usps fashion_mnist --data FOLDER --seeds 0 1 2 --out quality.jsonl
    python benchmarks/quality.py fashion_mnist:10000 --methods cc crlc scl dcdc c2bin --epochs 20 --data FOLDER

FOLDER holds NAME/ (one sub-folder of images a class), NAME.npz (x, y), or a `sets.py` whose
`load(NAME)` returns images and labels; `digits` comes with scikit-learn. Labels are used for the
scores alone. NAME:N takes the first N images. One line a finished run goes to --out; runs that are in
it already are not repeated.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import ilk
from ilk import Images, Run
from ilk.analysis.metrics import accuracy
from ilk.evaluation import score_run
from ilk.research.score_tables import markdown
from shared import Lines, add_common, config_of, open_set, parse, probabilities


def run_once(name: str, images: Images, method: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The row of one training."""
    settings = dict(text.split("=", 1) for text in arguments.set)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        run = ilk.fit(
            images, len(images.label_names), out=Path(folder) / "run", method=method, seed=seed,
            minutes=arguments.minutes, epochs=arguments.epochs, preset=arguments.preset, views=arguments.views,
            settings=settings,
        )  # fmt: skip
        seconds = time.monotonic() - began
        scores, config = score_run(run), config_of(run)
        last, by_loss = run.log()[-1], accuracy_by_loss(run, images)
    return {
        "set": name,
        "method": method,
        "preset": arguments.preset,
        "seed": seed,
        "minutes_asked": arguments.minutes,
        "epochs": config["train"]["epochs"],
        "image_size": config["images"]["size"],
        "views": config["views"]["name"],
        "settings": settings,
        "minutes": round(seconds / 60, 2),
        "training_minutes": round(last["seconds"] / 60, 2),
        "accuracy": scores["labels"]["accuracy"],
        "accuracy_by_loss": by_loss,
        "nmi": scores["labels"]["nmi_arithmetic"],
        "ari": scores["labels"]["ari"],
        "effective_clusters": scores["effective_clusters"],
        "n_clusters": len(images.label_names),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": config["versions"],
    }


def accuracy_by_loss(run: Run, images: Images) -> float | None:
    """The accuracy if the loss alone chose among the cluster heads; None for a method without a choice."""
    model = ilk.load_model(run)
    heads: Any = getattr(model, "cluster_heads", None)
    if heads is None or len(heads.heads) == 1:
        return None
    heads.chosen.fill_(-1)
    assert images.labels is not None
    return accuracy(images.labels, probabilities(model, images)[0].argmax(1))


def table(lines: Lines) -> str:
    """Mean and standard deviation over seeds; collapsed: less than half of the clusters are in use."""
    groups = lines.means(("set", "method"), ("accuracy", "nmi", "ari"))
    return markdown(
        ["set", "method", "seeds", "ACC", "NMI", "ARI", "minutes", "collapsed"],
        [
            [group["set"], group["method"], group["seeds"], *cells, f"{group['minutes']:.1f}", group["collapsed"]]
            for group, cells in groups
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--methods", nargs="+", default=["cc"])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--views")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    add_common(parser, "quality.jsonl")
    arguments = parse(parser)
    lines = Lines(arguments.out, ("set", "method", "seed"))
    for name in arguments.sets:
        images = open_set(name, arguments.data)
        for method in arguments.methods:
            for seed in arguments.seeds:
                if not lines.has(name, method, seed):
                    row = run_once(name, images, method, seed, arguments)
                    lines.add(row, ("accuracy", "accuracy_by_loss", "nmi", "epochs", "minutes"))
    print(table(lines))


if __name__ == "__main__":
    main()
