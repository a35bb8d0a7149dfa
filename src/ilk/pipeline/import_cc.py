"""A checkpoint of the code that the authors of CC published, as a run folder that predicts."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from ilk.methods import get_preset
from ilk.pipeline.build import build_method, save_model
from ilk.pipeline.decide import train_config, view_settings
from ilk.runs.config import Plan, plan_from
from ilk.runs.folder import Run
from ilk.system.text import in_short
from ilk.system.versions import versions
from ilk.views import get_views

DEPTHS: dict[tuple[int, ...], str] = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}
PARTS = ("resnet", "instance_projector", "cluster_projector")
EXPECTED = "A checkpoint of CC is a .tar file whose 'net' holds resnet, instance_projector and cluster_projector"
# ours for theirs, inside a block; a block's layers are theirs by name and ours by place
LAYERS = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}


def import_cc(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    image_size: int = 224,
    say: Callable[[str], None] | None = None,
) -> Run:
    """A new run folder `out` with the network of the checkpoint `file`, ready for `ilk predict`.

    `image_size`: the side in pixels that it was trained at. Like the authors' own evaluation, the run sees
    whole images squeezed to that size, in [0, 1], not normalised. The file is read without running code.
    Raises FileNotFoundError, FileExistsError or ValueError with a sentence; then nothing is written.
    """
    run = Run(out)
    run.refuse_used()
    if not 1 <= image_size <= 4096:
        raise ValueError(f"image_size must be from 1 to 4096 pixels; got {image_size}.")
    net, epoch = read(Path(file).expanduser())
    backbone, shapes = recognised(net, str(file))
    plan = described(Path(file), backbone, shapes, image_size, epoch)
    method = build_method(plan)
    wanted, found = method.state_dict(), renamed(net, str(file))
    for name in wanted.keys() - found.keys():
        if name.endswith(("num_batches_tracked", "heads.loss", "heads.started", "heads.chosen")):
            found[name] = wanted[name]  # of no use to a prediction with one head
    refuse_misfit(wanted, found, str(file))
    method.load_state_dict(found)
    run.create()
    run.write_config(plan)
    save_model(run, method)
    if say is not None:
        say(f"{backbone} at {image_size} pixels, {shapes['clusters']} clusters, after {epoch or 'unknown'} epochs")
    return run


def saved_by_torch(file: Path) -> bool:
    """Whether the file is of one of torch's formats: a zip, a pickle, or the tar of its first versions."""
    with open(file, "rb") as stream:
        return stream.read(1) == b"\x80" or zipfile.is_zipfile(file) or tarfile.is_tarfile(file)


def read(file: Path) -> tuple[dict[str, Tensor], int | None]:
    """The network's tensors, by the authors' names, and the epoch if it is noted."""
    if not file.is_file():
        raise FileNotFoundError(f"There is no file '{file}'. {EXPECTED}.")
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several kinds, for damage and for what could run code
        why = in_short(error)
        if not saved_by_torch(file):
            why = "it is no file that torch has saved"
        elif "weights_only" in why or "Unsupported" in why or "GLOBAL" in why:
            why = "it holds more than tensors and numbers, which could run code; such files are refused"
        raise ValueError(f"'{file}' cannot be read: {why}. {EXPECTED}.") from None
    net = saved.get("net") if isinstance(saved, dict) else None
    if not isinstance(net, dict):
        raise ValueError(f"'{file}' has no network under the key 'net'. {EXPECTED}.")
    if not net or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in net.items()):
        raise ValueError(f"'{file}' holds something other than tensors under 'net'. {EXPECTED}.")
    tensors = {name.removeprefix("module."): tensor for name, tensor in net.items()}  # from DataParallel
    epoch = saved.get("epoch")
    return tensors, epoch if isinstance(epoch, int) and not isinstance(epoch, bool) and epoch > 0 else None


def recognised(net: dict[str, Tensor], file: str) -> tuple[str, dict[str, int]]:
    """The name of the backbone, and channels, embedding width and clusters, from names and shapes."""
    missing = [part for part in PARTS if not any(name.startswith(f"{part}.") for name in net)]
    if missing:
        raise ValueError(f"'{file}' lacks {' and '.join(missing)}. {EXPECTED}.")
    blocks: dict[int, int] = {}
    for name in net:
        if found := re.match(r"resnet\.layer(\d)\.(\d+)\.", name):
            blocks[int(found[1])] = max(blocks.get(int(found[1]), 0), int(found[2]) + 1)
    kind = DEPTHS.get(tuple(blocks[i] for i in sorted(blocks)))
    if kind is None:
        raise ValueError(f"'{file}' holds no ResNet-18, -34 or -50: its stages have {list(blocks.values())} blocks.")
    if kind == "resnet34" and "resnet.layer1.0.conv3.weight" in net:
        kind = "resnet50"
    shapes = {
        "channels": shape_of(net, "resnet.conv1.weight", 4, file)[1],
        "embedding": shape_of(net, "instance_projector.2.weight", 2, file)[0],
        "clusters": shape_of(net, "cluster_projector.2.weight", 2, file)[0],
    }
    if shapes["clusters"] < 2:
        raise ValueError(f"'{file}' has {shapes['clusters']} cluster; a run has at least 2.")
    return f"{kind}-imagenet", shapes


