"""Weights: drawn from a seed, or stored in a file that may come from anyone and is looked at before it is believed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

Header = Mapping[str, tuple[str, tuple[int, ...]]]  # kind (of KINDS) and shape of each tensor

KINDS = {"F": "numbers", "B": "numbers", "I": "whole numbers", "U": "whole numbers"}  # by a dtype's first letter
# Not yet in the first versions of the format; the values of an untrained method mean the same.
ADDED_LATER = frozenset({"known", "cluster_heads.chosen", "over_head.chosen"})
POINTERS = {"labels": 0, "known": -1, "position": 0, "chosen": -1}  # tensors that point into something, and their least

DRAWING = threading.RLock()


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """A block in which networks draw their weights from `seed`; torch's global generator is as before afterwards.

    There is one such generator for all threads, so they take turns: trainings in several threads would
    else draw from each other's.
    """
    with DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Misfit(Exception):
    """Why stored tensors are not those of a network, in a sentence."""


def header_of(file: Path) -> Header:
    """What a safetensors file says it holds; nothing else of it is read. Raises Misfit."""
    try:
        with safe_open(file, framework="pt") as stored:
            slices = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118  # no mapping
            return {name: (kind_of(one.get_dtype()), tuple(one.get_shape())) for name, one in slices.items()}
    except Exception as error:  # safetensors raises several kinds for a damaged or foreign file
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise Misfit(f"it cannot be read ({said}).") from None


def kind_of(dtype: str) -> str:
    """By safetensors' name of it, such as F32, BF16, I64 or BOOL."""
    return "true or false" if dtype == "BOOL" else KINDS.get(dtype[0], dtype)


def header_of_state(state: Mapping[str, Tensor]) -> Header:
    def kind(tensor: Tensor) -> str:
        if tensor.dtype == torch.bool:
            return "true or false"
        if tensor.is_complex():
            return "complex numbers"
        return "numbers" if tensor.is_floating_point() else "whole numbers"

    return {name: (kind(tensor), tuple(tensor.shape)) for name, tensor in state.items()}


def refuse_misfit(method: nn.Module, stored: Header) -> None:
    """Raises Misfit unless `stored` has the tensors of `method`; those that were added later may be missing."""
    wanted = header_of_state(method.state_dict())
    missing = sorted(wanted.keys() - stored.keys() - ADDED_LATER)
    if missing:
        raise Misfit(f"Missing key {missing[0]}" + (f" and {len(missing) - 1} more." if missing[1:] else "."))
    for name, (kind, shape) in stored.items():
        if name not in wanted:
            raise Misfit(f"Unexpected key {name[:100]}.")
        if shape != wanted[name][1]:
            theirs, ours = ("x".join(map(str, one)) or "one value" for one in (shape, wanted[name][1]))
            raise Misfit(f"{name} is {theirs} and should be {ours}.")
        if kind != wanted[name][0]:
            raise Misfit(f"{name} holds {kind} instead of {wanted[name][0]}.")


def put_state(method: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Puts stored tensors into `method`. Raises Misfit for others than its own, or values that cannot be."""
    if not all(isinstance(one, Tensor) and isinstance(name, str) for name, one in state.items()):
        raise Misfit("it holds other things than tensors.")
    refuse_misfit(method, header_of_state(state))
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Misfit(f"{name} holds numbers that are not finite.")
        owner, _, last = name.rpartition(".")
        if last in POINTERS and tensor.numel() and not inside(method.get_submodule(owner), last, tensor, method):
            raise Misfit(f"{name} points outside of what there is.")
    own = {name: tensor for name, tensor in method.state_dict().items() if name not in state}
    method.load_state_dict({**own, **state})


def inside(module: Any, last: str, tensor: Tensor, method: Any) -> bool:
    """Whether the tensor `last` of `module`, a part of `method`, points at what there is."""
    if last == "position":
        end = module.keys.shape[1]
    elif last == "chosen":
        end = len(module.heads)
    else:
        end = getattr(module, "clusters", method.n_clusters)
    return POINTERS[last] <= int(tensor.min()) and int(tensor.max()) < end
