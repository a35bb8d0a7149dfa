"""How scores that need no labels rank real runs, against accuracy: Spearman correlation for each source of images.

    python benchmarks/label_free.py RUNS --out label_free.jsonl
    python benchmarks/label_free.py RUNS --images "mnist.npz=mnist" --data FOLDER

RUNS is a folder with finished, scored runs anywhere below it (those of `ilk compare` and `ilk study`): folders with
config.json, assignments.parquet and a scores.json that has an accuracy. Runs inside a run are left out. Views and
pixels need the images: from their recorded paths, or from a set as quality.py names them, or a path, given for the
name that config.json has for the source (--images, may be repeated). Those of scikit-learn's digits are known.
What cannot be computed is left empty and said.

Labels are used for the accuracy alone. One line a run goes to --out; what is in it for the same assignments is not
computed again. The intervals are 95 % bootstrap intervals over runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

import ilk
from ilk import Run
from ilk.evaluation import are_positions, run_agreement, same_source
from ilk.research.labelled import load_digits
from ilk.runs import read_table
from shared import config_of

NEEDED = ("config.json", "assignments.parquet", "scores.json")
DIGITS = "array (1,797 images)"  # what config.json calls scikit-learn's digits
LEAST = 4  # runs of a source; the order of fewer says nothing
SIGNS = {
    "effective_share": 1, "mean_confidence": 1, "confidence_entropy": -1, "silhouette": 1, "generalisation": 1,
    "view_stability": 1, "view_agreement": 1, "beyond_pixels": 1, "run_agreement": 1,
}  # fmt: skip


def file_hash(file: Path) -> str:
    """A hash of the file's bytes."""
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def find_runs(folder: Path) -> list[Path]:
    """The outermost run folders below `folder`, in order of their names."""
    found: list[Path] = []
    for file in sorted(folder.rglob("config.json"), key=lambda one: (len(one.parts), str(one))):
        inside = any(run in file.parent.parents for run in found)
        if not inside and all((file.parent / name).is_file() for name in NEEDED):
            found.append(file.parent)
    return sorted(found)


def measured(run: Run, images: Any, seed: int, views_of: int) -> dict[str, Any] | None:
    """Accuracy and label-free scores of a run as one line; None without an accuracy."""
    labels = json.loads((run / "scores.json").read_text(encoding="utf-8")).get("labels")
    if not labels:
        return None
    results = ilk.evaluate(
        run, only="label-free", write=False, images=images, seed=seed, views_of=views_of, device="cpu"
    )  # fmt: skip
    block = results["protocols"]["label-free"]
    config, views = config_of(run), block["views"]
    refit, pixels = block["generalisation"], block.get("generalisation_pixels")
    return {
        "run": str(run), "assignments": file_hash(run / "assignments.parquet"), "source": config["source"]["name"],
        "method": config["method"], "seed": config["seed"], "n_clusters": config["n_clusters"],
        "images": block["images"], "accuracy": labels["accuracy"],
        "effective_share": block["effective_clusters"] / config["n_clusters"],
        "mean_confidence": block["mean_confidence"], "confidence_entropy": block["confidence_entropy"],
        "silhouette": block["silhouette"], "generalisation": refit and refit["accuracy"],
        "view_stability": views.get("kept"), "view_agreement": views.get("agreement"),
        "reproduced": views.get("reproduced"), "no_views": views.get("left_out"),
        "beyond_pixels": refit and pixels and refit["accuracy"] - pixels["accuracy"], "measured_with_seed": seed,
    }  # fmt: skip


