"""From what was asked, the images and the machine to a plan with nothing left open, each choice explained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from ilk.analysis.hierarchy import Hierarchy
from ilk.images import Images
from ilk.methods import METHODS, get_method
from ilk.methods.base import Method
from ilk.methods.records import Recipe
from ilk.networks.backbones import build_backbone, choose_backbone
from ilk.networks.features import FeatureBackbone, Features, FeatureViews
from ilk.networks.pretrained import Encoder
from ilk.networks.weights import seeded_weights
from ilk.pipeline.initial_weights import find_initial, refuse_other, start_from
from ilk.pipeline.known_labels import Known, find_known
from ilk.pipeline.request import Request
from ilk.runs.config import Plan as Settings
from ilk.runs.config import TrainConfig, checked, plan_from
from ilk.sampling import spaced, steps_of
from ilk.training.pace import epochs_with_extra, seconds_per_step
from ilk.views import ViewRecipe, Views, choose_views, describe, from_description, get_views


@dataclass(frozen=True)
class Plan:
    """A method ready to train, and every choice that led to it."""

    method: Method
    views: Views | FeatureViews
    train: TrainConfig
    config: Settings  # all of it as values: what config.json holds
    notes: list[str]  # what was chosen or changed, and why, one sentence each
    extra: Images | None = None  # images that help and are not clustered
    known: Known | None = None
    warnings: list[str] = field(default_factory=list)
    features: Features | None = None  # what heads are trained on, in the place of the images
    encoder: Encoder | None = None  # whose features they are
    hierarchy: Hierarchy | None = None  # the tree that the number of clusters was chosen from

    @property
    def known_rows(self) -> list[int]:
        return [] if self.known is None else self.known.rows

    def data(self, images: Images) -> Images | Features:
        """What is trained on: the features, where only heads are, else the images."""
        return images if self.features is None else self.features


def make_plan(
    request: Request, images: Images, fabric: Fabric, extra: Images | None = None, *, frozen: Frozen | None = None
) -> Plan:
    """Decides what `request` leaves open. Raises ValueError where the request cannot be met.

    `frozen`: heads alone are to be trained, on these features of the images.
    """
    n, k = len(images), request.k
    if n < k:
        raise ValueError(f"{k} clusters need at least {k} images; {images.name} has {n}. Ask for fewer clusters.")
    request.refuse_needless(extra=extra is not None)
    initial = None if request.init is None else find_initial(request.init)
    if initial is not None and not isinstance(request.backbone, nn.Module):
        refuse_other(initial, request.backbone, request.settings.get("front_end"), images)
        request = replace(request, backbone=request.backbone or initial.backbone)
    preset = request.resolved_preset(HEADS if frozen is not None and request.preset == "default" else None)
    recipe = preset.recipe
    notes: list[str] = []
    channels, size = images.shape[0], images.shape[2]
    batch = batch_size(recipe, n, k, fabric, notes)
    name, recipe_a, recipe_b = frozen.views if frozen else resolve_views(request, recipe.views, images, notes)
    views = frozen.feature_views() if frozen else Views(recipe_a, recipe_b, size=size)
    trained: Images | Features = frozen.features if frozen else images
    plain_input = frozen is not None or isinstance(request.backbone, nn.Module)
    front = None if plain_input else front_end(recipe.front_end, images)
    if initial is not None and initial.plan is not None and not isinstance(request.backbone, nn.Module):
        front = None if initial.plan.front_end is None else initial.plan.front_end.as_dict()
    with seeded_weights(request.seed):
        backbone: nn.Module
        if frozen is not None:
            backbone_name, backbone = frozen.encoder["spec"], frozen.backbone()
        else:
            backbone_name, backbone = resolve_backbone(request, recipe, images, fabric.device.type, notes, front)
        method = get_method(request.method)(backbone, k, n, preset.config)
    begun = None
    if initial is not None:
        begun = start_from(method, initial)
        notes.append(f"{' and '.join(begun['parts'])} as in '{initial.path}'")
    if request.freeze_backbone:
        method.freeze_backbone()
        notes.append("the backbone is frozen: only the heads learn")
    known, warning = None, None
    if request.known_labels is not None:
        known, warning = find_known(request.known_labels, images, k)
        method.know(torch.from_numpy(known.codes))
        notes.append(f"the labels of {len(known.rows):,} images ({len(known.names)} kinds) steer the training")
    steps = steps_of(n, batch)
    updates = recipe.steps if recipe.batch_size else updates_of(recipe.steps, batch)
    epochs = request.epochs or recipe.epochs or auto_epochs(steps, updates, recipe.min_epochs, recipe.max_epochs)
    train: TrainConfig = checked(TrainConfig, dict(
        epochs=epochs, batch_size=batch, optimizer=recipe.optimizer, learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay, momentum=recipe.momentum, schedule=recipe.schedule, warmup=recipe.warmup,
        seed=request.seed, decay_vectors=recipe.decay_vectors,
    ))  # fmt: skip
    if request.minutes is not None:
        train = fit_minutes(request.minutes, method, trained, views, train, fabric, notes, extra)
    if extra is not None:
        check_extra(extra, images, method, train, fabric.world_size)
        further = steps_of(len(extra), batch) * epochs_with_extra(method, train.epochs)
        notes.append(
            f"{len(extra):,} extra images help and are not clustered: {further:,.0f} more steps an epoch, on average"
        )
    config = plan_from({
        "method": request.method,
        "method_from": METHODS.origin(request.method),
        "preset": request.preset,
        "n_clusters": k,
        "seed": request.seed,
        "select": request.select,
        "method_config": asdict(preset.config),
        "backbone": backbone_name,
        "front_end": front,
        "views": {"name": name, "a": describe(recipe_a), "b": describe(recipe_b)},
        "train": train.as_dict(),
        "images": {"n": n, "channels": channels, "size": size},
        "init": begun,
        "freeze_backbone": request.freeze_backbone,
        "extra": None if extra is None else {"name": extra.name, "n": len(extra), "fingerprint": extra.fingerprint},
        "known_labels": None if known is None else {"images": len(known.rows), "names": known.names},
        "encoder": None if frozen is None else frozen.encoder,
        "features": None if frozen is None else frozen.described(),
        "notes": notes,
    })  # fmt: skip
    features, network = (None, None) if frozen is None else (frozen.features, frozen.network)
    return Plan(
        method, views, train, config, notes, extra, known, [warning] if warning else [], features, encoder=network
    )


def replan(
    config: Settings, method: Method, extra: Images | None = None, known: Known | None = None,
    features: Features | None = None,
) -> Plan:  # fmt: skip
    """The plan that `config` (of a run) recorded, with the extra images, labels and features that it names."""
    views: Views | FeatureViews
    if features is not None and config.features is not None:
        views = FeatureViews(1 + features.views, features.neighbours, config.features.neighbour_share)
    else:
        sides = (from_description(side) for side in (config.views.a, config.views.b))
        views = Views(*sides, size=config.images.size)
    if known is not None and known.rows:
        method.know(torch.from_numpy(known.codes))
    return Plan(method, views, config.train, config, [], extra, known, [], features)


# What the default preset of every method becomes where only heads are trained: features do not have to be learnt
# first, so clusters start at once, and a head on them needs few steps.
HEADS: dict[str, Any] = {
    "warm_start": 0.001, "cluster_heads": 5, "learning_rate": 1e-3, "batch_size": 256, "steps": 1500, "min_epochs": 3,
    "max_epochs": 200,
}  # fmt: skip
MOST_DIRECTIONS = 256  # of the features that heads see
NEIGHBOUR_SHARE = 0.5  # of the second views that are a neighbour of the image


@dataclass(frozen=True)
class Frozen:
    """Features of a frozen encoder, and where they come from."""

    features: Features
    encoder: dict[str, Any]  # plain values: what config.json says of it
    views: tuple[str, ViewRecipe, ViewRecipe]
    network: Encoder | None = None  # the encoder itself

    def feature_views(self) -> FeatureViews:
        return FeatureViews(1 + self.features.views, self.features.neighbours, NEIGHBOUR_SHARE)

    def backbone(self) -> FeatureBackbone:
        backbone = FeatureBackbone(self.features.dim, min(self.features.dim, MOST_DIRECTIONS))
        backbone.fit(self.features.rows[spaced(len(self.features), 20_000).numpy(), 0])
        return backbone

    def described(self) -> dict[str, Any]:
        return {
            "dim": min(self.features.dim, MOST_DIRECTIONS),
            "views": self.features.views,
            "neighbours": self.features.neighbours,
            "neighbour_share": self.feature_views().share,
        }


def check_extra(extra: Images, images: Images, method: Method, train: TrainConfig, world: int) -> None:
    """Raises ValueError unless the method takes such extra images in some epoch."""
    if extra.shape != images.shape:
        theirs, ours = ("x".join(map(str, shape)) for shape in (extra.shape, images.shape))
        raise ValueError(
            f"The extra images are {theirs} (channels, height, width), the others {ours}; both must match."
        )
    if len(extra) < 2 * world:
        raise ValueError(f"At least {2 * world} extra images are needed; {extra.name} has {len(extra)}.")
    if not epochs_with_extra(method, train.epochs):
        plural = "epoch" if train.epochs == 1 else "epochs"
        raise ValueError(
            f"With these settings {method.name} takes extra images in none of its {train.epochs} {plural} (dcdc does in"
            " the turns of its over-clustering head, so over_clusters must not be 0; cc does in every epoch)."
        )


CPU_BATCH, GPU_BATCH = 128, 256  # images, where the recipe leaves it open; a GPU is not filled by fewer


def batch_size(recipe: Recipe, n: int, k: int, fabric: Fabric, notes: list[str]) -> int:
    """The recipe's batch, or what machine, images and clusters ask for, divisible by the number of processes."""
    world, usual = fabric.world_size, recipe.batch_size or (CPU_BATCH if fabric.device.type == "cpu" else GPU_BATCH)
    wanted = max(usual, recipe.images_per_cluster * k)
    batch = min(wanted, n) // world * world
    if batch < k:
        larger = f"use --set batch_size={2 * k}" if n >= 2 * k else "add images"
        raise ValueError(
            f"{k} clusters do not fit a batch of {batch} images, in which each cluster is seen through its column."
            f" Ask for fewer clusters, or {larger}."
        )
    if n < wanted:
        notes.append(f"batch of {batch} instead of {wanted}: there are only {n} images")
    elif wanted > usual:
        notes.append(f"batch of {batch} instead of {usual}: {recipe.images_per_cluster} images a cluster")
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
        rows = spaced(len(images), 500)
        name, reason = choose_views(images[rows])
        notes.append(f"views '{name}': {reason} (--views to choose)")
    return name, *get_views(name)


