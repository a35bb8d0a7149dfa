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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ilk.analysis.calibration import agreement, calibrate, renamed
from ilk.analysis.metrics import expected_calibration_error, reliability, right
from ilk.analysis.neighbours import near_rows
from ilk.images import Images
from ilk.methods.base import Method
from ilk.methods.subheads import SubHeads
from ilk.pipeline.plan import make_plan
from ilk.pipeline.request import Request
from ilk.sampling import seeded
from ilk.system.devices import make_fabric, place
from ilk.training.assign import assign
from ilk.training.loop import train
from ilk.views import Views, channels_last, plain
from quality import open_set

PAIRS = 4  # of views of each image
VIEWS = 6144  # random stream beside those of the package
COLUMNS = (
    "set", "method", "seed", "accuracy", "views", "heads", "neighbours", "trees", "confidence", "after",
    "ECE", "ECE after", "uncertain", "wrong of these", "wrong of the rest",
)  # fmt: skip


def trained(name: str, epochs: int | None, method: str, seed: int, data: Path) -> dict[str, np.ndarray]:
    """One training, and what all opinions on its images are worked out from."""
    images, fabric = open_set(name, data), make_fabric("cpu", "float32")
    request = Request(
        n_clusters=len(images.label_names), method=method, seed=seed, epochs=epochs, backbone="small",
        device="cpu", precision="float32",
    )  # fmt: skip
    plan = make_plan(request, images, fabric)
    for _ in train(plan.method, images, plan.views, plan.train, fabric):
        pass
    found = assign(plan.method, images, fabric, probabilities=True)
    assert found.probability is not None
    assert isinstance(plan.views, Views)
    views, heads = other_clusters(plan.method, images, plan.views, fabric)
    return {
        "probability": found.probability,
        "embedding": found.embedding,
        "labels": images.labels,
        "views": views,
        "heads": heads,
    }


def other_clusters(method: Method, images: Images, views: Views, fabric: Fabric) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each image by the head in use on eight views, (8, n), and by the other heads, (h, n)."""
    source, n = place(images, fabric.device), len(images)
    draws = seeded(0, 0, VIEWS, fabric.device)
    heads: Any = getattr(method, "cluster_heads", None)
    seen, said = [], []
    with torch.inference_mode():
        for rows in torch.arange(n).split(512):
            x = source[rows]
            pairs = [view for _ in range(PAIRS) for view in views(x, draws)]
            seen.append(torch.stack([method.assign(channels_last(view)).argmax(1) for view in pairs]))
            if isinstance(heads, SubHeads):
                logits = heads.logits(method.backbone(plain(x)))
                others = [head for head in range(len(logits)) if head != heads.best()]
                said.append(logits[others].argmax(2))
    return torch.cat(seen, 1).numpy(), torch.cat(said, 1).numpy() if said else np.zeros((0, n), dtype=np.int64)


def row_of(kept: dict[str, np.ndarray]) -> dict[str, Any]:
    """The columns that one training fills."""
    probability, embedding, labels = kept["probability"], kept["embedding"], kept["labels"]
    k = probability.shape[1]
    cluster = probability.argmax(1)
    known = labels >= 0
    ok = right(labels[known], cluster[known])
    found = calibrate(probability, embedding)
    before, after, uncertain = probability.max(1)[known], found.confidence[known], found.uncertain[known]
    heads = [(renamed(head, cluster, k) == cluster).mean() for head in kept["heads"]]
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
                for one in rows[-1]["curve"] if arguments.curves else ():
                    print(
                        f"    {one.low:.3f} to {one.high:.3f}: confidence {one.confidence:.3f},"
                        f" accuracy {one.accuracy:.3f} ({one.images} images)"
                    )
    values = {name: np.array([row[name] for row in rows], dtype=float) for name in COLUMNS[3:]}
    means = {
        name: float(x[~np.isnan(x)].mean()) if not np.isnan(x).all() else float("nan") for name, x in values.items()
    }
    print(line({"set": "mean", "method": "", "seed": "", **means}))


if __name__ == "__main__":
    main()
