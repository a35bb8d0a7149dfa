"""Cluster heads trained side by side, of which in the end one is used; several methods have them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.losses import negative_marginal_entropy
from ilk.methods.base import Encode
from ilk.methods.start import JUDGED, SAMPLE, due, fit_heads, partitions, renamed, togetherness
from ilk.networks.heads import side_by_side
from ilk.sampling import spaced

FLOOR, PACE = 0.1, 0.01  # of the estimated sizes: how far they are drawn to equal ones, and how fast they follow


class SubHeads(nn.Module):
    """`count` heads that `make` builds, from features to the logits of `k` clusters.

    With `wait`, they take no part in the training until `start` gives each its own partition of
    the features to begin from. `loss`: the running mean of each head's loss, over about the last
    hundred steps. The head in use is that of the lowest loss until the training is over; then `choose` settles on
    one, by neighbours and loss. No labels choose the head, here or anywhere.
    `balance`: which sizes of clusters `imbalance` holds for right: "uniform" (the papers: all equal),
    "estimated" (each head's own running mean, drawn a little towards equal) or "off" (any).
    """

    loss: Tensor
    started: Tensor
    chosen: Tensor
    prior: Tensor

    def __init__(
        self, make: Callable[[], nn.Module], count: int, *, wait: bool = False, clusters: int = 0,
        balance: str = "uniform",
    ) -> None:  # fmt: skip
        super().__init__()
        self.balance = balance
        if balance == "estimated":
            self.register_buffer("prior", torch.full((count, clusters), 1 / clusters))
        self.heads = nn.ModuleList(make() for _ in range(count))
        self.active = not wait  # `started` without waiting for the device
        self.register_buffer("started", torch.tensor(self.active))
        self.register_buffer("loss", torch.zeros(count))
        self.register_buffer("chosen", torch.tensor(-1))  # none yet
        self.register_load_state_dict_post_hook(read_started)

    def logits(self, h: Tensor) -> Tensor:
        """(heads, n, k) float32. `h`: (n, feature_dim)."""
        return side_by_side(self.heads, h).float()

    @torch.no_grad()
    def follow(self, losses: Tensor) -> None:
        """Takes in the losses, (heads,), of one step."""
        self.loss = torch.where(self.loss == 0, losses, self.loss.lerp(losses, 0.01))

    def best(self) -> int:
        """The head in use."""
        chosen = int(self.chosen)
        return chosen if chosen >= 0 else int(self.loss.argmin())

    @torch.no_grad()
    def choose(self, encode: Encode, k: int) -> None:
        """Settles on one head, by how well its clusters keep neighbours together (`togetherness`) and by its loss.

        Each is counted in standard deviations over the heads, the loss half.
        """
        if len(self.heads) > 1 and self.active:
            h = encode(min(max(JUDGED, 100 * k), SAMPLE))
            together = togetherness(self.logits(h).argmax(2), F.normalize(h, dim=1), k)
            self.chosen.copy_((standardised(together) - standardised(self.loss.cpu()) / 2).argmax())

    def imbalance(self, log_y: Tensor) -> Tensor:
        """How far the mean assignment of each head is from the sizes that are held for right, (heads,).

        `log_y`: (heads, n, k). See `negative_marginal_entropy`; zeros where any sizes are right.
        """
        if self.balance == "off":
            return log_y.new_zeros(len(log_y))
        return negative_marginal_entropy(log_y, self.prior if self.balance == "estimated" else None)

    def observe(self, log_y: Tensor) -> Tensor:
        """The assignments of the best head, (n, k), detached, from which sizes are learnt. `log_y`: (heads, n, k)."""
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
