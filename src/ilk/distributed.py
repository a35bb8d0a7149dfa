"""All that ilk knows about devices and processes."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}


def choose_device(name: str) -> str:
    """`cpu`, `cuda` or `mps`; `auto` takes an accelerator where there is one."""
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.split(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise ValueError(f"Unknown device '{name}'. Use auto, cpu, cuda or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("Device 'cuda' was asked for, but PyTorch sees no CUDA GPU. Use --device cpu or auto.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("Device 'mps' was asked for, but PyTorch sees no Apple GPU. Use --device cpu or auto.")
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


def make_fabric(device: str, precision: str) -> Fabric:
    """A launched `Fabric`: one process, or the ones that torchrun started.

    Heads that wait for their turn get no gradient until then, which plain DDP takes for a mistake.
    """
    accelerator, _, number = device.partition(":")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    settings: dict[str, Any] = {"accelerator": accelerator, "precision": PRECISIONS[precision]}
    if world > 1:
        nodes = world // int(os.environ.get("LOCAL_WORLD_SIZE", world))
        settings |= {"devices": world // nodes, "num_nodes": nodes, "strategy": "ddp_find_unused_parameters_true"}
    else:
        settings |= {"devices": [int(number)] if number and accelerator == "cuda" else 1}
    fabric = Fabric(**settings)
    fabric.launch()
    return fabric


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
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    return _Gather.apply(x)


def agree(module: nn.Module) -> None:
    """Gives every process the parameters and buffers of the first; nothing to do in a single process.

    To be called after a change that processes make on their own, outside the averaged gradients: what
    each has seen differs (its running BatchNorm statistics), so its k-means differs too.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
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
    return images[:].to(device)


class _Copied:
    def __init__(self, images: Any, device: torch.device) -> None:
        self.images, self.device = images, device

    def __getitem__(self, index: Any) -> Tensor:
        rows = index.cpu() if isinstance(index, Tensor) else index
        return self.images[rows].pin_memory().to(self.device, non_blocking=True)
