"""The training loop: a generator that yields one record an epoch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ilk.distributed import agree, place
from ilk.files import replacing
from ilk.images import Images
from ilk.methods.base import Method
from ilk.views import Views, channels_last, plain

Record = dict[str, Any]
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


class TrainingDiverged(RuntimeError):
    """A loss term is no longer a finite number; the last good checkpoint is kept."""


def train(
    method: Method,
    images: Images,
    views: Views,
    config: TrainConfig,
    fabric: Fabric,
    *,
    checkpoint: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Iterator[Record]:
    """Trains `method` in place and yields a record after each epoch.

    With a `checkpoint` path the state is saved there, and training goes on from it if it exists: every
    random draw is a function of (seed, epoch, rank), so on a CPU the result is that of an unbroken run.
    A record holds epoch (from 1), epochs, seconds, images_per_second, learning_rate, loss, terms,
    effective_clusters and confidence (None while the method has no clusters), and message (or None).
    Raises TrainingDiverged, before anything is overwritten, when a term is not finite.
    """
    optimizer = make_optimizer(method, config)
    first, spent = 0, 0.0
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # nn.Module.to takes it
    model, optimizer = fabric.setup(method, optimizer)
    if checkpoint is not None and checkpoint.exists():
        first, spent = load_checkpoint(checkpoint, method, optimizer, fabric.device)
    source = place(images, fabric.device)
    encode = encoder(method, source, len(images), fabric)
    saved = time.monotonic()
    for epoch in range(first, config.epochs):
        began = time.monotonic()
        message = method.start_epoch(epoch, config.epochs, encode, config.seed)
        if message:
            agree(method)  # what a rank worked out from its own BatchNorm statistics differs in the last digits
        method.train()
        record = run_epoch(model, method, optimizer, source, len(images), views, config, fabric, epoch, on_step)
        spent += time.monotonic() - began
        record |= {"seconds": round(spent, 3), "message": message}
        refuse_nonfinite(record, kept=checkpoint is not None and checkpoint.exists())
        last = epoch + 1 == config.epochs
        if checkpoint is not None and fabric.is_global_zero and (last or time.monotonic() - saved > CHECKPOINT_EVERY):
            save_checkpoint(checkpoint, method, optimizer, epoch + 1, spent)
            saved = time.monotonic()
        yield record


def run_epoch(
    model: Any,
    method: Method,
    optimizer: Any,
    source: Any,
    n: int,
    views: Views,
    config: TrainConfig,
    fabric: Fabric,
    epoch: int,
    on_step: Callable[[int, int], None] | None = None,
    limit: int | None = None,
) -> Record:
    """One pass over the images in an order drawn from (seed, epoch), the short last batch left out."""
    began = time.monotonic()
    steps = max(1, n // config.batch_size)
    local = config.batch_size // fabric.world_size
    order = torch.randperm(n, generator=seeded(config.seed, epoch, 0, torch.device("cpu")))
    draws = seeded(config.seed, epoch, 1 + fabric.global_rank, fabric.device)
    sums: dict[str, Tensor] = {}
    counts, confidence, seen = (
        torch.zeros(method.n_clusters, device=fabric.device),
        torch.zeros((), device=fabric.device),
        0,
    )
    rate = config.learning_rate
    for step in range(steps if limit is None else min(steps, limit)):
        rate = learning_rate(epoch * steps + step, config.epochs * steps, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        start = step * config.batch_size + fabric.global_rank * local
        index = order[start : start + local].to(fabric.device)
        with torch.no_grad():
            view_a, view_b = views(source[index], draws)
        terms = model(channels_last(view_a), channels_last(view_b), index)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(torch.stack(list(terms.values())).sum())
        optimizer.step()
        method.after_step()
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach()
        if method.observed is not None:
            top, cluster = method.observed.max(1)
            counts += torch.bincount(cluster, minlength=method.n_clusters)
            confidence, seen = confidence + top.sum(), seen + len(top)
        if on_step is not None:
            on_step(epoch * steps + step + 1, config.epochs * steps)
    means = {name: float(total) / (step + 1) for name, total in sums.items()}
    seconds = time.monotonic() - began
    return {
        "epoch": epoch + 1,
        "epochs": config.epochs,
        "images_per_second": round((step + 1) * config.batch_size / max(seconds, 1e-9), 1),
        "learning_rate": rate,
        "loss": math.fsum(means.values()) if all(map(math.isfinite, means.values())) else math.nan,
        "terms": means,
        "effective_clusters": round(effective(counts), 2) if seen else None,
        "confidence": round(float(confidence) / seen, 4) if seen else None,
    }


def effective(counts: Tensor) -> float:
    """How many clusters of equal size have the entropy of these sizes: exp(H), between 1 and k."""
    share = counts.double() / counts.sum()
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))


def seeded(seed: int, epoch: int, stream: int, device: torch.device) -> torch.Generator:
    """A generator that is a function of its arguments alone; `stream` 0 is the order, 1 + rank the views."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + epoch) * 4_099 + stream)


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """The rate of one step: a linear rise over `warmup` steps, then constant or half a cosine to zero."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    fall = 0.5 + 0.5 * math.cos(math.pi * step / total) if config.schedule == "cosine" else 1.0
    return config.learning_rate * rise * fall


def make_optimizer(method: Method, config: TrainConfig) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, config.learning_rate, weight_decay=config.weight_decay)


def encoder(method: Method, source: Any, n: int, fabric: Fabric) -> Callable[[int], Tensor]:
    """A function of m: backbone features of m evenly spaced images (all if n <= m), (m, d) float32."""

    def encode(m: int) -> Tensor:
        rows = torch.arange(n) if n <= m else torch.linspace(0, n - 1, m).round().long()
        was_training = method.training
        method.eval()
        with torch.inference_mode(), fabric.autocast():
            parts = [method.backbone(plain(source[part.to(fabric.device)])).float() for part in rows.split(512)]
        method.train(was_training)
        return torch.cat(parts).clone()

    return encode


def refuse_nonfinite(record: Record, *, kept: bool) -> None:
    bad = [name for name, value in record["terms"].items() if not math.isfinite(value)]
    if bad:
        raise TrainingDiverged(
            f"The {' and '.join(bad)} term became {record['terms'][bad[0]]} in epoch {record['epoch']}. "
            f"{'The last good checkpoint is kept. ' if kept else ''}Try a lower learning rate (--set learning_rate=...)"
            " or --precision float32."
        )


def seconds_per_step(method: Method, images: Images, views: Views, config: TrainConfig, fabric: Fabric) -> float:
    """The mean time of a training step: a few as in the first epoch and a few as in the last.

    They are done on a copy; `method` itself stays as it is.
    """
    trial = copy.deepcopy(method).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, optimizer = fabric.setup(trial, make_optimizer(trial, config))
    source, n = place(images, fabric.device), len(images)
    encode = encoder(trial, source, n, fabric)
    means = []
    for epoch in (0, config.epochs - 1):
        trial.start_epoch(epoch, config.epochs, lambda m: encode(min(m, 1000)), config.seed)
        trial.train()
        times = []
        for steps in (1, 3, 3):
            began = time.monotonic()
            run_epoch(model, trial, optimizer, source, n, views, config, fabric, epoch, limit=steps)
            times.append((time.monotonic() - began) / min(steps, max(1, n // config.batch_size)))
        means.append(min(times[1:]))
    return sum(means) / 2


def save_checkpoint(path: Path, method: Method, optimizer: Any, epoch: int, seconds: float) -> None:
    """Writes the state after `epoch` epochs to a temporary name, then renames it."""
    state = {
        "format": 1,
        "epoch": epoch,
        "seconds": seconds,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, method: Method, optimizer: Any, device: torch.device) -> tuple[int, float]:
    """Puts the saved state into `method` and `optimizer`; returns the epochs and seconds already done."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # torch raises several kinds for a damaged or foreign file
        raise ValueError(
            f"'{path}' is damaged or belongs to another run ({type(error).__name__}). Delete it to begin again."
        ) from None
    return int(state["epoch"]), float(state["seconds"])
