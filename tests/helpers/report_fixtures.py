"""Run folders written straight from arrays, so that a test of the report trains nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilk.runs.tables import assignments_table, summarise, write_bad_files, write_embeddings, write_table

TRAIN = {"epochs": 6, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.002, "seed": 0}


def centres(k: int, d: int = 8) -> np.ndarray:
    """k directions, as far from each other as d dimensions allow."""
    return np.concatenate([np.eye(d), -np.eye(d)])[np.arange(k) % (2 * d)]


def results(n: int, k: int, seed: int = 0) -> dict[str, np.ndarray]:
    """n images in k clusters of unlike sizes: what a model might have said, and embeddings near their centres."""
    random = np.random.default_rng(seed)
    cluster = np.sort(random.choice(k, n, p=np.arange(k, 0, -1) / np.arange(1, k + 1).sum()))
    embedding = centres(k)[cluster] + random.normal(0, 0.35, (n, 8))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    confidence = random.beta(8, 2, n).astype(np.float32)
    return {
        "cluster": cluster,
        "confidence": confidence,
        "second": (cluster + 1) % k,
        "margin": (confidence * random.random(n)).astype(np.float32),
        "embedding": embedding.astype(np.float16),
    }


def record(epoch: int) -> dict[str, Any]:
    """What an epoch leaves in the log; clusters exist from the third on."""
    there = epoch > 2
    return {
        "epoch": epoch, "epochs": 6, "images_per_second": 500.0, "learning_rate": 0.002, "loss": 6.0 - epoch / 10,
        "terms": {"instance": 5.0 - epoch / 10, **({"cluster": 1.0} if there else {})},
        "effective_clusters": 2.9 if there else None, "confidence": 0.8 if there else None, "seconds": 30.0 * epoch,
        "message": "clusters start" if epoch == 3 else None,
        "pairs": {
            "instance_positive": 0.5 + epoch / 20, "instance_negative": 0.1,
            "cluster_positive": 0.8 if there else None, "cluster_negative": 0.2 if there else None,
        },
    }  # fmt: skip


def plain_pixels(n: int, side: int) -> np.ndarray:
    """Image i is one colour all over, a function of i alone."""
    colours = np.stack([np.arange(n) * 37 % 256, np.arange(n) * 101 % 256, np.arange(n) * 53 % 256], axis=1)
    return np.broadcast_to(colours.astype(np.uint8)[:, :, None, None], (n, 3, side, side)).copy()


@pytest.fixture(scope="session")
def written_run() -> Callable[..., Path]:
    """`written_run(folder, n=60, k=3, ...)`: a run folder as `ilk fit` leaves it.

    `labels`: the cluster's number as a name, one in ten wrong, every twentieth unknown. `pictures`: with
    thumbnails of `side` pixels. `finished=False`: stopped after three epochs of training.
    """

    def write(
        folder: Path, n: int = 60, k: int = 3, *, labels: bool = True, pictures: bool = True, side: int = 16,
        finished: bool = True, moments: bool = True, ids: Sequence[str] | None = None, config: Any = None,
        paths: Sequence[str] | None = None,
    ) -> Path:  # fmt: skip
        folder.mkdir(parents=True)
        names = [f"kind {number}" for number in range(k)]
        (folder / "config.json").write_text(
            json.dumps({
                "format": 1, "method": "cc", "preset": "default", "n_clusters": k, "seed": 0,
                "method_config": {"cluster_heads": 10, "entropy_weight": 0.3}, "backbone": "small", "front_end": None,
                "views": {"name": "photo", "a": {}, "b": {}}, "train": TRAIN,
                "images": {"n": n, "channels": 3, "size": side}, "notes": ["backbone 'small': no GPU"],
                "source": {"name": f"photos/ ({n:,} images)", "kind": "folder", "bad_files": 1},
                "labels": {"names": names} if labels else None, "device": "cpu", "precision": "float32",
                "versions": {"python": "3.11", "ilk": "0.1.0"}, "created": "2026-01-02T03:04:05+00:00",
                "command": ["ilk", "fit", "my photos", "--clusters", str(k), "--out", str(folder)], **(config or {}),
            }),
            encoding="utf-8",
        )  # fmt: skip
        epochs = range(1, 7 if finished else 4)
        (folder / "log.jsonl").write_text("".join(json.dumps(record(epoch)) + "\n" for epoch in epochs))
        write_bad_files(folder / "bad_files.csv", [])
        with open(folder / "bad_files.csv", "a", encoding="utf-8") as file:
            file.write("broken.jpg,/photos/broken.jpg,empty file\n")
        if not finished:
            return folder
        found = results(n, k)
        texts = None
        if labels:
            truth = np.where(np.arange(n) % 10 == 0, (found["cluster"] + 1) % k, found["cluster"])
            texts = [None if i % 20 == 19 else names[kind] for i, kind in enumerate(truth)]
        given = list(ids) if ids is not None else [f"{i:06d}.jpg" for i in range(n)]
        write_table(
            assignments_table(
                given, list(paths) if paths is not None else [""] * n, found["cluster"], found["confidence"],
                found["second"], found["margin"], texts,
            ),
            folder, "assignments",
        )  # fmt: skip
        write_embeddings(folder / "embeddings.npy", found["embedding"])
        if moments:
            rows = np.linspace(0, n - 1, min(n, 40)).round().astype(int)
            cluster = np.stack([np.full(len(rows), -1), *[found["cluster"][rows]] * 3])
            np.savez(
                folder / "moments.npz", rows=rows, epochs=np.array([0, 2, 4, 6]), cluster=cluster.astype(np.int32),
                embedding=np.stack([found["embedding"][rows]] * 4),
            )  # fmt: skip
        if pictures:
            from ilk.images import Images
            from ilk.reports.sprites import write_thumbnails

            images = Images(plain_pixels(n, side), ids=[f"{i}" for i in range(n)])
            clusters = summarise(found["cluster"], found["confidence"], found["margin"], found["embedding"], k)
            write_thumbnails(folder, images, clusters)
        return folder

    return write


@pytest.fixture
def run_folder(tmp_path: Path, written_run: Callable[..., Path]) -> Path:
    """A finished, labelled run of 60 images in 3 clusters."""
    return written_run(tmp_path / "run")
