"""The training loop: a generator that yields one record an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ilk.images import Images
from ilk.methods.base import Encode, Method
from ilk.networks.batch_norm import share_statistics
from ilk.networks.features import Features, FeatureViews
from ilk.networks.passes import evaluating, map_images
from ilk.sampling import EXTRA, batches, seeded, spaced, steps_of
from ilk.system.devices import OutOfMemory, place
from ilk.system.processes import agree, mean_of_ranks, several
from ilk.training.checkpoints import load_checkpoint, save_checkpoint
from ilk.training.snapshots import Moments, pair_similarity
from ilk.views import Views, channels_last

Record = dict[str, Any]
ENCODED_AT_ONCE = 512  # images
CHECKPOINT_EVERY = 5.0  # seconds; a kill loses at most this and the epoch under way


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything the loop needs to know, nothing left to choose. `batch_size` counts all processes."""

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    schedule: str
    warmup: int
    seed: int
    decay_vectors: bool = True


class TrainingDiverged(RuntimeError):
    """A loss term is no longer a finite number; the last good checkpoint is kept."""


def train(
    method: Method,
    images: Images | Features,
    views: Views | FeatureViews,
    config: TrainConfig,
    fabric: Fabric,
    *,
    extra: Images | None = None,
    known: Sequence[int] = (),
    checkpoint: Path | None = None,
    moments: Moments | None = None,
    on_step: Callable[[int, int], None] | None = None,
    log: Callable[[Record], None] | None = None,
) -> Iterator[Record]:
    """Trains `method` in place and yields a record after each epoch.

    `extra`: images that are not to be clustered; the epochs that the method chooses begin with a pass
    over them. `known`: positions of the images with a known label, some of which are in every batch.
    `moments`: keeps where some images are at four moments; like the record's `pairs` (see
    `pair_similarity`), this looks at the training and has no effect on it. `log`: gets each record before
    its epoch's checkpoint is written, so that what it keeps never lacks an epoch that is not done again.

    With a `checkpoint` path the state is saved there, and training goes on from it if it exists: every
    random draw is a function of (seed, epoch, rank), so on a CPU the result is that of an unbroken run.
    A record holds epoch (from 1), epochs, seconds, images_per_second, learning_rate, loss, terms (those
    of the extra images, named `extra_...`, are not part of the loss), effective_clusters and confidence
    (None while the method has no clusters), pairs, and message (or None).
    Raises TrainingDiverged, before anything is overwritten, when a term is not finite.
    """
    if fabric.world_size > config.batch_size // 2:
        raise ValueError(
            f"A batch of {config.batch_size} images cannot be shared by {fabric.world_size} processes, each of which"
            f" needs two. Use {config.batch_size // 2} processes or less."
        )
    optimizer = make_optimizer(method, config)
    first, spent = 0, 0.0
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # nn.Module.to takes it
    share_statistics(method, fabric.device)
    model, optimizer = fabric.setup(method, optimizer)
    if checkpoint is not None and checkpoint.exists():
        first, spent = load_checkpoint(checkpoint, method, optimizer, fabric.device)
    loop = Loop(model, method, optimizer, views, config, fabric, images, extra, known, on_step)
    encode = encoder(method, loop.source, loop.n, fabric)
    if moments is not None:
        moments.begin(loop.n, config.epochs, first)
        if first == 0:
            moments.keep(0, method, loop.source, fabric, clusters=False)
    saved = time.monotonic()
    for epoch in range(first, config.epochs):
        began = time.monotonic()
        message = method.start_epoch(epoch, config.epochs, encode, config.seed)
        agree(method)  # processes on machines of different kinds differ in the last digits
        if message is not None and several():
            # DDP has seen the gradients of heads that were taught by themselves and now waits for theirs in the
            # next step, where DCDC may not use them; a new wrapper has seen nothing.
            loop.model = fabric.setup_module(method)
        method.train()
        record = run_epoch(loop, epoch)
        last = epoch + 1 == config.epochs
        if last:
            method.finish(encode)
            agree(method)
        clusters = record["confidence"] is not None
        pairs = pair_similarity(method, loop.source, loop.n, views, fabric, seed=config.seed, clusters=clusters)
        spent += time.monotonic() - began
        record |= {"pairs": pairs, "seconds": round(spent, 3), "message": message}
        refuse_nonfinite(record, kept=checkpoint is not None and checkpoint.exists())
        if moments is not None:  # before the checkpoint, so that a resumed training has them
            moments.keep(epoch + 1, method, loop.source, fabric, clusters=clusters)
        if log is not None and fabric.is_global_zero:
            log(record)
        if checkpoint is not None and fabric.is_global_zero and (last or time.monotonic() - saved > CHECKPOINT_EVERY):
            save_checkpoint(checkpoint, method, optimizer, epoch + 1, spent)
            saved = time.monotonic()
        yield record


