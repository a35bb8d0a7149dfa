"""One epoch of training: a pass over the extra images, if there are any, then a pass over the images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ilk.images import Images
from ilk.methods.base import Method
from ilk.methods.start import Encode
from ilk.networks.features import Features, FeatureViews
from ilk.networks.passes import evaluating, map_images
from ilk.runs.config import TrainConfig
from ilk.sampling import EXTRA, batches, seeded, spaced, steps_of
from ilk.system.devices import OutOfMemory, place
from ilk.system.processes import mean_of_ranks
from ilk.training.optimizer import learning_rate
from ilk.views import Views, channels_last

Record = dict[str, Any]
ENCODED_AT_ONCE = 512  # images


class Loop:
    """What stays the same in all epochs of a training.

    `model`: `method` wrapped by Fabric; only calls of `model` average gradients over processes. `source`: the images on
    the device. `steps`, `extra_steps`: the steps of one pass over the images and over the extra images.
    """

    def __init__(
        self, model: Any, method: Method, optimizer: Any, views: Views | FeatureViews, config: TrainConfig,
        fabric: Fabric, images: Images | Features, extra: Images | None = None, known: Sequence[int] = (),
        on_step: Callable[[int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.method, self.optimizer = model, method, optimizer
        self.views, self.config, self.fabric, self.on_step = views, config, fabric, on_step
        self.source, self.n = place(images, fabric.device), len(images)
        self.known = torch.as_tensor(known, dtype=torch.int64)
        self.steps, self.extra, self.extra_steps = steps_of(self.n, config.batch_size), None, 0
        if extra is not None:
            self.extra, self.n_extra = place(extra, fabric.device), len(extra)
            self.extra_steps = steps_of(self.n_extra, config.batch_size)

    @property
    def total(self) -> int:
        """The steps of the whole training, for the learning rate; extra passes count even in epochs without one."""
        return self.config.epochs * (self.steps + self.extra_steps)


class Pass(NamedTuple):
    """The result of one pass over some images."""

    terms: dict[str, float]  # means over the steps
    images: int
    learning_rate: float  # of the last step
    counts: Tensor  # (k,) images in each cluster; zeros before the method has clusters
    confidence: float | None  # mean over the images; None before the method has clusters


def run_epoch(loop: Loop, epoch: int) -> Record:
    """The record of one epoch, after training on the extra images, if this epoch uses them, and on the images."""
    began = time.monotonic()
    extra: Pass | None = None
    if loop.extra is not None and loop.method.takes_extra(epoch, loop.config.epochs):
        extra = extra_pass(loop, epoch)
    main = main_pass(loop, epoch)
    images = main.images + (extra.images if extra else 0)
    extra_terms = {f"extra_{name}": value for name, value in extra.terms.items()} if extra else {}
    return {
        "epoch": epoch + 1,
        "epochs": loop.config.epochs,
        "images_per_second": round(images / max(time.monotonic() - began, 1e-9), 1),
        "learning_rate": main.learning_rate,
        "loss": math.fsum(main.terms.values()) if all(map(math.isfinite, main.terms.values())) else math.nan,
        "terms": main.terms | extra_terms,
        "effective_clusters": None if main.confidence is None else round(effective_clusters(main.counts), 2),
        "confidence": None if main.confidence is None else round(main.confidence, 4),
    }


def main_pass(loop: Loop, epoch: int, limit: int | None = None) -> Pass:
    """The result of one pass over the images, or of its first `limit` steps, in an order drawn from (seed, epoch)."""
    order = batches(loop.n, loop.config.batch_size, loop.config.seed, epoch, known=loop.known)
    first = epoch * (loop.steps + loop.extra_steps) + loop.extra_steps
    return run_pass(loop, epoch, loop.source, order[:limit], first)


def extra_pass(loop: Loop, epoch: int, limit: int | None = None) -> Pass:
    """The result of one pass over the extra images, or of its first `limit` steps."""
    order = batches(loop.n_extra, loop.config.batch_size, loop.config.seed, epoch, EXTRA)
    return run_pass(loop, epoch, loop.extra, order[:limit], epoch * (loop.steps + loop.extra_steps), extra=True)


def run_pass(loop: Loop, epoch: int, source: Any, order: list[Tensor], first: int, *, extra: bool = False) -> Pass:
    """The result of one step for each batch of `order`, positions in `source`.

    `first`: the number of the first step in the whole training. `extra`: whether `source` is the extra images.
    """
    method, config, fabric = loop.method, loop.config, loop.fabric
    draws = seeded(config.seed, epoch, (EXTRA if extra else 0) + 1 + fabric.global_rank, fabric.device)
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(method.n_clusters, device=fabric.device)
    confidence, observed, images = torch.zeros((), device=fabric.device), 0, 0
    on_device = torch.cat(order).to(fabric.device).split([len(batch) for batch in order])  # waits once, not each step
    for step, batch in enumerate(on_device, first):
        local = len(batch) // fabric.world_size
        index = batch[fabric.global_rank * local : (fabric.global_rank + 1) * local]
        with torch.no_grad():
            view_a, view_b = loop.views(source[index], draws, repeats=method.repeats)
        terms = take_step(loop, step, view_a, view_b, None if extra else index)
        images += len(batch)
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach()
        if method.observed is not None:
            top, cluster = method.observed.max(1)
            counts.scatter_add_(0, cluster, torch.ones_like(top, dtype=counts.dtype))  # bincount waits for the device
            confidence, observed = confidence + top.sum(), observed + len(top)
        if loop.on_step is not None:
            loop.on_step(step + 1, loop.total)
    totals = mean_of_ranks(torch.stack(list(sums.values())))  # NaN in one process becomes NaN in all
    means = {name: float(total) / len(order) for name, total in zip(sums, totals, strict=True)}
    rate = learning_rate(first + len(order) - 1, loop.total, config)
    return Pass(means, images, rate, counts, float(confidence) / observed if observed else None)


def take_step(loop: Loop, step: int, view_a: Tensor, view_b: Tensor, index: Tensor | None) -> dict[str, Tensor]:
    """The loss terms of a batch, after one update of the weights. `index`: positions of its images, None for extra."""
    for group in loop.optimizer.param_groups:
        group["lr"] = learning_rate(step, loop.total, loop.config)
    try:
        terms: dict[str, Tensor] = loop.model(channels_last(view_a), channels_last(view_b), index)
        loop.optimizer.zero_grad(set_to_none=True)
        loop.fabric.backward(torch.stack(list(terms.values())).sum())
        loop.optimizer.step()
    except torch.OutOfMemoryError:
        batch = len(view_a) * loop.fabric.world_size
        raise OutOfMemory(
            f"The device has no memory left for a batch of {batch} images. Use --set batch_size={batch // 2} (another"
            " batch size is another training, so in a new --out), a smaller --image-size or a smaller --backbone."
        ) from None
    loop.method.after_step()
    return terms


def effective_clusters(counts: Tensor) -> float:
    """The effective number of clusters, exp(entropy of the sizes), in [1, k]. `counts`: (k,) images."""
    share = counts.double() / counts.sum()
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))


def encoder(method: Method, source: Any, n: int, fabric: Fabric) -> Encode:
    """The function `encode(m)` for `Method.start_epoch`: backbone features of m evenly spaced images, (m, d)."""

    def encode(m: int) -> Tensor:
        with evaluating(method):
            (h,) = map_images(
                lambda x: (method.backbone(x).float(),), source, spaced(n, m), fabric, batch_size=ENCODED_AT_ONCE
            )
        return h.clone()  # tensors from inference mode cannot be used in training

    return encode
