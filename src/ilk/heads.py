"""The small networks that the papers put on top of a backbone."""

from __future__ import annotations

from torch import nn


def mlp(in_features: int, hidden: int, out_features: int) -> nn.Sequential:
    """Linear - ReLU - Linear with biases and no normalisation: both heads of CC (Li et al. 2021, section 3.1)."""
    return nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out_features))
