"""Makes the stored runs beside it, one a method: `python tests/training/runs_v1/make.py` (half a minute on a CPU).

They show that what a released version wrote can be opened for ever, so they are *not* to be made again when
the code changes: a new format gets a folder of its own. Each is an ordinary training on 60 digits, but most
weights are held at zero and the rest are rounded to bfloat16, so that the packed model takes few bytes.
"""

from __future__ import annotations

import lzma
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ilk.images import Images, load_images
from ilk.methods import METHODS
from ilk.pipeline.begin import new_training
from ilk.pipeline.build import Training, save_model
from ilk.pipeline.fitting import finish_run, train_run, write_start
from ilk.pipeline.request import Request
from ilk.pipeline.results import circumstances
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.devices import make_fabric
from ilk.system.progress import Watch

HERE = Path(__file__).parent
KEPT = 0.04  # of the weights of each layer
FILES = (
    "config.json", "log.jsonl", "assignments.csv", "assignments.parquet", "clusters.csv", "bad_files.csv",
    "embeddings.npy", "moments.npz", "scores.json", "thumbnails",
)  # fmt: skip
SETTINGS = {
    "cc": {"cluster_heads": 2, "embedding_dim": 16},
    "crlc": {"cluster_heads": 2, "embedding_dim": 16},
    "scl": {"embedding_dim": 16, "queue": 60},
    "dcdc": {"cluster_heads": 2, "over_clusters": 10},
    "c2bin": {"cluster_heads": 2, "embedding_dim": 16, "hidden_dim": 16, "scales": "8"},
}


def digits() -> Images:
    """The first 60 of scikit-learn's handwritten digits, 8 x 8 pixels, with their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return load_images((found.images[:60] * (255 / 16)).round().astype("uint8"), labels=found.target[:60])


def thin(training: Training) -> None:
    """Holds all but the largest weights of each layer at zero, before and during the training."""
    for weight in training.method.parameters():
        if weight.dim() < 2 or not weight.requires_grad:
            continue
        least = weight.detach().abs().flatten().quantile(1 - KEPT)
        mask = (weight.detach().abs() >= least).float()
        weight.data *= mask
        weight.register_hook(lambda gradient, mask=mask: gradient * mask)
    training.method.reset_twin()


def make(name: str) -> None:
    torch.set_num_threads(1)
    images, fabric = digits(), make_fabric("cpu", "float32")
    request = Request(
        n_clusters=4, method=name, epochs=16, backbone="small", views="drawing", device="cpu", precision="float32",
        settings={"batch_size": 20, "images_per_cluster": 0, **SETTINGS[name]},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        run, watch = Run(Path(place) / name), Watch()
        training = new_training(request, images, fabric)
        thin(training)
        facts = circumstances(images, "cpu", "float32")
        write_start(replace(training, plan=training.plan.replace(**facts)), run, watch)
        train_run(training, run, fabric, watch)
        with torch.no_grad():
            for tensor in training.method.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(tensor.bfloat16())
        save_model(run, training.method)
        finish_run(training, run, fabric, watch, warned=True, report=False)
        target = HERE / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for file in FILES:
            (shutil.copytree if (run / file).is_dir() else shutil.copyfile)(run / file, target / file)
        (target / "model.safetensors.xz").write_bytes(lzma.compress((run / "model.safetensors").read_bytes()))
        print(name, np.bincount(read_table(run / "assignments.parquet")["cluster"].to_numpy(), minlength=4))


if __name__ == "__main__":
    for method in METHODS:
        make(method)
