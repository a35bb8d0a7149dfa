"""The optimizer of a training and its learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ilk.runs.config import TrainConfig


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """The learning rate of a step: linear warm-up over `warmup` steps, times a constant or half a cosine to zero.

    `step`: from 0. `total`: the steps of the whole training.
    """
    warmup = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    decay = 0.5 + 0.5 * math.cos(math.pi * step / total) if config.schedule == "cosine" else 1.0
    return config.learning_rate * warmup * decay


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of the parameters that require gradients."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: list[Any] = [{"params": trained}]
    if not config.decay_vectors:  # biases and normalisation weights have one dimension
        vectors = [parameter for parameter in trained if parameter.dim() < 2]
        groups = [{"params": [p for p in trained if p.dim() >= 2]}, {"params": vectors, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
    adam = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return adam(groups, config.learning_rate, weight_decay=config.weight_decay)
