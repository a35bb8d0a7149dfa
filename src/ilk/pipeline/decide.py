"""From a request, the images and the machine to a plan with nothing left open, each choice explained in its notes."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from ilk.images import Images
from ilk.methods import METHODS
from ilk.methods.records import Recipe
from ilk.networks.backbones import choose_backbone
from ilk.networks.features import Features
from ilk.networks.pretrained import Encoder
from ilk.pipeline.initial_weights import Initial, refuse_other
from ilk.pipeline.known_labels import Known
from ilk.pipeline.request import Request
from ilk.runs.config import CUSTOM, EncoderSettings, Plan, TrainConfig, ViewSettings, checked, plan_from
from ilk.sampling import spaced, steps_of
from ilk.views import ViewRecipe, choose_views, describe, get_views

# What the default preset of every method becomes where only heads are trained: features need not be learned first, so
# clusters start at once, and a head on features needs few steps.
HEADS: dict[str, Any] = {
    "warm_start": 0.001, "cluster_heads": 5, "learning_rate": 1e-3, "batch_size": 256, "steps": 1500, "min_epochs": 3,
    "max_epochs": 200,
}  # fmt: skip
MOST_DIRECTIONS = 256  # of the features that heads see
NEIGHBOUR_SHARE = 0.5  # of the second views that are a neighbour of the image
CPU_BATCH, GPU_BATCH = 128, 256  # images, where the recipe leaves it open; fewer do not fill a GPU


def decide(
    request: Request, images: Images, fabric: Fabric, *, initial: Initial | None = None, extra: Images | None = None,
    known: Known | None = None, features: Features | None = None, encoder: EncoderSettings | None = None,
    views: ViewSettings | None = None,
) -> Plan:  # fmt: skip
    """The plan of a new training. Raises ValueError where the request cannot be met.

    `features`, `encoder`, `views`: what heads alone are trained on, the encoder it comes from, and the views that were
    encoded; all three or none. `minutes` of the request stay open: `build.fit_minutes` measures them.
    """
    n, k = len(images), request.k
    if n < k:
        raise ValueError(f"{k} clusters need at least {k} images; {images.name} has {n}. Ask for fewer clusters.")
    asked = request.backbone
    own = isinstance(asked, nn.Module)
    if initial is not None and not isinstance(asked, nn.Module):
        refuse_other(initial, asked, request.settings.get("front_end"), images)
    preset = request.resolved_preset(HEADS if features is not None and request.preset == "default" else None)
    recipe, notes = preset.recipe, list[str]()
    batch = batch_size(recipe, n, k, fabric, notes)
    if views is None:
        views = decide_views(request, recipe.views, images, notes)
    if encoder is not None:
        backbone = encoder.spec
    else:
        named = initial.backbone if initial is not None and asked is None else None
        backbone = decide_backbone(asked or named, recipe, images, fabric.device.type, notes)
    front = None
    if features is None and not own:
        front = front_end(recipe.front_end, images)
        if initial is not None and initial.plan is not None:
            front = None if initial.plan.front_end is None else initial.plan.front_end.as_dict()
    return plan_from({
        "method": request.method,
        "method_from": METHODS.origin(request.method),
        "preset": request.preset,
        "n_clusters": k,
        "seed": request.seed,
        "select": request.select,
        "method_config": asdict(preset.config),
        "backbone": backbone,
        "front_end": front,
        "views": views,
        "train": train_config(recipe, epochs=epochs_for(request, recipe, n, batch), batch=batch, seed=request.seed),
        "images": {"n": n, "channels": images.shape[0], "size": images.shape[2]},
        "init": None,
        "freeze_backbone": request.freeze_backbone,
        "extra": None if extra is None else {"name": extra.name, "n": len(extra), "fingerprint": extra.fingerprint},
        "known_labels": None if known is None else {"images": len(known.rows), "names": known.names},
        "encoder": encoder,
        "features": None if features is None else feature_settings(features),
        "notes": notes,
    })  # fmt: skip


def feature_settings(features: Features) -> dict[str, Any]:
    """What config.json says of the features that heads are trained on."""
    several = features.views > 0
    share = 0.0 if features.neighbours == 0 else NEIGHBOUR_SHARE if several else 1.0
    return {
        "dim": min(features.dim, MOST_DIRECTIONS), "views": features.views, "neighbours": features.neighbours,
        "neighbour_share": share,
    }  # fmt: skip


def train_config(recipe: Recipe, *, epochs: int, batch: int, seed: int) -> TrainConfig:
    """The settings of the training loop that a recipe gives."""
    made: TrainConfig = checked(TrainConfig, {
        "epochs": epochs, "batch_size": batch, "optimizer": recipe.optimizer, "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay, "momentum": recipe.momentum, "schedule": recipe.schedule,
        "warmup": recipe.warmup, "seed": seed, "decay_vectors": recipe.decay_vectors,
    })  # fmt: skip
    return made


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


def epochs_for(request: Request, recipe: Recipe, n: int, batch: int) -> int:
    """The epochs that were asked for, those of the recipe, or as many as give its number of updates."""
    updates = recipe.steps if recipe.batch_size else updates_of(recipe.steps, batch)
    automatic = auto_epochs(steps_of(n, batch), updates, recipe.min_epochs, recipe.max_epochs)
    return request.epochs or recipe.epochs or automatic


def updates_of(steps: int, batch: int) -> int:
    """How many updates with `batch` images take about as long as `steps` with `GPU_BATCH`, at most that many images.

    Half the batch takes 0.56 to 0.6 of the time on a CPU.
    """
    more: int = round(steps * max(1.0, GPU_BATCH / batch) ** 0.75)
    return more


def auto_epochs(steps_per_epoch: int, steps: int, low: int, high: int) -> int:
    """As many epochs as give about `steps` updates, between `low` and `high`."""
    return min(max(math.ceil(steps / steps_per_epoch), low), high)


def decide_views(request: Request, preset: str, images: Images, notes: list[str]) -> ViewSettings:
    """The views that were asked for, those of the preset, or, for "auto", those that suit a sample of the images."""
    asked = request.views
    if isinstance(asked, ViewRecipe):
        return view_settings("custom", asked, asked)
    if isinstance(asked, tuple):
        return view_settings("custom", *asked)
    name = asked or preset
    if name == "auto":
        name, reason = choose_views(images[spaced(len(images), 500)])
        notes.append(f"views '{name}': {reason} (--views to choose)")
    return view_settings(name, *get_views(name))


def view_settings(name: str, a: ViewRecipe, b: ViewRecipe) -> ViewSettings:
    """What config.json says of two views."""
    return ViewSettings(name=name, a=describe(a), b=describe(b))


def front_end(name: str, images: Images) -> dict[str, Any] | None:
    """The settings of the fixed front end that a recipe names; mean and deviation of up to 2,000 images."""
    if name == "none":
        return None
    mean = std = None
    if name.startswith("normalize"):
        pixels = images[spaced(len(images), 2000)].transpose(0, 1).flatten(1).double() / 255  # (c, pixels)
        mean, std = pixels.mean(1).tolist(), pixels.std(1).clamp_min(1e-3).tolist()
    return {"mean": mean, "std": std, "sobel": name.endswith("sobel")}


def decide_backbone(
    asked: str | nn.Module | None, recipe: Recipe, images: Images, device: str, notes: list[str]
) -> str:  # fmt: skip
    """The name of the backbone; for a module of the user's own, that of its class."""
    if isinstance(asked, Encoder):
        return asked.about.spec
    if isinstance(asked, nn.Module):
        if not isinstance(getattr(asked, "feature_dim", None), int):
            raise TypeError(f"The backbone {type(asked).__name__} has no integer attribute feature_dim; add one.")
        return f"{CUSTOM}{type(asked).__name__}"
    name = asked or recipe.backbone
    if name == "auto":
        name, reason = choose_backbone(images.shape[2], device)
        notes.append(f"backbone '{name}': {reason} (--backbone to choose)")
    return name
