"""The folder of one training: what was asked, what happened, what came out. Every write is atomic."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ilk.backbones import build_backbone
from ilk.files import replacing, write_json, write_text
from ilk.methods import get_method
from ilk.methods.base import Method

FORMAT = 1
NEEDED = ("method", "preset", "n_clusters", "seed", "method_config", "backbone", "views", "train", "images")
PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "scikit-learn", "pillow", "pyarrow", "safetensors")


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

    def refuse_used(self) -> None:
        """Raises FileExistsError if there is something in the folder already."""
        if self.exists:
            raise FileExistsError(
                f"'{self.folder}' is not empty: it holds a run. Choose another --out, or add --resume to go on with it."
            )
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            what = "not empty" if self.folder.is_dir() else "a file"
            raise FileExistsError(f"'{self.folder}' is {what}. Choose another folder, one that does not exist yet.")

    def create(self) -> None:
        """Makes the folder. Raises FileExistsError if something is already in it."""
        self.refuse_used()
        self.folder.mkdir(parents=True, exist_ok=True)

    def open(self) -> Run:
        """This run, if it is one. Raises FileNotFoundError or ValueError with a sentence."""
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"There is no run folder '{self.folder}'. Make one with: ilk fit SOURCE --clusters K"
            )
        if not self.exists:
            raise FileNotFoundError(f"'{self.folder}' is not a run folder: it has no config.json.")
        config = self.config
        if config.get("format") not in (None, FORMAT):
            raise ValueError(
                f"'{self.folder}' has format {config['format']}; this version of ilk reads format {FORMAT}."
                " Update ilk, or make the run again."
            )
        missing = [name for name in ("format", *NEEDED) if name not in config]
        if missing:
            raise ValueError(f"'{self.folder}' is not a run folder of ilk: its config.json lacks {', '.join(missing)}.")
        return self

    @property
    def config(self) -> dict[str, Any]:
        try:
            config = json.loads((self / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"'{self / 'config.json'}' is not valid JSON ({error}).") from None
        if not isinstance(config, dict):
            raise ValueError(f"'{self / 'config.json'}' does not hold a run's settings.")
        return config

    def write_config(self, config: dict[str, Any]) -> None:
        write_json(self / "config.json", {"format": FORMAT, **config})

    def log(self) -> list[dict[str, Any]]:
        """The records of the epochs so far; a half-written last line is left out."""
        if not (self / "log.jsonl").is_file():
            return []
        records = []
        for line in (self / "log.jsonl").read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def append_log(self, record: dict[str, Any]) -> None:
        with open(self / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

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
        method = method_of(self.config, backbone)
        try:
            method.load_state_dict(load_file(self / "model.safetensors"))
        except Exception as error:  # safetensors and torch raise several kinds for a damaged or foreign file
            raise ValueError(
                f"'{self / 'model.safetensors'}' is damaged or does not fit its config.json: {in_short(error)}"
            ) from None
        return method.eval()


def in_short(error: Exception) -> str:
    """An error of torch or safetensors in one line; torch's first line alone says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def method_of(config: dict[str, Any], backbone: nn.Module | None = None) -> Method:
    """The untrained method that `config` describes, with the weights that its seed gave it when it was planned."""
    kind = get_method(config["method"])
    images = config["images"]
    if backbone is None and config["backbone"].startswith("custom:"):
        raise ValueError(
            f"This run was trained with a backbone of your own ({config['backbone'][7:]}). Pass it in Python:"
            " Clusterer.load(folder, backbone=...)."
        )
    try:
        settings = type(kind.presets["paper"].config)(**config["method_config"])
    except TypeError as error:
        raise ValueError(f"This run has settings that this version of ilk does not know: {in_short(error)}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        if backbone is None:
            backbone = build_backbone(
                config["backbone"], image_size=images["size"], in_channels=images["channels"],
                front_end=config.get("front_end"),
            )  # fmt: skip
        method = kind(backbone, config["n_clusters"], images["n"], settings)
    if config.get("freeze_backbone"):
        method.freeze_backbone()
    return method


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


def free_name(parent: Path, stem: str) -> Path:
    """`parent/stem`, or with the first number behind it that is free."""
    candidates: Iterable[Path] = (parent / (stem if i == 1 else f"{stem}-{i}") for i in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists())
