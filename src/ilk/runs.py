"""The folder of one training: what was asked, what happened, what came out. Every write is atomic."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ilk.allocator import memory
from ilk.backbones import build_backbone
from ilk.features import FeatureBackbone
from ilk.files import TEMPORARY, read_json, read_json_lines, replacing, room_for, sweep, write_json, write_text
from ilk.lock import FILE as LOCK
from ilk.lock import held
from ilk.methods import get_method
from ilk.methods.base import Method
from ilk.schema import FORMAT, check_config, checked
from ilk.weights import Header, Misfit, header_of, put_state, refuse_misfit, seeded_weights

PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "scikit-learn", "pillow", "pyarrow", "safetensors")
SELECTION = "selection.json"  # which epoch's model it is, where it is not the last one's
LAST = ("scores.json", "report.html")  # written after the assignments, which mark a run as finished


class Run:
    """A run folder: `config.json`, `log.jsonl`, `checkpoint.pt`, `model.safetensors` and the results."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def exists(self) -> bool:
        return (self / "config.json").is_file()

    @property
    def finished(self) -> bool:
        return (self / "assignments.parquet").is_file()

    def lacks(self, *, report: bool) -> list[str]:
        """Which of the files that are made after the assignments are not there."""
        return [name for name in LAST if not (self / name).is_file() and (report or name != "report.html")]

    def refuse_used(self, but: Iterable[str] = ()) -> None:
        """Raises FileExistsError if there is something in the folder already, files named in `but` left aside."""
        if self.exists:
            raise FileExistsError(
                f"'{self.folder}' is not empty: it holds a run. Choose another --out, or add --resume to go on with it."
            )
        if self.folder.exists() and (
            not self.folder.is_dir() or any(counts(place) and place.name not in but for place in self.folder.iterdir())
        ):
            what = "not empty" if self.folder.is_dir() else "a file"
            raise FileExistsError(f"'{self.folder}' is {what}. Choose another folder, one that does not exist yet.")

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keeps other processes from writing here. Raises InUse, a sentence, if one of them does.

        The lock goes with its process, however that ends; what a killed one left half-written is removed.
        """
        if self.folder.exists() and not self.folder.is_dir():
            self.refuse_used()
        with held(self.folder):
            for place in (self.folder, self / "thumbnails"):
                if place.is_dir() and not place.is_symlink():
                    sweep(place)
            yield

    def create(self) -> None:
        """Makes the folder. Raises FileExistsError if something is already in it."""
        self.refuse_used()
        self.folder.mkdir(parents=True, exist_ok=True)

    def open(self) -> Run:
        """This run, if it is one. Raises FileNotFoundError or ValueError with a sentence."""
        if self.folder.is_file():
            raise ValueError(f"'{self.folder}' is a file, not a run folder.")
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"There is no run folder '{self.folder}'. Make one with: ilk fit SOURCE --clusters K"
            )
        if not self.exists:
            raise FileNotFoundError(f"'{self.folder}' is not a run folder: it has no config.json.")
        for place in self.folder.iterdir():
            if place.is_symlink() and place.is_dir():  # what is written and cleared there would be somewhere else
                raise ValueError(f"'{place}' is a link to another folder, which a run does not have. Remove it.")
        _ = self.config
        return self

    @property
    def config(self) -> dict[str, Any]:
        """The settings, each of a known type and range, with those that earlier versions did not write yet."""
        file = self / "config.json"
        return checked(read_json(file), file)

    def write_config(self, config: dict[str, Any]) -> None:
        """Writes the settings; refuses, as `config` would, what could not be read again."""
        check_config(config)
        write_json(self / "config.json", {"format": FORMAT, **config})

    def log(self) -> list[dict[str, Any]]:
        """The records of the epochs so far; a half-written last line is left out."""
        file = self / "log.jsonl"
        records = read_json_lines(file) if file.is_file() else []
        for record in records:
            epoch = record.get("epoch")
            if not isinstance(epoch, int) or epoch < 1:
                raise ValueError(f"'{file}' is damaged: it has a line without an epoch. Delete that line, or the file.")
        return records

    def append_log(self, record: dict[str, Any]) -> None:
        file = self / "log.jsonl"
        with room_for(file), open(file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

    def cut_log(self, epochs: int) -> None:
        """Forgets the records of epochs after `epochs`, which a resumed run will do again."""
        kept = [record for record in self.log() if record["epoch"] <= epochs]
        write_text(self / "log.jsonl", "".join(json.dumps(record) + "\n" for record in kept))

    def save_model(self, method: Method) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in method.state_dict().items()}
        with replacing(self / "model.safetensors") as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})

    def load_method(self, backbone: nn.Module | None = None) -> Method:
        """The trained method. `backbone`: the untrained module, when the run was given one in Python.

        Raises FileNotFoundError when training has not finished, ValueError when the file does not fit.
        """
        if not (self / "model.safetensors").is_file():
            raise FileNotFoundError(
                f"'{self.folder}' has no model yet: its training has not finished. Go on with: ilk fit ... --out"
                f" {self.folder} --resume"
            )
        file = self / "model.safetensors"
        try:
            method = method_of(self.config, backbone, stored=header_of(file))
            put_state(method, load_file(file))
        except Misfit as error:
            raise ValueError(f"'{file}' is damaged or does not fit its config.json: {error}") from None
        return method.eval()


def counts(place: Path) -> bool:
    """Whether what is at `place` makes its folder a used one; locks and what a killed process left do not."""
    return place.name != LOCK and not TEMPORARY.search(place.name)


def in_short(error: Exception) -> str:
    """An error of torch or safetensors in one line; torch's first line alone says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def method_of(config: dict[str, Any], backbone: nn.Module | None = None, *, stored: Header | None = None) -> Method:
    """The untrained method that `config` describes, with the weights that its seed gave it when it was planned.

    Where heads were trained on the features of an encoder, what comes back takes such features.

    Before memory is taken for it, its size is looked at: what cannot be is refused with ValueError, and
    what does not fit the `stored` tensors with Misfit.
    """
    kind = get_method(config["method"])
    images, k = config["images"], config["n_clusters"]
    width = dim = 0
    if config.get("encoder") is not None:
        width, dim = config["encoder"]["feature_dim"], config["features"].get("dim")
        if not isinstance(dim, int) or not 1 <= dim <= width:
            raise ValueError(f"features.dim of this run must be a whole number from 1 to {width}; it is {dim!r}.")
        with torch.device("meta"):  # takes no memory yet
            backbone = FeatureBackbone(width, dim)
    if backbone is None and config["backbone"].startswith("custom:"):
        raise ValueError(
            f"This run was trained with a backbone of your own ({config['backbone'][7:]}). Pass it in Python:"
            " Clusterer.load(folder, backbone=...)."
        )
    try:
        settings = settings_of(type(kind.presets["paper"].config), config["method_config"])
        with seeded_weights(config["seed"]):
            if backbone is None:
                backbone = build_backbone(
                    config["backbone"], image_size=images["size"], in_channels=images["channels"],
                    front_end=config.get("front_end"),
                )  # fmt: skip
            refuse_huge(outline := outline_of(kind, backbone, k, images["n"], settings))
            if stored is not None:
                refuse_misfit(outline, stored)
            if dim:
                backbone = FeatureBackbone(width, dim)
            method = kind(backbone, k, images["n"], settings)
    except TypeError as error:
        raise ValueError(f"This run has settings that this version of ilk does not know ({in_short(error)}).") from None
    if config.get("freeze_backbone"):
        method.freeze_backbone()
    return method


def settings_of(kind: type, values: Mapping[str, Any]) -> Any:
    """The method's settings. Raises TypeError for an unknown one, ValueError for one of another type or range."""
    types: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}
    for field in fields(kind):
        name = str(field.type).split(" ")[0]
        value = values.get(field.name, field.default)
        fits = isinstance(value, types[name]) and (name == "bool" or not isinstance(value, bool))
        if not fits and not (value is None and "None" in str(field.type)):
            raise ValueError(f"The setting {field.name} of this run must be of type {name}; it is {value!r}.")
    return kind(**values)


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


def versions() -> dict[str, str]:
    """What this run was made with: ilk, Python, the packages that matter, and the machine."""
    found = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for name in ("ilk", *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def free_name(parent: Path, stem: str, *, but: str | None = None) -> Path:
    """`parent/stem`, or with the first number behind it that is free or holds the file `but`."""
    candidates: Iterable[Path] = (parent / (stem if i == 1 else f"{stem}-{i}") for i in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists() or (but is not None and (path / but).is_file()))
