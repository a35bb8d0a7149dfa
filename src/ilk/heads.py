"""The small networks that the papers put on top of a backbone."""

from __future__ import annotations

from torch import nn


def mlp(in_features: int, hidden: int, out_features: int, *, batch_norm: bool = False) -> nn.Sequential:
    """Linear - ReLU - Linear with biases: both heads of CC (Li et al. 2021, section 3.1), CRLC and SCL.

    `batch_norm` puts one before the ReLU, as BYOL's projector and predictor have it.
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
