"""BatchNorm by parts of a batch: the statistics of several small batches at the speed of a large one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def in_parts(network: nn.Module, x: Tensor, parts: int) -> Tensor:
    """What `network` makes of `x` when each part of `x.tensor_split(parts)` passes alone, one after another.

    Only BatchNorm looks beyond a row in a network of torch's and our own modules, so everything else sees the
    whole batch there: eight parts of 32 images, each alone, took half as long again on a CPU. Any other
    network, and one that draws at random, really gets one part at a time.
    """
    found: Tensor
    if parts < 2:
        found = network(x)
        return found
    if not all(by_rows(module) for module in network.modules()):
        return torch.cat([network(part) for part in x.tensor_split(parts)])
    with statistics_by_parts(network, parts):
        found = network(x)
        return found


def by_rows(module: nn.Module) -> bool:
    """Whether the module's own work, BatchNorm's apart, is known to be the same for a row in any company."""
    place = type(module).__module__
    if place.startswith("torch.nn.modules."):
        return not isinstance(module, nn.modules.dropout._DropoutNd | nn.RReLU)
    return place.startswith("ilk.")


@contextmanager
def statistics_by_parts(network: nn.Module, parts: int) -> Iterator[None]:
    """Inside, each BatchNorm of `network` that is in training takes a batch as `parts` batches, in turn."""
    norms = [one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm) and one.training]
    before = [vars(norm).get("forward") for norm in norms]  # None: the class's own
    try:
        for norm in norms:
            norm.forward = functools.partial(in_turn, norm.forward, parts)  # type: ignore[method-assign]
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            vars(norm).pop("forward", None)
            if own is not None:
                norm.forward = own  # type: ignore[method-assign]


def in_turn(forward: Callable[[Tensor], Tensor], parts: int, x: Tensor) -> Tensor:
    return torch.cat([forward(part) for part in x.tensor_split(parts)])
