"""The time of a training step on this machine, measured before the training begins."""

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
    """The fraction of the epochs that use extra images, in [0, 1]."""
    return sum(method.takes_extra(epoch, epochs) for epoch in range(epochs)) / epochs


def seconds_per_step(
    method: Method,
    images: Images | Features,
    views: Views | FeatureViews,
    config: TrainConfig,
    fabric: Fabric,
    extra: Images | None = None,
) -> float:
    """The mean time of a training step, from a few steps of the first and of the last epoch.

    Steps on `extra` images are weighted by their share. The steps are done on a copy, so `method` does not change.
    """
    trial = copy.deepcopy(method).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    share_statistics(trial, fabric.device)
    model, optimizer = fabric.setup(trial, make_optimizer(trial, config))
    loop = Loop(model, trial, optimizer, views, config, fabric, images, extra)
    encode = encoder(trial, loop.source, loop.n, fabric)

    def sampled(m: int) -> Tensor:
        return encode(
            m if m == loop.n else min(m, 1000)
        )  # a sample is enough for the methods that do not need all images

    def fastest(run_steps: Callable[[Loop, int, int], Pass], epoch: int, most: int) -> float:
        """Seconds per step of the faster of two repeats, after a warm-up."""
        times = []
        for steps in (1, 3, 3):
            began = time.monotonic()
            run_steps(loop, epoch, steps)
            times.append((time.monotonic() - began) / min(steps, most))
        return min(times[1:])

    extra_steps = loop.extra_steps * epochs_with_extra(trial, config.epochs)  # per epoch, on average
    means, extra_mean = [], 0.0
    for epoch in (0, config.epochs - 1):
        trial.start_epoch(epoch, config.epochs, sampled, config.seed)
        trial.train()
        if epoch == 0 and extra_steps:
            extra_mean = fastest(extra_pass, epoch, loop.extra_steps)
        means.append(fastest(main_pass, epoch, loop.steps))
    return (loop.steps * sum(means) / 2 + extra_steps * extra_mean) / (loop.steps + extra_steps)