def front_end(name: str, images: Images) -> dict[str, Any] | None:
    """The arguments of the fixed front end that a recipe names; mean and deviation from up to 2,000 images."""
    if name == "none":
        return None
    mean = std = None
    if name.startswith("normalize"):
        rows = spaced(len(images), 2000)
        pixels = images[rows].transpose(0, 1).flatten(1).double() / 255  # (c, pixels)
        mean, std = pixels.mean(1).tolist(), pixels.std(1).clamp_min(1e-3).tolist()
    return {"mean": mean, "std": std, "sobel": name.endswith("sobel")}


def resolve_backbone(
    request: Request, recipe: Recipe, images: Images, device: str, notes: list[str], front: dict[str, Any] | None
) -> tuple[str, nn.Module]:
    asked = request.backbone
    if isinstance(asked, Encoder):
        return asked.about.spec, asked
    if isinstance(asked, nn.Module):
        if not isinstance(getattr(asked, "feature_dim", None), int):
            raise TypeError(f"The backbone {type(asked).__name__} has no integer attribute feature_dim; add one.")
        return f"custom:{type(asked).__name__}", asked
    size, name = images.shape[2], asked or recipe.backbone
    if name == "auto":
        name, reason = choose_backbone(size, device)
        notes.append(f"backbone '{name}': {reason} (--backbone to choose)")
    return name, build_backbone(name, image_size=size, in_channels=images.shape[0], front_end=front)


