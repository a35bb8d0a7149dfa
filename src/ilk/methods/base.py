"""What every method is: a network, the loss it minimises, and the presets that people choose from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

Encode = Callable[[int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained; None and "auto" are decided when the images and the machine are known.

    `epochs=None`: as many as give `steps` updates, between `min_epochs` and `max_epochs`.
    `images_per_cluster`: the batch grows beyond `batch_size` until it holds that many for each cluster.
    `schedule`: "constant" or "cosine" (to zero), after `warmup` steps of linear rise.
    """

    backbone: str = "auto"
    image_size: int | None = None
    views: str = "auto"
    optimizer: str = "adam"
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "constant"
    warmup: int = 0
    batch_size: int = 256
    images_per_cluster: int = 0
    epochs: int | None = None
    steps: int = 3000
    min_epochs: int = 10
    max_epochs: int = 1000

    def __post_init__(self) -> None:
        if self.optimizer not in ("adam", "adamw", "sgd"):
            raise ValueError(f"Unknown optimizer '{self.optimizer}'. Use adam, adamw or sgd.")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"Unknown schedule '{self.schedule}'. Use constant or cosine.")
        at_least("learning_rate", self.learning_rate, 0, strict=True)
        at_least("weight_decay", self.weight_decay, 0)
        at_least("warmup", self.warmup, 0)
        at_least("batch_size", self.batch_size, 2)
        at_least("images_per_cluster", self.images_per_cluster, 0)
        at_least("steps", self.steps, 1)
        for name in ("epochs", "image_size"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)


class Preset(NamedTuple):
    config: Any  # the method's own frozen dataclass
    recipe: Recipe
    about: str  # one line for `ilk methods`


class Method(nn.Module):
    """A backbone, its heads and the loss they minimise.

    A subclass sets `name`, `title`, `source`, `presets`, and defines `forward`,
    `assign_features` and `embed_features`.
    `forward` leaves its detached assignments of the first view, (b, k), in `self.observed`, or None
    while there are none; the loop counts clusters with them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    presets: ClassVar[Mapping[str, Preset]]
    observed: Tensor | None = None

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: Any) -> None:
        super().__init__()
        self.backbone, self.n_clusters, self.n_images, self.config = backbone, n_clusters, n_images, config

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The loss terms by name; what is minimised is their sum. `view_*`: (b, c, h, w), `index`: (b,)."""
        raise NotImplementedError

    def assign_features(self, h: Tensor) -> Tensor:
        """The probability of each cluster, (b, k) float32, rows summing to 1. `h`: (b, feature_dim)."""
        raise NotImplementedError

    def embed_features(self, h: Tensor) -> Tensor:
        """The embedding in which like images are near, (b, d) float32, rows of length 1."""
        raise NotImplementedError

    def assign(self, x: Tensor) -> Tensor:
        """The probability of each cluster, (b, k). `x`: (b, c, h, w) in [0, 1]."""
        return self.assign_features(self.backbone(x))

    def embed(self, x: Tensor) -> Tensor:
        """The embedding in which like images are near, (b, d). `x`: (b, c, h, w) in [0, 1]."""
        return self.embed_features(self.backbone(x))

    def assign_and_embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, for one pass through the backbone."""
        h = self.backbone(x)
        return self.assign_features(h), self.embed_features(h)

    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Called before each epoch; `encode(m)` gives backbone features of (up to m) images.

        Must be a function of its arguments and of the saved state, so that a resumed run equals an
        uninterrupted one. Returns a sentence for the user when something worth saying happened.
        """
        return None

    def after_step(self) -> None:
        """Called after each optimiser step."""


def at_least(name: str, value: float, low: float, *, strict: bool = False) -> None:
    """Raises ValueError unless `value >= low` (or `> low`) and finite."""
    if not (math.isfinite(value) and (value > low if strict else value >= low)):
        raise ValueError(f"{name} must be {'more than' if strict else 'at least'} {low}; got {value}.")


def override(preset: Preset, settings: Mapping[str, Any]) -> Preset:
    """`preset` with some fields of its config or recipe replaced; text is converted to the field's type.

    Raises ValueError for an unknown name (suggesting the nearest) or a value of the wrong type.
    """
    config, recipe = preset.config, preset.recipe
    known = {field.name: part for part in (recipe, config) for field in fields(part)}
    for name, value in settings.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"There is no setting '{name}'.{hint} Known: {', '.join(sorted(known))}.")
        part = known[name]
        kind = next(field.type for field in fields(part) if field.name == name)
        changed = {name: converted(name, value, str(kind))}
        if part is recipe:
            recipe = replace(recipe, **changed)
        else:
            config = replace(config, **changed)
        known = {field.name: part for part in (recipe, config) for field in fields(part)}
    return Preset(config, recipe, preset.about)


def converted(name: str, value: Any, kind: str) -> Any:
    """`value` as the annotated type `kind` of the field `name`."""
    if value is None or (isinstance(value, str) and value.lower() in ("none", "auto") and "None" in kind):
        if "None" not in kind:
            raise ValueError(f"{name} cannot be None.")
        return None
    try:
        if kind.startswith("bool"):
            words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            return value if isinstance(value, bool) else words[str(value).lower()]
        if kind.startswith("int"):
            if float(value) != int(float(value)):
                raise ValueError
            return int(float(value))
        if kind.startswith("float"):
            return float(value)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError(f"{name} must be of type {kind.split(' ')[0]}; got {value!r}.") from None
    return str(value)


def describe(preset: Preset) -> dict[str, Any]:
    """Config and recipe of a preset as plain values, for JSON."""
    return {"config": asdict(preset.config), "recipe": asdict(preset.recipe)}
