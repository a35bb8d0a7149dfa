"""What the names in a job stand for now, so that jobs differ when a file or a recipe changes."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from ilk.research.labelled import DIGITS, PROGRAM
from ilk.system.files import file_hash
from ilk.views import describe, get_views

NETWORK_FILES = ("config.json", "model.safetensors", "pytorch_model.bin", "representation/model.safetensors")


def full_path(source: str) -> str:
    """The absolute path of a source, however it was written; "digits" as it is."""
    if source == DIGITS:
        return source
    program = PROGRAM.match(source)
    if program:
        return f"{Path(program['file']).expanduser().resolve()}:{program['name']}"
    return str(Path(source).expanduser().resolve())


def embeddings_of(run: str) -> list[str | None]:
    """The path of a run folder, and a hash of its embeddings (None where there are none)."""
    folder = Path(run).expanduser()
    return [str(folder.resolve()), current_hash(folder / "embeddings.npy")]


def network_of(backbone: str) -> str | list[Any]:
    """A backbone's name, with hashes of its weights if it names a run, a folder or a file."""
    kind, _, rest = backbone.partition(":")
    if kind == "weights":  # FILE, perhaps with :BACKBONE and @SIZE behind it
        plain = rest.rpartition("@")[0] or rest
        tried = (rest, plain, rest.rpartition(":")[0], plain.rpartition(":")[0])
        file = next((path for path in tried if Path(path).is_file()), "")
        return [kind, Path(file).name, rest.removeprefix(file), current_hash(Path(file))] if file else backbone
    if kind in ("run", "hf") and Path(rest).is_dir():
        hashes = [current_hash(Path(rest) / name) for name in NETWORK_FILES if kind == "hf" or name != "config.json"]
        return [kind, str(Path(rest).resolve()), *hashes]
    return backbone


def recipes_of(views: str) -> list[Any] | None:
    """The recipes behind a name of views; None for "auto", which depends on the images."""
    return None if views == "auto" else [describe(recipe) for recipe in get_views(views)]


def current_hash(file: Path) -> str | None:
    """A hash of a file's bytes; None where there is no file."""
    if not file.is_file():
        return None
    now = file.stat()
    return hash_at(os.path.realpath(file), now.st_size, now.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def hash_at(file: str, size: int, changed: int) -> str:
    """The hash of a file of that size and time; cached, because keys are computed often and embeddings are large."""
    return file_hash(Path(file))
