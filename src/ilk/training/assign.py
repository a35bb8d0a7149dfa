"""Which cluster each image belongs to, and how surely."""

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

BATCH = 512


@dataclass(frozen=True)
class Assignments:
    """One row an image, in the order of the source."""

    cluster: np.ndarray  # (n,) int64, 0 to k - 1
    confidence: np.ndarray  # (n,) float32, the probability of `cluster`
    second: np.ndarray  # (n,) int64, the runner-up
    margin: np.ndarray  # (n,) float32, how much more probable `cluster` is than `second`
    embedding: np.ndarray  # (n, d) float16, rows of length 1
    uncertain: np.ndarray | None = None  # (n,) bool, whether the image belongs nowhere clearly; None: not asked
    probability: np.ndarray | None = None  # (n, k) float32, only when asked for


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
    """The assignments of all images by a trained method, on plain images without views.

    `temperature`: one for each cluster, by which probabilities are calibrated; none: as they are.
    `probabilities` keeps the whole (n, k) table too. `progress(done, total)` is called after each batch.
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
    """`assign` for the images `rows` of a placed source."""

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
    """softmax(log(y) / T), (b, k), with the temperature of each row's most probable cluster; `y` itself without."""
    if not len(temperature):
        return y
    scale = torch.tensor(temperature, device=y.device)[y.argmax(1)]
    return (y.clamp_min(torch.finfo(torch.float32).tiny).log() / scale[:, None]).softmax(1)


PARTS = "parts"  # the folder of a prediction that is being made
PART = 65_536  # images; a kill loses at most so many for each process
SAVED = ("cluster", "confidence", "second", "margin", "embedding")
_calls = 0


def parts_begun(folder: Path) -> bool:
    """Whether `folder` holds a prediction that has not been brought to its end."""
    return (folder / PARTS / "parts.json").is_file()


def assign_in_parts(
    method: Method, images: Images | Features, fabric: Fabric, folder: Path, identity: dict[str, Any], *,
    temperature: Sequence[float] = (), progress: Callable[[int, int], None] | None = None,
) -> Assignments | None:  # fmt: skip
    """The assignments of all images, made in parts that are kept in `folder`/parts; None but in the first process.

    Parts that are there are not made again, so that a killed prediction goes on; the others are shared out
    to the processes. `identity`: what tells this model and these images from others, as plain values.
    Raises ValueError if the parts that are there are of others. `forget_parts` takes them away.
    """
    global _calls
    _calls += 1
    place_of, n = folder / PARTS, len(images)
    if fabric.is_global_zero:
        begin_parts(place_of, n, fabric.world_size, identity)
    size = shared(read_json(place_of / "parts.json")["size"] if fabric.is_global_zero else 0)
    files = [(range(start, min(start + size, n)), place_of / f"{start:010d}.npz") for start in range(0, n, size)]
    missing = shared([number for number, (_, file) in enumerate(files) if not file.is_file()])
    method.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    source, done = place(images, fabric.device), n - sum(len(files[number][0]) for number in missing)
    for number in missing[fabric.global_rank :: fabric.world_size]:
        rows, file = files[number]

        def told(some: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(min(before + some * fabric.world_size, n), n)

        found = assign_rows(method, source, rows, fabric, temperature=temperature, progress=told)
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **{name: getattr(found, name) for name in SAVED})
        done = min(done + len(rows) * fabric.world_size, n)
    if not fabric.is_global_zero:
        tell(f"ilk/predicted-{_calls}/{fabric.global_rank}")
        return None
    for rank in range(1, fabric.world_size):
        wait_for(f"ilk/predicted-{_calls}/{rank}")
    return joined([file for _, file in files])


def begin_parts(folder: Path, n: int, world: int, identity: dict[str, Any]) -> None:
    """Writes down what the parts in `folder` are of, or sees that those there are of the same."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    file = folder / "parts.json"
    if file.is_file():
        there = read_json(file)
        if {**there, "size": 0} != {"format": 1, "images": n, "size": 0, **identity}:
            raise ValueError(
                f"'{folder.parent}' holds an unfinished prediction of other images or by another model. Choose another"
                " --out, or remove it."
            )
        return
    share = -(-n // (world * BATCH)) * BATCH  # whole batches, so that the numbers are those of one process
    write_json(file, {"format": 1, "images": n, "size": max(BATCH, min(PART, share)), **identity})


def joined(files: list[Path]) -> Assignments:
    """One table of the parts. Raises ValueError, a sentence, for a damaged one."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in SAVED}
    for file in files:
        try:
            with np.load(file, allow_pickle=False) as saved:
                for name in SAVED:
                    columns[name].append(saved[name])
        except Exception as error:  # numpy and zipfile raise several kinds
            raise ValueError(
                f"'{file}' is damaged ({type(error).__name__}). Delete it and run the same again."
            ) from None
    return Assignments(**{name: np.concatenate(column) for name, column in columns.items()})


def forget_parts(folder: Path) -> None:
    """Removes the parts of a prediction that is at its end; what says so goes last."""
    place_of = folder / PARTS
    for file in place_of.glob("*.npz"):
        file.unlink()
    (place_of / "parts.json").unlink(missing_ok=True)
    place_of.rmdir()