def add_agreement(rows: list[dict[str, Any]]) -> None:
    """To each row, its mean ARI with the other runs of its source that have as many clusters; None without any."""
    tables = {row["run"]: read_table(Path(row["run"]) / "assignments.parquet") for row in rows}
    found: dict[str, list[float]] = {row["run"]: [] for row in rows}
    for a, b in combinations(rows, 2):
        if (a["source"], a["n_clusters"]) == (b["source"], b["n_clusters"]):
            ids = tables[a["run"]]["id"].to_pylist()
            if are_positions(ids) and not same_source(*(Run(row["run"]).config for row in (a, b))):
                continue  # equal positions in other images
            sides = [(t["id"].to_pylist(), t["cluster"].to_numpy()) for t in (tables[a["run"]], tables[b["run"]])]
            value = float(run_agreement(*sides[0], *sides[1])["ari"])
            found[a["run"]].append(value)
            found[b["run"]].append(value)
    for row in rows:
        row["run_agreement"] = float(np.mean(found[row["run"]])) if found[row["run"]] else None


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """The correlation of the ranks; nan where all values of one are equal."""
    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (x, y))
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def pairs_of(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """(runs, 2): the score and the accuracy of the runs that have the score."""
    return np.array([(row[name], row["accuracy"]) for row in rows if row[name] is not None], dtype=float).reshape(-1, 2)


def correlations(groups: list[np.ndarray], resamples: int, seed: int) -> tuple[float, float, float]:
    """The mean over groups of the correlation of score and accuracy, and its interval over runs drawn in each group."""
    draws = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        some = [group[draws.integers(0, len(group), len(group))] for group in groups]
        values = [spearman(*one.T) for one in some]
        if not all(np.isnan(values)):
            drawn.append(np.nanmean(values))
    points = [spearman(*group.T) for group in groups]
    point = float(np.nanmean(points)) if not all(np.isnan(points)) else float("nan")
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (float("nan"), float("nan"))
    return point, float(low), float(high)


def table(rows: list[dict[str, Any]], resamples: int = 2000, seed: int = 0) -> str:
    """The correlations as Markdown: a column a source, and the mean over those with enough runs."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    by_source = {source: [row for row in rows if row["source"] == source] for source in sources}
    heads = [f"{source}: {len(some)} runs" for source, some in by_source.items()]
    spread = [
        f"{np.min(a):.2f}-{np.max(a):.2f}" for a in ([r["accuracy"] for r in some] for some in by_source.values())
    ]
    lines = [
        f"| score | expected | {' | '.join([*heads, 'mean over sources'])} |",
        "| --- " * (len(heads) + 3) + "|",
        f"| accuracy, from and to | | {' | '.join(spread)} | |",
    ]
    for name, sign in SIGNS.items():
        groups = [pairs_of(some, name) for some in by_source.values()]
        cells = [cell([group], resamples, seed) for group in groups]
        cells.append(cell([group for group in groups if len(group) >= LEAST], resamples, seed))
        lines.append(f"| {name} | {'+' if sign > 0 else '-'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(groups: list[np.ndarray], resamples: int, seed: int) -> str:
    if not groups or min(map(len, groups)) < LEAST:
        return "-"
    value, low, high = correlations(groups, resamples, seed)
    return "-" if np.isnan(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def measure_all(folder: Path, out: Path, images: dict[str, Any], seed: int, views_of: int) -> Iterator[dict[str, Any]]:
    """The line of every run, from `out` or measured now and appended to it."""
    there = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    known = {(row["run"], row["assignments"], row["measured_with_seed"]): row for row in there}
    for place in find_runs(folder):
        run = Run(place).open()
        row = known.get((str(run), file_hash(run / "assignments.parquet"), seed))
        if row is None:
            row = measured(run, images.get(config_of(run)["source"]["name"]), seed, views_of)
            if row is None:
                print(f"{run}: no labels, so no accuracy; left out", file=sys.stderr)
                continue
            with open(out, "a") as file:
                file.write(json.dumps(row) + "\n")
            if row["no_views"]:
                print(f"{run}: no views: {row['no_views']}", file=sys.stderr)
            elif row["reproduced"] < 0.95:
                print(
                    f"{run}: only {row['reproduced']:.0%} come out as recorded; are these its images?", file=sys.stderr
                )
        yield row


def opened(words: list[str], data: Path) -> dict[str, Any]:
    """{name of a source: where its images are}, of `SOURCE=SET`; scikit-learn's digits, which have no path, too."""
    images: dict[str, Any] = {DIGITS: load_digits()[0]}
    for text in words:
        name, _, given = text.rpartition("=")
        if Path(given).exists():
            images[name] = given
        else:
            from quality import open_set

            images[name] = open_set(given, data)
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--images", action="append", default=[], metavar="SOURCE=SET")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--views-of", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("label_free.jsonl"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    images = opened(arguments.images, arguments.data)
    rows = list(measure_all(arguments.runs, arguments.out, images, arguments.seed, arguments.views_of))
    if not rows:
        sys.exit(f"There is no finished run with labels below '{arguments.runs}'.")
    add_agreement(rows)
    arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
