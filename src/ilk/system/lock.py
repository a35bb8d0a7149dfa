"""A lock on a folder, which the system frees when its holder dies, however it dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

FILE = ".lock"
UNLINKABLE = sys.platform != "win32"  # there an open file cannot be removed


class InUse(OSError):
    """Another process works in the folder."""


@contextmanager
def held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock on `folder`, which is made if it is missing; afterwards an empty one is taken away again.

    With `wait`, waits for another process that holds it; otherwise raises InUse, a sentence. On a file
    system that has no locks there is none, and nothing is refused.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    stream = _take(folder, wait)
    try:
        yield
    finally:
        if UNLINKABLE:
            with suppress(OSError):
                os.unlink(folder / FILE)  # while it is held: whoever opened it too sees that it has gone
        stream.close()
        with suppress(OSError):
            for place in made:
                place.rmdir()  # refused, and so left, if there is anything in it


def _take(folder: Path, wait: bool) -> IO[bytes]:
    while True:
        file = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # a link would make a file elsewhere
            stream = os.fdopen(os.open(file, flags, 0o666), "r+b", buffering=0)
        except FileNotFoundError:
            continue  # the folder was taken away in between
        except OSError as error:
            raise OSError(f"'{folder}' cannot be written to ({error.strerror}). Choose another folder.") from error
        try:
            if not _locked_or_lockless(stream):
                if not wait:
                    raise InUse(
                        f"Another process is at work in '{folder}'. Wait until it has ended, or choose another --out."
                    )
                time.sleep(0.1)
            elif _is_still(stream, file):
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _is_still(stream: IO[bytes], file: Path) -> bool:
    """Whether `file` is the one that `stream` has open, not a later one of the same name."""
    try:
        return not UNLINKABLE or os.path.samestat(os.fstat(stream.fileno()), os.stat(file))
    except FileNotFoundError:
        return False


def _locked_or_lockless(stream: IO[bytes]) -> bool:
    try:
        return try_lock(stream)
    except OSError:  # a network file system without locks
        return True


def try_lock(stream: IO[bytes]) -> bool:
    """Locks an open file if nobody else does; OSError on a file system that has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