class Loop:
    """What stays the same from epoch to epoch; `steps` and `extra_steps` are those of one pass."""

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
        """Steps of the whole training, which the learning rate follows; passes that are left out count too."""
        return self.config.epochs * (self.steps + self.extra_steps)


class Pass(NamedTuple):
    """What one pass over some images amounted to."""

    terms: dict[str, float]  # means over the steps
    images: int
    learning_rate: float  # of the last step
    counts: Tensor  # images in each cluster, (k,), as far as the method has clusters
    confidence: float | None


def run_epoch(loop: Loop, epoch: int) -> Record:
    """The extra images first, in the epochs that take them, then the images."""
    began = time.monotonic()
    extra: Pass | None = None
    if loop.extra is not None and loop.method.takes_extra(epoch, loop.config.epochs):
        extra = extra_pass(loop, epoch)
    found = main_pass(loop, epoch)
    images = found.images + (extra.images if extra else 0)
    ahead = {f"extra_{name}": value for name, value in extra.terms.items()} if extra else {}
    return {
        "epoch": epoch + 1,
        "epochs": loop.config.epochs,
        "images_per_second": round(images / max(time.monotonic() - began, 1e-9), 1),
        "learning_rate": found.learning_rate,
        "loss": math.fsum(found.terms.values()) if all(map(math.isfinite, found.terms.values())) else math.nan,
        "terms": found.terms | ahead,
        "effective_clusters": None if found.confidence is None else round(effective(found.counts), 2),
        "confidence": None if found.confidence is None else round(found.confidence, 4),
    }


def main_pass(loop: Loop, epoch: int, limit: int | None = None) -> Pass:
    """One pass over the images in an order drawn from (seed, epoch), the short last batch left out."""
    order = batches(loop.n, loop.config.batch_size, loop.config.seed, epoch, known=loop.known)
    first = epoch * (loop.steps + loop.extra_steps) + loop.extra_steps
    return run_pass(loop, epoch, loop.source, order[:limit], 0, first)


def extra_pass(loop: Loop, epoch: int, limit: int | None = None) -> Pass:
    """One pass over the extra images, which the method is told of by `method.extra`.

    Their indices go on from n, so that no row of a state that has one for each image can be meant.
    """
    order = batches(loop.n_extra, loop.config.batch_size, loop.config.seed, epoch, EXTRA)
    loop.method.extra = True
    try:
        return run_pass(loop, epoch, loop.extra, order[:limit], EXTRA, epoch * (loop.steps + loop.extra_steps), loop.n)
    finally:
        loop.method.extra = False


