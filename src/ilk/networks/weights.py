"""Initial weights from a seed, and checks of stored weights: a file may come from anyone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ilk.system.text import in_short

Header = Mapping[str, tuple[str, tuple[int, ...]]]  # (kind, shape) of each tensor, by name; kinds as in KINDS

KINDS = {"F": "numbers", "B": "numbers", "I": "whole numbers", "U": "whole numbers"}  # by a dtype's first letter
# Tensors that the first versions of the format lack; their initial values mean the same.
ADDED_LATER = frozenset({"known", "cluster_heads.chosen", "over_head.chosen"})
POINTERS = {"labels": 0, "known": -1, "position": 0, "chosen": -1}  # tensors that hold indices, and the least index

DRAWING = threading.RLock()


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """A block in which networks draw their initial weights from `seed`.

    Afterwards torch's global generator is as it was before. All threads share that generator, so only one of them
    is in such a block at a time.
    """
    with DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Misfit(Exception):
    """Stored tensors do not fit a network; the message says why."""


def header_of(file: Path) -> Header:
    """The kind and shape of each tensor of a safetensors file, from its header alone. Raises Misfit."""
    try:
        with safe_open(file, framework="pt") as stored:
            slices = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118  # `stored` is no mapping
            return {name: (kind_of(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
    except Exception as error:  # safetensors raises several kinds for a damaged or foreign file
        raise Misfit(f"it cannot be read ({in_short(error)}).") from None


def kind_of(dtype: str) -> str:
    """The kind of a dtype that safetensors calls F32, BF16, I64, BOOL or the like."""
    return "true or false" if dtype == "BOOL" else KINDS.get(dtype[0], dtype)


def header_of_state(state: Mapping[str, Tensor]) -> Header:
    """The kind and shape of each tensor in memory."""

    def kind(tensor: Tensor) -> str:
        if tensor.dtype == torch.bool:
            return "true or false"
        if tensor.is_complex():
            return "complex numbers"
        return "numbers" if tensor.is_floating_point() else "whole numbers"

    return {name: (kind(tensor), tuple(tensor.shape)) for name, tensor in state.items()}


def refuse_misfit(method: nn.Module, stored: Header) -> None:
    """Raises Misfit unless `stored` has exactly the tensors of `method`; those in ADDED_LATER may be missing."""
    wanted = header_of_state(method.state_dict())
    missing = sorted(wanted.keys() - stored.keys() - ADDED_LATER)
    if missing:
        raise Misfit(f"Missing key {missing[0]}" + (f" and {len(missing) - 1} more." if missing[1:] else "."))
    for name, (kind, shape) in stored.items():
        if name not in wanted:
            raise Misfit(f"Unexpected key {name[:100]}.")
        if shape != wanted[name][1]:
            given, right = ("x".join(map(str, sides)) or "one value" for sides in (shape, wanted[name][1]))
            raise Misfit(f"{name} is {given} and should be {right}.")
        if kind != wanted[name][0]:
            raise Misfit(f"{name} holds {kind} instead of {wanted[name][0]}.")


def put_state(method: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies stored tensors into `method`. Raises Misfit for other tensors than its own and for impossible values."""
    if not all(isinstance(tensor, Tensor) and isinstance(name, str) for name, tensor in state.items()):
        raise Misfit("it holds other things than tensors.")
    refuse_misfit(method, header_of_state(state))
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Misfit(f"{name} holds numbers that are not finite.")
        owner, _, last = name.rpartition(".")
        if last in POINTERS and tensor.numel() and not inside(method.get_submodule(owner), last, tensor, method):
            raise Misfit(f"{name} holds indices that are out of range.")
    initial = {name: tensor for name, tensor in method.state_dict().items() if name not in state}
    method.load_state_dict({**initial, **state})


def inside(module: Any, last: str, tensor: Tensor, method: Any) -> bool:
    """Whether the indices in the tensor `last` of `module`, a part of `method`, are in range."""
    if last == "position":
        end = module.keys.shape[1]
    elif last == "chosen":
        end = len(module.heads)
    else:
        end = getattr(module, "clusters", method.n_clusters)
    return POINTERS[last] <= int(tensor.min()) and int(tensor.max()) < end
