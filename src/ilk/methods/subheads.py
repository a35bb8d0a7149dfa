"""Cluster heads trained side by side, of which the one with the lowest loss is used; several methods have them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ilk.batches import spaced
from ilk.methods.base import Encode
from ilk.methods.start import due, fit_heads, partitions, renamed


class SubHeads(nn.Module):
    """`count` heads that `make` builds, from features to the logits of `k` clusters.

    With `wait`, they take no part in the training until `start` gives each its own partition of
    the features to begin from. `loss`: the running mean of each head's loss, over about the last
    hundred steps; no labels choose the head, here or anywhere.
    """

    loss: Tensor
    started: Tensor

    def __init__(self, make: Callable[[], nn.Module], count: int, *, wait: bool = False) -> None:
        super().__init__()
        self.heads = nn.ModuleList(make() for _ in range(count))
        self.active = not wait  # `started` without waiting for the device
        self.register_buffer("started", torch.tensor(self.active))
        self.register_buffer("loss", torch.zeros(count))
        self.register_load_state_dict_post_hook(read_started)

    def logits(self, h: Tensor) -> Tensor:
        """(heads, n, k) float32. `h`: (n, feature_dim)."""
        return torch.stack([head(h).float() for head in self.heads])

    @torch.no_grad()
    def follow(self, losses: Tensor) -> None:
        """Takes in the losses, (heads,), of one step."""
        self.loss = torch.where(self.loss == 0, losses, self.loss.lerp(losses, 0.01))

    def best(self) -> int:
        return int(self.loss.argmin())

    def observe(self, log_y: Tensor) -> Tensor:
        """The assignments of the best head, (n, k), detached. `log_y`: (heads, n, k)."""
        return log_y.detach().index_select(0, self.loss.argmin().view(1))[0].exp()

    def assign(self, h: Tensor) -> Tensor:
        """The probability of each cluster by the best head, (n, k) float32."""
        logits: Tensor = self.heads[self.best()](h)
        return logits.float().softmax(1)

    def start_when_due(
        self,
        encode: Encode,
        k: int,
        *,
        epoch: int,
        epochs: int,
        warm_start: float,
        seed: int,
        known: Tensor | None = None,
    ) -> str | None:
        """`start`, once, when the part `warm_start` of the training is over; returns what to say, if anything."""
        if self.active or not due(epoch, epochs, warm_start):
            return None
        return self.start(encode, k, seed, epoch, known)

    def start(self, encode: Encode, k: int, seed: int, epoch: int, known: Tensor | None = None) -> str:
        """Gives each head its own partition of the features to begin from; returns what to say.

        `known`: (n_images,) a cluster where it is known, else -1; the partitions are then renamed to fit.
        """
        generator = torch.Generator(self.loss.device).manual_seed(seed * 1_000_003 + epoch)
        features, found = partitions(encode, k, len(self.heads), generator)
        labels = torch.stack([partition.labels for partition in found])  # (heads, n)
        if known is not None:
            seen = known[spaced(len(known), len(features)).to(known.device)]
            labels = torch.stack([renamed(row, seen, k) for row in labels])
        fit_heads(self.heads, features, labels, generator)
        self.active = True
        self.started.fill_(True)
        heads = "1 cluster head starts" if len(labels) == 1 else f"{len(labels)} cluster heads start"
        return f"{heads} from partitions of the features of {len(features):,} images"


def read_started(heads: SubHeads, _: object) -> None:
    heads.active = bool(heads.started)
