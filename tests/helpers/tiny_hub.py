"""A cache of the Hugging Face hub as it lies on a disk, filled by hand."""

from __future__ import annotations

import shutil
from pathlib import Path


def into_cache(folder: Path, cache: Path, model_id: str, commit: str = "abc", *, main: bool = True) -> Path:
    """Puts a copy of `folder` where the hub's client keeps `model_id`; with `main`, as its current version."""
    place = cache / f"models--{model_id.replace('/', '--')}"
    if main:
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(folder, place / "snapshots" / commit))
