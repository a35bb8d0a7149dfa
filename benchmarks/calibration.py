"""The calibration error of confidence on labelled image sets, before and after calibration.

    python benchmarks/calibration.py digits@40 usps:3000@10 fashion_mnist:5000@6 --methods cc scl crlc \\
        --data FOLDER --seeds 0 1 --out calibration/

NAME:N@EPOCHS takes the first N images of a set (as in quality.py, which says what FOLDER holds) and trains so
many epochs, on one thread. What a training gave is kept in --out and not made again. Labels are used for the scores
alone: clusters are matched to classes one to one, and the error is over 15 bins of equal mass. The columns
before the errors are how often other opinions agree with the head; the nearer to the accuracy, the better.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ilk
from ilk import Images, Method, Views
from ilk.analysis.calibration import agreement, calibrate, match_clusters
from ilk.analysis.metrics import expected_calibration_error, matches_label, reliability
from ilk.analysis.neighbours import near_rows
from ilk.views import channels_last, from_description, plain
from shared import config_of, open_set, probabilities

PAIRS = 4  # of views of each image
VIEWS = 6144  # the seed of the views
COLUMNS = (
    "set", "method", "seed", "accuracy", "views", "heads", "neighbours", "trees", "confidence", "after",
    "ECE", "ECE after", "uncertain", "wrong of these", "wrong of the rest",
)  # fmt: skip


def trained(name: str, epochs: int | None, method: str, seed: int, data: Path) -> dict[str, np.ndarray]:
    """One training, and the arrays that all columns are computed from."""
    images = open_set(name, data)
    with tempfile.TemporaryDirectory() as folder:
        run = ilk.fit(
            images, len(images.label_names), out=Path(folder) / "run", method=method, seed=seed, epochs=epochs,
            backbone="small", device="cpu", precision="float32", report=False,
        )  # fmt: skip
        model, described = ilk.load_model(run), config_of(run)["views"]
    probability, embedding = probabilities(model, images)
    recipes = from_description(described["a"]), from_description(described["b"])
    views, heads = other_clusters(model, images, Views(*recipes, size=images.shape[2]))
    return {
        "probability": probability,
        "embedding": embedding.astype(np.float16),
        "labels": np.asarray(images.labels),
        "views": views,
        "heads": heads,
    }


def other_clusters(model: Method, images: Images, views: Views) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each image by the chosen head on eight views, (8, n), and by the other heads, (h, n)."""
    random = torch.Generator().manual_seed(VIEWS)
    heads: Any = getattr(model, "cluster_heads", None)
    by_view, by_head = [], []
    with torch.inference_mode():
        for rows in torch.arange(len(images)).split(512):
            x = images[rows]
            pairs = [view for _ in range(PAIRS) for view in views(x, random)]
            by_view.append(torch.stack([model.assign(channels_last(view)).argmax(1) for view in pairs]))
            if hasattr(heads, "logits"):
                logits = heads.logits(model.backbone(plain(x)))
                others = [head for head in range(len(logits)) if head != heads.best()]
                by_head.append(logits[others].argmax(2))
    none = np.zeros((0, len(images)), dtype=np.int64)
    return torch.cat(by_view, 1).numpy(), torch.cat(by_head, 1).numpy() if by_head else none


def row_of(kept: dict[str, np.ndarray]) -> dict[str, Any]:
    """The columns that one training fills."""
    probability, embedding, labels = kept["probability"], kept["embedding"], kept["labels"]
    k = probability.shape[1]
    cluster = probability.argmax(1)
    known = labels >= 0
    ok = matches_label(labels[known], cluster[known])
    calibrated = calibrate(probability, embedding)
    before, after = probability.max(1)[known], calibrated.confidence[known]
    uncertain = calibrated.uncertain[known]
    heads = [(match_clusters(head, cluster, k) == cluster).mean() for head in kept["heads"]]
    near = near_rows(embedding, 15)
    return {
        "accuracy": ok.mean(),
        "views": (kept["views"] == cluster).mean(),
        "heads": np.mean(heads) if heads else float("nan"),
        "neighbours": (cluster[near] == cluster[:, None]).mean(),
        "trees": agreement(cluster, embedding, k).mean(),
        "confidence": before.mean(),
        "after": after.mean(),
        "ECE": expected_calibration_error(before, ok),
        "ECE after": expected_calibration_error(after, ok),
        "uncertain": uncertain.mean(),
        "wrong of these": 1 - ok[uncertain].mean() if uncertain.any() else float("nan"),
        "wrong of the rest": 1 - ok[~uncertain].mean() if not uncertain.all() else float("nan"),
        "curve": reliability(after, ok),
    }


def line(row: dict[str, Any]) -> str:
    cells = [f"{row[name]:.3f}" if isinstance(row[name], (float, np.floating)) else str(row[name]) for name in COLUMNS]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=["digits@40", "usps:3000@10", "fashion_mnist:5000@6"])
    parser.add_argument("--methods", nargs="+", default=["cc", "scl"])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("calibration"))
    parser.add_argument("--curves", action="store_true", help="print the reliability curves after calibration too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for text in arguments.sets:
        name, _, epochs = text.partition("@")
        for method in arguments.methods:
            for seed in arguments.seeds:
                file = arguments.out / f"{text.replace(':', '-')}_{method}_{seed}.npz"
                if not file.exists():
                    np.savez_compressed(
                        file, **trained(name, int(epochs) if epochs else None, method, seed, arguments.data)
                    )
                with np.load(file) as kept:
                    rows.append({"set": text, "method": method, "seed": seed, **row_of(dict(kept))})
                print(line(rows[-1]), flush=True)
                for part in rows[-1]["curve"] if arguments.curves else ():
                    print(
                        f"    {part.low:.3f} to {part.high:.3f}: confidence {part.confidence:.3f},"
                        f" accuracy {part.accuracy:.3f} ({part.images} images)"
                    )
    values = {name: np.array([row[name] for row in rows], dtype=float) for name in COLUMNS[3:]}
    means = {
        name: float(x[~np.isnan(x)].mean()) if not np.isnan(x).all() else float("nan") for name, x in values.items()
    }
    print(line({"set": "mean", "method": "", "seed": "", **means}))


if __name__ == "__main__":
    main()
