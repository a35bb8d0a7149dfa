"""Export of a run's clusters as folders of image files, or as a table; undo of the former."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ilk.runs.folder import Run
from ilk.runs.tables import read_table, write_csv_table
from ilk.system.files import file_hash, read_json, write_json
from ilk.system.own_folders import MANIFEST
from ilk.system.text import safe_text

PART = ".ilk-part"  # temporary name of the file that is being copied
MOST_MANIFEST = 2**30  # bytes, about three million files
MODES = ("copy", "symlink", "hardlink")
CHANGED = "that differ from what was exported or from their original"
ORIGINAL = "that are the original itself, or all that it leads to"


@dataclass(frozen=True)
class Undone:
    """The result of an undo. `removed`: number of files; `kept`: entries of the manifest that remain, with reasons."""

    removed: int
    kept: list[tuple[dict[str, str], str]]

    def kept_line(self) -> str:
        """One line on how many files were kept, and why; empty if none was."""
        counts = Counter(reason for _, reason in self.kept)
        first = {reason: item["to"] for item, reason in reversed(self.kept)}
        parts = [f"{count:,} {reason} (the first: {first[reason]})" for reason, count in counts.items()]
        return f"{len(self.kept):,} files kept: {'; '.join(parts)}" if parts else ""


def export_csv(run: Run, file: Path) -> int:
    """The number of images, after writing the assignments to the CSV file `file`."""
    table = read_table(run.open() / "assignments.parquet")  # raises an error for an unfinished run
    file.parent.mkdir(parents=True, exist_ok=True)
    write_csv_table(file, table)
    return int(table.num_rows)


def export_folders(
    run: Run, folder: Path, mode: str = "copy", progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """The manifest of the export, with `made` and `left_out`, after putting the image files into `folder`.

    The files of each cluster go into a sub-folder `cluster-NN`. `mode`: "copy", "symlink" or "hardlink"; the originals
    are never moved or changed. Files are listed in `ilk-export.json` *before* they are made, so that `undo_folders` can
    remove them; at the end, copies are listed with the hash of their content. Images without a file of their own (in
    arrays, archives), or whose file is missing, are left out and listed.
    Raises FileExistsError if `folder` is not empty, ValueError if no image is a file on disk.
    """
    if mode not in MODES:
        raise ValueError(f"Unknown mode '{mode}'. Use {', '.join(MODES)}.")
    table = read_table(run.open() / "assignments.parquet")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"'{folder}' is not empty. Choose a new folder, or undo the export that is in it.")
    digits = len(str(max(run.config.n_clusters - 1, 1)))
    ids, paths, clusters = (table[name].to_pylist() for name in ("id", "path", "cluster"))
    made: list[dict[str, str]] = []
    left_out: list[dict[str, str]] = []
    taken: set[str] = set()
    for name, path, cluster in zip(ids, paths, clusters, strict=True):
        if not path or not os.path.isfile(path):
            reason = "its file has gone" if path and "::" not in path else "it has no file of its own"
            left_out.append({"id": name, "reason": reason})
            continue
        place = free_target(f"cluster-{cluster:0{digits}d}", flat_name(name, path), taken)
        made.append({"id": name, "from": path, "to": place})
    if not made:
        raise ValueError(
            f"None of the {len(ids):,} images of '{run}' is a file on disk, so there is nothing to export."
        )
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"format": 1, "run": str(run.folder.resolve()), "mode": mode, "made": made, "left_out": left_out}
    write_json(folder / MANIFEST, manifest)
    make_file: dict[str, Callable[..., str | None]] = {"copy": copy_whole, "symlink": os.symlink, "hardlink": os.link}
    for done, item in enumerate(made, 1):
        target = folder / item["to"]
        target.parent.mkdir(exist_ok=True)
        try:
            content = make_file[mode](os.path.abspath(item["from"]), target)
        except BaseException as error:
            target.with_name(PART).unlink(missing_ok=True)  # an incomplete copy
            if not isinstance(error, OSError):
                raise
            raise OSError(
                f"'{item['from']}' cannot be put into '{folder}' by {mode} ({error.strerror}). Use another mode"
                f" ({', '.join(MODES)}) or folder; undo first, which removes the {done - 1:,} files made so far."
            ) from None
        if content is not None:
            item["hash"] = content
        if progress is not None:
            progress(done, len(made))
    if mode == "copy":
        write_json(folder / MANIFEST, manifest)
    return manifest


def flat_name(name: str, path: str) -> str:
    """A file name made of the id `name`, its folders joined by `__`, at most 200 bytes, with the suffix of `path`."""
    parts = [part for part in PurePosixPath(safe_text(name)).parts if part not in ("/", "..", ".")]
    text = "__".join(parts) or os.path.basename(path)
    suffix = os.path.splitext(path)[1]
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    stem = text[: -len(suffix)] if suffix and text.endswith(suffix) else text
    while len((stem + suffix).encode()) > 200:
        stem = stem[1:]
    return stem + suffix


def free_target(folder: str, name: str, taken: set[str]) -> str:
    """`folder/name`, with a number if it is in `taken`, to which it is added.

    Names that differ only in case or Unicode normalisation count as equal, as on some file systems.
    """
    stem, suffix = os.path.splitext(name)
    target, number = f"{folder}/{name}", 1
    while (key := unicodedata.normalize("NFC", target).casefold()) in taken:
        number += 1
        target = f"{folder}/{stem}-{number}{suffix}"
    taken.add(key)
    return target


def copy_whole(source: str, target: Path) -> str:
    """The hash of a file, after copying it with its modification time, under a temporary name until it is complete."""
    part = target.with_name(PART)
    shutil.copy2(source, part)
    content = file_hash(part)
    os.replace(part, target)
    return content


def undo_folders(folder: Path) -> Undone:
    """What was removed and what was kept, after removing the files that `export_folders` made in `folder`.

    A file is removed only if it is as the export made it and its original is another file with the same content;
    otherwise it may be the only copy. Files that are not in the manifest stay, and so do their folders. The manifest
    then lists the kept files only. Raises FileNotFoundError if there is no manifest and ValueError for a damaged one,
    before anything is removed.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(f"'{folder}' has no {MANIFEST}: it was not made by ilk export, or was undone already.")
    root = folder.resolve()
    try:
        manifest = read_json(file, MOST_MANIFEST)
        made = [(folder / item["to"], os.path.abspath(item["from"]), item) for item in manifest["made"]]
        mode = manifest["mode"]
        if mode not in MODES:
            raise ValueError(f"its mode is {str(mode)[:20]!r}")
        if not all(isinstance(item.get("hash"), str | None) for _, _, item in made):
            raise ValueError("a hash is not text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"'{file}' is damaged ({type(error).__name__}: {error}); nothing was removed.") from None
    for target, _, item in made:
        if target.parent.resolve().parent != root:
            raise ValueError(
                f"'{file}' names '{item['to']}', which is outside the folder; it was changed by hand."
                " Nothing was removed."
            )
    kept: list[tuple[dict[str, str], str]] = []
    removed = 0
    for target, original, item in made:
        if not os.path.lexists(target):
            continue
        reason = why_keep(target, original, mode, item.get("hash"))
        if reason is not None:
            kept.append((item, reason))
            continue
        target.unlink()
        removed += 1
    if kept:
        write_json(file, {**manifest, "made": [item for item, _ in kept]})
    else:
        file.unlink()
    for child in {target.parent for target, _, _ in made}:
        (child / PART).unlink(missing_ok=True)  # left by a killed export
    for child in [*sorted({target.parent for target, _, _ in made}), folder]:
        if child.is_dir() and not any(child.iterdir()):
            child.rmdir()
    return Undone(removed, kept)


def why_keep(target: Path, original: str, mode: str, content: str | None) -> str | None:
    """Why `target` must not be removed; None if it is as the export made it and something else holds its content.

    `content`: the hash of a copy, if the manifest has one. To be called right before removing, since a file that was
    removed before may have been the original of this one.
    """
    if mode == "symlink" or target.is_symlink():
        made = mode == "symlink" and target.is_symlink() and os.readlink(target) == original
        return None if made else CHANGED
    if not target.is_file():
        return CHANGED
    if not os.path.isfile(original):
        return "whose original is gone"
    same = os.path.samefile(target, original)
    if mode == "hardlink":
        if not same:
            return CHANGED
        # two names of one file: the same name twice, or a link to this one, would leave nothing
        alone = os.path.realpath(target) == os.path.realpath(original) or target.stat().st_nlink < 2
        return ORIGINAL if alone else None
    if same:
        return ORIGINAL
    if target.stat().st_size != os.stat(original).st_size:
        return CHANGED
    target_hash = file_hash(target)
    if content is not None and target_hash != content:
        return CHANGED
    return None if target_hash == file_hash(Path(original)) else CHANGED
