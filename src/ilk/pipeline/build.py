"""From the settings of a run to the method that they describe, with or without its trained weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ilk.methods import method_of_run
from ilk.methods.base import Method
from ilk.methods.records import declared, read_settings
from ilk.networks.backbones import build_backbone
from ilk.networks.features import FeatureBackbone
from ilk.networks.weights import Header, Misfit, header_of, put_state, refuse_misfit, seeded_weights
from ilk.runs.config import Plan
from ilk.runs.folder import Run
from ilk.system.allocator import memory
from ilk.system.files import replacing


def save_model(run: Run, method: Method) -> None:
    """Writes the trained weights as `model.safetensors`."""
    tensors = {name: tensor.contiguous() for name, tensor in method.state_dict().items()}
    with replacing(run / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def load_method(run: Run, backbone: nn.Module | None = None) -> Method:
    """The trained method. `backbone`: the untrained module, when the run was given one in Python.

    Raises FileNotFoundError when training has not finished, ValueError when the file does not fit.
    """
    if not (run / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"'{run.folder}' has no model yet: its training has not finished. Go on with: ilk fit ... --out"
            f" {run.folder} --resume"
        )
    file = run / "model.safetensors"
    try:
        method = method_of(run.config, backbone, stored=header_of(file))
        put_state(method, load_file(file))
    except Misfit as error:
        raise ValueError(f"'{file}' is damaged or does not fit its config.json: {error}") from None
    return method.eval()


def method_of(plan: Plan, backbone: nn.Module | None = None, *, stored: Header | None = None) -> Method:
    """The untrained method that `plan` describes, with the weights that its seed gave it when it was planned.

    Where heads were trained on the features of an encoder, what comes back takes such features.

    Before memory is taken for it, its size is looked at: what cannot be is refused with ValueError, and
    what does not fit the `stored` tensors with Misfit.
    """
    kind = method_of_run(plan.method, plan.method_from)
    images, k = plan.images, plan.n_clusters
    width = dim = 0
    if plan.encoder is not None and plan.features is not None:
        width, dim = plan.encoder.feature_dim, plan.features.dim or 0
        if not 1 <= dim <= width:
            raise ValueError(f"features.dim of this run must be a whole number from 1 to {width}; it is {dim!r}.")
        with torch.device("meta"):  # takes no memory yet
            backbone = FeatureBackbone(width, dim)
    if backbone is None and plan.custom_backbone is not None:
        raise ValueError(
            f"This run was trained with a backbone of your own ({plan.custom_backbone}). Pass it in Python:"
            " Clusterer.load(folder, backbone=...)."
        )
    settings = settings_of(kind, plan.method_config)
    with seeded_weights(plan.seed):
        if backbone is None:
            backbone = build_backbone(
                plan.backbone, image_size=images.size, in_channels=images.channels,
                front_end=None if plan.front_end is None else plan.front_end.as_dict(),
            )  # fmt: skip
        refuse_huge(outline := outline_of(kind, backbone, k, images.n, settings))
        if stored is not None:
            refuse_misfit(outline, stored)
        if dim:
            backbone = FeatureBackbone(width, dim)
        method = kind(backbone, k, images.n, settings)
    if plan.freeze_backbone:
        method.freeze_backbone()
    return method


def settings_of(kind: type[Method], values: Mapping[str, Any]) -> Any:
    """The method's settings. Raises ValueError for an unknown one, or one of another type or range."""
    record = type(next(iter(kind.presets.values())).config)
    if unknown := sorted(set(values) - set(declared(record))):
        raise ValueError(f"This run has settings that this version of ilk does not know ({', '.join(unknown)}).")
    try:
        return read_settings(record, values)
    except ValueError as error:
        raise ValueError(f"A setting of this run is not as it should be: {error}") from None


def outline_of(kind: type[Method], backbone: nn.Module, k: int, n: int, settings: Any) -> Method:
    """The method without memory for its own tensors, and without a random draw."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return kind(backbone, k, n, settings)


def refuse_huge(outline: Method) -> None:
    """Raises ValueError if the method would take more than half of this machine's memory."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in outline.state_dict().values())
    if needed > memory() / 2:
        raise ValueError(
            f"With these settings ({outline.n_clusters:,} clusters, {outline.n_images:,} images) the method takes"
            f" {needed / 1e9:,.0f} GB; this machine has {memory() / 1e9:,.0f} GB. Is the run's config.json damaged?"
        )
