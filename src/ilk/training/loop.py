"""The training loop: a generator that yields one record per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric

from ilk.images import Images
from ilk.methods.base import Method
from ilk.networks.batch_norm import share_statistics
from ilk.networks.features import Features, FeatureViews
from ilk.runs.config import TrainConfig
from ilk.system.processes import agree, several
from ilk.training.checkpoints import load_checkpoint, save_checkpoint
from ilk.training.epoch import Loop, Record, encoder, run_epoch
from ilk.training.optimizer import make_optimizer
from ilk.training.snapshots import Moments, pair_similarity
from ilk.views import Views

CHECKPOINT_EVERY = 5.0  # seconds; a kill loses at most these and the current epoch


class TrainingDiverged(RuntimeError):
    """A loss term is not finite; the last good checkpoint is kept."""


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
) -> Generator[Record, None, None]:
    """Trains `method` in place and yields a record after each epoch.

    `extra`: images to learn from but not to cluster; the method chooses the epochs that begin with a pass over them.
    `known`: positions of the images with a known label; every batch contains some of them. `moments`: records
    embeddings of some images at four moments. `on_step(done, total)` is called after each step. `log` gets each
    record before its checkpoint is written, so a resumed run has no gaps.

    `checkpoint`: the file in which the state is saved, and from which training is resumed if it exists. Every random
    draw is a function of (seed, epoch, rank), so on a CPU the result equals that of an uninterrupted run.
    A record holds epoch (from 1), epochs, seconds, images_per_second, learning_rate, loss, terms (those of the extra
    images, named `extra_...`, are not part of the loss), effective_clusters and confidence (None while the method has
    no clusters), pairs (see `pair_similarity`), and message (or None).
    Raises TrainingDiverged, before anything is overwritten, when a term is not finite.
    """
    refuse_processes(config.batch_size, fabric.world_size)
    optimizer = make_optimizer(method, config)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # nn.Module.to takes it
    share_statistics(method, fabric.device)
    model, optimizer = fabric.setup(method, optimizer)
    first, spent = 0, 0.0
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
        began, last = time.monotonic(), epoch + 1 == config.epochs
        message = method.start_epoch(epoch, config.epochs, encode, config.seed)
        agree(method)  # results of different processors differ in the last digits
        if message is not None and several():
            # The method has trained its cluster heads outside of DDP, which now expects their gradients in the next
            # step, where DCDC may not use the heads. A new wrapper has no such expectation.
            loop.model = fabric.setup_module(method)
        method.train()
        record = run_epoch(loop, epoch)
        if last:
            method.finish(encode)
            agree(method)
        clusters = record["confidence"] is not None
        pairs = pair_similarity(method, loop.source, loop.n, views, fabric, seed=config.seed, clusters=clusters)
        spent += time.monotonic() - began
        record |= {"pairs": pairs, "seconds": round(spent, 3), "message": message}
        refuse_nonfinite(record, kept=checkpoint is not None and checkpoint.exists())
        if moments is not None:  # before the checkpoint, so that a resumed training has it
            moments.keep(epoch + 1, method, loop.source, fabric, clusters=clusters)
        if log is not None and fabric.is_global_zero:
            log(record)
        if checkpoint is not None and fabric.is_global_zero and (last or time.monotonic() - saved > CHECKPOINT_EVERY):
            save_checkpoint(checkpoint, method, optimizer, epoch + 1, spent)
            saved = time.monotonic()
        yield record


def refuse_processes(batch_size: int, processes: int) -> None:
    """Raises ValueError unless every process gets at least two images of a batch."""
    if processes > batch_size // 2:
        raise ValueError(
            f"A batch of {batch_size} images cannot be divided among {processes} processes, each of which needs two."
            f" Use {batch_size // 2} processes or fewer."
        )


def refuse_nonfinite(record: Record, *, kept: bool) -> None:
    """Raises TrainingDiverged if a loss term is not finite. `kept`: whether there is a checkpoint."""
    diverged = [name for name, value in record["terms"].items() if not math.isfinite(value)]
    if diverged:
        raise TrainingDiverged(
            f"The {' and '.join(diverged)} term became {record['terms'][diverged[0]]} in epoch {record['epoch']}. "
            f"{'The last good checkpoint is kept. ' if kept else ''}Try a lower learning rate (--set learning_rate=...)"
            " or --precision float32."
        )
