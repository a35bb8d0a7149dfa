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
import importlib.util
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ilk import load_images
from ilk.evaluate import score_run
from ilk.images import Images
from ilk.request import MAX_SIZE, Request
from ilk.runs import Run, versions
from ilk.workflow import fit


def open_set(name: str, data: Path) -> Images:
    """The labelled set called `name`, or its first N images for `name:N`."""
    name, _, first = name.partition(":")
    if first:
        whole = open_set(name, data)
        labels = [whole.label_names[code] for code in whole.labels[: int(first)]]
        return load_images(whole[: int(first)], labels=labels)
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return load_images((digits.images * (255 / 16)).round().astype(np.uint8), labels=digits.target)
    if (data / name).is_dir():
        return load_images(data / name, labels="folders", max_image_size=MAX_SIZE["cpu"])
    if (data / "sets.py").is_file():
        spec = importlib.util.spec_from_file_location("sets", data / "sets.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = module.load(name)
        return load_images(found.images, labels=found.labels)
    return load_images(data / f"{name}.npz")


def run_once(name: str, images: Images, method: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = dict(text.split("=", 1) for text in arguments.set)
    request = Request(
        n_clusters=len(images.label_names),
        method=method,
        seed=seed,
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        preset=arguments.preset,
        views=arguments.views,
        settings=settings,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        began = time.monotonic()
        fit(request, images, run)
        seconds = time.monotonic() - began
        scores, config = score_run(run), run.config
        last = run.log()[-1]
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
        "nmi": scores["labels"]["nmi_arithmetic"],
        "ari": scores["labels"]["ari"],
        "effective_clusters": scores["effective_clusters"],
        "n_clusters": len(images.label_names),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": versions(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds, as Markdown; collapsed: less than half of the clusters are in use."""
    lines = [
        "| set | method | seeds | ACC | NMI | ARI | minutes | collapsed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, method in dict.fromkeys((row["set"], row["method"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["method"]) == (name, method)]
        cells = []
        for key in ("accuracy", "nmi", "ari"):
            values = np.array([row[key] for row in mine])
            cells.append(f"{values.mean():.3f} +- {values.std(ddof=1) if len(values) > 1 else 0:.3f}")
        minutes = np.mean([row["minutes"] for row in mine])
        collapsed = sum(row["effective_clusters"] < row["n_clusters"] / 2 for row in mine)
        lines.append(f"| {name} | {method} | {len(mine)} | {' | '.join(cells)} | {minutes:.1f} | {collapsed} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--methods", nargs="+", default=["cc"])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--views")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("quality.jsonl"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    for name in arguments.sets:
        images = open_set(name, arguments.data)
        for method in arguments.methods:
            for seed in arguments.seeds:
                if any((row["set"], row["method"], row["seed"]) == (name, method, seed) for row in rows):
                    continue
                rows.append(run_once(name, images, method, seed, arguments))
                with open(arguments.out, "a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                shown = ("set", "method", "seed", "accuracy", "nmi", "epochs", "minutes")
                print(json.dumps({key: rows[-1][key] for key in shown}), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
