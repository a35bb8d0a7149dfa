"""The state of a training on disk, from which it goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilk.methods.base import Method
from ilk.networks.weights import Misfit, put_state
from ilk.system.files import replacing


def save_checkpoint(path: Path, method: Method, optimizer: Any, epoch: int, seconds: float) -> None:
    """Writes the state after `epoch` epochs to a temporary name, then renames it."""
    state = {
        "format": 1,
        "epoch": epoch,
        "seconds": seconds,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:  # a path hides why writing failed
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # which torch's writer hides behind its own error
                raise KeyboardInterrupt from None
            raise


def load_checkpoint(path: Path, method: Method, optimizer: Any, device: torch.device) -> tuple[int, float]:
    """Puts the saved state into `method` and `optimizer`; returns the epochs and seconds already done."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        put_state(method, state["method"])
        load_optimizer(optimizer, state["optimizer"])
        epoch, seconds = int(state["epoch"]), float(state["seconds"])
        if epoch < 0 or not 0 <= seconds < math.inf:
            raise Misfit("it says that less than nothing was done.")
    except Exception as error:  # torch raises several kinds for a damaged or foreign file
        said = f"{error}" if isinstance(error, Misfit) else type(error).__name__
        raise ValueError(
            f"'{path}' is damaged or belongs to another run ({said.rstrip('.')}). Delete it to begin again."
        ) from None
    return epoch, seconds


def load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Takes the saved averages; the settings stay those of this run. Raises Misfit for averages that do not fit."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                    raise Misfit(f"the optimizer's {name} has another shape than its parameter.")
                if isinstance(value, Tensor) and not torch.isfinite(value).all():
                    raise Misfit(f"the optimizer's {name} holds numbers that are not finite.")
