"""How long a step of a training takes on this machine, before it has begun."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ilk.images import Images
from ilk.methods.base import Method
from ilk.networks.batch_norm import share_statistics
from ilk.networks.features import Features, FeatureViews
from ilk.runs.config import TrainConfig
from ilk.training.epoch import Loop, Pass, encoder, extra_pass, main_pass
from ilk.training.optimizer import make_optimizer
from ilk.views import Views


def epochs_with_extra(method: Method, epochs: int) -> float:
    """The part of the epochs that take extra images."""
    return sum(method.takes_extra(epoch, epochs) for epoch in range(epochs)) / epochs


def seconds_per_step(
    method: Method,
    images: Images | Features,
    views: Views | FeatureViews,
    config: TrainConfig,
    fabric: Fabric,
    extra: Images | None = None,
) -> float:
    """The mean time of a training step: a few as in the first epoch and a few as in the last.

    Steps of `extra` images count by their share. All are done on a copy; `method` itself stays as it is.
    """
    trial = copy.deepcopy(method).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    share_statistics(trial, fabric.device)
    model, optimizer = fabric.setup(trial, make_optimizer(trial, config))
    loop = Loop(model, trial, optimizer, views, config, fabric, images, extra)
    encode = encoder(trial, loop.source, loop.n, fabric)

    def sampled(m: int) -> Tensor:
        return encode(m if m == loop.n else min(m, 1000))  # some methods need all images, none needs many

    def fastest(one_pass: Callable[[Loop, int, int], Pass], epoch: int, most: int) -> float:
        times = []
        for steps in (1, 3, 3):
            began = time.monotonic()
            one_pass(loop, epoch, steps)
            times.append((time.monotonic() - began) / min(steps, most))
        return min(times[1:])

    ahead = loop.extra_steps * epochs_with_extra(trial, config.epochs)  # steps an epoch
    means, extra_mean = [], 0.0
    for epoch in (0, config.epochs - 1):
        trial.start_epoch(epoch, config.epochs, sampled, config.seed)
        trial.train()
        if epoch == 0 and ahead:
            extra_mean = fastest(extra_pass, epoch, loop.extra_steps)
        means.append(fastest(main_pass, epoch, loop.steps))
    return (loop.steps * sum(means) / 2 + ahead * extra_mean) / (loop.steps + ahead)
