"""The small networks on top of a backbone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ilk.networks.heads import kaiming, mlp


def kinds(network: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in network]


def test_an_mlp_is_two_linear_layers_with_biases_around_a_relu() -> None:
    head = mlp(5, 7, 3)
    assert kinds(head) == ["Linear", "ReLU", "Linear"] and all(head[i].bias is not None for i in (0, 2))
    assert head(torch.randn(4, 5)).shape == (4, 3)
    assert sum(p.numel() for p in head.parameters()) == 5 * 7 + 7 + 7 * 3 + 3


def test_batch_norm_stands_before_the_relu_and_only_there() -> None:
    head = mlp(5, 7, 3, batch_norm=True)
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear"] and head[1].num_features == 7


@pytest.mark.parametrize("batch_norm", [False, True])
def test_kaiming_draws_uniform_weights_of_the_right_width_and_no_biases(batch_norm: bool) -> None:
    """Gain sqrt 2: bounded by sqrt(6 / fan-in), with a variance of 2 / fan-in."""
    head = kaiming(mlp(64, 256, 100, batch_norm=batch_norm))
    for layer, fan_in in ((head[0], 64), (head[-1], 256)):
        bound = (6 / fan_in) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.var().item() == pytest.approx(2 / fan_in, rel=0.05)
        assert layer.bias.abs().max() == 0
    if batch_norm:
        assert bool((head[1].weight == 1).all())


def test_kaiming_returns_the_network_itself() -> None:
    head = mlp(2, 2, 2)
    assert kaiming(head) is head
