"""The cache of the Hugging Face hub on this machine: where it is, and which models lie in it.

What a server, a reference or an index names becomes a path only after it was checked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

INDEX = "model.safetensors.index.json"
PREPARATIONS = ("preprocessor_config.json", "processor_config.json")  # the second since transformers 5
COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*", re.ASCII)  # a branch, tag or commit; no `..`, see `checked_revision`
SHARD = re.compile(r"\w[\w.+-]*\.safetensors", re.ASCII)


def endpoint() -> str:
    """The address of the hub: $HF_ENDPOINT, or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def cache_folder() -> Path:
    """The folder of the hub's downloads, by the environment variables that huggingface_hub documents."""
    for name, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser() / below
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def cached(model_id: str, revision: str | None = None) -> Path | None:
    """The folder of a complete copy in the cache, or None: that of `revision`, else of main, else the latest.

    Raises ValueError for a revision that cannot be one.
    """
    if revision:
        checked_revision(revision)
    return next((folder for folder in snapshots(model_folder(model_id), revision) if complete(folder)), None)


def model_folder(model_id: str) -> Path:
    """The folder of the cache in which huggingface_hub keeps a model."""
    return cache_folder() / f"models--{model_id.replace('/', '--')}"


def snapshots(folder: Path, revision: str | None) -> Iterator[Path]:
    """The folders that may hold a copy of the model in `folder`, the best one first."""
    reference = folder / "refs" / (revision or "main")
    if reference.is_file():
        commit = reference.read_text(encoding="utf-8").strip()
        if Path(commit).name == commit:  # a damaged or foreign reference must not lead out of the cache
            yield folder / "snapshots" / commit
    if revision:
        yield folder / "snapshots" / revision
    elif (folder / "snapshots").is_dir():
        yield from sorted((folder / "snapshots").iterdir(), key=lambda copy: -copy.stat().st_mtime)


def checked_revision(revision: str) -> str:
    """`revision`, if it can be a branch, tag or commit and so part of a path. Raises ValueError otherwise."""
    if not REVISION.fullmatch(revision) or ".." in revision or len(revision) > 200:
        raise ValueError(
            f"'{revision[:60]}' is no revision of a model. Give a branch, a tag or a commit: hf:owner/name@main"
        )
    return revision


def checked_commit(commit: object) -> str:
    """`commit`, if it is a commit's hash. Raises ValueError otherwise: it comes from a server and becomes a path."""
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise ValueError(
            f"{endpoint()} answered with {str(commit)[:60]!r} instead of a commit of 40 hexadecimal digits. Check"
            " HF_ENDPOINT, or download the model on another machine and give its folder: hf:FOLDER"
        )
    return commit


def complete(folder: Path) -> bool:
    """Whether all files that an encoder needs are there."""
    try:
        needed = [folder / "config.json", *weight_files(folder)]
    except ValueError:
        return False
    return all(file.is_file() for file in needed) and any((folder / name).is_file() for name in PREPARATIONS)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder. Raises ValueError with the end of a sentence that begins with the folder."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / INDEX).is_file():
        return [folder / name for name in shard_names((folder / INDEX).read_text(encoding="utf-8"))]
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt")) or list(folder.glob("*.pth")):
        raise ValueError(
            "holds its weights as pickles only, which can run code when they are opened; ilk reads model.safetensors."
            " Look for a safetensors version of the model, or save it as one with save_pretrained"
        )
    raise ValueError("has no model.safetensors")


def shard_names(index: str) -> list[str]:
    """The names of the weight files that an index lists. Raises ValueError with the end of a sentence."""
    try:
        names = sorted(set(json.loads(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"has a damaged {INDEX}") from None
    if not names or not all(isinstance(name, str) and SHARD.fullmatch(name) for name in names):
        raise ValueError(f"has a damaged {INDEX}")
    return names
