"""Accuracy and the recall of every class on long-tailed subsets, for each `balance`: a table of RESULTS.md.

    python benchmarks/imbalance.py usps:6000 fashion_mnist:10000 --data FOLDER --ratio 10 --epochs 10 --threads 1

Sets and FOLDER are as in quality.py. The subset depends on the seed. Labels are used for the choice of the
subset and for the scores alone. One line a finished run goes to --out; what is in it is not repeated.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

import ilk
from ilk import Images
from ilk.analysis.metrics import accuracy
from ilk.evaluation import long_tailed
from ilk.research.score_tables import markdown
from ilk.runs import read_table
from shared import Lines, add_common, config_of, open_set, parse


def recalls(labels: np.ndarray, clusters: np.ndarray, k: int) -> list[float]:
    """The share of each class that is in the cluster matched to it, (k,)."""
    counts = np.zeros((k, k))
    np.add.at(counts, (labels, clusters), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return [float(counts[i, j] / counts[i].sum()) for i, j in zip(rows, columns, strict=True)]


def run_once(name: str, images: Images, method: str, balance: str, seed: int, epochs: int) -> dict[str, Any]:
    k = len(images.label_names)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = ilk.fit(
            images, k, out=Path(folder) / "run", method=method, seed=seed, epochs=epochs, balance=balance, report=False
        )  # fmt: skip
        clusters, config = read_table(run / "assignments.parquet")["cluster"].to_numpy(), config_of(run)
    labels = np.asarray(images.labels)
    by_size = np.argsort(-np.bincount(labels, minlength=k))
    by_class = recalls(labels, clusters, k)
    return {
        "set": name, "method": method, "balance": balance, "seed": seed, "epochs": epochs, "images": len(images),
        "accuracy": accuracy(labels, clusters), "mean_recall": float(np.mean(by_class)),
        "recall": [round(by_class[code], 3) for code in by_size], "sizes": np.bincount(labels)[by_size].tolist(),
        "minutes": round((time.monotonic() - began) / 60, 2), "threads": torch.get_num_threads(),
        "versions": config["versions"],
    }  # fmt: skip


def table(lines: Lines) -> str:
    header = ["set", "method", "balance", "seeds", "ACC", "mean recall", "recall, largest class to smallest"]
    cells = []
    by = ("set", "method", "balance")
    for group, scores in lines.means(by, ("accuracy", "mean_recall")):
        members = [row for row in lines.rows if all(row[name] == group[name] for name in by)]
        recall = np.mean([row["recall"] for row in members], axis=0)
        known = [*(group[name] for name in by), group["seeds"]]
        cells.append([*known, *scores, " ".join(f"{value:.2f}" for value in recall)])
    return markdown(header, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--methods", nargs="+", default=["cc"])
    parser.add_argument("--balance", nargs="+", default=["uniform", "estimated", "off"])
    parser.add_argument("--ratio", type=float, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    add_common(parser, "imbalance.jsonl")
    arguments = parse(parser)
    lines = Lines(arguments.out, ("set", "method", "balance", "seed"))
    for name in arguments.sets:
        whole = open_set(name, arguments.data)
        for seed in arguments.seeds:
            images = whole.subset(long_tailed(np.asarray(whole.labels), arguments.ratio, seed))
            for method in arguments.methods:
                for balance in arguments.balance:
                    if not lines.has(name, method, balance, seed):
                        row = run_once(name, images, method, balance, seed, arguments.epochs)
                        lines.add(row, ("accuracy", "mean_recall", "minutes"))
    print(table(lines))


if __name__ == "__main__":
    main()
