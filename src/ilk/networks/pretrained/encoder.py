"""`Encoder`: a pretrained network that turns images of any size into one row of features per image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ilk.networks.pretrained.prepare import Preparation

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights by which Pillow converts colour to gray
Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]  # (done, total, what is counted)


@dataclass(frozen=True)
class EncoderAbout:
    """Where an encoder comes from and what identifies it.

    `spec`: the name by which it can be loaded again. `licence`: that of the weights, or "unknown". `bytes`: the size
    of the weights in memory. `fingerprint`: a hash of the weights and of the preparation of images; equal
    fingerprints give equal features. `revision`: the commit of a model on a hub.
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
        licence = self.licence if self.licence != "unknown" else "of unknown licence"
        return f"{self.title}: {count(self.parameters)} parameters, weights: {licence} ({self.source})"


class Encoder(nn.Module):
    """(b, c, h, w) floats in [0, 1] of any size -> (b, feature_dim) float32.

    `network` gets the images after `preparation` and returns (b, feature_dim). Gray images are repeated for a
    network that takes colour, and colour images converted for one that takes gray. Gradients pass through.
    `image_size`: the side, in pixels, of square images that need no resizing.
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
    """`x` with that number of channels: gray repeated, or colour converted to gray. Raises ValueError otherwise."""
    if x.ndim != 4:
        raise ValueError(f"An encoder takes images of shape (b, c, h, w); got {tuple(x.shape)}.")
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1)
    if x.shape[1] == 3 and channels == 1:
        return (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    raise ValueError(
        f"This encoder takes images with {channels} channels and these have {x.shape[1]}. Use gray or colour images,"
        " or train a backbone on yours (--backbone small)."
    )


def fingerprint(network: nn.Module, preparation: Preparation) -> str:
    """A hash of the name and values of every weight and buffer, and of the preparation."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(data.shape)} {data.dtype};".encode())
        digest.update(data.flatten().view(torch.uint8).numpy().data if data.numel() else b"")
    digest.update(preparation.described().encode())
    return digest.hexdigest()


def weight_sizes(network: nn.Module) -> tuple[int, int]:
    """(the number of parameters, the bytes of all weights and buffers)."""
    tensors = network.state_dict().values()
    return sum(p.numel() for p in network.parameters()), sum(t.numel() * t.element_size() for t in tensors)


def count(number: int) -> str:
    """22,056,576 as `22 M`."""
    if number < 1e6:
        return f"{number / 1e3:.3g} k" if number >= 1e3 else str(number)
    return f"{number / 1e6:.0f} M" if number >= 1e7 else f"{number / 1e6:.1f} M"
