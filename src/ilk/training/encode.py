"""Features of every image, and of random views of it, by a frozen encoder; computed once and cached."""

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

SAVE_EVERY = 10.0  # seconds; a kill loses at most these
BATCH = {"cpu": 32, "cuda": 256, "mps": 64}  # images
SMALLEST, LARGEST = 1e-2, 6e4  # range of a row's largest number, so that float16 is precise enough for the row

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
    """The features of each plain image and of `views` random views of it, (n, 1 + views, d) float16.

    `encoder`: (b, c, h, w) floats in [0, 1] -> (b, feature_dim). `recipe`, `size`: the recipe of the views and their
    side in pixels. `identity`: a text that identifies the weights of the encoder. `progress(done, n)` is called after
    each batch, `waiting()` if another process encodes the same images.
    With `cache_dir`, the result is a memory map of a file there whose name is a hash of encoder, images and views; an
    interrupted pass is resumed, and a finished one is not repeated. The views of a batch depend only on the position
    of its first image, so a resumed pass gives the same numbers.
    A row with numbers that float16 cannot represent is scaled, which keeps its direction. Raises ValueError if
    features are not finite, OSError for a full disk.
    """
    d = int(encoder.feature_dim)  # type: ignore[arg-type]  # the contract of backbones
    shape = (len(images), 1 + views, d)
    encoder = encoder.to(fabric.device).eval()
    maker = None if recipe is None or views == 0 else Views(recipe, size=size)
    if cache_dir is None:
        features = np.empty(shape, dtype=np.float16)
        for start, part in encoded_batches(encoder, images, fabric, maker, views, 0, progress):
            features[start : start + len(part)] = part
        return features
    key = hashlib.blake2b(digest_size=12)
    recipe_values = None if recipe is None else describe(recipe)
    batch = BATCH.get(fabric.device.type, 32)  # the random draws of an image depend on it
    precision = fabric.strategy.precision.precision
    parts = (identity, images.fingerprint, images.shape, shape, recipe_values, size, batch, precision)
    key.update(repr(parts).encode())
    folder = cache_dir / f"features-{key.hexdigest()}"

    def fill() -> np.ndarray:
        array = folder / "features.npy"
        if rows_done(folder / "state.json", array, shape) == len(
            images
        ):  # without the lock, since the folder may be read-only
            complete: np.ndarray = np.load(array, mmap_mode="r", allow_pickle=False)
            return complete
        with held(folder, wait=True, waiting=waiting):  # another process may encode the same images
            sweep(folder)
            return complete_cache(folder, encoder, images, fabric, maker, views, shape, progress)

    return in_turn(fill)


def complete_cache(
    folder: Path, encoder: nn.Module, images: Images, fabric: Fabric, maker: Views | None, views: int,
    shape: tuple[int, int, int], progress: Progress | None,
) -> np.ndarray:  # fmt: skip
    """The features in `folder`, (n, 1 + views, d), after computing those that are missing; memory-mapped.

    They are written to the file, not to a memory map, because a full disk kills a process that writes to a map.
    """
    array, state = folder / "features.npy", folder / "state.json"
    done = rows_done(state, array, shape)
    if done == 0:
        state.unlink(missing_ok=True)  # before the array that it describes is overwritten
        advice = "choose another disk with --cache-dir, or take fewer views with --feature-views"
        need_room(folder, int(np.prod(shape)) * 2, what="feature cache", advice=advice)
        np.lib.format.open_memmap(array, mode="w+", dtype=np.float16, shape=shape).flush()
    if done < len(images):
        row = shape[1] * shape[2] * 2  # bytes
        with room_for(array), open(array, "r+b") as file:
            file.seek(os.path.getsize(array) - (len(images) - done) * row)
            saved, stop = time.monotonic(), done
            try:
                for start, part in encoded_batches(encoder, images, fabric, maker, views, done, progress):
                    file.write(np.ascontiguousarray(part).data)
                    stop = start + len(part)
                    if time.monotonic() - saved > SAVE_EVERY:
                        save_rows(file, state, stop)
                        saved = time.monotonic()
            finally:
                save_rows(file, state, stop)  # also after Ctrl-C
    features: np.ndarray = np.load(array, mmap_mode="r", allow_pickle=False)
    return features


def save_rows(file: IO[bytes], state: Path, rows: int) -> None:
    """Writes `file` to disk, and then to `state` that its first `rows` images are done."""
    file.flush()
    os.fsync(file.fileno())
    write_json(state, {"rows": rows})


def rows_done(state: Path, array: Path, shape: tuple[int, ...]) -> int:
    """The number of images that an earlier pass has done; 0 if there was none, or the files do not fit together."""
    try:
        rows = json.loads(state.read_text(encoding="utf-8"))["rows"]
        features = np.load(array, mmap_mode="r", allow_pickle=False)
        fits = features.shape == shape and features.dtype == np.float16 and isinstance(rows, int)
        return rows if fits and 0 <= rows <= shape[0] else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def encoded_batches(
    encoder: nn.Module, images: Images, fabric: Fabric, maker: Views | None, views: int, first: int,
    progress: Progress | None,
) -> Iterator[tuple[int, np.ndarray]]:  # fmt: skip
    """The position of the first image of each batch, and the batch's features, (b, 1 + views, d); from image `first`.

    The next batch is read, and its views are made, while the encoder computes. Raises ValueError for features that are
    not finite.
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


def in_range(features: Tensor) -> Tensor:
    """`features`, (..., d), with rows scaled if their largest number is outside [`SMALLEST`, `LARGEST`]."""
    largest = features.abs().amax(-1, keepdim=True)
    target = largest.clamp(SMALLEST, LARGEST)
    return torch.where((target == largest) | (largest == 0), features, features / largest * target)
