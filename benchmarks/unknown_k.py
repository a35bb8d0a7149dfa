"""The number of clusters that ilk finds when nobody says: true and chosen k on labelled features.

    python benchmarks/unknown_k.py --data FOLDER --seeds 0 1 2 --out unknown_k.jsonl
    python benchmarks/unknown_k.py objects:20 mixture:10 blob --seeds 0

FOLDER holds a `sets.py` whose `load(NAME)` returns images and labels; `digits` comes with scikit-learn.
Labels are used to report alone. Sets:

    digits, usps, fashion_mnist      pixels (at most 10,000 images)
    NAME-embedding                   of a CC training on these that was told 30 clusters, and of its clusters learns
                                     only in the last 1 % of the epochs; kept in --cache
    objects:K, objects:KxP           K solid objects on a turntable, P pictures each (48), pixels
    mixture:K, overlap:K             384 features as a frozen encoder's: classes in superclasses, of unequal size,
                                     width and shape, with heavy tails; 96 % (86 %) nearest to their own centre
    blob, heavy, uniform, ring       one class: a Gaussian, with heavy tails, a box, one object turned round

Each seed draws new data (digits and usps: another embedding, the same pixels) and seeds the search.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

from ilk.analysis.hierarchy import grow_tree
from ilk.analysis.metrics import accuracy, nmi
from ilk.research.grid import append_row
from shared import pixels_of

MIXTURES = [f"mixture:{k}" for k in (3, 5, 10, 20, 37, 50)]
OVERLAPS = [f"overlap:{k}" for k in (5, 10, 20)]
REAL = ["digits", "digits-embedding", "usps", "usps-embedding"]
OBJECTS = ["objects:10", "objects:20", "objects:20x72", "objects:40"]
NONE = ["blob", "heavy", "uniform", "ring"]
EPOCHS = {"digits": 25, "usps": 6, "fashion_mnist": 6}
FIRST = 10_000


def draw(name: str, seed: int, arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray | None]:
    """Features (n, d), and the labels if there is more than one class."""
    kind, _, size = name.partition(":")
    if kind in ("mixture", "overlap"):
        return mixture(int(size), seed, hit=0.96 if kind == "mixture" else 0.86)
    if kind == "objects":
        count, _, poses = size.partition("x")
        return objects(int(count), int(poses or 48), seed)
    if kind in NONE:
        return nothing(kind, seed), None
    if kind.endswith("-embedding"):
        return embedding(kind.removesuffix("-embedding"), seed, arguments)
    images, labels = pictures(kind, arguments.data)
    return images.reshape(len(images), -1), labels


def mixture(k: int, seed: int, *, hit: float, rank: int = 64, d: int = 384) -> tuple[np.ndarray, np.ndarray]:
    """Features whose nearest true centre is the right one for the part `hit`."""
    random = np.random.default_rng(seed)
    n, groups = max(3000, 200 * k), 1 if k <= 3 else max(2, round(k / 5))
    above = random.normal(size=(groups, rank)) * (0.9 if groups > 1 else 0)
    centres = above[np.arange(k) % groups] + random.normal(size=(k, rank))
    share = np.maximum(random.dirichlet(np.full(k, 5.0)), 0.25 / k)
    labels = random.choice(k, n, p=share / share.sum())
    width = random.uniform(0.7, 1.4, k)
    noise = np.empty((n, rank))
    for c in range(k):
        here = labels == c
        turn = np.linalg.qr(random.normal(size=(rank, rank)))[0]
        spectrum = np.arange(1, rank + 1) ** -0.5 * random.uniform(0.5, 1.5, rank)
        heavy = np.sqrt(6 / random.chisquare(6, here.sum()))[:, None]
        noise[here] = (random.normal(size=(here.sum(), rank)) * spectrum * heavy) @ turn * width[c]
    low, high = 0.1, 20.0
    for _ in range(25):
        scale = (low * high) ** 0.5
        x = centres[labels] + scale * noise
        right = ((centres**2).sum(1) - 2 * x @ centres.T).argmin(1) == labels
        low, high = (scale, high) if right.mean() > hit else (low, scale)
    x = centres[labels] + low * noise
    turn = np.linalg.qr(random.normal(size=(d, rank)))[0]
    offset = 2 * random.normal(size=d) * x.std()
    return (x @ turn.T + offset + 0.2 * x.std() * random.normal(size=(n, d))).astype(np.float16), labels


def objects(k: int, poses: int, seed: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of k solid objects of coloured balls on a turntable, lit from the front right, one after the other."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / (side - 1) * 2 - 1
    found = []
    for _ in range(k):
        balls = int(random.integers(4, 10))
        place, radius = 0.4 * random.normal(size=(balls, 3)), random.uniform(0.12, 0.4, balls)
        colour = random.uniform(0.1, 1, (1, 3)) * random.uniform(0.5, 1, (balls, 3))
        for angle in 2 * np.pi * np.arange(poses) / poses:
            c, s = np.cos(angle), np.sin(angle)
            picture, depth = np.zeros((side, side, 3)), np.full((side, side), -9.0)
            turned = place @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
            for (px, py, pz), r, tint in zip(turned, radius, colour, strict=True):
                height = r**2 - (x - px) ** 2 - (y - py) ** 2
                front = pz + np.sqrt(np.maximum(height, 0))
                seen = (height > 0) & (front > depth)
                light = 0.4 + 0.6 * np.clip((front - pz) / r * 0.7 + (x - px) / r * 0.4, 0, 1)
                depth[seen], picture[seen] = front[seen], (tint * light[..., None])[seen]
            found.append(picture * 255 + random.normal(0, 3, picture.shape))
    pixels = np.stack(found).clip(0, 255).astype(np.uint8)
    return pixels.reshape(len(pixels), -1), np.repeat(np.arange(k), poses)


def nothing(kind: str, seed: int, n: int = 3000, d: int = 384) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind == "uniform":
        return random.uniform(size=(n, 32)).astype(np.float32)
    if kind == "ring":
        angle = random.uniform(0, 2 * np.pi, n)
        curve = np.column_stack([np.cos(angle), np.sin(angle), 0.5 * np.cos(2 * angle), 0.5 * np.sin(2 * angle)])
        return (curve @ random.normal(size=(4, 64)) + 0.1 * random.normal(size=(n, 64))).astype(np.float32)
    x = random.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.5 + random.normal(size=d)
    if kind == "heavy":
        x *= np.sqrt(4 / random.chisquare(4, n))[:, None]
    return x.astype(np.float16)


def pictures(name: str, data: Path) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = pixels_of(name, data)
    if name == "digits":
        return pixels, labels
    order = np.random.default_rng(0).permutation(len(labels))[:FIRST]
    return pixels[order], labels[order]


def embedding(name: str, seed: int, arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    from ilk import Clusterer

    images, labels = pictures(name, arguments.data)
    kept = arguments.cache / f"{name}-{seed}.npy"
    if not kept.exists():
        clusterer = Clusterer(30, random_state=seed, epochs=EPOCHS[name], settings={"warm_start": 0.99})
        clusterer.fit(images)
        arguments.cache.mkdir(parents=True, exist_ok=True)
        np.save(kept, clusterer.embedding_.astype(np.float16))
    return np.load(kept), labels


def run_once(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    features, labels = draw(name, seed, arguments)
    began = time.monotonic()
    found = grow_tree(features, seed=seed)
    seconds = time.monotonic() - began
    true = None if labels is None else len(np.unique(labels))
    at_true = None if labels is None else found.levels(true)
    return {
        "set": name,
        "seed": seed,
        "n": len(features),
        "true": true,
        "chosen": found.chosen,
        "low": found.range[0],
        "high": found.range[1],
        "sure": found.sure,
        "sentence": found.sentence,
        "seconds": round(seconds, 1),
        "accuracy_at_true": None if labels is None else round(accuracy(labels, at_true), 3),
        "nmi_at_chosen": None if labels is None else round(nmi(labels, found.levels(found.chosen)), 3),
        "curve": [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in found.rows()],
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__, "torch": torch.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=[*REAL, *OBJECTS, *MIXTURES, *OVERLAPS, *NONE])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("unknown_k-embeddings"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="JSON lines; one is added for each set and seed")
    arguments = parser.parse_args()
    print(f"{'set':20} {'seed':>4} {'n':>6} {'true':>5} {'chosen':>6} {'range':>8} {'sure':>7} {'seconds':>8} ACC@true")
    rows = []
    for name in arguments.sets:
        for seed in arguments.seeds:
            row = run_once(name, seed, arguments)
            rows.append(row)
            span = f"{row['low']}-{row['high']}"
            true, right = row["true"] or "none", row["accuracy_at_true"] or ""
            line = f"{name:20} {seed:4} {row['n']:6} {true:>5} {row['chosen']:6} {span:>8} {row['sure']:>7}"
            print(f"{line} {row['seconds']:8} {right}", flush=True)
            if arguments.out:
                append_row(arguments.out, row)
    known = [row for row in rows if row["true"]]
    near = sum(abs(row["chosen"] - row["true"]) <= 0.2 * row["true"] for row in known)
    inside = sum(row["low"] <= row["true"] <= row["high"] for row in known)
    print(f"within 20 % of the true k: {near} of {len(known)}; true k inside the range: {inside}")


if __name__ == "__main__":
    main()
