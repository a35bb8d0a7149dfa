"""What the names in a job stand for at present: paths, files, recipes of views."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from ilk.research.labelled import DIGITS, PROGRAM
from ilk.system.files import file_hash
from ilk.views import describe, get_views

OF_A_NETWORK = ("config.json", "model.safetensors", "pytorch_model.bin", "representation/model.safetensors")


def place(source: str) -> str:
    """A source by its whole path, however it was written."""
    if source == DIGITS:
        return source
    program = PROGRAM.match(source)
    if program:
        return f"{Path(program['file']).expanduser().resolve()}:{program['name']}"
    return str(Path(source).expanduser().resolve())


def embeddings_of(run: str) -> list[str | None]:
    """A run folder, and what tells its embeddings from those of another run there."""
    folder = Path(run).expanduser()
    return [str(folder.resolve()), hash_of(folder / "embeddings.npy")]


def network_of(backbone: str) -> str | list[Any]:
    """A backbone's name; with a hash of the weights where it names a run, a folder or a file."""
    kind, _, rest = backbone.partition(":")
    if kind == "weights":  # FILE, perhaps with :BACKBONE and @SIZE behind it
        plain = rest.rpartition("@")[0] or rest
        tried = (rest, plain, rest.rpartition(":")[0], plain.rpartition(":")[0])
        file = next((one for one in tried if Path(one).is_file()), "")
        return [kind, Path(file).name, rest.removeprefix(file), hash_of(Path(file))] if file else backbone
    if kind in ("run", "hf") and Path(rest).is_dir():
        hashes = [hash_of(Path(rest) / name) for name in OF_A_NETWORK if kind == "hf" or name != "config.json"]
        return [kind, str(Path(rest).resolve()), *hashes]
    return backbone


def recipes_of(views: str) -> list[Any] | None:
    """What views of that name do; None where the images are to say."""
    return None if views == "auto" else [describe(one) for one in get_views(views)]


def hash_of(file: Path) -> str | None:
    """A hash of a file's bytes, None where there is none."""
    if not file.is_file():
        return None
    now = file.stat()
    return hash_at(os.path.realpath(file), now.st_size, now.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def hash_at(file: str, size: int, changed: int) -> str:
    """The hash of a file as it was at that time: a job's key is asked for often, and embeddings are large."""
    return file_hash(Path(file))
