"""A run's clusters as folders of files, as a table, and its model as ONNX."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.files import replacing, write_json
from ilk.system.text import safe_text

PART = ".ilk-part"  # the file that is being copied
MANIFEST = "ilk-export.json"
MODES = ("copy", "symlink", "hardlink")


def export_csv(run: Run, file: Path) -> int:
    """Writes the assignments to a CSV file of your choice; returns the number of rows."""
    source = run.open() / "assignments.csv"
    rows = read_table(run / "assignments.parquet").num_rows  # refuses an unfinished run with a sentence
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        shutil.copyfile(source, temporary)
    return int(rows)


def export_folders(
    run: Run, folder: Path, mode: str = "copy", progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Puts the image files of each cluster into a sub-folder `cluster-NN` of `folder`.

    `mode`: "copy", "symlink" or "hardlink"; the originals are never moved or changed. Every file made
    is listed in `ilk-export.json` there *before* it is made, so that `undo_folders` can take it away.
    Images without a file of their own (arrays, archives) or whose file has gone are left out and listed.
    Returns the manifest: made, left_out. Raises FileExistsError if `folder` holds anything.
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
    puts: dict[str, Callable[..., Any]] = {"copy": copied, "symlink": os.symlink, "hardlink": os.link}
    for done, item in enumerate(made, 1):
        target = folder / item["to"]
        target.parent.mkdir(exist_ok=True)
        try:
            puts[mode](os.path.abspath(item["from"]), target)
        except BaseException as error:
            target.with_name(PART).unlink(missing_ok=True)  # half of it
            if not isinstance(error, OSError):
                raise
            raise OSError(
                f"'{item['from']}' cannot be put into '{folder}' by {mode} ({error.strerror}). Use another mode"
                f" ({', '.join(MODES)}) or folder; undo first, which takes away the {done - 1:,} files made so far."
            ) from None
        if progress is not None:
            progress(done, len(made))
    return manifest


def flat_name(name: str, path: str) -> str:
    """A file name that keeps the id readable: its folders joined by `__`, cut to what file systems allow."""
    parts = [part for part in PurePosixPath(safe_text(name)).parts if part not in ("/", "..", ".")]
    text = "__".join(parts) or os.path.basename(path)
    suffix = os.path.splitext(path)[1]
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    stem = text[: -len(suffix)] if suffix and text.endswith(suffix) else text
    while len((stem + suffix).encode()) > 200:
        stem = stem[1:]
    return stem + suffix


def free_target(folder: str, name: str, taken: set[str]) -> str:
    """`folder/name`, numbered where that is taken, also on file systems that ignore case or accents' spelling."""
    stem, suffix = os.path.splitext(name)
    target, number = f"{folder}/{name}", 1
    while (key := unicodedata.normalize("NFC", target).casefold()) in taken:
        number += 1
        target = f"{folder}/{stem}-{number}{suffix}"
    taken.add(key)
    return target


def copied(source: str, target: Path) -> None:
    """A copy with the original's time, which is under its name only when it is whole."""
    part = target.with_name(PART)
    shutil.copy2(source, part)
    os.replace(part, target)


def undo_folders(folder: Path) -> int:
    """Removes what `export_folders` made in `folder`, and nothing else; returns the number of files removed.

    Files that are not in the manifest stay, and so do the folders that hold them. So does a file that
    is no longer what was made, or whose original has gone: it may be the last one there is. Those are
    what the manifest then still lists. Raises FileNotFoundError or ValueError, before anything is removed.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(f"'{folder}' has no {MANIFEST}: it was not made by ilk export, or was undone already.")
    root = folder.resolve()
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        made = [(folder / item["to"], os.path.abspath(item["from"]), item) for item in manifest["made"]]
        mode = manifest["mode"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{file}' is damaged ({type(error).__name__}: {error}); nothing was removed.") from None
    for target, _, item in made:
        if target.parent.resolve().parent != root:
            raise ValueError(
                f"'{file}' names '{item['to']}', which is outside the folder; it was changed by hand."
                " Nothing was removed."
            )
    kept, removed = [], 0
    for target, original, item in made:
        if not os.path.lexists(target):
            continue
        if not unchanged(target, original, mode):
            kept.append(item)
            continue
        target.unlink()
        removed += 1
    if kept:
        write_json(file, {**manifest, "made": kept})
    else:
        file.unlink()
    for child in {target.parent for target, _, _ in made}:
        (child / PART).unlink(missing_ok=True)  # of an export that was killed
    for child in [*sorted({target.parent for target, _, _ in made}), folder]:
        if child.is_dir() and not any(child.iterdir()):
            child.rmdir()
    return removed


def unchanged(target: Path, original: str, mode: str) -> bool:
    """Whether `target` is still what the export made of `original`, and `original` is still there."""
    if target.is_symlink():
        return mode == "symlink" and os.readlink(target) == original
    if mode == "symlink" or not target.is_file() or not os.path.isfile(original):
        return False
    if mode == "hardlink":
        return os.path.samefile(target, original)
    ours, theirs = target.stat(), os.stat(original)
    return ours.st_size == theirs.st_size and abs(ours.st_mtime - theirs.st_mtime) <= 2  # seconds; FAT rounds to two
