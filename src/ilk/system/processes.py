"""All that ilk knows about devices and processes."""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from ilk.system.allocator import keep_freed_memory
from ilk.system.ranks import world

PATIENCE = timedelta(minutes=10)  # that processes wait for each other in a step; one that died is noticed at once
T = TypeVar("T")
PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}


def choose_device(name: str) -> str:
    """`cpu`, `cuda` or `mps`; `auto` takes an accelerator where there is one."""
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (number.isascii() and number.isdecimal())):
        raise ValueError(f"Unknown device '{name}'. Use auto, cpu, cuda or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("Device 'cuda' was asked for, but PyTorch sees no CUDA GPU. Use --device cpu or auto.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("Device 'mps' was asked for, but PyTorch sees no Apple GPU. Use --device cpu or auto.")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if number and int(number) >= count:
        there = f"{kind}:0" if count == 1 else f"{kind}:0 to {kind}:{count - 1}"
        raise ValueError(f"There is no device '{name}'; PyTorch sees {there}. Use --device {kind} or auto.")
    return name


def choose_precision(name: str, device: str) -> str:
    """`float32` or `bf16`; `auto` takes bf16 where the hardware multiplies it faster than float32.

    On CPUs that is only where there are matrix tiles (AMX): measured 3.3 times faster there, and
    10 times *slower* on a CPU that has to emulate it.
    """
    if name == "auto":
        if device.startswith("cuda"):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        return "bf16" if device == "cpu" and torch.cpu._is_amx_tile_supported() else "float32"
    if name not in PRECISIONS:
        raise ValueError(f"Unknown precision '{name}'. Use auto, float32 or bf16.")
    return name


def recorded_precision(recorded: object, device: str) -> str:
    """The precision in which a run's model assigns images on `device`: the one that it was trained in, if possible.

    `recorded`: what config.json says, "float32" or "bf16". A run that records nothing, and one in bf16 on a
    device that does not multiply bf16 faster, are computed in float32.
    """
    return choose_precision("auto", device) if recorded == "bf16" else "float32"


def make_fabric(device: str, precision: str) -> Fabric:
    """A launched `Fabric`: one process, or the ones that torchrun started.

    Heads that wait for their turn get no gradient until then, which plain DDP takes for a mistake. Buffers
    are not sent round in every step: they agree, being filled from gathered rows and shared statistics.
    """
    accelerator, _, number = device.partition(":")
    if accelerator == "cpu":
        keep_freed_memory()
    settings: dict[str, Any] = {"accelerator": accelerator, "precision": PRECISIONS[precision]}
    if world() > 1:
        if not TorchElasticEnvironment.detect():
            raise ValueError(
                "WORLD_SIZE says that this is one of several processes, but torchrun did not start it. Start them with:"
                " torchrun --nproc-per-node 2 -m ilk fit ... (or unset WORLD_SIZE)."
            )
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world()))
        newer = "forward_sync_buffers" in inspect.signature(nn.parallel.DistributedDataParallel).parameters
        buffers: Any = {"forward_sync_buffers" if newer else "broadcast_buffers": False}  # the same under two names
        strategy = DDPStrategy(find_unused_parameters=True, timeout=PATIENCE, **buffers)
        settings |= {"devices": local, "num_nodes": world() // local, "strategy": strategy}
        settings["plugins"] = [TorchElasticEnvironment()]
    else:
        settings |= {"devices": [int(number)] if number and accelerator == "cuda" else 1}
        settings["plugins"] = [LightningEnvironment()]  # whatever a cluster's scheduler has put into the environment
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # a line for each process that is there
    fabric = Fabric(**settings)
    fabric.launch()
    return fabric


def several() -> bool:
    """Whether this is one of several processes that have met."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class PeerLost(RuntimeError):
    """Another process of this training has ended or no longer answers."""


@contextmanager
def together() -> Iterator[None]:
    """Work that processes do with each other. Raises PeerLost, a sentence, if one of them has gone."""
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if not several() or not lost(error):
            raise
        raise PeerLost(
            f"process {dist.get_rank()} of {dist.get_world_size()} stops, because another one has ended or no longer"
            " answers. Go on with the same command and --resume; the number of processes may be another."
        ) from error


def lost(error: BaseException) -> bool:
    """Whether an error of torch means that a process on the other end is not there."""
    words = ("connection closed by peer", "connection reset", "broken pipe", "timed out", "timeout", "gloo", "nccl")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def shared(value: T) -> T:
    """The first process's `value`, in every process."""
    if not several():
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


_turns = 0


def in_turn(work: Callable[[], T], *, among: str = "machine") -> T:
    """`work()`, done by the first process of each machine (or of "all") while the others wait; then by those.

    For what leaves files behind (decoded images, features), which the others then only read. It may take
    hours, so they look for a word in the common store instead of waiting in a collective operation.
    """
    global _turns
    if not several():
        return work()
    _turns += 1
    machine = among == "machine"
    word = f"ilk/turn-{_turns}/{os.environ.get('GROUP_RANK', '0') if machine else 'all'}"
    if os.environ.get("LOCAL_RANK" if machine else "RANK", "0") == "0":
        found = work()
        tell(word)
        return found
    wait_for(word)
    return work()


def tell(word: str) -> None:
    """Lets those who wait for `word` go on."""
    dist.distributed_c10d._get_default_store().set(word, "done")


def wait_for(word: str) -> None:
    """Waits until another process has told `word`; raises where the store has gone, and torchrun ends who waits."""
    store = dist.distributed_c10d._get_default_store()
    while not store.check([word]):
        time.sleep(0.1)


class _Gather(torch.autograd.Function):
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

    The gradient is summed over ranks, and DDP then averages it: a loss of the gathered batch gives
    every rank the gradient that one process would have had. Every rank must hold equally many rows.
    """
    return _Gather.apply(x) if several() else x


def mean_of_ranks(x: Tensor) -> Tensor:
    """The mean of `x` over processes; no gradients."""
    if several():
        dist.all_reduce(x := x.clone())
        x /= dist.get_world_size()
    return x


class _Sum(torch.autograd.Function):
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


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm with the statistics of all processes' batches, where torch has none (it needs a GPU).

    Its state has the names and shapes of `nn.BatchNorm2d`'s, whose place it takes.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"BatchNorm takes (b, c, ...); got {input.dim()} dimensions.")

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and several()):
            return super().forward(input)
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()
        others, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
        count = x.numel() // x.shape[1] * dist.get_world_size()  # every process has equally many rows
        mean = _Sum.apply(x.sum(others)) / count
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(others)) / count
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
    """Makes every BatchNorm inside `module` take the statistics of all processes; nothing to do in a single one."""
    if not several():
        return
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            cuda = device.type == "cuda"
            setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child) if cuda else as_shared(child))
        else:
            share_statistics(child, device)


def as_shared(norm: nn.modules.batchnorm._BatchNorm) -> SharedBatchNorm:
    """A SharedBatchNorm with the very parameters and buffers of `norm`."""
    found = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    found._parameters, found._buffers, found.training = norm._parameters, norm._buffers, norm.training
    return found


def agree(module: nn.Module) -> None:
    """Gives every process the parameters and buffers of the first; nothing to do in a single process.

    To be called after a change that processes make on their own, outside the averaged gradients: what
    each has seen differs (its running BatchNorm statistics), so its k-means differs too.
    """
    if several():
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor, 0)


def place(images: Any, device: torch.device) -> Any:
    """`images` as something that indexes to uint8 batches on `device`: a resident tensor where it fits.

    On an accelerator the whole set is copied once when it takes less than a quarter of the free
    memory; otherwise each batch is pinned and copied. On a CPU the images are used as they are.
    """
    if device.type == "cpu":
        return images
    if device.type == "cuda" and images.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
        return _Copied(images, device)
    one = images[slice(0, 1)]
    resident = torch.empty((len(images), *one.shape[1:]), dtype=one.dtype, device=device)
    rows = max(1, PIECE // max(1, one.nbytes))
    for start in range(0, len(images), rows):  # never the whole set in the memory of the host
        piece = slice(start, min(start + rows, len(images)))
        resident[piece] = images[piece].to(device)
    return resident


PIECE = 64 << 20  # bytes


class _Copied:
    def __init__(self, images: Any, device: torch.device) -> None:
        self.images, self.device = images, device

    def __getitem__(self, index: Any) -> Tensor:
        rows = index.cpu() if isinstance(index, Tensor) else index
        return self.images[rows].pin_memory().to(self.device, non_blocking=True)


class OutOfMemory(RuntimeError):
    """The device has no memory left for what was asked, in a sentence."""


def fitting(work: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> tuple[Tensor, ...]:
    """`work(x)`, row by row independent of each other, in halves (of halves ...) where memory runs out.

    Raises OutOfMemory if a single row is too much.
    """
    try:
        return work(x)
    except torch.OutOfMemoryError:
        if len(x) < 2:
            raise OutOfMemory(
                "The device has no memory left for a single image. Use a smaller --backbone, or --device cpu."
            ) from None
        if x.device.type == "cuda":
            torch.cuda.empty_cache()
    parts = [fitting(work, part) for part in x.chunk(2)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
