"""From what was asked, the images and the machine to a plan with nothing left open, each choice explained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from ilk.backbones import build_backbone, choose_backbone
from ilk.distributed import choose_device, choose_precision
from ilk.images import Images
from ilk.methods import get_method, get_preset, override
from ilk.methods.base import Method, Preset, Recipe, at_least
from ilk.train import TrainConfig, seconds_per_step
from ilk.views import ViewRecipe, Views, choose_views, describe, from_description, get_views


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asks for; everything but `n_clusters` may be left open.

    `settings` replace fields of the preset by name (`ilk methods` lists them). `backbone` and `views`
    may also be objects: an `nn.Module` with `feature_dim`, a `ViewRecipe` or a pair of them.
    """

    n_clusters: int
    method: str = "cc"
    preset: str = "default"
    epochs: int | None = None
    minutes: float | None = None
    image_size: int | None = None
    backbone: str | nn.Module | None = None
    views: str | ViewRecipe | tuple[ViewRecipe, ViewRecipe] | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.n_clusters, bool) or not isinstance(self.n_clusters, int) or self.n_clusters < 2:
            raise ValueError(f"The number of clusters must be a whole number of at least 2; got {self.n_clusters!r}.")
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("Give epochs or minutes, not both.")
        for name in ("epochs", "image_size"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        if self.minutes is not None:
            at_least("minutes", self.minutes, 0, strict=True)
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be a whole number from 0 to 2147483647; got {self.seed!r}.")
        if isinstance(self.views, str) and self.views != "auto":
            get_views(self.views)

    def resolved_preset(self) -> Preset:
        asked = dict(self.settings)
        if "batch_size" in asked:  # a batch that was asked for does not grow with the clusters
            asked.setdefault("images_per_cluster", 0)
        return override(get_preset(self.method, self.preset), asked)

    def wanted_size(self) -> int | None:
        """The side of the images in pixels, or None where the images decide."""
        return self.image_size or self.resolved_preset().recipe.image_size


@dataclass(frozen=True)
class Plan:
    """A method ready to train, and every choice that led to it."""

    method: Method
    views: Views
    train: TrainConfig
    config: dict[str, Any]  # all of it as plain values: what config.json holds
    notes: list[str]  # what was chosen or changed, and why, one sentence each


MAX_SIZE = {"cpu": 48, "cuda": 96, "mps": 64}  # sides in pixels that a person's patience allows from scratch


def device_and_precision(request: Request) -> tuple[str, str]:
    device = choose_device(request.device)
    return device, choose_precision(request.precision, device)


def make_plan(request: Request, images: Images, fabric: Fabric) -> Plan:
    """Decides what `request` leaves open. Raises ValueError where the request cannot be met."""
    n, k = len(images), request.n_clusters
    if n < k:
        raise ValueError(f"{k} clusters need at least {k} images; {images.name} has {n}. Ask for fewer clusters.")
    preset = request.resolved_preset()
    recipe = preset.recipe
    notes: list[str] = []
    channels, size = images.shape[0], images.shape[2]
    batch = batch_size(recipe, n, k, fabric.world_size, notes)
    name, recipe_a, recipe_b = resolve_views(request, recipe.views, images, notes)
    views = Views(recipe_a, recipe_b, size=size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        backbone_name, backbone = resolve_backbone(request, recipe.backbone, size, channels, fabric.device.type, notes)
        method = get_method(request.method)(backbone, k, n, preset.config)
    steps = max(1, n // batch)
    epochs = request.epochs or recipe.epochs or auto_epochs(steps, recipe.steps, recipe.min_epochs, recipe.max_epochs)
    train = TrainConfig(
        epochs=epochs, batch_size=batch, optimizer=recipe.optimizer, learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay, momentum=recipe.momentum, schedule=recipe.schedule, warmup=recipe.warmup,
        seed=request.seed,
    )  # fmt: skip
    if request.minutes is not None:
        train = fit_minutes(request.minutes, method, images, views, train, fabric, notes)
    config = {
        "method": request.method,
        "preset": request.preset,
        "n_clusters": k,
        "seed": request.seed,
        "method_config": asdict(preset.config),
        "backbone": backbone_name,
        "views": {"name": name, "a": describe(recipe_a), "b": describe(recipe_b)},
        "train": asdict(train),
        "images": {"n": n, "channels": channels, "size": size},
        "notes": notes,
    }
    return Plan(method, views, train, config, notes)


def replan(config: dict[str, Any], method: Method) -> Plan:
    """The plan that `config` (of a run) recorded."""
    sides = (from_description(config["views"][side]) for side in ("a", "b"))
    views = Views(*sides, size=config["images"]["size"])
    return Plan(method, views, TrainConfig(**config["train"]), config, [])


def batch_size(recipe: Recipe, n: int, k: int, world: int, notes: list[str]) -> int:
    """The recipe's batch, or what images and clusters ask for, divisible by the number of processes."""
    wanted = max(recipe.batch_size, recipe.images_per_cluster * k)
    batch = min(wanted, n) // world * world
    if batch < k:
        larger = f"use --set batch_size={2 * k}" if n >= 2 * k else "add images"
        raise ValueError(
            f"{k} clusters do not fit a batch of {batch} images, in which each cluster is seen through its column."
            f" Ask for fewer clusters, or {larger}."
        )
    if n < wanted:
        notes.append(f"batch of {batch} instead of {wanted}: there are only {n} images")
    elif wanted > recipe.batch_size:
        notes.append(f"batch of {batch} instead of {recipe.batch_size}: {recipe.images_per_cluster} images a cluster")
    if batch < 2 * k:
        notes.append(f"a batch of {batch} is small for {k} clusters: less than two images a cluster")
    return batch


def resolve_views(
    request: Request, preset: str, images: Images, notes: list[str]
) -> tuple[str, ViewRecipe, ViewRecipe]:
    asked = request.views
    if isinstance(asked, ViewRecipe):
        return "custom", asked, asked
    if isinstance(asked, tuple):
        return "custom", *asked
    name = asked or preset
    if name == "auto":
        rows = torch.linspace(0, len(images) - 1, min(len(images), 500)).round().long()
        name, reason = choose_views(images[rows])
        notes.append(f"views '{name}': {reason} (--views to choose)")
    recipe = get_views(name)
    return name, recipe, recipe


def resolve_backbone(
    request: Request, preset: str, size: int, channels: int, device: str, notes: list[str]
) -> tuple[str, nn.Module]:
    asked = request.backbone
    if isinstance(asked, nn.Module):
        if not isinstance(getattr(asked, "feature_dim", None), int):
            raise TypeError(f"The backbone {type(asked).__name__} has no integer attribute feature_dim; add one.")
        return f"custom:{type(asked).__name__}", asked
    name = asked or preset
    if name == "auto":
        name, reason = choose_backbone(size, device)
        notes.append(f"backbone '{name}': {reason} (--backbone to choose)")
    return name, build_backbone(name, image_size=size, in_channels=channels)


def auto_epochs(steps_per_epoch: int, steps: int, low: int, high: int) -> int:
    """As many epochs as give about `steps` updates, between `low` and `high`."""
    return min(max(math.ceil(steps / steps_per_epoch), low), high)


def fit_minutes(
    minutes: float, method: Method, images: Images, views: Views, train: TrainConfig, fabric: Fabric, notes: list[str]
) -> TrainConfig:
    """`train` with as many epochs as fit `minutes`, measured on this machine."""
    one = fabric.broadcast(seconds_per_step(method, images, views, train, fabric))
    steps = max(1, len(images) // train.batch_size)
    epochs = max(1, int(0.9 * 60 * minutes / (one * steps)))
    plural = "epoch fits" if epochs == 1 else "epochs fit"
    notes.append(f"{epochs} {plural} {minutes:g} minutes: {one:.3f} s a step, {steps} steps an epoch")
    return TrainConfig(**{**asdict(train), "epochs": epochs})