def updates_of(steps: int, batch: int) -> int:
    """How many updates with `batch` images take about as long as `steps` with `GPU_BATCH`, at most that many images.

    Half the batch takes 0.56 to 0.6 of the time on a CPU.
    """
    return round(steps * max(1.0, GPU_BATCH / batch) ** 0.75)


def auto_epochs(steps_per_epoch: int, steps: int, low: int, high: int) -> int:
    """As many epochs as give about `steps` updates, between `low` and `high`."""
    return min(max(math.ceil(steps / steps_per_epoch), low), high)


def fit_minutes(
    minutes: float, method: Method, images: Images | Features, views: Views | FeatureViews, train: TrainConfig,
    fabric: Fabric, notes: list[str],
    extra: Images | None = None,
) -> TrainConfig:  # fmt: skip
    """`train` with as many epochs as fit `minutes`, measured on this machine."""
    one = fabric.broadcast(seconds_per_step(method, images, views, train, fabric, extra))
    steps: float = steps_of(len(images), train.batch_size)
    if extra is not None:
        steps += steps_of(len(extra), train.batch_size) * epochs_with_extra(method, train.epochs)
    epochs = max(1, int(0.9 * 60 * minutes / (one * steps)))
    plural = "epoch fits" if epochs == 1 else "epochs fit"
    notes.append(f"{epochs} {plural} {minutes:g} minutes: {one:.3f} s a step, {steps:.0f} steps an epoch")
    return train.replace(epochs=epochs)
