"""Weights to begin with: those of an earlier run, or of a file that holds a backbone. Safetensors only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ilk.images import Images
from ilk.methods.base import Method
from ilk.networks.weights import Header, Misfit, header_of, header_of_state
from ilk.runs.config import FrontEndSettings, InitialWeights, Plan
from ilk.runs.folder import Run
from ilk.runs.unfinished import why_no_model
from ilk.system.files import file_hash

T = TypeVar("T")


@dataclass(frozen=True)
class Initial:
    """Where a training begins: a run with its plan, or a file of weights, without one."""

    path: Path
    plan: Plan | None

    @property
    def file(self) -> Path:
        return self.path / "model.safetensors" if self.plan is not None else self.path

    @property
    def image_size(self) -> int | None:
        return None if self.plan is None else self.plan.images.size

    @property
    def backbone(self) -> str | None:
        """The name of the run's backbone."""
        return None if self.plan is None else self.plan.backbone


def find_initial(path: str | os.PathLike[str]) -> Initial:
    """The run folder or .safetensors file `path`. Raises FileNotFoundError or ValueError with a sentence."""
    place = Path(path).expanduser()
    if place.is_dir():
        run = Run(place).open()
        if not (run / "model.safetensors").is_file():
            raise FileNotFoundError(f"'{path}' has no model to start from. {why_no_model(place)}")
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
    """Raises ValueError if the backbone, front end or images contradict the run that the training starts from."""
    if initial.plan is None:
        return
    run, name, front = initial.path, initial.plan.backbone, front_name(initial.plan.front_end)
    channels = initial.plan.images.channels
    if own := initial.plan.custom_backbone:
        raise ValueError(f"'{run}' has a backbone of your own ({own}). Pass that module as backbone, in Python.")
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


def front_name(front: FrontEndSettings | None) -> str:
    """The name that recipes have for a front end with these settings."""
    parts = [] if front is None else ["normalize"] * bool(front.mean) + ["sobel"] * front.sobel
    return "-".join(parts) or "none"


def start_from(method: Method, initial: Initial, *, expected: str | None = None) -> InitialWeights:
    """Puts the initial weights into `method`; returns what config.json says of them.

    From a run of the same method, representation heads of the same shape are copied too. `expected`: the
    hash that the file must have. Raises ValueError if the weights are damaged, have changed or do not fit.
    """
    try:
        stored = header_of(initial.file)
    except Misfit as error:
        raise ValueError(f"'{initial.file}' is damaged or no safetensors file: {error}") from None
    names = names_of_backbone(stored, method.backbone, initial)  # of a file of any size only what is used is read
    refuse_misfit(stored, names, method.backbone, initial)
    digest = file_hash(initial.file)
    if expected is not None and digest != expected:
        raise ValueError(f"'{initial.path}' has changed since this run began with its weights. Start a new run.")
    method.backbone.load_state_dict(finite_tensors(initial, names))
    parts = ["backbone"]
    if initial.plan is not None and initial.plan.method == method.name:
        parts += [name for name in method.representation if take_head(method, name, stored, initial)]
    method.reset_twin()  # a moving average begins as a copy
    return InitialWeights(path=str(initial.path.resolve()), hash=digest, parts=parts)


def backbone_weights(tensors: dict[str, Tensor], backbone: nn.Module, initial: Initial) -> dict[str, Tensor]:
    """The tensors of the backbone by its own names. Raises ValueError if they do not fit or are not finite."""
    stored = header_of_state(tensors)
    names = names_of_backbone(stored, backbone, initial)
    refuse_misfit(stored, names, backbone, initial)
    return all_finite({name: tensors[other] for name, other in names.items()}, initial)


def names_of_backbone(stored: Header, backbone: nn.Module, initial: Initial) -> dict[str, str]:
    """The name in the file of each tensor of the backbone; names in the file may begin with `backbone.`.

    Raises ValueError where the file holds other tensors.
    """
    wanted = backbone.state_dict().keys()
    whole = {name: name for name in stored}
    prefixed = within(whole, "backbone.")
    names = whole if stored.keys() == wanted else prefixed
    if not names or names.keys() != wanted:
        others = prefixed.keys() or stored.keys()
        missing, other = sorted(wanted - others), sorted(others - wanted)
        said = [f"lacks {missing[0]}"] * bool(missing) + [f"has {other[0][:100]}" for _ in other[:1]]
        raise ValueError(
            f"'{initial.path}' holds the weights of another network than this backbone: it {' and '.join(said)}."
            " Choose the network that they belong to with --backbone (and --set front_end=...)."
        )
    return names


def refuse_misfit(stored: Header, names: dict[str, str], backbone: nn.Module, initial: Initial) -> None:
    """Raises ValueError if a stored tensor has another shape or kind than the backbone's."""
    for name, (kind, shape) in header_of_state(backbone.state_dict()).items():
        stored_kind, stored_shape = stored[names[name]]
        if stored_shape != shape:
            theirs, ours = ("x".join(map(str, sides)) or "a number" for sides in (stored_shape, shape))
            raise ValueError(
                f"'{initial.path}' does not fit this backbone: {name} is {theirs} there and {ours} here. The number of"
                " channels of the images and the backbone must be those of the weights."
            )
        if stored_kind != kind:
            raise ValueError(f"'{initial.path}' does not fit this backbone: {name} holds {stored_kind}, not {kind}.")


def take_head(method: Method, name: str, stored: Header, initial: Initial) -> bool:
    """Copies a head's stored weights if both have it in the same shape; returns whether it did."""
    head, names = getattr(method, name, None), within({key: key for key in stored}, f"{name}.")
    if not isinstance(head, nn.Module):
        return False
    if {own: stored[other] for own, other in names.items()} != header_of_state(head.state_dict()):
        return False
    head.load_state_dict(finite_tensors(initial, names))
    return True


def finite_tensors(initial: Initial, names: dict[str, str]) -> dict[str, Tensor]:
    """Those tensors of the file, by the backbone's names. Raises ValueError for numbers that are not finite."""
    with safe_open(initial.file, framework="pt") as file:
        return all_finite({name: file.get_tensor(stored) for name, stored in names.items()}, initial)


def all_finite(tensors: dict[str, Tensor], initial: Initial) -> dict[str, Tensor]:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"'{initial.path}' holds numbers that are not finite ({name}).")
    return tensors


def within(named: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The entries whose name begins with `prefix`, by the rest of the name."""
    return {name[len(prefix) :]: value for name, value in named.items() if name.startswith(prefix)}
