"""The pass of a frozen encoder over a collection: features of every image and of random views of it, computed once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ilk.batches import seeded
from ilk.files import write_json
from ilk.images import Images
from ilk.views import ViewRecipe, Views, channels_last, describe, plain

SAVE_EVERY = 10.0  # seconds; a kill loses at most this
BATCH = {"cpu": 32, "cuda": 256, "mps": 64}

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
) -> np.ndarray:
    """Features of each plain image and of `views` random views of it, (n, 1 + views, d) float16.

    `encoder`: (b, c, h, w) floats in [0, 1] -> (b, feature_dim). `recipe`, `size`: how views are made and
    their side in pixels. `identity`: what tells this encoder's weights from others.
    With `cache_dir`, the result is a memory map of a file there whose name is a hash of encoder, images
    and views; a pass that was stopped goes on where it was, and one that was finished is not done again.
    The views of a batch are a function of its first position, so a resumed pass gives the same numbers.
    Raises ValueError if the encoder gives numbers that are not finite, OSError for a full disk.
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
    key.update(repr((identity, images.fingerprint, images.shape, shape, shown, size, batch)).encode())
    folder = cache_dir / f"features-{key.hexdigest()}"
    folder.mkdir(parents=True, exist_ok=True)
    array, state = folder / "features.npy", folder / "state.json"
    done = rows_done(state, array, shape)
    if done == 0:
        need_room(folder, int(np.prod(shape)) * 2)
        np.lib.format.open_memmap(array, mode="w+", dtype=np.float16, shape=shape).flush()
    if done < len(images):
        kept = np.lib.format.open_memmap(array, mode="r+")
        saved = time.monotonic()
        for start, part in passed(encoder, images, fabric, maker, views, done, progress):
            kept[start : start + len(part)] = part
            if time.monotonic() - saved > SAVE_EVERY or start + len(part) == len(images):
                kept.flush()  # the rows are on disk before the file says so
                write_json(state, {"rows": start + len(part)})
                saved = time.monotonic()
        del kept
    return np.load(array, mmap_mode="r", allow_pickle=False)


def rows_done(state: Path, array: Path, shape: tuple[int, ...]) -> int:
    """How many images of an earlier pass are there; 0 for none, or for files that do not belong together."""
    try:
        rows = json.loads(state.read_text(encoding="utf-8"))["rows"]
        found = np.load(array, mmap_mode="r", allow_pickle=False)
        fits = found.shape == shape and found.dtype == np.float16 and isinstance(rows, int)
        return rows if fits and 0 <= rows <= shape[0] else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def need_room(folder: Path, size: int) -> None:
    """Raises OSError if the disk cannot take `size` bytes more; a sparse file would only fail half-way."""
    if not hasattr(os, "statvfs"):
        return
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < size:
        raise OSError(
            f"the features in '{folder}' need {size:,} bytes and the disk has {free:,} left. Free some space, choose"
            " another disk with --cache-dir, or take fewer views with --feature-views."
        )


def passed(
    encoder: nn.Module, images: Images, fabric: Fabric, maker: Views | None, views: int, first: int,
    progress: Progress | None,
) -> Iterator[tuple[int, np.ndarray]]:  # fmt: skip
    """(start, features of the images from there on), batch by batch from image `first`.

    The next batch is read, and changed into views, while the encoder works.
    """
    n, size = len(images), BATCH.get(fabric.device.type, 32)
    starts = list(range(first, n, size))

    def ready(start: int) -> list[Tensor]:
        x = images[start : min(start + size, n)].to(fabric.device)
        batches = [plain(x)]
        if maker is not None:
            for view in range(views):
                draws = seeded(start, view, 0, fabric.device)
                batches.append(channels_last(maker.view(x / 255, maker.recipe_a, draws)))
        return batches

    if progress is not None:
        progress(first, n)
    with ThreadPoolExecutor(1) as reader, torch.inference_mode():
        waiting: Any = reader.submit(ready, starts[0]) if starts else None
        for number, start in enumerate(starts):
            batches = waiting.result()
            if number + 1 < len(starts):
                waiting = reader.submit(ready, starts[number + 1])
            with fabric.autocast():
                found = torch.stack([encoder(batch).float() for batch in batches], 1)  # (b, 1 + views, d)
            if not bool(found.isfinite().all()):
                raise ValueError("The encoder gives numbers that are not finite; its weights are damaged.")
            yield start, found.clamp(-6e4, 6e4).half().cpu().numpy()  # what float16 can hold
            if progress is not None:
                progress(start + len(found), n)
