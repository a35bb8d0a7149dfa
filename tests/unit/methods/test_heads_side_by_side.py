"""Heads computed together are the heads one by one; those that cannot be are called in turn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.methods.start import fit_heads
from ilk.methods.subheads import SubHeads
from ilk.networks.heads import kaiming, mlp, side_by_side

D, K, N = 6, 4, 9
Make = Callable[[], nn.Module]
TOGETHER: dict[str, Make] = {
    "linear": lambda: nn.Linear(D, K),
    "linear without bias": lambda: nn.Linear(D, K, bias=False),
    "mlp": lambda: mlp(D, 5, K),
    "kaiming": lambda: kaiming(mlp(D, 5, K)),
    "three layers": lambda: nn.Sequential(
        nn.Tanh(), nn.Linear(D, 5), nn.SiLU(), nn.Linear(5, 3, bias=False), nn.ReLU(), nn.Linear(3, K)
    ),
    "nothing but an activation": lambda: nn.Sequential(nn.Tanh()),
}
IN_TURN: dict[str, Make] = {
    "batch norm": lambda: mlp(D, 5, K, batch_norm=True),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(D, K))),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(D, K)),
}


def build(make: Make, count: int) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(make() for _ in range(count)).double()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", [*TOGETHER, *IN_TURN])
def test_logits_and_gradients_are_those_of_each_head(name: str, count: int) -> None:
    make = (TOGETHER | IN_TURN)[name]
    ours, theirs = build(make, count), build(make, count)
    x, y = (torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    x.requires_grad_(), y.requires_grad_()
    found, expected = side_by_side(ours, x), torch.stack([head(y) for head in theirs])
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-12)
    weight = torch.randn(found.shape, dtype=torch.float64)
    (found * weight).sum().backward(), (expected * weight).sum().backward()
    assert torch.allclose(x.grad, y.grad, atol=1e-12)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-12)
    for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", [*TOGETHER, *IN_TURN])
def test_only_heads_that_must_be_are_called_in_turn(name: str) -> None:
    called: list[int] = []
    heads = build((TOGETHER | IN_TURN)[name], 3)
    for number, head in enumerate(heads):
        own = head.forward
        head.forward = lambda x, own=own, number=number: (called.append(number), own(x))[1]
    side_by_side(heads, torch.randn(N, D, dtype=torch.float64))
    assert called == ([] if name in TOGETHER else [0, 1, 2])


def test_a_hook_on_a_layer_is_heeded() -> None:
    heads = nn.ModuleList([mlp(D, 5, K), mlp(D, 5, K)])
    x = torch.randn(N, D)
    handle = heads[1][2].register_forward_hook(lambda *given: 2 * given[-1])
    assert torch.equal(side_by_side(heads, x)[1], heads[1](x))
    handle.remove()
    assert torch.allclose(side_by_side(heads, x)[1], heads[1](x), atol=1e-6)


def test_heads_of_several_shapes_are_called_in_turn() -> None:
    for others in ([mlp(D, 7, K)], [nn.Linear(D, K)], [nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, K))]):
        heads = nn.ModuleList([mlp(D, 5, K), *others])
        x = torch.randn(N, D)
        assert torch.equal(side_by_side(heads, x), torch.stack([head(x) for head in heads]))


def test_the_names_in_a_state_are_those_of_single_heads() -> None:
    heads = SubHeads(lambda: mlp(D, 5, K), 2)
    expected = {f"heads.{i}.{layer}.{part}" for i in (0, 1) for layer in (0, 2) for part in ("weight", "bias")}
    assert set(heads.state_dict()) == expected | {"started", "loss", "chosen"}


def test_logits_are_float32_in_a_bf16_autocast() -> None:
    heads = SubHeads(lambda: mlp(D, 5, K), 3)
    x = torch.randn(N, D)
    with torch.autocast("cpu", torch.bfloat16):
        found = heads.logits(x)
        apart = torch.stack([head(x).float() for head in heads.heads])
    assert found.dtype == torch.float32 and torch.allclose(found, apart, atol=0.02)
    assert not torch.allclose(found, heads.logits(x), atol=1e-6)  # the products were in bf16


def fitted_one_by_one(heads: nn.ModuleList, features: Tensor, labels: Tensor, draws: torch.Generator) -> None:
    """`fit_heads` with a loop over heads, each with an optimiser of its own."""
    own: list[Any] = [torch.optim.Adam(head.parameters(), lr=3e-3) for head in heads]
    for _ in range(200):
        rows = torch.randint(len(features), (256,), generator=draws)
        for head, optimizer, target in zip(heads, own, labels, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(head(features[rows]), target[rows]).backward()
            optimizer.step()


def test_heads_are_fitted_as_if_each_were_alone() -> None:
    ours = build(lambda: mlp(D, 5, K), 3)
    theirs = copy.deepcopy(ours)
    features, labels = torch.randn(60, D, dtype=torch.float64), torch.randint(K, (3, 60))
    fit_heads(ours, features, labels, torch.Generator().manual_seed(2))
    fitted_one_by_one(theirs, features, labels, torch.Generator().manual_seed(2))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-8)
