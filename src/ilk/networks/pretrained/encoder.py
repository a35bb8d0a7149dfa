"""What every pretrained encoder is: images of any size in, one row of features an image out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ilk.networks.pretrained.prepare import Preparation

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow makes gray of colour
Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]  # done, total, of what


@dataclass(frozen=True)
class EncoderAbout:
    """Where an encoder comes from.

    `spec` is enough to find it again. `licence` is that of the weights, "unknown" if nobody says. `bytes`
    are those of the weights in memory. `fingerprint` is a hash of the weights and of how images are
    prepared: equal fingerprints give equal features. `revision`: the commit of a model on a hub.
    """

    spec: str
    title: str
    source: str
    licence: str
    parameters: int
    bytes: int
    fingerprint: str
    revision: str | None = None

    def __str__(self) -> str:
        said = self.licence if self.licence != "unknown" else "of unknown licence"
        return f"{self.title}: {count(self.parameters)} parameters, weights: {said} ({self.source})"


class Encoder(nn.Module):
    """(b, c, h, w) floats in [0, 1] of any size -> (b, feature_dim) float32.

    `network` sees images as `preparation` leaves them and returns (b, feature_dim). One channel is
    repeated where three are wanted, and three become their luma where one is. Gradients pass through.
    `image_size`: the side in pixels at which square images are not resized.
    """

    def __init__(
        self, network: nn.Module, preparation: Preparation, *, feature_dim: int, channels: int, about: EncoderAbout
    ) -> None:
        super().__init__()
        self.network, self.preparation, self.about = network, preparation, about
        self.feature_dim, self.channels, self.image_size = feature_dim, channels, preparation.image_size

    def forward(self, x: Tensor) -> Tensor:
        x = with_channels(x, self.channels)
        h: Tensor = self.network(self.preparation(x))
        return h.float()

    def extra_repr(self) -> str:
        return f"{self.about.spec}, feature_dim={self.feature_dim}, image_size={self.image_size}"


def with_channels(x: Tensor, channels: int) -> Tensor:
    """`x` with so many channels: gray repeated, or colour made gray. Raises ValueError for any other change."""
    if x.ndim != 4:
        raise ValueError(f"An encoder takes images of shape (b, c, h, w); got {tuple(x.shape)}.")
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1)
    if x.shape[1] == 3 and channels == 1:
        return (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    raise ValueError(
        f"This encoder wants images with {channels} channels and these have {x.shape[1]}. Use gray or colour images,"
        " or train a backbone on yours (--backbone small)."
    )


def fingerprint(network: nn.Module, preparation: Preparation) -> str:
    """A hash of every weight and buffer, by name, and of the preparation."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(data.shape)} {data.dtype};".encode())
        digest.update(data.flatten().view(torch.uint8).numpy().data if data.numel() else b"")
    digest.update(preparation.described().encode())
    return digest.hexdigest()


def weight_sizes(network: nn.Module) -> tuple[int, int]:
    """The number of parameters, and the bytes of all weights and buffers."""
    tensors = network.state_dict().values()
    return sum(p.numel() for p in network.parameters()), sum(t.numel() * t.element_size() for t in tensors)


def count(number: int) -> str:
    """22,056,576 as `22 M`."""
    if number < 1e6:
        return f"{number / 1e3:.3g} k" if number >= 1e3 else str(number)
    return f"{number / 1e6:.0f} M" if number >= 1e7 else f"{number / 1e6:.1f} M"
