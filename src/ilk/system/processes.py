"""Several processes that train one model: gathering rows with gradients, sharing values, waiting and turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
_turns = 0  # how often `in_turn` was called; the same in every process


def several() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class PeerLost(RuntimeError):
    """Another process of this training has ended or no longer answers."""


@contextmanager
def together() -> Iterator[None]:
    """A block in which processes work together. Raises PeerLost if another one has ended meanwhile."""
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if not several() or not lost(error):
            raise
        raise PeerLost(
            f"process {dist.get_rank()} of {dist.get_world_size()} stops, because another one has ended or no longer"
            " answers. Continue with the same command and --resume; the number of processes may differ."
        ) from error


def lost(error: BaseException) -> bool:
    """Whether an error of torch means that another process has ended or does not answer."""
    words = ("connection closed by peer", "connection reset", "broken pipe", "timed out", "timeout", "gloo", "nccl")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def shared(value: T) -> T:
    """The first process's `value`, in every process."""
    if not several():
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def in_turn(work: Callable[[], T], *, among: str = "machine") -> T:
    """`work()`, called by the first process of each machine (of all machines with "all"), then by the others.

    For work that leaves files behind, such as decoded images or features, which the others then only read.
    It may take hours, so the others poll a key in the shared store: a collective operation would time out.
    """
    global _turns
    if not several():
        return work()
    _turns += 1
    machine = among == "machine"
    key = f"ilk/turn-{_turns}/{os.environ.get('GROUP_RANK', '0') if machine else 'all'}"
    if os.environ.get("LOCAL_RANK" if machine else "RANK", "0") == "0":
        result = work()
        tell(key)
        return result
    wait_for(key)
    return work()


def tell(key: str) -> None:
    """Ends `wait_for(key)` in all other processes."""
    dist.distributed_c10d._get_default_store().set(key, "done")


def wait_for(key: str) -> None:
    """Waits until another process calls `tell(key)`.

    Raises an error of torch when the process that holds the store has ended; torchrun then ends this one.
    """
    store = dist.distributed_c10d._get_default_store()
    while not store.check([key]):
        time.sleep(0.1)


class _Gather(torch.autograd.Function):
    """Concatenates the rows of all processes; the gradient of a row is summed over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)  # autograd may share it with another node
        dist.all_reduce(grad)
        rows = len(grad) // dist.get_world_size()
        return grad[dist.get_rank() * rows : (dist.get_rank() + 1) * rows]


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, (world * b, ...), with gradients; `x` itself in a single process.

    The gradient is summed over processes and DDP then averages it, so a loss of the gathered batch gives
    every process the gradient that one process would get. Every process must have the same number of rows.
    """
    return _Gather.apply(x) if several() else x  # type: ignore[no-untyped-call]  # torch has no type here


def mean_of_ranks(x: Tensor) -> Tensor:
    """The mean of `x` over processes, without gradients."""
    if several():
        dist.all_reduce(x := x.clone())
        x /= dist.get_world_size()
    return x


class _Sum(torch.autograd.Function):
    """Sums a tensor over processes, in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def sum_of_ranks(x: Tensor) -> Tensor:
    """The sum of `x` over processes, with gradients, which are summed over processes too."""
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]  # torch has no type here
    return total


def agree(module: nn.Module) -> None:
    """Copies the parameters and buffers of the first process to all others.

    Needed after each change that processes make on their own, outside the averaged gradients: their running
    BatchNorm statistics differ, so a k-means of their features differs too.
    """
    if several():
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor, 0)
