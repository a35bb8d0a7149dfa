"""Images in files: a folder, one file, or a list of paths, pictures and arrays."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ilk.images.arrays import item_to_uint8
from ilk.images.choose_files import OWN, SYSTEM, FileChoice, is_system_folder, left_out_line
from ilk.images.collection import BadFile, position_ids
from ilk.images.open_picture import explain, picture_extensions
from ilk.images.source import Source, Unreadable, file_stamp, is_hidden, unique_names
from ilk.system.own_folders import written_by_ilk
from ilk.system.text import safe_text

TABLE_EXTENSIONS = frozenset({".parquet", ".pq"})
REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass
class Listing:
    """The files below a folder; names are relative to it, with `/`, and sorted."""

    pictures: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    bad: list[BadFile] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def folder_source(folder: Path, listing: Listing, choice: FileChoice) -> Source:
    """The pictures below a folder, in the order of their relative paths, which are their ids.

    `listing`: as `walk` returns it for the same folder and choice. Raises ValueError if it has no pictures.
    """
    title = f"{folder.resolve().name}/"
    if not listing.pictures:
        raise ValueError(f"'{folder}' holds no images. {_what_else(listing)}")
    root = os.path.abspath(folder)
    real = _below(root, listing.pictures)
    ids = unique_names([safe_text(name) for name in listing.pictures])

    def stamp(names: list[str]) -> bytes:
        return file_stamp(_below(root, names), str(folder.resolve()), names)

    return Source(
        kind="folder",
        title=title,
        ids=ids,
        paths=[safe_text(path) for path in real],
        read=real.__getitem__,
        stamp=stamp(listing.pictures),
        restamp=lambda: stamp(walk(folder, choice).pictures),
        folders=ids,
        bad=listing.bad,
        ignored=sum(listing.others.values()),
        left_out=listing.left_out,
    )


def _below(root: str, names: Sequence[str]) -> list[str]:
    """The paths of files by their names relative to `root`."""
    return [os.path.join(root, *name.split("/")) for name in names]


def _what_else(listing: Listing) -> str:
    """What a folder without pictures holds, a sentence."""
    if listing.bad:
        return f"Its sub-folder {listing.bad[0].id!r} {listing.bad[0].reason}."
    if listing.left_out:
        return (
            f"{left_out_line(listing.left_out).capitalize()}. Such a folder is read only when it is named itself; runs"
            " never are."
        )
    if not listing.others:
        return "It is empty; give a folder that holds pictures, in itself or in sub-folders."
    kinds = ", ".join(f"{count:,} {ending or 'without ending'}" for ending, count in listing.others.most_common(4))
    if any(ending in (".zip", ".tar", ".gz", ".tgz", ".npy", ".npz") for ending in listing.others):
        return f"It has files of other kinds ({kinds}); an archive or array file must be given itself."
    return f"It has files of other kinds ({kinds}), none of which Pillow reads."


def walk(folder: Path, choice: FileChoice | None = None) -> Listing:
    """The files below `folder`, of its pictures those of `choice`. Each sub-folder is visited once.

    Hidden files are not listed, nor is what lies below a sub-folder that ilk wrote or that systems fill with
    thumbnails or deleted files; those folders are counted in `left_out`. So the list is the same before and after
    a run is written into the folder. Raises ValueError if `choice` takes none of the pictures.

    Links to folders are followed after all real folders, so that loops end, and a folder that can be reached in two
    ways keeps its real name.
    """
    listing = Listing()
    visited: set[tuple[int, int]] = set()
    links: list[str] = []
    real = [""]
    while real or links:
        prefix = real.pop() if real else links.pop(0)
        real.extend(_visit(folder, prefix, listing, visited, links))
    for names in (listing.pictures, listing.tables):
        names.sort()
    if choice:
        rows = choice.chosen(listing.pictures, listing.left_out)
        listing.pictures = [listing.pictures[row] for row in rows]
    listing.bad.sort(key=lambda bad: bad.id)
    return listing


def _visit(folder: Path, prefix: str, listing: Listing, visited: set[tuple[int, int]], links: list[str]) -> list[str]:
    """The real sub-folders of a folder. Adds its files to `listing` and its links to folders to `links`."""
    here = os.path.join(os.path.abspath(folder), *prefix.split("/"))
    deeper: list[str] = []
    try:
        identity = os.stat(here)
        if (identity.st_dev, identity.st_ino) in visited and identity.st_ino:
            return []
        visited.add((identity.st_dev, identity.st_ino))
        entries = sorted(os.scandir(here), key=lambda entry: entry.name)
    except OSError as error:
        if not prefix:
            raise
        listing.bad.append(BadFile(safe_text(prefix), safe_text(here), explain(error)))
        return []
    if prefix and written_by_ilk(here, {entry.name for entry in entries}):
        listing.left_out[OWN] += 1
        return []
    for entry in entries:
        if is_system_folder(entry.name) and _is_folder(entry):
            listing.left_out[SYSTEM] += 1
            continue
        if is_hidden(entry.name):
            continue
        name = f"{prefix}/{entry.name}" if prefix else entry.name
        if _is_folder(entry):
            (links if entry.is_symlink() else deeper).append(name)
            continue
        ending = os.path.splitext(entry.name)[1].lower()
        if ending in picture_extensions() and (os.path.isfile(entry.path) or not os.path.exists(entry.path)):
            listing.pictures.append(name)
            continue
        listing.others[safe_text(ending)] += 1
        if ending in TABLE_EXTENSIONS:
            listing.tables.append(name)
    return deeper


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one that can be entered."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder without permission
        return False


def chosen_list(items: Sequence[Any], choice: FileChoice) -> Source:
    """The images of a list of paths that `choice` takes, with the ids that they have in the whole list.

    Raises ValueError for a list that holds pictures themselves, or if no path is taken.
    """
    paths = [_path_text(item) for item in items]
    if not paths or None in paths:
        raise ValueError(
            "--include and --exclude choose files by name: they work for a folder, an archive or a list of paths, not"
            " for pictures themselves. Leave them out."
        )
    left_out: Counter[str] = Counter()
    whole = list_source(items)
    rows = choice.chosen(whole.ids, left_out)
    ids = [whole.ids[row] for row in rows]
    part = list_source([items[row] for row in rows], whole.title)
    return replace(part, ids=ids, folders=ids, left_out=left_out)


def list_source(items: Sequence[Any], title: str | None = None) -> Source:
    """The images in a list of paths, encoded bytes, Pillow images or arrays.

    If all are paths, their ids are the paths relative to their common folder, else positions. Raises ValueError for an
    empty list, TypeError for other items.
    """
    if not items:
        raise ValueError("the list of images is empty. Give at least one path, picture or array.")
    real = [_path_text(item) for item in items]
    named = [path for path in real if path is not None]
    are_paths = len(named) == len(items)
    ids = unique_names(_below_common_folder(named)) if are_paths else position_ids(len(items))

    def read(i: int) -> Any:
        path = real[i]
        return _read_item(items[i], i) if path is None else _check_file(path)

    def stamp() -> bytes:
        return file_stamp(named, named)

    return Source(
        kind="file" if len(items) == 1 and named else "list",
        title=title or ("list" if len(items) > 1 or not named else os.path.basename(safe_text(named[0]))),
        ids=ids,
        paths=[safe_text(path) if path is not None else "" for path in real],
        read=read,
        stamp=stamp() if are_paths else None,
        restamp=stamp if are_paths else None,
        sequential=len(named) < len(items),
        in_memory=not named,
        folders=ids if named else None,
    )


def _path_text(item: Any) -> str | None:
    """The absolute path of a list item, None if it is a picture itself. Raises ValueError or TypeError."""
    if isinstance(item, (str, os.PathLike)):
        text = os.fsdecode(os.fspath(item))
        if REMOTE.match(text):
            raise ValueError(f"{text!r} is a remote address; images are read from local files. Download it first.")
        return os.path.abspath(os.path.expanduser(text))
    if isinstance(item, (bytes, bytearray, Image.Image, np.ndarray)) or hasattr(item, "detach"):
        return None
    raise TypeError(
        f"the list holds a {type(item).__name__}; its items must be paths, encoded bytes, Pillow images or arrays."
    )


def _check_file(path: str) -> str:
    """`path`. Raises Unreadable if it is a folder."""
    if os.path.isdir(path):
        raise Unreadable("is a folder, not an image; give the folder itself as the source")
    return path


def _read_item(item: Any, position: int) -> Any:
    """A list item that is a picture itself, for the decoder. Raises Unreadable."""
    if isinstance(item, Image.Image):
        try:
            # A picture may be in the list twice, and Pillow cannot load it in two threads at once.
            return item.copy()
        except Exception as error:  # a picture that is loaded only now raises any error of its decoder
            raise Unreadable(explain(error)) from error
    if isinstance(item, (bytes, bytearray)):
        return bytes(item)
    return item_to_uint8(item, f"image {position:,} of the list")


def _below_common_folder(paths: Sequence[str]) -> list[str]:
    """The paths relative to their common folder, with `/`."""
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # two drives on Windows
        return [safe_text(path).replace(os.sep, "/") for path in paths]
    return [safe_text(os.path.relpath(path, common)).replace(os.sep, "/") for path in paths]
