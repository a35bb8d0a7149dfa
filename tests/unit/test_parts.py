"""A batch by parts is what its parts are alone: the rows, the gradients and the running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ilk.networks.backbones import build_backbone
from ilk.networks.batch_norm import SharedBatchNorm, in_parts
from ilk.networks.heads import mlp


def backbone() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone("small", image_size=16, in_channels=1).double()


def one_by_one(network: nn.Module, x: Tensor, parts: int) -> Tensor:
    return torch.cat([network(part) for part in x.tensor_split(parts)])


@pytest.mark.parametrize(("n", "parts"), [(24, 3), (23, 3), (8, 2), (6, 1)])
def test_parts_at_once_are_those_one_after_another(n: int, parts: int) -> None:
    ours, theirs = backbone(), backbone()
    x = torch.rand(n, 1, 16, 16, dtype=torch.float64)
    found, expected = in_parts(ours, x, parts), one_by_one(theirs, x, parts)
    assert torch.allclose(found, expected, atol=1e-12)
    weight = torch.randn_like(found)
    (found * weight).sum().backward(), (expected * weight).sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-10)
    for (name, one), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(one, other, atol=1e-12), name  # num_batches_tracked among them
    if parts > 1:
        assert not torch.allclose(found, backbone()(x), atol=1e-3)  # statistics of the whole batch are others


def test_afterwards_the_network_is_as_before_even_after_an_error() -> None:
    network, x = backbone(), torch.rand(8, 1, 16, 16, dtype=torch.float64)
    plain = copy.deepcopy(network)(x)
    in_parts(copy.deepcopy(network).eval(), x, 2)
    with pytest.raises(RuntimeError):
        in_parts(network, x[:, :, 0], 2)
    assert not any("forward" in vars(module) for module in network.modules())
    assert torch.equal(network(x), plain)


def test_a_forward_that_somebody_put_in_front_stays() -> None:
    network, x, seen = backbone(), torch.rand(8, 1, 16, 16, dtype=torch.float64), []
    norm = next(one for one in network.modules() if isinstance(one, nn.BatchNorm2d))
    own = norm.forward
    norm.forward = lambda rows: (seen.append(len(rows)), own(rows))[1]  # type: ignore[method-assign]
    in_parts(network, x, 2)
    network(x)
    assert seen == [4, 4, 8]


def test_in_evaluation_parts_change_nothing() -> None:
    network, x = backbone().eval(), torch.rand(8, 1, 16, 16, dtype=torch.float64)
    assert torch.equal(in_parts(network, x, 4), network(x))


def test_statistics_shared_by_processes_are_by_parts_too() -> None:
    norm, x = SharedBatchNorm(3).double(), torch.randn(8, 3, dtype=torch.float64)
    found = in_parts(norm, x, 2)
    assert torch.allclose(found[:4].mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert norm.num_batches_tracked == 2


class Centred(nn.Module):
    """Looks beyond a row, by means that nobody else knows of."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


@pytest.mark.parametrize("strange", [Centred(), nn.Dropout(0.5)])
def test_a_network_that_may_look_beyond_a_row_or_draws_gets_one_part_at_a_time(strange: nn.Module) -> None:
    network = nn.Sequential(mlp(5, 6, 4, batch_norm=True), strange)
    twin, x = copy.deepcopy(network), torch.randn(12, 5)
    torch.manual_seed(1)
    found = in_parts(network, x, 3)
    torch.manual_seed(1)
    assert torch.equal(found, one_by_one(twin, x, 3))
