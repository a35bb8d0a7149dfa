"""Decodes all items of a source, with several threads and chunk by chunk, into the cache or into memory."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ilk.images.cache import FORMAT, DiskStore, MemoryStore, Plan, Stored, cached, open_cache, part_folder, planned
from ilk.images.collection import BadFile, Images, content_hash, to_channels
from ilk.images.decode import Decoded, Header, decode, read_header, strict_pillow
from ilk.images.open_picture import JUST_NOW
from ilk.images.source import Source, Unreadable
from ilk.system.lock import check_lockable

Progress = Callable[[int, int, str], None]
SAMPLE = 512  # items whose headers are read before
PROGRESS_EVERY = 32  # items
MEMORY_BYTES = 1 << 30  # of images that are decoded into memory where nothing is cached
WAITING_BYTES = 256 << 20  # of encoded items that wait to be decoded


class Coloured(Exception):
    """A coloured image in a build that was planned as gray, because its sample was gray."""


def sample_headers(source: Source, workers: int) -> list[Header]:
    """Size and channels of the readable ones among 512 evenly spaced items.

    Where items must be read in order, of the first 512: others would take a pass through the whole source.
    """
    count = len(source)
    if source.sequential:
        chosen = list(range(min(count, SAMPLE)))
    else:
        chosen = [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).round())]
    with strict_pillow(), ThreadPoolExecutor(workers) as pool:
        headers = [h for h in _in_order(pool, source, chosen, read_header, workers) if isinstance(h, Header)]
    return headers


def build(
    source: Source, store: MemoryStore | DiskStore, *, resize: str, workers: int, progress: Progress | None
) -> Stored:
    """Decodes what the store lacks and finishes it.

    Raises ValueError if no item can be read, and Coloured if the plan says gray and an image is coloured.
    """
    plan = store.plan
    todo = store.missing()
    done = plan.count - sum(stop - start for start, stop in todo)

    def work(item: Any) -> Decoded | str:
        return decode(item, plan.size, resize)

    with strict_pillow(), ThreadPoolExecutor(workers) as pool:
        for start, stop in todo:
            block = np.zeros((stop - start, plan.channels, plan.size, plan.size), dtype=np.uint8)
            bad: dict[int, str] = {}
            coloured = False
            for i, outcome in enumerate(_in_order(pool, source, range(start, stop), work, workers), start):
                reason = outcome if isinstance(outcome, str) else _place(outcome, block[i - start], plan.channels)
                if reason is not None:
                    bad[i] = reason
                else:
                    coloured |= outcome.coloured
                done += 1
                if progress is not None and (done % PROGRESS_EVERY == 0 or done == plan.count):
                    progress(done, plan.count, "decoding images")
            store.write(start, block, bad, coloured)
    stored = store.finish(collapse=plan.channels == 3)
    if len(stored.bad) == plan.count:
        store.discard()
        raise ValueError(_nothing_read(source, stored.bad))
    return stored


def _place(decoded: Decoded, row: np.ndarray, channels: int) -> str | None:
    """Writes the image into its row of the block. Returns the reason if its channels do not fit, else None."""
    present = decoded.pixels.shape[0]
    if channels == 1 and decoded.coloured:
        raise Coloured
    if present != channels and {present, channels} != {1, 3}:
        return f"has {present} channels where the first images have {channels}"
    row[:] = to_channels(decoded.pixels[None], channels)[0]
    return None


def _in_order(
    pool: ThreadPoolExecutor, source: Source, chosen: Iterable[int], work: Callable[[Any], Any], workers: int
) -> Iterator[Any]:
    """`work(item)` of each chosen item, in order, or the reason why it cannot be read; few are in memory at once."""

    def read_and_work(i: int) -> Any:
        try:
            item = source.read(i)
        except Unreadable as error:
            return str(error)
        return work(item)

    pending: deque[Future[Any] | str] = deque()
    sizes: deque[int] = deque()  # bytes in memory of each pending item
    try:
        for i in chosen:
            while pending and (len(pending) >= 4 * workers or sum(sizes) > WAITING_BYTES):
                sizes.popleft()
                yield _result(pending.popleft())
            if not source.sequential:
                pending.append(pool.submit(read_and_work, i))
                sizes.append(0)
                continue
            try:
                item = source.read(i)
                pending.append(pool.submit(work, item))
                sizes.append(len(item) if isinstance(item, bytes) else 0)
            except Unreadable as error:
                pending.append(str(error))
                sizes.append(0)
        while pending:
            yield _result(pending.popleft())
    finally:
        for future in pending:
            if not isinstance(future, str):
                future.cancel()


def _result(future: Future[Any] | str) -> Any:
    """The result of a future; a reason as it is."""
    return future if isinstance(future, str) else future.result()


def _nothing_read(source: Source, bad: dict[int, str]) -> str:
    """The sentence for a source of which no item can be read."""
    first = "; ".join(f"{source.ids[i]}: {bad[i]}" for i in sorted(bad)[:3])
    start = f"none of the {len(bad):,} images could" if len(bad) > 1 else "the only image could not"
    return f"{start} be read from '{source.title}' ({first}). Give at least one readable image."


def _auto_size(headers: Sequence[Header], largest: int) -> int:
    """The median of the shorter sides, at most `largest`; `largest` if no size is known."""
    return min(largest, max(1, int(median(min(h.height, h.width) for h in headers)))) if headers else largest


def decode_source(
    source: Source,
    image_size: int | None,
    largest: int,
    resize: str,
    *,
    where: Path,
    cache: bool,
    threads: int,
    progress: Progress | None,
) -> tuple[Images, np.ndarray]:
    """(the images of a source, their positions in it): read from the cache, or decoded into cache or memory."""
    headers = sample_headers(source, threads) if image_size is None else None
    size = int(image_size or _auto_size(headers or [], largest))
    fingerprint = fingerprint_of(source, size, resize)

    def plan() -> Plan:
        return _plan(source, size, sample_headers(source, threads) if headers is None else headers)

    def fill(plan: Plan, folder: Path | None) -> Stored:
        def attempt(plan: Plan) -> Stored:
            store = MemoryStore(plan) if folder is None else DiskStore(folder, plan)
            return build(source, store, resize=resize, workers=threads, progress=progress)

        try:
            return attempt(plan if folder is None else planned(folder, plan))
        except Coloured:
            return attempt(replace(plan, channels=3))

    def settled(stored: Stored) -> bool:
        return not _warn_of_change(source) and not any(r.startswith(JUST_NOW) for r in stored.bad.values())

    def waiting() -> None:
        if progress is not None:
            progress(0, len(source), "waiting for another process that decodes the same images")

    keep = cache and source.stamp is not None and not source.in_memory
    folder = where / f"images-{fingerprint}"
    stored = open_cache(folder, source.ids) if keep else None  # a cache may be shared and read-only
    unusable = _why_unusable(where) if keep and stored is None else None
    if keep and stored is None and unusable is None:
        stored = cached(folder, source.ids, plan, lambda plan: fill(plan, part_folder(folder)), settled, waiting)
    elif stored is None:
        planning = plan()
        small = planning.nbytes <= MEMORY_BYTES
        if unusable is not None and small:
            warnings.warn(
                f"the cache folder '{where}' cannot be written ({unusable}), so the images are decoded "
                "into memory, every time. Choose another with ILK_CACHE or --cache-dir.",
                stacklevel=3,
            )
        stored = fill(planning, None) if small else _in_scratch(where, planning, fill)
        settled(stored)
    good = np.array([i for i in range(len(source)) if i not in stored.bad], dtype=np.int64)
    return to_images(source, stored.pixels, good, stored.bad, stored.original_size, fingerprint)


def _warn_of_change(source: Source) -> bool:
    """Whether the source has changed since it was listed; if so, warns."""
    try:
        if source.restamp is None or source.restamp() == source.stamp:
            return False
    except OSError:  # the folder has been removed
        pass
    warnings.warn(
        f"'{source.title}' changed while it was read: files came, went or were written to. The images are as they "
        "were when each was read; load them again when nothing writes there any more.",
        stacklevel=2,
    )
    return True


def _plan(source: Source, size: int, headers: Sequence[Header]) -> Plan:
    """The plan by a sample: its largest number of channels. If that is 1, `build` raises Coloured where needed."""
    original = None
    if headers:
        original = int(median(h.height for h in headers)), int(median(h.width for h in headers))
    channels = {h.channels for h in headers} or {3}
    return Plan(len(source), max(channels), size, original)


def _why_unusable(where: Path) -> str | None:
    """Why nothing can be cached in a folder, or None."""
    try:
        check_lockable(where)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _in_scratch(where: Path, plan: Plan, fill: Callable[[Plan, Path], Stored]) -> Stored:
    """Images that are too large for memory and not to be kept: in a folder that is removed as soon as possible."""
    unusable = _why_unusable(where)
    if unusable is not None:
        raise OSError(
            f"the images need {plan.nbytes:,} bytes, too many for memory, and the cache folder '{where}' "
            f"cannot be written ({unusable}). Choose another with ILK_CACHE or --cache-dir."
        )
    folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=where))
    try:
        return fill(plan, folder / "images.part")
    finally:
        # Where files in use can be removed, their space is freed when the map is closed, even by a kill.
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            atexit.register(shutil.rmtree, folder, ignore_errors=True)


def fingerprint_of(source: Source, size: int, resize: str) -> str:
    """The hash that names the cache folder; "" for a source without a stamp, whose content is hashed later."""
    if source.stamp is None:
        return ""
    digest = hashlib.blake2b(source.stamp, digest_size=16)
    digest.update(repr((FORMAT, source.kind, len(source), size, resize)).encode())
    return digest.hexdigest()


def to_images(
    source: Source,
    pixels: np.ndarray,
    good: np.ndarray,
    bad: Mapping[int, str],
    original_size: tuple[int, int] | None,
    fingerprint: str,
) -> tuple[Images, np.ndarray]:
    """(`Images` of the readable items of a source, `good`, their positions in it)."""
    rows = None if len(good) == len(pixels) else good
    images = Images(
        pixels,
        rows=rows,
        ids=[source.ids[i] for i in good],
        paths=[source.paths[i] for i in good],
        bad=[
            *source.bad,
            *(BadFile(source.ids[i], source.paths[i], reason) for i, reason in sorted(bad.items())),
        ],
        ignored=source.ignored,
        left_out=source.left_out,
        title=source.title,
        fingerprint=fingerprint or content_hash(pixels, rows),
        source_kind=source.kind,
        original_size=original_size,
    )
    return images, good
