"""One pass of a network over images: batch by batch, in order, without gradients, in halves where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ilk.system.devices import fitting
from ilk.system.pixels import plain

Compute = Callable[[Tensor], tuple[Tensor, ...]]  # a batch of inputs -> one or more tensors with a row for each
Inputs = Callable[[Tensor, Tensor], Sequence[Tensor]]  # (images as the source has them, their positions) -> inputs
Keep = Callable[..., tuple[Tensor, ...]]  # the outputs of a batch -> what is kept of them


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """While it lasts, the network is in evaluation mode; its mode before is restored."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def plain_inputs(images: Tensor, positions: Tensor) -> Sequence[Tensor]:
    """The images without random changes, floats in [0, 1]; of features the first row."""
    return (plain(images),)


def for_each_batch(
    compute: Compute, source: Any, rows: Tensor, fabric: Fabric, *, batch_size: int, inputs: Inputs = plain_inputs,
    read_ahead: bool = False, progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Tensor, list[Tensor]]]:  # fmt: skip
    """The positions of each batch and the outputs of `compute` for it: those of the first input, then of the next.

    `source`: images or features, indexed by positions, on any device. `rows`: (m,) int64, the positions to visit, in
    this order. `inputs` makes what the network sees of a batch, in the source's precision; `compute` runs in that of
    the fabric. `read_ahead`: a thread reads the next batch and makes its inputs while the network works.
    `progress(done, m)` is called after a batch was used.
    """
    batches = rows.split(batch_size) if len(rows) else ()

    def ready(batch: Tensor) -> Sequence[Tensor]:
        with torch.inference_mode():
            return inputs(source[batch].to(fabric.device), batch)

    done = 0
    for batch, seen in zip(batches, ahead(ready, batches) if read_ahead else map(ready, batches), strict=True):
        with torch.inference_mode(), fabric.autocast():
            outputs = [output for x in seen for output in fitting(compute, x)]
        yield batch, outputs
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))


def ahead(ready: Callable[[Tensor], Sequence[Tensor]], batches: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """`ready(batch)` of each batch, computed by a thread while the caller uses the result before."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(ready, batches[0]) if batches else None
        for number in range(len(batches)):
            assert waiting is not None  # there is a batch
            seen = waiting.result()
            if number + 1 < len(batches):
                waiting = reader.submit(ready, batches[number + 1])
            yield seen


def map_images(
    compute: Compute, source: Any, rows: Tensor, fabric: Fabric, *, batch_size: int, keep: Keep | None = None,
    inputs: Inputs = plain_inputs, progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """What `keep` takes of the outputs of `compute`, joined over all batches; see `for_each_batch`.

    `keep`: gets the outputs of a batch as arguments and returns tensors with a row for each image; None keeps all.
    Raises ValueError without rows.
    """
    if not len(rows):
        raise ValueError("There are no images to pass through the network.")
    parts = []
    for _, outputs in for_each_batch(
        compute, source, rows, fabric, batch_size=batch_size, inputs=inputs, progress=progress
    ):
        with torch.inference_mode():
            parts.append(tuple(outputs) if keep is None else keep(*outputs))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
