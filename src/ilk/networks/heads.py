"""The small networks that the papers put on top of a backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# activations without parameters, applied to each number alone
ELEMENTWISE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {nn.ReLU: F.relu, nn.SiLU: F.silu, nn.Tanh: torch.tanh}


def mlp(in_features: int, hidden: int, out_features: int, *, batch_norm: bool = False) -> nn.Sequential:
    """Linear - ReLU - Linear with biases: both heads of CC (Li et al. 2021, section 3.1), CRLC and SCL.

    `batch_norm` adds a BatchNorm before the ReLU, as in BYOL's projector and predictor.
    """
    norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
    return nn.Sequential(nn.Linear(in_features, hidden), *norm, nn.ReLU(inplace=True), nn.Linear(hidden, out_features))


def kaiming(network: nn.Sequential) -> nn.Sequential:
    """`network` with its linear layers drawn from Kaiming's uniform distribution (gain sqrt 2), biases 0 (CRLC)."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return network


def side_by_side(heads: nn.ModuleList, x: Tensor) -> Tensor:
    """The output of each head for the same rows, (heads, n, k). `x`: (n, d).

    Equal to calling the heads one by one, up to rounding. Heads of the same shape that consist of linear layers
    and elementwise activations are computed together, because ten heads one by one are hundreds of operations too
    small to keep a processor busy. Other heads, such as those with BatchNorm, are called one after another.
    """
    layers = [list(head) if isinstance(head, nn.Sequential) else [head] for head in heads]
    same_depth = len(layers) > 1 and len({len(head) for head in layers}) == 1
    if not (same_depth and all(alike(level) for level in zip(*layers, strict=True))):
        return torch.stack([head(x) for head in heads])
    x = x.T  # (d, n): matrix products are faster here with the images as columns
    for level in zip(*layers, strict=True):
        activation = ELEMENTWISE.get(type(level[0]))
        x = activation(x) if activation else together(cast(Sequence[nn.Linear], level), x)
    return x.mT if x.dim() == 3 else x.T.expand(len(layers), -1, -1)


def alike(level: Sequence[nn.Module]) -> bool:
    """Whether these layers, one of each head, are the same elementwise activation or linear of the same shape."""
    if len({type(layer) for layer in level}) > 1 or any(
        layer._forward_pre_hooks or layer._forward_hooks for layer in level
    ):
        return False
    if type(level[0]) is not nn.Linear:
        return type(level[0]) in ELEMENTWISE
    return len({(layer.weight.shape, layer.bias is None) for layer in cast(Sequence[nn.Linear], level)}) == 1


def together(level: Sequence[nn.Linear], x: Tensor) -> Tensor:
    """The outputs of linear layers, one of each head, (heads, k, n). `x`: (d, n) for all heads, or (heads, d, n)."""
    weight = torch.stack([layer.weight for layer in level])  # (heads, k, d)
    heads, k, _ = weight.shape
    if x.dim() == 2:  # one product for all heads
        weight = weight.flatten(0, 1)
    if level[0].bias is None:
        y = weight @ x
    else:
        bias = torch.stack([layer.bias for layer in level])[..., None]  # (heads, k, 1)
        y = torch.baddbmm(bias, weight, x) if x.dim() == 3 else torch.addmm(bias.flatten(0, 1), weight, x)
    return y.view(heads, k, -1)
