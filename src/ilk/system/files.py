"""Files that are never half-written, and JSON that is looked at before it is believed."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

MOST_JSON = 64 * 2**20  # bytes; a run of a million named labels has less
MOST_LOG = 256 * 2**20  # bytes; 300,000 epochs


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes `path` when the block ends well, and vanishes otherwise.

    The file gets the permissions that a new file has here, however the block makes it: some writers
    leave it to its owner alone.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed process with the same number, or a link laid out for us
    with room_for(path):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = temporary.stat().st_mode & 0o777  # as the umask says, which cannot be read without being changed
        try:
            yield temporary
            os.chmod(temporary, mode)
            with open(temporary, "r+b") as file:  # Windows syncs only what may be written
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


TEMPORARY = re.compile(r"\.\d+-\d+\.tmp$")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) if hasattr(errno, "EDQUOT") else (errno.ENOSPC, errno.EFBIG)
FULL_WORDS = ("no space left on device", "code: 28,", "file too large", "quota exceeded", " requested and ")  # numpy


class DiskFull(OSError):
    """A file could not be written for want of room; what was there before is still there."""


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Writing `path`. Raises DiskFull, a sentence, where a full disk or a quota stops it, in whichever words."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:  # libraries raise their own kinds
        if not is_full(error):
            raise
        raise DiskFull(
            f"'{path}' could not be written: No space left on its disk. What was there before is unharmed. Free some"
            " space and run the same command again (a training goes on with --resume)."
        ) from error


def is_full(error: BaseException | None) -> bool:
    """Whether the error, or one that it came from, says that a disk is full."""
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


def sweep(folder: Path) -> None:
    """Removes the temporary files that killed processes left in `folder`; only for who holds its lock."""
    for file in folder.iterdir():
        if TEMPORARY.search(file.name) and (file.is_symlink() or file.is_file()):
            file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any, *, compact: bool = False) -> None:
    """Writes `value` as JSON. `compact`: on one line and in ASCII, for files with an entry for each image."""
    write_text(path, json.dumps(value, indent=None if compact else 2, ensure_ascii=compact) + "\n")


def file_hash(path: Path) -> str:
    """What tells the bytes of a file from others."""
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """What a JSON file holds. Raises ValueError, a sentence, for one of more than `most` bytes or that is no JSON."""
    return parse_json(read_limited(path, most), path)


def read_limited(path: Path, most: int) -> bytes:
    """The bytes of a file. Raises ValueError, a sentence, before it is read if there are more than `most`."""
    if (size := path.stat().st_size) > most:
        raise ValueError(f"'{path}' has {size:,} bytes; no more than {most:,} are read. It was not written by ilk.")
    return path.read_bytes()


def parse_json(data: bytes, path: Path) -> Any:
    """The value of JSON text. Raises ValueError, a sentence that names `path`; numbers must be finite."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse_constant, parse_float=finite)
    except RecursionError:
        raise ValueError(f"'{path}' is not valid JSON (it is nested too deeply).") from None
    except ValueError as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}).") from None


def finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no finite number")


def read_json_lines(path: Path, most: int = MOST_LOG) -> list[dict[str, Any]]:
    """The tables in a file of JSON lines; a half-written last line is left out.

    Raises ValueError, a sentence, for a file of more than `most` bytes or with another line that is no table.
    """
    lines = read_limited(path, most).split(b"\n")
    found: list[dict[str, Any]] = []
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
        found.append(value)
    return found
