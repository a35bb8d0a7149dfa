"""Which device and precision to use, the fabric that trains there, and how data fits into its memory."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from ilk.system.allocator import keep_freed_memory
from ilk.system.ranks import world

PATIENCE = timedelta(minutes=10)  # how long processes wait for each other in a step; a dead one is noticed at once
PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}
PIECE = 64 << 20  # bytes copied to the device at a time


def choose_device(name: str) -> str:
    """The device to use: `name` if this machine has it; for `auto` a GPU, or `cpu` where there is none.

    Raises ValueError for an unknown device and for one that PyTorch does not see.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (number.isascii() and number.isdecimal())):
        raise ValueError(f"Unknown device '{name}'. Use auto, cpu, cuda, cuda:0 or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("The device is 'cuda', but PyTorch sees no CUDA GPU. Use --device cpu or auto.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("The device is 'mps', but PyTorch sees no Apple GPU. Use --device cpu or auto.")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if number and int(number) >= count:
        available = f"{kind}:0" if count == 1 else f"{kind}:0 to {kind}:{count - 1}"
        raise ValueError(f"There is no device '{name}'; PyTorch sees {available}. Use --device {kind} or auto.")
    return name


def choose_precision(name: str, device: str) -> str:
    """`float32` or `bf16`; for `auto`, bf16 where the hardware multiplies it faster than float32.

    Among CPUs only those with matrix tiles (AMX) do: bf16 was measured 3.3 times faster there, and
    10 times slower on a CPU that emulates it. Raises ValueError for an unknown precision.
    """
    if name == "auto":
        if device.startswith("cuda"):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        return "bf16" if device == "cpu" and torch.cpu._is_amx_tile_supported() else "float32"
    if name not in PRECISIONS:
        raise ValueError(f"Unknown precision '{name}'. Use auto, float32 or bf16.")
    return name


def recorded_precision(recorded: object, device: str) -> str:
    """The precision in which a run's model assigns images on `device`: the one it was trained in, if possible.

    `recorded`: what config.json says, "float32" or "bf16". float32 where nothing is recorded, and for a bf16 run
    on a device that does not multiply bf16 faster.
    """
    return choose_precision("auto", device) if recorded == "bf16" else "float32"


def make_fabric(device: str, precision: str) -> Fabric:
    """A launched `Fabric` for this process, or for all processes that torchrun started.

    DDP must look for unused parameters, because cluster heads that start later get no gradient at first.
    Buffers are not broadcast in each step: all processes fill them from the same gathered rows.
    Raises ValueError where WORLD_SIZE is set and torchrun did not start this process.
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
        buffers: Any = {
            "forward_sync_buffers" if newer else "broadcast_buffers": False
        }  # newer versions of torch renamed it
        strategy = DDPStrategy(find_unused_parameters=True, timeout=PATIENCE, **buffers)
        settings |= {"devices": local, "num_nodes": world() // local, "strategy": strategy}
        settings["plugins"] = [TorchElasticEnvironment()]
    else:
        settings |= {"devices": [int(number)] if number and accelerator == "cuda" else 1}
        settings["plugins"] = [LightningEnvironment()]  # ignore the variables of a cluster's scheduler
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would print a line for each process
    fabric = Fabric(**settings)
    fabric.launch()
    return fabric


def place(images: Any, device: torch.device) -> Any:
    """An object whose index gives uint8 batches of `images` on `device`.

    On a CPU that is `images` itself. On a GPU it is one tensor of all images where they take at most a
    quarter of the free memory; otherwise each batch is pinned and copied when it is asked for.
    """
    if device.type == "cpu":
        return images
    if device.type == "cuda" and images.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
        return _Copied(images, device)
    first = images[slice(0, 1)]
    resident = torch.empty((len(images), *first.shape[1:]), dtype=first.dtype, device=device)
    rows = max(1, PIECE // max(1, first.nbytes))
    for start in range(0, len(images), rows):  # in pieces: the host may lack the memory for all
        piece = slice(start, min(start + rows, len(images)))
        resident[piece] = images[piece].to(device)
    return resident


class _Copied:
    """Images whose batches are copied to `device` when they are asked for."""

    def __init__(self, images: Any, device: torch.device) -> None:
        self.images, self.device = images, device

    def __getitem__(self, index: Any) -> Tensor:
        rows = index.cpu() if isinstance(index, Tensor) else index
        batch: Tensor = self.images[rows].pin_memory().to(self.device, non_blocking=True)
        return batch


class OutOfMemory(RuntimeError):
    """The device has too little memory even for a single image."""


def fitting(work: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> tuple[Tensor, ...]:
    """`work(x)`, computed in halves, quarters and so on where the device's memory is too small for the whole.

    `work` must treat each row on its own. Raises OutOfMemory if a single row does not fit.
    """
    try:
        return work(x)
    except torch.OutOfMemoryError:
        if len(x) < 2:
            raise OutOfMemory(
                "The device has too little memory for a single image. Use a smaller --backbone, or --device cpu."
            ) from None
        if x.device.type == "cuda":
            torch.cuda.empty_cache()
    parts = [fitting(work, part) for part in x.chunk(2)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
