"""Batches of image positions, and random generators: functions of (seed, epoch), so that runs can be resumed."""

from __future__ import annotations

import torch
from torch import Tensor

EXTRA, KNOWN = 1024, 2048  # first random streams of the extra images and of the images with known labels


def seeded(seed: int, epoch: int, stream: int, device: torch.device) -> torch.Generator:
    """A random generator on `device`, a function of the other arguments.

    `stream`: 0 draws the order of the images, 1 + rank the views of one process. The streams of the extra images are
    the same plus `EXTRA`; `KNOWN` draws the images with a known label.
    """
    return torch.Generator(device).manual_seed((seed * 1_000_003 + epoch) * 4_099 + stream)


def spaced(n: int, m: int) -> Tensor:
    """The positions of `m` evenly spaced images of n, (m,), or of all if there are no more; int64."""
    return torch.arange(n) if n <= m else torch.linspace(0, n - 1, m).round().long()


def steps_of(n: int, size: int) -> int:
    """The number of batches in one pass over n images, at least 1; an incomplete last batch does not count."""
    return max(1, n // size)


def batches(n: int, size: int, seed: int, epoch: int, stream: int = 0, known: Tensor | None = None) -> list[Tensor]:
    """The batches of one pass over n images, each (size,) positions, without an incomplete last batch.

    Fewer than `size` images make one smaller batch. `known`: positions of the images with a known label; up to an
    eighth of each batch, at its end, are some of them, which are all drawn before one is drawn again. No image is
    twice in a batch. The images that they replace are in the batches of other epochs.
    """
    cpu = torch.device("cpu")
    order = torch.randperm(n, generator=seeded(seed, epoch, stream, cpu))
    plain_batches = [order[i * size : (i + 1) * size] for i in range(steps_of(n, size))]
    if known is None or len(known) == 0:
        return plain_batches
    generator = seeded(seed, epoch, KNOWN, cpu)
    places = min(len(known), max(1, size // 8))
    known_groups: list[Tensor] = []
    while len(known_groups) < len(plain_batches):  # no group spans two shuffles, so none has an image twice
        shuffled = known[torch.randperm(len(known), generator=generator)]
        known_groups += shuffled[: len(known) // places * places].split(places)
    return [
        torch.cat([batch[~torch.isin(batch, group)][: len(batch) - places], group])
        for batch, group in zip(plain_batches, known_groups, strict=False)
    ]
