"""Files that are written whole or not at all, full disks, and JSON that is checked when it is read."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

MOST_JSON = 64 * 2**20  # bytes; a run with a million named labels has fewer
MOST_LOG = 256 * 2**20  # bytes, about 300,000 epochs


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to. It becomes `path` when the block ends well and is removed otherwise.

    The file gets the permissions of any new file in its folder, even from writers that allow access to its
    owner only. Raises DiskFull.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.unlink(missing_ok=True)  # left by a killed process of the same number, or a link
    with room_for(path):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = temporary.stat().st_mode & 0o777  # the umask cannot be read without changing it
        try:
            yield temporary
            os.chmod(temporary, mode)
            with open(temporary, "r+b") as file:  # Windows syncs only files open for writing
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


TEMPORARY = re.compile(r"\.\d+-\d+\.tmp$")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) if hasattr(errno, "EDQUOT") else (errno.ENOSPC, errno.EFBIG)
FULL_WORDS = ("no space left on device", "code: 28,", "file too large", "quota exceeded", " requested and ")  # numpy


class DiskFull(OSError):
    """The disk is too full for a file. What the file held before is unharmed."""


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """A block that writes `path`. Raises DiskFull for any error that means a full disk or quota."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:  # libraries raise errors of their own types
        if not is_full(error):
            raise
        raise DiskFull(
            f"'{path}' could not be written: No space left on its disk. What was there before is unharmed. Free some"
            " space and run the same command again (a training goes on with --resume)."
        ) from error


def is_full(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, means a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if any(words in str(error).lower() for words in FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def need_room(folder: Path, needed: int, *, what: str, advice: str) -> None:
    """Raises `no_room` if the disk of `folder` has less than `needed` bytes left.

    To be asked before a large file is made: a file that is made with its full size but empty fails only later.
    """
    if shutil.disk_usage(folder).free < needed:
        raise no_room(folder, needed, what=what, advice=advice)


def no_room(folder: Path, needed: int, *, what: str, advice: str) -> DiskFull:
    """The error for a disk that cannot take `needed` bytes of `what`; `advice` ends its last sentence."""
    free = shutil.disk_usage(folder).free
    return DiskFull(
        f"the {what} in '{folder}' needs {needed:,} bytes, and its disk has {free:,} left. Free some space, {advice}."
    )


def sweep(folder: Path, *, only: Callable[[Path], bool] = lambda file: True) -> None:
    """Removes the temporary files that killed processes left in `folder`. The caller must hold the folder's lock.

    `only`: whether a temporary file is one of ours. Not needed in folders where nobody but ilk puts files.
    """
    for file in folder.iterdir():
        if TEMPORARY.search(file.name) and (file.is_symlink() or file.is_file()) and only(file):
            file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, with its line ends as they are. Raises DiskFull."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any, *, compact: bool = False) -> None:
    """Writes `value` as JSON. `compact`: on one line and in ASCII, for files with an entry for each image."""
    write_text(path, json.dumps(value, indent=None if compact else 2, ensure_ascii=compact) + "\n")


def file_hash(path: Path) -> str:
    """A hash of the bytes of a file, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The value in a JSON file. Raises ValueError for more than `most` bytes and for invalid JSON."""
    return parse_json(read_limited(path, most), path)


def read_limited(path: Path, most: int) -> bytes:
    """The bytes of a file. Raises ValueError before reading it if there are more than `most`."""
    if (size := path.stat().st_size) > most:
        raise ValueError(
            f"'{path}' has {size:,} bytes, more than the {most:,} that are read. ilk writes no file of that size."
        )
    return path.read_bytes()


def parse_json(data: bytes, path: Path) -> Any:
    """The value of JSON text. Raises ValueError, naming `path`, for invalid JSON and for NaN or infinity."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse_constant, parse_float=finite)
    except RecursionError:
        raise ValueError(f"'{path}' is not valid JSON (it is nested too deeply).") from None
    except ValueError as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}).") from None


def finite(text: str) -> float:
    """The number in `text`. Raises ValueError unless it is finite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def refuse_constant(text: str) -> NoReturn:
    """Raises ValueError: `text` is NaN, Infinity or -Infinity, which JSON does not have."""
    raise ValueError(f"{text} is not a finite number")


def read_json_lines(path: Path, most: int = MOST_LOG) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines, without a half-written last line.

    Raises ValueError for a file of more than `most` bytes and for any other line that is not a JSON object.
    """
    lines = read_limited(path, most).split(b"\n")
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            if any(rest.strip() for rest in lines[number:]):
                raise ValueError(f"'{path}' is damaged in line {number}. Delete that line, or the file.") from None
            break
        if not isinstance(value, dict):
            raise ValueError(f"'{path}' is damaged in line {number}. Delete that line, or the file.")
        objects.append(value)
    return objects
