"""The images of a source, opened at the size that is needed, with a line on what was found."""

from __future__ import annotations

import os
from typing import Any

from ilk.images import Images, load_images
from ilk.images.choose_files import left_out_line
from ilk.images.labels import split_folders
from ilk.pipeline.request import MAX_SIZE
from ilk.system.processes import in_turn
from ilk.system.progress import Watch
from ilk.system.text import safe_text

MOST_KINDS, MOST_LETTERS = 10, 30  # that are shown


def open_images(
    source: Any,
    *,
    device: str,
    size: int | None = None,
    most: int | None = None,
    channels: int | None = None,
    labels: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> Images:
    """`load_images`, telling `watch` what was found; without a `size`, at most `most` pixels, or what suits the device.

    Of several processes on a machine the first decodes, and the others read its cache.
    """
    watch = watch or Watch()
    images = in_turn(
        lambda: load_images(
            source,
            image_size=size,
            max_image_size=most or max_size(device),
            channels=channels,
            labels=labels,
            cache_dir=cache_dir,
            progress=watch.progress,
        )
    )
    colour = {1: "gray", 3: "colour"}.get(images.shape[0], f"{images.shape[0]} channels")
    watch.say(f"{images.name}: {colour}, used at {images.shape[2]} x {images.shape[1]} pixels")
    if images.left_out:
        watch.say(left_out_line(images.left_out))
    if images.bad:
        first = images.bad[0]
        watch.warn(
            f"{len(images.bad):,} files could not be read and are left out (the first: {first.id}: {first.reason})"
        )
    if images.labels is not None:
        watch.say(
            f"{int((images.labels >= 0).sum()):,} have a label, {len(images.label_names)} kinds; used for scores only"
        )
        if isinstance(labels, str) and labels == "folders":
            watch.say(kinds_line(images))
    return images


def kinds_line(images: Images) -> str:
    """The kinds that the names of folders gave, and which folders were taken for a split."""
    names = [safe_text(name)[:MOST_LETTERS] for name in images.label_names]
    more = f" and {len(names) - MOST_KINDS:,} more" if len(names) > MOST_KINDS else ""
    splits = split_folders(images.ids)
    beside = f"; {', '.join(splits)} are parts of a split, not kinds" if splits else ""
    return f"the kinds are the names of folders: {', '.join(names[:MOST_KINDS])}{more}{beside}"


def open_extra(source: Any, images: Images, *, device: str, cache_dir: Any, watch: Watch) -> Images | None:
    """The extra images of `source` (None: none), in the size and channels of `images`."""
    if source is None:
        return None
    channels, size, _ = images.shape
    return open_images(
        source, device=device, size=size, channels=channels, labels="none", cache_dir=cache_dir, watch=watch
    )


def max_size(device: str) -> int:
    """The side in pixels at which a backbone is trained from scratch on this device, at most."""
    return MAX_SIZE[device.split(":")[0]]
