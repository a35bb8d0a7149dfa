"""Which images come together in which step: a function of (seed, epoch) alone, so that a run can be resumed."""

from __future__ import annotations

import torch
from torch import Tensor

EXTRA, KNOWN = 1024, 2048  # random streams beside those of the main pass, which begin at 0


def seeded(seed: int, epoch: int, stream: int, device: torch.device) -> torch.Generator:
    """A generator that is a function of its arguments alone; `stream` 0 is the order, 1 + rank the views.

    Those of the extra images begin at `EXTRA`, that of the known ones is `KNOWN`.
    """
    return torch.Generator(device).manual_seed((seed * 1_000_003 + epoch) * 4_099 + stream)


def spaced(n: int, m: int) -> Tensor:
    """Up to `m` positions of n images, evenly spaced."""
    return torch.arange(n) if n <= m else torch.linspace(0, n - 1, m).round().long()


def steps_of(n: int, size: int) -> int:
    """The batches of one pass over n images; fewer images than a batch make one smaller batch."""
    return max(1, n // size)


def batches(n: int, size: int, seed: int, epoch: int, stream: int = 0, known: Tensor | None = None) -> list[Tensor]:
    """The batches of one pass over n images, each (size,) positions, the short last one left out.

    With `known` positions, up to an eighth of each batch is taken by some of them, drawn in turn; they
    stand at its end, and no image is in a batch twice. Those that give way come in other epochs.
    """
    cpu = torch.device("cpu")
    order = torch.randperm(n, generator=seeded(seed, epoch, stream, cpu))
    found = [order[i * size : (i + 1) * size] for i in range(steps_of(n, size))]
    if known is None or len(known) == 0:
        return found
    generator = seeded(seed, epoch, KNOWN, cpu)
    places = min(len(known), max(1, size // 8))
    turns: list[Tensor] = []
    while len(turns) < len(found):  # whole groups only, so that no image is in one twice
        shuffled = known[torch.randperm(len(known), generator=generator)]
        turns += shuffled[: len(known) // places * places].split(places)
    return [
        torch.cat([batch[~torch.isin(batch, turn)][: len(batch) - places], turn])
        for batch, turn in zip(found, turns, strict=False)
    ]
