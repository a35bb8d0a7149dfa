"""The pass of a frozen encoder over a collection: features of every image and of random views of it, computed once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ilk.images import Images
from ilk.networks.passes import for_each_batch
from ilk.sampling import seeded
from ilk.system.files import need_room, room_for, sweep, write_json
from ilk.system.lock import held
from ilk.system.processes import in_turn
from ilk.views import ViewRecipe, Views, channels_last, describe, plain

SAVE_EVERY = 10.0  # seconds; a kill loses at most this
BATCH = {"cpu": 32, "cuda": 256, "mps": 64}
SMALLEST, LARGEST = 1e-2, 6e4  # the largest number of a row, so that float16 holds the others well

Progress = Callable[[int, int], None]


def encode_images(
    encoder: nn.Module,
    images: Images,
    fabric: Fabric,
    *,
    recipe: ViewRecipe | None = None,
    views: int = 0,
    size: int,
    identity: str = "",
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    waiting: Callable[[], None] | None = None,
) -> np.ndarray:
    """Features of each plain image and of `views` random views of it, (n, 1 + views, d) float16.

    `encoder`: (b, c, h, w) floats in [0, 1] -> (b, feature_dim). `recipe`, `size`: how views are made and
    their side in pixels. `identity`: what tells this encoder's weights from others.
    With `cache_dir`, the result is a memory map of a file there whose name is a hash of encoder, images
    and views; a pass that was stopped goes on where it was, and one that was finished is not done again.
    The views of a batch are a function of its first position, so a resumed pass gives the same numbers.
    A row whose numbers float16 cannot hold is scaled, which keeps its direction. Raises ValueError if the
    encoder gives numbers that are not finite, OSError for a full disk.
    """
    d = int(encoder.feature_dim)  # type: ignore[arg-type]  # the contract of backbones
    shape = (len(images), 1 + views, d)
    encoder = encoder.to(fabric.device).eval()
    maker = None if recipe is None or views == 0 else Views(recipe, size=size)
    if cache_dir is None:
        found = np.empty(shape, dtype=np.float16)
        for start, part in passed(encoder, images, fabric, maker, views, 0, progress):
            found[start : start + len(part)] = part
        return found
    key = hashlib.blake2b(digest_size=12)
    shown = None if recipe is None else describe(recipe)
    batch = BATCH.get(fabric.device.type, 32)  # which draws an image gets depends on it
    precision = fabric.strategy.precision.precision
    key.update(repr((identity, images.fingerprint, images.shape, shape, shown, size, batch, precision)).encode())
    folder = cache_dir / f"features-{key.hexdigest()}"

    def fill() -> np.ndarray:
        array = folder / "features.npy"
        if rows_done(folder / "state.json", array, shape) == len(images):  # perhaps where nothing can be written
            result: np.ndarray = np.load(array, mmap_mode="r", allow_pickle=False)
            return result
        with held(folder, wait=True, waiting=waiting):  # another process may encode the same images
            sweep(folder)
            return filled(folder, encoder, images, fabric, maker, views, shape, progress)

    return in_turn(fill)


def filled(
    folder: Path, encoder: nn.Module, images: Images, fabric: Fabric, maker: Views | None, views: int,
    shape: tuple[int, int, int], progress: Progress | None,
) -> np.ndarray:  # fmt: skip
    """The features in `folder`, after the missing ones were put there.

    They are written, not mapped, because a full disk kills a process that maps.
    """
    array, state = folder / "features.npy", folder / "state.json"
    done = rows_done(state, array, shape)
    if done == 0:
        state.unlink(missing_ok=True)  # before the array it speaks of is begun anew
        advice = "choose another disk with --cache-dir, or take fewer views with --feature-views"
        need_room(folder, int(np.prod(shape)) * 2, what="feature cache", advice=advice)
        np.lib.format.open_memmap(array, mode="w+", dtype=np.float16, shape=shape).flush()
    if done < len(images):
        row = shape[1] * shape[2] * 2  # bytes
        with room_for(array), open(array, "r+b") as kept:
            kept.seek(os.path.getsize(array) - (len(images) - done) * row)
            saved, stop = time.monotonic(), done
            try:
                for start, part in passed(encoder, images, fabric, maker, views, done, progress):
                    kept.write(np.ascontiguousarray(part).data)
                    stop = start + len(part)
                    if time.monotonic() - saved > SAVE_EVERY:
                        save_rows(kept, state, stop)
                        saved = time.monotonic()
            finally:
                save_rows(kept, state, stop)  # also after Ctrl-C
    result: np.ndarray = np.load(array, mmap_mode="r", allow_pickle=False)
    return result


def save_rows(kept: IO[bytes], state: Path, rows: int) -> None:
    """The rows are on disk before the file says so."""
    kept.flush()
    os.fsync(kept.fileno())
    write_json(state, {"rows": rows})


def rows_done(state: Path, array: Path, shape: tuple[int, ...]) -> int:
    """How many images of an earlier pass are there; 0 for none, or for files that do not belong together."""
    try:
        rows = json.loads(state.read_text(encoding="utf-8"))["rows"]
        found = np.load(array, mmap_mode="r", allow_pickle=False)
        fits = found.shape == shape and found.dtype == np.float16 and isinstance(rows, int)
        return rows if fits and 0 <= rows <= shape[0] else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def passed(
    encoder: nn.Module, images: Images, fabric: Fabric, maker: Views | None, views: int, first: int,
    progress: Progress | None,
) -> Iterator[tuple[int, np.ndarray]]:  # fmt: skip
    """(start, features of the images from there on), batch by batch from image `first`.

    The next batch is read, and changed into views, while the encoder works.
    """
    n = len(images)

    def inputs(x: Tensor, positions: Tensor) -> list[Tensor]:
        batches = [plain(x)]
        if maker is not None:
            for view in range(views):
                draws = seeded(int(positions[0]), view, 0, fabric.device)
                batches.append(channels_last(maker.view(x / 255, maker.recipe_a, draws)))
        return batches

    if progress is not None:
        progress(first, n)
    for positions, outputs in for_each_batch(
        lambda x: (encoder(x).float(),), images, torch.arange(first, n), fabric,
        batch_size=BATCH.get(fabric.device.type, 32), inputs=inputs, read_ahead=True,
        progress=None if progress is None else lambda done, _: progress(first + done, n),
    ):  # fmt: skip
        features = torch.stack(outputs, 1)  # (b, 1 + views, d)
        if not bool(features.isfinite().all()):
            raise ValueError("The encoder gives numbers that are not finite; its weights are damaged.")
        yield int(positions[0]), in_range(features).half().cpu().numpy()


def in_range(found: Tensor) -> Tensor:
    """`found`, (..., d), with rows scaled whose largest number is not within what float16 holds well."""
    largest = found.abs().amax(-1, keepdim=True)
    wanted = largest.clamp(SMALLEST, LARGEST)
    return torch.where((wanted == largest) | (largest == 0), found, found / largest * wanted)
