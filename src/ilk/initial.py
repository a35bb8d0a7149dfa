"""Weights to begin with: those of an earlier run, or of a file that holds a backbone. Safetensors only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from ilk.images import Images
from ilk.methods.base import Method
from ilk.runs import Run, in_short


@dataclass(frozen=True)
class Initial:
    """Where a training begins: `config` is that of the run, None for a file of weights."""

    path: Path
    config: dict[str, Any] | None

    @property
    def file(self) -> Path:
        return self.path / "model.safetensors" if self.config is not None else self.path

    @property
    def image_size(self) -> int | None:
        return None if self.config is None else int(self.config["images"]["size"])

    @property
    def backbone(self) -> str | None:
        """The name of the run's backbone."""
        return None if self.config is None else str(self.config["backbone"])


def find_initial(path: str | os.PathLike[str]) -> Initial:
    """The run folder or .safetensors file `path`. Raises FileNotFoundError or ValueError with a sentence."""
    place = Path(path).expanduser()
    if place.is_dir():
        run = Run(place).open()
        if not (run / "model.safetensors").is_file():
            raise FileNotFoundError(f"'{path}' has no model to start from: its training has not finished.")
        return Initial(place, run.config)
    if not place.is_file():
        raise FileNotFoundError(
            f"There is no '{path}' to start from. Give --init a run folder, or a .safetensors file of backbone weights."
        )
    if place.suffix.lower() != ".safetensors":
        raise ValueError(
            f"'{path}' is no .safetensors file. Give --init such a file, or a run folder; pickles are refused."
        )
    return Initial(place, None)


def refuse_other(initial: Initial, backbone: str | None, front_end: str | None, images: Images) -> None:
    """Raises ValueError if what is asked for by name, or the images, contradict the run that is started from."""
    if initial.config is None:
        return
    run, name, front = initial.path, initial.backbone or "", front_name(initial.config.get("front_end"))
    channels = initial.config["images"]["channels"]
    if name.startswith("custom:"):
        raise ValueError(f"'{run}' has a backbone of your own ({name[7:]}). Pass that module as backbone, in Python.")
    if backbone not in (None, name):
        raise ValueError(
            f"'{run}' has the backbone {name}, and {backbone} was asked for. Leave --backbone out to start from it."
        )
    if front_end not in (None, front):
        raise ValueError(
            f"'{run}' has the front end {front}, and {front_end} was asked for. Leave front_end out to start from it."
        )
    if channels != images.shape[0]:
        raise ValueError(
            f"'{run}' was trained on images with {channels} channels; {images.name} has {images.shape[0]}."
            " They must match."
        )


def front_name(front: Mapping[str, Any] | None) -> str:
    """The name by which recipes have these arguments of a front end."""
    parts = [] if front is None else ["normalize"] * bool(front["mean"]) + ["sobel"] * bool(front["sobel"])
    return "-".join(parts) or "none"


def start_from(method: Method, initial: Initial, *, expected: str | None = None) -> dict[str, Any]:
    """Puts the initial weights into `method`; returns what config.json says of it: path, hash, parts.

    From a run of the same method, representation heads of the same shape are taken too. `expected`: the
    hash that the weights must have. Raises ValueError if they are damaged, others, or do not fit.
    """
    data = initial.file.read_bytes()
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    if expected is not None and digest != expected:
        raise ValueError(f"'{initial.path}' has changed since this run began with its weights. Start a new run.")
    try:
        tensors = load(data)
    except Exception as error:  # safetensors raises several kinds for a damaged or foreign file
        raise ValueError(f"'{initial.file}' is damaged or no safetensors file: {in_short(error)}") from None
    method.backbone.load_state_dict(backbone_weights(tensors, method.backbone, initial))
    parts = ["backbone"]
    if initial.config is not None and initial.config["method"] == method.name:
        parts += [name for name in method.representation if take_head(method, name, tensors)]
    method.reset_twin()  # a moving average begins as a copy
    return {"path": str(initial.path.resolve()), "hash": digest, "parts": parts}


def backbone_weights(tensors: dict[str, Tensor], backbone: nn.Module, initial: Initial) -> dict[str, Tensor]:
    """The tensors that are the backbone's, by its own names, from those with or without the prefix `backbone.`."""
    wanted = backbone.state_dict()
    prefixed = within(tensors, "backbone.")
    found = tensors if tensors.keys() == wanted.keys() else prefixed
    if not found or found.keys() != wanted.keys():
        found = prefixed or tensors
        missing, other = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        said = [f"lacks {missing[0]}"] * bool(missing) + [f"has {other[0]}"] * bool(other)
        raise ValueError(
            f"'{initial.path}' holds the weights of another network than this backbone: it {' and '.join(said)}."
            " Choose the network that they belong to with --backbone (and --set front_end=...)."
        )
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            theirs, ours = ("x".join(map(str, shape)) or "a number" for shape in (found[name].shape, tensor.shape))
            raise ValueError(
                f"'{initial.path}' does not fit this backbone: {name} is {theirs} there and {ours} here. The number of"
                " channels of the images and the backbone must be those of the weights."
            )
        if not torch.isfinite(found[name]).all():
            raise ValueError(f"'{initial.path}' holds numbers that are not finite ({name}).")
    return found


def take_head(method: Method, name: str, tensors: dict[str, Tensor]) -> bool:
    """Takes the head over if it is in both with equal shapes."""
    head, found = getattr(method, name, None), within(tensors, f"{name}.")
    if not isinstance(head, nn.Module):
        return False
    wanted = head.state_dict()
    if found.keys() != wanted.keys() or any(found[key].shape != wanted[key].shape for key in wanted):
        return False
    head.load_state_dict(found)
    return True


def within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