def shape_of(net: dict[str, Tensor], name: str, dimensions: int, file: str) -> tuple[int, ...]:
    if name not in net:
        raise ValueError(f"'{file}' lacks {name}. {EXPECTED}.")
    if net[name].ndim != dimensions or 0 in net[name].shape:
        raise ValueError(f"'{file}' holds {name} with the impossible shape {sized(net[name])}.")
    return tuple(net[name].shape)


def described(
    file: Path, backbone: str, shapes: dict[str, int], image_size: int, epoch: int | None
) -> Plan:  # fmt: skip
    """The plan of the run: the published settings, and where the weights come from."""
    preset = get_preset("cc", "paper")
    recipe = preset.recipe
    train = train_config(recipe, epochs=epoch or recipe.epochs or 1000, batch=recipe.batch_size or 256, seed=0)
    return plan_from({
        "method": "cc", "preset": "paper", "n_clusters": shapes["clusters"], "seed": 0,
        "method_config": asdict(replace(preset.config, embedding_dim=shapes["embedding"])),
        "backbone": backbone, "front_end": None,
        "views": view_settings(recipe.views, *get_views(recipe.views)),
        "train": train,
        "images": {"n": 1, "channels": shapes["channels"], "size": image_size},  # how many there were is not noted
        "init": None, "freeze_backbone": False, "extra": None, "known_labels": None, "encoder": None, "features": None,
        "notes": [
            f"imported from '{file.name}', a checkpoint of the authors' code; it was not trained by ilk",
            "train, views and seed are the published settings, not a record; the number of images is not known",
        ],
        "imported": {"from": str(file.resolve()), "format": "cc", "epoch": epoch}, "versions": versions(),
    })  # fmt: skip


def renamed(net: dict[str, Tensor], file: str) -> dict[str, Tensor]:
    """The tensors by our names. Raises ValueError for a name that is none of the network's."""
    return {our_name(name, file): tensor for name, tensor in net.items()}


def our_name(name: str, file: str) -> str:
    """`backbone.stages.0.1.body.3.weight` of `resnet.layer1.1.conv2.weight`."""
    part, _, rest = name.partition(".")
    if part == "instance_projector":
        return f"instance_head.{rest}"
    if part == "cluster_projector":
        return f"cluster_heads.heads.0.{rest}"
    if part == "resnet":
        if found := re.fullmatch(r"(conv1|bn1)\.(\w+)", rest):
            return f"backbone.stem.{LAYERS[found[1]]}.{found[2]}"
        if found := re.fullmatch(r"layer([1-4])\.(\d+)\.((?:conv|bn)[123])\.(\w+)", rest):
            return f"backbone.stages.{int(found[1]) - 1}.{found[2]}.body.{LAYERS[found[3]]}.{found[4]}"
        if found := re.fullmatch(r"layer([1-4])\.(\d+)\.downsample\.([01])\.(\w+)", rest):
            return f"backbone.stages.{int(found[1]) - 1}.{found[2]}.shortcut.{found[3]}.{found[4]}"
    raise ValueError(f"'{file}' holds {name}, which is no part of CC's network. {EXPECTED}, as published.")


def refuse_misfit(wanted: dict[str, Tensor], found: dict[str, Tensor], file: str) -> None:
    """Raises ValueError unless the tensors are those that our network has, in shape and finite."""
    for name in sorted(wanted.keys() ^ found.keys()):
        what = "lacks a weight that" if name in wanted else "holds a weight that no"
        raise ValueError(f"'{file}' {what} CC's network has ({name} here). {EXPECTED}, as published.")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise ValueError(
                f"'{file}' does not fit CC's network: {name} is {sized(found[name])} there and {sized(tensor)} here."
            )
        if found[name].is_floating_point() != tensor.is_floating_point() or not torch.isfinite(found[name]).all():
            raise ValueError(f"'{file}' holds weights that are not finite numbers ({name}).")


def sized(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
