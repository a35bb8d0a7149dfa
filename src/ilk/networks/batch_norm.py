"""BatchNorm over a part of the batch (several small batches in one pass) and over the batches of all processes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ilk.system.processes import several, sum_of_ranks


def in_parts(network: nn.Module, x: Tensor, parts: int) -> Tensor:
    """`network(x)` as if each part of `x.tensor_split(parts)` were a batch of its own.

    Only the BatchNorm layers see one part at a time; all other layers get the whole batch, which is faster
    (eight separate passes of 32 images took 1.5 times as long on a CPU). A network with layers that are
    neither torch's nor ilk's, or with dropout, gets one part after another: such layers may mix rows or
    draw random numbers.
    """
    h: Tensor
    if parts < 2:
        h = network(x)
        return h
    if not all(by_rows(module) for module in network.modules()):
        return torch.cat([network(part) for part in x.tensor_split(parts)])
    with statistics_by_parts(network, parts):
        h = network(x)
        return h


def by_rows(module: nn.Module) -> bool:
    """Whether the module is known to compute each row from that row alone (BatchNorm, handled apart, counts too)."""
    defined_in = type(module).__module__
    if defined_in.startswith("torch.nn.modules."):
        return not isinstance(module, nn.modules.dropout._DropoutNd | nn.RReLU)
    return defined_in.startswith("ilk.")


@contextmanager
def statistics_by_parts(network: nn.Module, parts: int) -> Iterator[None]:
    """A block in which each training BatchNorm of `network` splits its batch into `parts` and normalises each."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [vars(norm).get("forward") for norm in norms]  # None where the forward is that of the class
    try:
        for norm in norms:
            norm.forward = functools.partial(in_turn, norm.forward, parts)  # type: ignore[method-assign]
        yield
    finally:
        for norm, forward in zip(norms, before, strict=True):
            vars(norm).pop("forward", None)
            if forward is not None:
                norm.forward = forward  # type: ignore[method-assign]


def in_turn(forward: Callable[[Tensor], Tensor], parts: int, x: Tensor) -> Tensor:
    """`forward` of each of the `parts` of `x`, one after another, joined again."""
    return torch.cat([forward(part) for part in x.tensor_split(parts)])


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm with the statistics of the batches of all processes, for CPUs: torch's SyncBatchNorm needs a GPU.

    Its parameters and buffers have the names and shapes of those of `nn.BatchNorm2d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"BatchNorm takes (b, c, ...), at least 2 dimensions; got {input.dim()}.")

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and several()):
            return super().forward(input)
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()
        reduced, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
        count = x.numel() // x.shape[1] * dist.get_world_size()  # every process has the same number of rows
        mean = sum_of_ranks(x.sum(reduced)) / count
        centred = x - mean.view(shape)
        variance = sum_of_ranks(centred.square().sum(reduced)) / count
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
                share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # type: ignore[arg-type]
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)
        return y.to(input.dtype)


def share_statistics(module: nn.Module, device: torch.device) -> None:
    """Makes every BatchNorm inside `module` use the statistics of all processes; does nothing in a single process."""
    if not several():
        return
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            cuda = device.type == "cuda"
            setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child) if cuda else as_shared(child))
        else:
            share_statistics(child, device)


def as_shared(norm: nn.modules.batchnorm._BatchNorm) -> SharedBatchNorm:
    """A SharedBatchNorm that shares the parameters and buffers of `norm`."""
    shared = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    shared._parameters, shared._buffers, shared.training = norm._parameters, norm._buffers, norm.training
    return shared
