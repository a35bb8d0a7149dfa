"""Checkpoints: the state of a training on disk, from which it can be resumed."""

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
    """Writes the state after `epoch` epochs and `seconds` of training, under a temporary name that is then renamed."""
    state = {
        "format": 1,
        "epoch": epoch,
        "seconds": seconds,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:  # given a path, torch hides why writing failed
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # torch's writer replaces it by its own error
                raise KeyboardInterrupt from None
            raise


def load_checkpoint(path: Path, method: Method, optimizer: Any, device: torch.device) -> tuple[int, float]:
    """The epochs and seconds of training that are done, after loading the state into `method` and `optimizer`.

    Raises ValueError for a file that is damaged or belongs to another run.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        put_state(method, state["method"])
        load_optimizer(optimizer, state["optimizer"])
        epoch, seconds = int(state["epoch"]), float(state["seconds"])
        if epoch < 0 or not 0 <= seconds < math.inf:
            raise Misfit("its number of epochs or seconds is negative or not finite.")
    except Exception as error:  # torch raises many types of errors for damaged or foreign files
        reason = f"{error}" if isinstance(error, Misfit) else type(error).__name__
        raise ValueError(
            f"'{path}' is damaged or belongs to another run ({reason.rstrip('.')}). Delete it to start again."
        ) from None
    return epoch, seconds


def load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Loads the optimizer's saved averages; settings such as the learning rate stay those of this run.

    Raises Misfit for averages of another shape, or that are not finite.
    """
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
