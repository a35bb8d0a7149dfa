"""Assignment of images to clusters by a trained method, at once or in parts that survive a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ilk.images import Images
from ilk.methods.base import Method
from ilk.networks.features import Features
from ilk.networks.passes import map_images
from ilk.system.devices import place
from ilk.system.files import read_json, replacing, sweep, write_json
from ilk.system.processes import shared, tell, wait_for

BATCH = 512  # images


@dataclass(frozen=True)
class Assignments:
    """The clusters of n images, in the order of the source."""

    cluster: np.ndarray  # (n,) int64, 0 to k - 1
    confidence: np.ndarray  # (n,) float32, the probability of `cluster`
    second: np.ndarray  # (n,) int64, the second most probable cluster
    margin: np.ndarray  # (n,) float32, probability of `cluster` minus that of `second`
    embedding: np.ndarray  # (n, d) float16, rows of length 1
    uncertain: np.ndarray | None = None  # (n,) bool, whether the cluster is uncertain; None: not computed
    probability: np.ndarray | None = None  # (n, k) float32, if requested


def assign(
    method: Method,
    images: Images | Features,
    fabric: Fabric,
    *,
    temperature: Sequence[float] = (),
    probabilities: bool = False,
    batch_size: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> Assignments:
    """The assignments of all images by a trained method, from plain images, not views.

    `temperature`: (k,), calibrates the probabilities; empty: they are not changed. `probabilities`: also return the
    whole (n, k) table. `progress(done, total)` is called after each batch. The method is moved to the device and put
    into evaluation mode.
    """
    method.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    source, n = place(images, fabric.device), len(images)
    return assign_rows(
        method, source, range(n), fabric, temperature=temperature, probabilities=probabilities, batch_size=batch_size,
        progress=progress,
    )  # fmt: skip


def assign_rows(
    method: Method, source: Any, rows: range, fabric: Fabric, *, temperature: Sequence[float] = (),
    probabilities: bool = False, batch_size: int = BATCH, progress: Callable[[int, int], None] | None = None,
) -> Assignments:  # fmt: skip
    """The assignments of the images `rows` of a `source` that is on the device; arguments as in `assign`."""

    def keep(y: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = tempered(y.float(), temperature)
        best = y.topk(min(2, y.shape[1]), dim=1)
        return best.values.cpu(), best.indices.cpu(), z.half().cpu(), y.cpu() if probabilities else y[:0].cpu()

    columns = map_images(
        method.assign_and_embed, source, torch.arange(rows.start, rows.stop), fabric, batch_size=batch_size, keep=keep,
        progress=progress,
    )  # fmt: skip
    values, indices, embedding, probability = (column.numpy() for column in columns)
    return Assignments(
        cluster=indices[:, 0],
        confidence=values[:, 0],
        second=indices[:, -1],
        margin=values[:, 0] - values[:, -1],
        embedding=embedding,
        probability=probability if probabilities else None,
    )


def tempered(y: torch.Tensor, temperature: Sequence[float]) -> torch.Tensor:
    """softmax(log(y) / T), (b, k), T the temperature of each row's most probable cluster; `y` if there are none."""
    if not len(temperature):
        return y
    scale = torch.tensor(temperature, device=y.device)[y.argmax(1)]
    return (y.clamp_min(torch.finfo(torch.float32).tiny).log() / scale[:, None]).softmax(1)


PARTS = "parts"  # the sub-folder of an unfinished prediction
PART = 65_536  # images; a kill loses at most so many per process
SAVED = ("cluster", "confidence", "second", "margin", "embedding")
_calls = 0  # of assign_in_parts, so that the messages between processes have names of their own


def parts_begun(folder: Path) -> bool:
    """Whether `folder` holds an unfinished prediction."""
    return (folder / PARTS / "parts.json").is_file()


def assign_in_parts(
    method: Method, images: Images | Features, fabric: Fabric, folder: Path, identity: dict[str, Any], *,
    temperature: Sequence[float] = (), progress: Callable[[int, int], None] | None = None,
) -> Assignments | None:  # fmt: skip
    """The assignments of all images, computed in parts that are saved in `folder`/parts; None except in rank 0.

    Saved parts are not computed again, so that a killed prediction can be resumed; the others are divided among the
    processes. `identity`: plain values that identify the model and the images. `remove_parts` removes the parts.
    Raises ValueError if the saved parts are from another model or other images, or are damaged.
    """
    global _calls
    _calls += 1
    parts_folder, n = folder / PARTS, len(images)
    if fabric.is_global_zero:
        begin_parts(parts_folder, n, fabric.world_size, identity)
    size = shared(read_json(parts_folder / "parts.json")["size"] if fabric.is_global_zero else 0)
    files = [(range(start, min(start + size, n)), parts_folder / f"{start:010d}.npz") for start in range(0, n, size)]
    missing = shared([number for number, (_, file) in enumerate(files) if not file.is_file()])
    method.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    source, done = place(images, fabric.device), n - sum(len(files[number][0]) for number in missing)
    for number in missing[fabric.global_rank :: fabric.world_size]:
        rows, file = files[number]

        def report(done_in_part: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(min(before + done_in_part * fabric.world_size, n), n)

        part = assign_rows(method, source, rows, fabric, temperature=temperature, progress=report)
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **{name: getattr(part, name) for name in SAVED})
        done = min(done + len(rows) * fabric.world_size, n)
    if not fabric.is_global_zero:
        tell(f"ilk/predicted-{_calls}/{fabric.global_rank}")
        return None
    for rank in range(1, fabric.world_size):
        wait_for(f"ilk/predicted-{_calls}/{rank}")
    return join_parts([file for _, file in files])


def begin_parts(folder: Path, n: int, world: int, identity: dict[str, Any]) -> None:
    """Writes parts.json in `folder`, which identifies the parts, or checks that of an unfinished prediction.

    `n`: images, `world`: processes. Raises ValueError if that was of other images or by another model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    file = folder / "parts.json"
    if file.is_file():
        earlier = read_json(file)
        if {**earlier, "size": 0} != {"format": 1, "images": n, "size": 0, **identity}:
            raise ValueError(
                f"'{folder.parent}' holds an unfinished prediction of other images or by another model. Choose another"
                " --out, or remove it."
            )
        return
    share = -(-n // (world * BATCH)) * BATCH  # whole batches, for the same numbers as one process
    write_json(file, {"format": 1, "images": n, "size": max(BATCH, min(PART, share)), **identity})


def join_parts(files: list[Path]) -> Assignments:
    """The assignments of all parts, in order. Raises ValueError for a damaged file."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in SAVED}
    for file in files:
        try:
            with np.load(file, allow_pickle=False) as saved:
                for name in SAVED:
                    columns[name].append(saved[name])
        except Exception as error:  # numpy and zipfile raise many types
            raise ValueError(
                f"'{file}' is damaged ({type(error).__name__}). Delete it and run the same command again."
            ) from None
    return Assignments(**{name: np.concatenate(column) for name, column in columns.items()})


def remove_parts(folder: Path) -> None:
    """Removes the parts of a finished prediction, parts.json last, so that a kill in between is noticed."""
    parts_folder = folder / PARTS
    for file in parts_folder.glob("*.npz"):
        file.unlink()
    (parts_folder / "parts.json").unlink(missing_ok=True)
    parts_folder.rmdir()
