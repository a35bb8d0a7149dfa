"""What every method is: a network, the loss it minimises, and the presets that people choose from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from ilk.methods.settings import Preset
from ilk.networks.banks import Twin


class Encode(Protocol):
    def __call__(self, m: int) -> Tensor:
        """Backbone features, in evaluation mode, of up to `m` evenly spaced images, (m, d) float32."""


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
