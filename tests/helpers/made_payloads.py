"""Payloads of runs that never were: as large, as small and as hostile as a test wants them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

HOSTILE = (
    "<img src=x onerror=alert(1)>.jpg",
    "</script><script>alert(1)</script>",
    "\"quotes\" and 'quotes' & &amp; `ticks` ${data}.png",
    "צילום של חתול \u202egpj.exe",
    "very long " + "name" * 120 + ".jpg",
    "{{script}}{{data}}",
    "javascript:alert(1)",
    "<!--<script>",
    "line\u2028separator\u2029.jpg",
)
COLUMNS, PER_SHEET = 32, 1024


def make_payload(
    n: int = 60,
    k: int = 3,
    *,
    labels: bool = False,
    tile: int | None = 8,
    names: tuple[str, ...] = (),
    empty: tuple[int, ...] = (),
    bad: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """A finished run: `n` images in `k` clusters, of which those in `empty` have none.

    `names`: what the first images, the first labels and nearly everything else with a name is called.
    """
    random = np.random.default_rng(seed)
    used = [number for number in range(k) if number not in empty]
    cluster = np.array(used)[np.arange(n) % len(used)]
    confidence = random.beta(6, 1.5, n).round(3)
    code = np.where(random.random(n) < 0.8, cluster % 7, random.integers(0, 7, n))
    angle = 2 * np.pi * cluster / k
    spot = np.stack([np.cos(angle), np.sin(angle)], 1) + random.normal(0, 0.18, (n, 2))
    spot = ((spot - spot.min(0)) / max(float(np.ptp(spot)), 1e-9) * 65535).clip(0, 65535).astype(int)
    ids = [*names[:n], *(f"folder/{i:06}.jpg" for i in range(len(names), n))][:n]
    words = (*names, *(f"kind {i}" for i in range(7)))
    epochs = list(range(1, 21))
    return {
        "format": 1,
        "run": {
            "name": (names or ("a run",))[0], "source": (names or ("photos/",))[-1], "method": "cc",
            "method_title": "Contrastive Clustering", "method_source": "Li et al., AAAI 2021", "preset": "default",
            "created": "2026-01-02T03:04:05+00:00", "n_images": n, "n_clusters": k, "clusters_used": len(used),
            "n_bad": bad, "minutes": 12.5, "epochs": 20, "epochs_done": 20, "finished": True, "image_size": 32,
            "shown": n, "sample_note": None,
        },
        "scores": [
            {"key": "acc", "name": "Accuracy", "value": 0.8, "shown": "0.800", "meaning": "Right.", "labels": True},
            {"key": "conf", "name": "Confidence", "value": 0.8, "shown": "0.8", "meaning": "Sure.", "labels": False},
        ],
        "label_names": list(words[:7]) if labels else None,
        "images": {
            "id": ids, "cluster": cluster.tolist(), "confidence": confidence.tolist(),
            "second": [used[(used.index(int(one)) + 1) % len(used)] for one in cluster],
            "margin": (confidence / 2).round(3).tolist(), "label": code.tolist() if labels else None,
            "row": list(range(n)), "x": spot[:, 0].tolist(), "y": spot[:, 1].tolist(),
        },
        "sprites": None if tile is None else make_sprites(n, tile, cluster),
        "large": None,
        "clusters": [one_cluster(number, cluster, confidence, code if labels else None, used) for number in range(k)],
        "map": {"method": "PCA", "note": "first two components", "moments": make_moments(spot, n)},
        "neighbours": make_neighbours(n, random),
        "confidence": {
            "edges": np.linspace(0, 1, 21).round(2).tolist(),
            "counts": np.histogram(confidence, 20, (0, 1))[0].tolist(),
            "reliability": {"mean_confidence": [0.5, 0.9], "accuracy": [0.4, 0.8], "count": [n, n]} if labels else None,
        },
        "training": {
            "epoch": epochs,
            "terms": {"instance": [5 / e for e in epochs], "cluster": [None] * 10 + [2 / e for e in epochs[10:]]},
            "loss": [7 / e for e in epochs], "effective_clusters": [None] * 10 + [k * 0.9] * 10,
            "confidence": [0.9] * 20, "learning_rate": [0.001] * 20, "images_per_second": [400.0] * 20,
            "pairs": {
                "instance_positive": [0.8] * 20, "instance_negative": [0.1] * 20,
                "cluster_positive": [None] * 20, "cluster_negative": [None] * 20,
            },
            "messages": [{"epoch": 10, "text": (names or ("a message",))[0]}],
        },
        "affinity": make_affinity(used, random),
        "confusion": {
            "matrix": [[int(((cluster == c) & (code == label)).sum()) for label in range(7)] for c in used],
            "clusters": used, "labels": list(range(7)),
        } if labels else None,
        "bad_files": [{"id": one, "reason": (names or ("broken",))[0]} for one in (*names, *["bad.jpg"] * bad)[:bad]],
        "made": {
            "settings": {"method": "cc", **dict.fromkeys(names, "value")}, "versions": {"python": "3.12"},
            "command": f"ilk fit '{(names or ('photos',))[0]}'", "notes": list(names), "cite": "@inproceedings{a,\n}",
        },
        "next": ["ilk export run --folders sorted/", *names],
    }  # fmt: skip


def unfinished_payload(epochs_done: int = 3) -> dict[str, Any]:
    """A run in the middle of its training."""
    payload = make_payload(6, 2, tile=None)
    payload["run"].update(finished=False, epochs_done=epochs_done, clusters_used=None, shown=0)
    payload["images"] = {key: [] for key in payload["images"]} | {"label": None}
    payload.update(
        scores=[], clusters=[], neighbours=None, confidence=None, affinity=None, bad_files=[],
        map={"method": "PCA", "note": "", "moments": None}, next=["ilk fit photos --resume"],
    )  # fmt: skip
    for key, values in payload["training"].items():
        if isinstance(values, list) and key != "messages":
            payload["training"][key] = values[:epochs_done]
    payload["training"]["terms"] = {key: values[:epochs_done] for key, values in payload["training"]["terms"].items()}
    payload["training"].update(pairs=None, messages=[])
    return payload


def one_cluster(
    number: int, cluster: np.ndarray, confidence: np.ndarray, code: np.ndarray | None, used: list[int]
) -> dict[str, Any]:
    rows = np.flatnonzero(cluster == number)
    best = rows[np.argsort(-confidence[rows], kind="stable")]
    labels = None
    if code is not None:
        counts = np.bincount(code[rows], minlength=7)
        labels = [{"code": int(i), "count": int(counts[i])} for i in np.argsort(-counts) if counts[i]]
    near = [one for one in used if one != number][:3]
    return {
        "number": number, "name": None, "size": len(rows),
        "confidence": round(float(confidence[rows].mean()), 4) if len(rows) else None,
        "typical": best[:24].tolist(), "uncertain": best[::-1][:24].tolist(),
        "near": [{"number": one, "similarity": 0.5} for one in near], "labels": labels,
    }  # fmt: skip


def make_sprites(n: int, tile: int, cluster: np.ndarray) -> dict[str, Any]:
    """Tiles of a colour by cluster, with noise so that they weigh what pictures weigh."""
    random = np.random.default_rng(1)
    sheets = []
    for start in range(0, n, PER_SHEET):
        here = cluster[start : start + PER_SHEET]
        rows = -(-len(here) // COLUMNS)
        plain = np.zeros((rows * COLUMNS, 3))
        plain[: len(here)] = np.stack([here * 37 % 200, here * 91 % 200, here * 53 % 200], 1) + 40
        pixels = plain.reshape(rows, 1, COLUMNS, 1, 3).repeat(tile, 1).repeat(tile, 3).reshape(rows * tile, -1, 3)
        pixels = (pixels + random.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8)
        sheets.append(as_address(Image.fromarray(pixels), "WEBP"))
    return {"tile": tile, "columns": COLUMNS, "per_sheet": PER_SHEET, "count": n, "sheets": sheets}


def make_moments(spot: np.ndarray, n: int) -> list[dict[str, Any]] | None:
    if n < 20:
        return None
    index = np.arange(0, n, max(1, n // 300))
    return [
        {"epoch": epoch, "title": f"after epoch {epoch}", "index": index.tolist(), "x": spot[index, 0].tolist(),
         "y": spot[index, 1].tolist(), "cluster": None, "label": None}
        for epoch in (0, 5, 10, 20)
    ]  # fmt: skip


def make_neighbours(n: int, random: np.random.Generator) -> dict[str, Any]:
    ranks = [rank for rank in (1, 2, 10, 50, 100) if rank < n]
    dtype = "uint16" if n < 65536 else "uint32"
    near = ((np.arange(n)[:, None] + np.array(ranks)[None]) % n).astype(dtype)
    similarity = np.sort(random.integers(128, 255, near.shape), 1)[:, ::-1].astype(np.uint8)
    coded = [base64.b64encode(np.ascontiguousarray(one).tobytes()).decode() for one in (near, similarity)]
    return {"ranks": ranks, "data": coded[0], "dtype": dtype, "similarity": coded[1]}


def make_affinity(used: list[int], random: np.random.Generator) -> dict[str, Any]:
    side = 4 * len(used)
    gray = Image.fromarray(random.integers(0, 255, (side, side)).astype(np.uint8))
    matrix = np.eye(len(used)) + random.normal(0, 0.1, (len(used), len(used)))
    return {
        "samples": {
            "png": as_address(gray, "PNG"), "bounds": list(range(0, side, 4)), "count": side, "low": -0.2, "high": 1.0,
        },
        "clusters": {"matrix": matrix.round(3).tolist(), "order": used},
    }  # fmt: skip


def as_address(picture: Image.Image, form: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=50)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