def run_pass(
    loop: Loop, epoch: int, source: Any, order: list[Tensor], stream: int, first: int, offset: int = 0
) -> Pass:
    """A step for each batch of `order`; the first is step number `first` of the training."""
    method, config, fabric = loop.method, loop.config, loop.fabric
    draws = seeded(config.seed, epoch, stream + 1 + fabric.global_rank, fabric.device)
    sums: dict[str, Tensor] = {}
    counts, confidence, seen = (
        torch.zeros(method.n_clusters, device=fabric.device),
        torch.zeros((), device=fabric.device),
        0,
    )
    rate, images = config.learning_rate, 0
    placed = torch.cat(order).to(fabric.device).split([len(batch) for batch in order])  # one wait, not one a step
    for step, batch in enumerate(placed, first):
        rate = learning_rate(step, loop.total, config)
        for group in loop.optimizer.param_groups:
            group["lr"] = rate
        local = len(batch) // fabric.world_size
        index = batch[fabric.global_rank * local : (fabric.global_rank + 1) * local]
        with torch.no_grad():
            view_a, view_b = loop.views(source[index], draws, repeats=method.repeats)
        try:
            terms = loop.model(channels_last(view_a), channels_last(view_b), index + offset)
            loop.optimizer.zero_grad(set_to_none=True)
            fabric.backward(torch.stack(list(terms.values())).sum())
            loop.optimizer.step()
        except torch.OutOfMemoryError:
            raise OutOfMemory(
                f"The device has no memory left for a batch of {len(batch)} images. Use --set"
                f" batch_size={len(batch) // 2} (another batch is another training: in a new --out), a smaller"
                " --image-size or a smaller --backbone."
            ) from None
        method.after_step()
        images += len(batch)
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach()
        if method.observed is not None:
            top, cluster = method.observed.max(1)
            counts.scatter_add_(0, cluster, torch.ones_like(top, dtype=counts.dtype))  # bincount waits for the device
            confidence, seen = confidence + top.sum(), seen + len(top)
        if loop.on_step is not None:
            loop.on_step(step + 1, loop.total)
    totals = mean_of_ranks(torch.stack(list(sums.values())))  # one that is NaN is NaN for all
    means = {name: float(total) / len(order) for name, total in zip(sums, totals, strict=True)}
    return Pass(means, images, rate, counts, float(confidence) / seen if seen else None)


def effective(counts: Tensor) -> float:
    """How many clusters of equal size have the entropy of these sizes: exp(H), between 1 and k."""
    share = counts.double() / counts.sum()
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """The rate of one step: a linear rise over `warmup` steps, then constant or half a cosine to zero."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    fall = 0.5 + 0.5 * math.cos(math.pi * step / total) if config.schedule == "cosine" else 1.0
    return config.learning_rate * rise * fall


def make_optimizer(method: Method, config: TrainConfig) -> torch.optim.Optimizer:
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    parameters: list[Any] = [{"params": trained}]
    if not config.decay_vectors:  # biases and normalisation weights have one dimension
        vectors = [parameter for parameter in trained if parameter.dim() < 2]
        parameters = [{"params": [p for p in trained if p.dim() >= 2]}, {"params": vectors, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, config.learning_rate, weight_decay=config.weight_decay)


def encoder(method: Method, source: Any, n: int, fabric: Fabric) -> Encode:
    """What `start_epoch` gets: features of evenly spaced images, (m, d)."""

    def encode(m: int) -> Tensor:
        with evaluating(method):
            (h,) = map_images(
                lambda x: (method.backbone(x).float(),), source, spaced(n, m), fabric, batch_size=ENCODED_AT_ONCE
            )
        return h.clone()  # a tensor made in inference mode cannot be trained on

    return encode


def refuse_nonfinite(record: Record, *, kept: bool) -> None:
    bad = [name for name, value in record["terms"].items() if not math.isfinite(value)]
    if bad:
        raise TrainingDiverged(
            f"The {' and '.join(bad)} term became {record['terms'][bad[0]]} in epoch {record['epoch']}. "
            f"{'The last good checkpoint is kept. ' if kept else ''}Try a lower learning rate (--set learning_rate=...)"
            " or --precision float32."
        )
