"""Cluster heads trained side by side, of which one is used in the end; CC, CRLC, DCDC and C2BIN have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.losses import negative_marginal_entropy
from ilk.methods.start import JUDGED, SAMPLE, Encode, agree_with_known, due, fit_heads, partitions, togetherness
from ilk.networks.heads import side_by_side
from ilk.sampling import spaced

FLOOR = 0.1  # how far estimated sizes are pulled to equal ones, in [0, 1]
PACE = 0.01  # how fast they follow the sizes of a batch


class SubHeads(nn.Module):
    """`count` heads that `make` builds, from features to the logits of `clusters` clusters.

    With `warm_start` > 0 they take no part in the first part of the training, a share in [0, 1) of its epochs; then
    `start` gives each its own partition of the features to begin from. `loss`: the running mean of each head's loss,
    over about the last hundred steps. The head with the lowest is in use until the training is over; then `choose`
    settles on one, by neighbours and loss. Labels never choose the head.
    `balance`: which sizes of clusters `imbalance` rewards: "uniform" (the papers: all equal), "estimated" (each
    head's own running mean, pulled a little towards equal) or "off" (any).
    """

    loss: Tensor
    started: Tensor
    chosen: Tensor
    prior: Tensor

    def __init__(
        self, make: Callable[[], nn.Module], count: int, *, clusters: int = 0, warm_start: float = 0.0,
        balance: str = "uniform",
    ) -> None:  # fmt: skip
        super().__init__()
        self.clusters, self.balance, self.warm_start = clusters, balance, warm_start
        if balance == "estimated":
            self.register_buffer("prior", torch.full((count, clusters), 1 / clusters))
        self.heads = nn.ModuleList(make() for _ in range(count))
        self.active = warm_start == 0  # the same as `started`, known without waiting for the device
        self.register_buffer("started", torch.tensor(self.active))
        self.register_buffer("loss", torch.zeros(count))
        self.register_buffer("chosen", torch.tensor(-1))  # none yet
        self.register_load_state_dict_post_hook(read_started)  # type: ignore[no-untyped-call]  # torch has no type here

    @classmethod
    def from_config(cls, make: Callable[[], nn.Module], clusters: int, config: Any) -> SubHeads:
        """The heads that the settings `cluster_heads`, `warm_start` and `balance` of a method ask for."""
        return cls(make, config.cluster_heads, clusters=clusters, warm_start=config.warm_start, balance=config.balance)

    def logits(self, h: Tensor) -> Tensor:
        """(heads, n, k) float32. `h`: (n, feature_dim)."""
        return side_by_side(self.heads, h).float()

    @torch.no_grad()
    def follow(self, losses: Tensor) -> None:
        """Updates the running means with the losses, (heads,), of one step."""
        self.loss = torch.where(self.loss == 0, losses, self.loss.lerp(losses, 0.01))

    def best(self) -> int:
        """The head in use."""
        chosen = int(self.chosen)
        return chosen if chosen >= 0 else int(self.loss.argmin())

    @torch.no_grad()
    def choose(self, encode: Encode, k: int) -> None:
        """Settles on one head, by how well its clusters keep neighbours together (`togetherness`) and by its loss.

        Both are measured in standard deviations over the heads; the loss counts half.
        """
        if len(self.heads) > 1 and self.active:
            h = encode(min(max(JUDGED, 100 * k), SAMPLE))
            together = togetherness(self.logits(h).argmax(2), F.normalize(h, dim=1), k)
            self.chosen.copy_((standardised(together) - standardised(self.loss.cpu()) / 2).argmax())

    def imbalance(self, log_y: Tensor) -> Tensor:
        """How far the mean assignment of each head is from the sizes that `balance` asks for, (heads,).

        `log_y`: (heads, n, k). See `negative_marginal_entropy`; zeros with balance "off".
        """
        if self.balance == "off":
            return log_y.new_zeros(len(log_y))
        return negative_marginal_entropy(log_y, self.prior if self.balance == "estimated" else None)

    def observe(self, log_y: Tensor) -> Tensor:
        """The assignments of the head with the lowest loss, (n, k), detached. `log_y`: (heads, n, k).

        In training, estimated sizes follow these assignments.
        """
        if self.balance == "estimated" and self.training:
            with torch.no_grad():
                sizes = log_y.detach().exp().mean(1)  # (heads, k)
                self.prior = self.prior.lerp(sizes.lerp(torch.full_like(sizes, 1 / sizes.shape[1]), FLOOR), PACE)
        return log_y.detach().index_select(0, self.loss.argmin().view(1))[0].exp()

    def assign(self, h: Tensor) -> Tensor:
        """The probability of each cluster by the best head, (n, k) float32."""
        logits: Tensor = self.heads[self.best()](h)
        return logits.float().softmax(1)

    def start_when_due(
        self, encode: Encode, *, epoch: int, epochs: int, seed: int, known: Tensor | None = None
    ) -> str | None:
        """`start`, once, when the first part of the training is over; returns what to say, if anything."""
        if self.active or not due(epoch, epochs, self.warm_start):
            return None
        return self.start(encode, self.clusters, seed, epoch, known)

    def start(self, encode: Encode, k: int, seed: int, epoch: int, known: Tensor | None = None) -> str:
        """Gives each head its own partition of the features to begin from; returns what to say.

        `known`: (n_images,) a cluster where it is known, else -1; the partitions are then renumbered to agree.
        """
        generator = torch.Generator(self.loss.device).manual_seed(seed * 1_000_003 + epoch)
        features, candidates = partitions(encode, k, len(self.heads), generator)
        labels = torch.stack([partition.labels for partition in candidates])  # (heads, n)
        if known is not None:
            of_sample = known[spaced(len(known), len(features)).to(known.device)]
            labels = torch.stack([agree_with_known(row, of_sample, k) for row in labels])
        fit_heads(self.heads, features, labels, generator)
        if self.balance == "estimated":
            sizes = torch.stack([torch.bincount(row, minlength=k) / len(row) for row in labels])
            self.prior.copy_(sizes.lerp(torch.full_like(sizes, 1 / k), FLOOR))
        self.active = True
        self.started.fill_(True)
        heads = "1 cluster head starts" if len(labels) == 1 else f"{len(labels)} cluster heads start"
        return f"{heads} from partitions of the features of {len(features):,} images"


def standardised(x: Tensor) -> Tensor:
    """`x`, (n,), in standard deviations from its mean; zeros where all are equal."""
    return (x - x.mean()) / x.std().clamp_min(1e-12)


def read_started(heads: SubHeads, _: object) -> None:
    heads.active = bool(heads.started)
