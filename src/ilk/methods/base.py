"""What every method is: a network, the loss it minimises, and the presets that people choose from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from ilk.networks.banks import Twin


class Encode(Protocol):
    def __call__(self, m: int) -> Tensor:
        """Backbone features, in evaluation mode, of up to `m` evenly spaced images, (m, d) float32."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained; None and "auto" are decided when the images and the machine are known.

    `epochs=None`: as many as give `steps` updates, between `min_epochs` and `max_epochs`; more where the batch
    is left open and comes out small, so that about the same time passes.
    `batch_size=None`: 128 images on a CPU, 256 on a GPU. `images_per_cluster`: the batch grows beyond that until it
    holds so many for each cluster.
    `decay_vectors`: whether weight decay takes biases and normalisation weights too.
    `front_end`: what the backbone does first: "none", "normalize" (by the collection's mean and standard
    deviation), "sobel" (gray value, then its two edge images) or "normalize-sobel".
    `schedule`: "constant" or "cosine" (to zero), after `warmup` steps of linear rise.
    """

    backbone: str = "auto"
    image_size: int | None = None
    views: str = "auto"
    optimizer: str = "adam"
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    momentum: float = 0.9
    decay_vectors: bool = True
    front_end: str = "none"
    schedule: str = "constant"
    warmup: int = 0
    batch_size: int | None = None
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
        check_choice(self, "front_end", "none", "normalize", "sobel", "normalize-sobel")
        at_least("learning_rate", self.learning_rate, 0, strict=True)
        at_least("weight_decay", self.weight_decay, 0)
        at_least("warmup", self.warmup, 0)
        at_least("images_per_cluster", self.images_per_cluster, 0)
        at_least("steps", self.steps, 1)
        for name, low in (("epochs", 1), ("image_size", 1), ("batch_size", 2)):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), low)


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
    uses_extra: ClassVar[bool] = False  # whether images that are not to be clustered (`extra`) help
    uses_known: ClassVar[bool] = False  # whether it learns from a few known labels (`know`)
    representation: ClassVar[tuple[str, ...]] = ()  # heads that learn likeness, not clusters: another run may take them
    observed: Tensor | None = None
    extra: bool = False  # set by the loop while a batch of extra images passes
    repeats: int = 1  # how many second views each image has: `view_b` is (repeats * b, c, h, w), view by view

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: Any) -> None:
        super().__init__()
        self.backbone, self.n_clusters, self.n_images, self.config = backbone, n_clusters, n_images, config
        self.frozen = False

    @property
    def feature_dim(self) -> int:
        return int(self.backbone.feature_dim)  # type: ignore[arg-type]  # the contract of backbones

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

    def resize(self, n_images: int) -> None:
        """Training goes on with other images: what is remembered of each image begins anew."""
        self.n_images = n_images

    def reset_twin(self) -> None:
        """Makes the moving-average twin, where there is one, a copy of the network; for weights put in from outside."""

    def freeze_backbone(self) -> None:
        """The backbone is trained no more: no gradients, and its running statistics stay."""
        self.frozen = True
        self.backbone.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Method:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            for module in self.modules():
                if isinstance(module, Twin):  # of backbone and a head
                    module.network[0].eval()
        return self

    def know(self, codes: Tensor) -> None:
        """Takes the few known labels: `codes` (n_images,) int64, a cluster or -1. Only if `uses_known`."""
        raise NotImplementedError

    def takes_extra(self, epoch: int, epochs: int) -> bool:
        """Whether extra images are passed through in this epoch."""
        return self.uses_extra

    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Called before each epoch; `encode` gives backbone features.

        Must be a function of its arguments and of the saved state, so that a resumed run equals an
        uninterrupted one. Returns a sentence for the user when something worth saying happened.
        """
        return None

    def after_step(self) -> None:
        """Called after each optimiser step."""

    def finish(self, encode: Encode) -> None:
        """Called when the last epoch is over, before anything is kept of it; `encode` as in `start_epoch`."""


def at_least(name: str, value: float, low: float, *, strict: bool = False) -> None:
    """Raises ValueError unless `value >= low` (or `> low`) and finite."""
    if not (math.isfinite(value) and (value > low if strict else value >= low)):
        raise ValueError(f"{name} must be {'more than' if strict else 'at least'} {low}; got {value}.")


def check(config: Any, low: float, *names: str, strict: bool = False) -> None:
    """`at_least` for fields of a config, by name."""
    for name in names:
        at_least(name, getattr(config, name), low, strict=strict)


def check_part(config: Any, *names: str) -> None:
    """Raises ValueError unless the fields are parts of the training in [0, 1)."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} is a part of the training in [0, 1); got {getattr(config, name)}.")


def check_choice(config: Any, name: str, *known: str) -> None:
    """Raises ValueError unless the field is one of the known words."""
    if getattr(config, name) not in known:
        raise ValueError(f"{name} must be {' or '.join(known)}; got '{getattr(config, name)}'.")


def override(preset: Preset, settings: Mapping[str, Any]) -> Preset:
    """`preset` with some fields of its config or recipe replaced; text is converted to the field's type.

    Raises ValueError for an unknown name (suggesting the nearest) or a value of the wrong type.
    """
    known = {field.name: (part, str(field.type)) for part in (preset.recipe, preset.config) for field in fields(part)}
    recipe: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"There is no setting '{name}'.{hint} Known: {', '.join(sorted(known))}.")
        part, kind = known[name]
        (recipe if part is preset.recipe else config)[name] = converted(name, value, kind)
    return Preset(replace(preset.config, **config), replace(preset.recipe, **recipe), preset.about)


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


# How the default presets train. The batch is small on a CPU because more steps there are worth more than better ones.
DEFAULT = Recipe(learning_rate=3e-3, schedule="cosine", warmup=50, images_per_cluster=8)
