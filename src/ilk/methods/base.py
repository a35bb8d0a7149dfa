"""What every method is: a network and the loss it minimises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ilk.methods.records import Preset
from ilk.methods.start import Encode
from ilk.methods.subheads import SubHeads
from ilk.networks.banks import Twin


class Method(nn.Module):
    """A backbone, its heads and the loss they minimise.

    A subclass sets `name`, `title`, `source` and `presets` (at least "default"), and defines `forward` and
    `embed_features`. With `cluster_heads` (see `SubHeads`) it is complete; a method without them also defines
    `assign_features`. Everything else is optional.

    `observed`: the detached assignments of the first view that the last `forward` made, (n, k), or None. The loop
    counts clusters with them. A `forward` that uses `mean_over_heads` need not set it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    presets: ClassVar[Mapping[str, Preset]]
    uses_extra: ClassVar[bool] = False  # learns from images that are not clustered, for which `index` is None
    uses_known: ClassVar[bool] = False  # learns from a few known labels, see `know`
    representation: ClassVar[tuple[str, ...]] = ()  # heads that a run started with --init takes over
    repeats: int = 1  # second views of each image: `view_b` is (repeats * b, c, h, w), view by view
    observed: Tensor | None = None
    cluster_heads: SubHeads

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: Any) -> None:
        super().__init__()
        self.backbone, self.n_clusters, self.n_images, self.config = backbone, n_clusters, n_images, config
        self.frozen = False

    @property
    def feature_dim(self) -> int:
        return int(self.backbone.feature_dim)  # type: ignore[arg-type]  # the contract of backbones

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.observed = None
        return super().__call__(*args, **kwargs)

    def forward(self, view_a: Tensor, view_b: Tensor, index: Any) -> dict[str, Tensor]:
        """The loss terms by name, scalars; what is minimised is their sum.

        `view_a`, `view_b`: (b, c, h, w) floats. `index`: (b,) positions of the images in the collection, or None for
        a batch of extra images, which have none and are not clustered (only if `uses_extra`).
        """
        raise NotImplementedError

    def embed_features(self, h: Tensor) -> Tensor:
        """The embedding in which like images are near, (b, d) float32, rows of length 1. `h`: (b, feature_dim)."""
        raise NotImplementedError

    def assign_features(self, h: Tensor) -> Tensor:
        """The probability of each cluster, (b, k) float32, rows summing to 1. `h`: (b, feature_dim)."""
        return self.cluster_heads.assign(h)

    def mean_over_heads(self, terms: Mapping[str, Tensor], log_y: Tensor) -> dict[str, Tensor]:
        """The mean of each term over the cluster heads; notes the loss and the assignments of each head.

        `terms`: by name, one value a head, (heads,). `log_y`: (heads, n, k), logarithms of the first view's
        assignments.
        """
        self.cluster_heads.follow(torch.stack(list(terms.values())).sum(0).detach())
        self.observed = self.cluster_heads.observe(log_y)
        return {name: term.mean() for name, term in terms.items()}

    # during training; most methods need none of these of their own

    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Called before each epoch; starts cluster heads from partitions of the features when their time has come.

        `encode` gives backbone features. Must be a function of its arguments and of the saved state, so that a
        resumed run equals an uninterrupted one. Returns a sentence for the user when something worth saying happened.
        """
        heads = getattr(self, "cluster_heads", None)
        return None if heads is None else heads.start_when_due(encode, epoch=epoch, epochs=epochs, seed=seed)

    def after_step(self) -> None:
        """Called after each optimiser step; moving averages follow their networks."""
        for twin, original in self.twins():
            twin.follow(original)

    def finish(self, encode: Encode) -> None:
        """Called when the last epoch is over; settles on one of the cluster heads. `encode` as in `start_epoch`."""
        heads = getattr(self, "cluster_heads", None)
        if heads is not None:
            heads.choose(encode, self.n_clusters)

    def twins(self) -> list[tuple[Twin, nn.Module]]:
        """The moving averages that the method has, each with the network it follows."""
        return []

    def reset_twin(self) -> None:
        """Makes every moving average a copy of its network again, for weights that were put in from outside."""
        for twin, original in self.twins():
            twin.reset(original)

    def takes_extra(self, epoch: int, epochs: int) -> bool:
        """Whether this epoch begins with a pass over the extra images."""
        return self.uses_extra

    def know(self, codes: Tensor) -> None:
        """Takes the few known labels: `codes` (n_images,) int64, a cluster or -1. Only if `uses_known`."""
        raise NotImplementedError

    def resize(self, n_images: int) -> None:
        """Training goes on with other images: what is remembered of each image begins anew."""
        self.n_images = n_images

    # what everything outside calls

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
