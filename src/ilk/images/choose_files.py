"""Which files of a source are taken: patterns that a person gives, and folders that hold no pictures of theirs."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ilk.images.source import Source
from ilk.system.own_folders import ARCHIVE_MARKS, written_in_archive

OWN, SYSTEM, UNCHOSEN = "own", "system", "unchosen"  # the reasons that are counted
NOUNS = {
    OWN: ("folder that ilk wrote", "folders that ilk wrote"),
    SYSTEM: ("folder of thumbnails or deleted files", "folders of thumbnails or deleted files"),
    UNCHOSEN: ("file by --include and --exclude", "files by --include and --exclude"),
}
# Made by Synology and QNAP disks, Windows, macOS, Linux desktops and file checks.
SYSTEM_FOLDERS = frozenset({
    "@eadir", "#recycle", "@recycle", "#snapshot", "@__thumb", ".@__thumb", "$recycle.bin", "recycler",
    "system volume information", "thumbnails", ".thumbnails", ".trashes", "__macosx", "lost+found",
})  # fmt: skip

Patterns = str | Sequence[str] | None


def is_system_folder(name: str) -> bool:
    """Whether systems keep thumbnails or deleted files in folders of that name."""
    return name.casefold() in SYSTEM_FOLDERS or name.casefold().startswith(".trash")


def left_out_line(left_out: Mapping[str, int]) -> str:
    """`left out: 2 folders that ilk wrote, 1 file by ...`, or "" where nothing was."""
    parts = [f"{count:,} {NOUNS[reason][count != 1]}" for reason, count in sorted(left_out.items())]
    return f"left out: {', '.join(parts)}" if parts else ""


@dataclass(frozen=True)
class FileChoice:
    """Which files to take, by their paths relative to the source, with `/`.

    A pattern (`*`, `?`, `[abc]`; `*` matches `/` too) is compared with the path and with each folder above it.
    A file is taken if a pattern of `include` matches, or there is none, and no pattern of `exclude` does.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _compiled: dict[str, re.Pattern[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def takes(self, name: str) -> bool:
        """Whether the file of that path is taken."""
        if self.include and not self._matches(self.include, name):
            return False
        return not self._matches(self.exclude, name)

    def _matches(self, patterns: Sequence[str], name: str) -> bool:
        for pattern in patterns:
            if pattern not in self._compiled:
                self._compiled[pattern] = re.compile(fnmatch.translate(pattern.removeprefix("./").rstrip("/")))
            if any(self._compiled[pattern].match(path) for path in (name, *_folders_above(name))):
                return True
        return False

    def chosen(self, names: Sequence[str], left_out: Counter[str]) -> list[int]:
        """The positions of the names that are taken; the others are added to `left_out`.

        Raises ValueError if there are names and none is taken.
        """
        if not self:
            return list(range(len(names)))
        rows = [row for row, name in enumerate(names) if self.takes(name)]
        left_out[UNCHOSEN] += len(names) - len(rows)
        if names and not rows:
            given = [f"--include {text!r}"[:80] for text in self.include]
            given += [f"--exclude {text!r}"[:80] for text in self.exclude]
            raise ValueError(
                f"{' '.join(given[:4])} leaves none of the {len(names):,} images (the first is {names[0]!r}). Patterns"
                " are compared with such paths: 'cats/*', '*.jpg', '*_small*'."
            )
        return rows


def _folders_above(name: str) -> Iterator[str]:
    """`a/b` and `a` of `a/b/c.png`."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


@dataclass(frozen=True)
class ChosenFiles:
    """A source of which only some files are taken; whatever takes a source takes this."""

    source: Any
    choice: FileChoice


def choose_files(source: Any, include: Patterns = None, exclude: Patterns = None) -> Any:
    """`source`, with the files to take where patterns are given.

    Raises ValueError for an empty pattern or without a source, TypeError for a pattern that is no text.
    """
    choice = FileChoice(_patterns("--include", include), _patterns("--exclude", exclude))
    if not choice:
        return source
    if source is None:
        raise ValueError("--include and --exclude choose among the files of a source, and there is none. Give it.")
    return ChosenFiles(list(source) if isinstance(source, Iterator) else source, choice)


def _patterns(option: str, given: Patterns) -> tuple[str, ...]:
    patterns = (given,) if isinstance(given, (str, os.PathLike)) else tuple(given or ())
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{option} is a {type(pattern).__name__}; it must be a pattern such as '*.jpg', or a list.")
        if not pattern.strip("./ "):
            raise ValueError(f"{option} is {pattern!r}; it must be a pattern such as 'cats/*' or '*.jpg'.")
    return patterns


def part_of_archive(source: Source, choice: FileChoice) -> Source:
    """The members of an archive that are taken. Raises ValueError for a source without files."""
    if source.folders is None or source.kind not in ("zip", "tar"):
        source.close()
        raise ValueError(
            f"--include and --exclude choose files by name, and '{source.title}' has none: they work for a folder, an"
            " archive or a list of paths. Leave them out."
        )
    left_out = Counter(source.left_out)
    try:
        rows = choice.chosen(source.ids, left_out)
    except ValueError:
        source.close()
        raise
    chosen = "\0".join(source.ids[row] for row in rows).encode("utf-8", "surrogatepass")

    def stamped(stamp: bytes) -> bytes:
        return hashlib.blake2b(stamp + chosen, digest_size=32).digest()

    restamp, ids = source.restamp, [source.ids[row] for row in rows]
    assert source.stamp is not None and restamp is not None  # of every archive
    return replace(
        source, ids=ids, folders=ids, paths=[source.paths[row] for row in rows], left_out=left_out,
        read=lambda place: source.read(rows[place]), stamp=stamped(source.stamp), restamp=lambda: stamped(restamp()),
    )  # fmt: skip


class FoldersLeftOut:
    """The folders in an archive whose members are not taken, known by the names of all members.

    An export that is all there is in the archive was packed on purpose, and is taken.
    """

    def __init__(self, names: Iterable[str]) -> None:
        marks: dict[str, set[str]] = {}
        tops: set[str] = set()
        for name in names:
            folder, _, file = name.removeprefix("./").rpartition("/")
            tops.add(folder.partition("/")[0] if folder else "")
            if file in ARCHIVE_MARKS:
                marks.setdefault(folder, set()).add(file)
        self._top = tops.pop() if len(tops) == 1 else ""  # the one folder that everything is in
        self._own = {folder for folder, files in marks.items() if self._is_left_out(folder, files)}
        self._left_out: dict[str, str] = {}  # the reason for each folder

    def _is_left_out(self, folder: str, files: set[str]) -> bool:
        made = written_in_archive(files)
        return made == "run" or (made == "export" and folder not in ("", self._top))

    def leave_out(self, name: str) -> bool:
        """Whether that member is in such a folder."""
        name = name.removeprefix("./")
        for folder in ("", *reversed([*_folders_above(name)])):  # the outermost is counted
            system = is_system_folder(folder.rpartition("/")[2])
            if system or folder in self._own:
                self._left_out[folder] = SYSTEM if system else OWN
                return True
        return False

    def counts(self) -> Counter[str]:
        """How many folders have had members left out, by reason."""
        return Counter(self._left_out.values())
