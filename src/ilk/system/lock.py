"""Locks on folders and files. A lock ends with its process, however that ends."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

FILE = ".lock"
AT_ONCE, PAUSE = 0.1, 0.02  # seconds of trying when we do not wait, and between two tries
SAY_AFTER = 2.0  # seconds of waiting before `waiting` is called
TRIES = 50  # of making a folder that other processes remove at the same time
NO_LOCKS = {getattr(errno, name) for name in ("ENOSYS", "ENOLCK", "ENOTSUP", "EOPNOTSUPP", "EINVAL")}
UNLINKABLE = sys.platform != "win32"  # on Windows an open file cannot be removed, and filelock does it afterwards


class InUse(OSError):
    """Another process works in the folder."""


@contextmanager
def held(folder: Path, *, wait: bool = False, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """A block that holds the lock on `folder`. A missing folder is made, and removed afterwards if it is empty.

    Where another process holds the lock: raises InUse, or with `wait` waits for it and calls `waiting` once
    after 2 s. Raises OSError where nothing can be written. On a file system without locks nothing is locked
    and nothing refused.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with locked(folder / FILE, wait=wait, waiting=waiting):
            yield
    finally:
        with suppress(OSError):
            for place in missing:
                place.rmdir()  # fails, and so leaves the folder, if anything is in it


@contextmanager
def locked(file: Path, *, wait: bool = True, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """A block that holds the lock on `file`, which is made for it and removed afterwards; see `held`."""
    lock = _acquired(file, wait, waiting)
    try:
        yield
    finally:
        with suppress(OSError):
            # An empty file is locked by the system: remove it while we hold it, so that whoever waits for it sees
            # that it is gone. A file with content is the lock itself, where there are no others; filelock removes it.
            if lock is None or (UNLINKABLE and os.stat(file).st_size == 0):
                os.unlink(file)
        if lock is not None:
            lock.release()


def _acquired(file: Path, wait: bool, waiting: Callable[[], None] | None) -> BaseFileLock | None:
    """The lock on `file`, acquired; None on a file system that has no locks."""
    lock = FileLock(file, thread_local=False, poll_interval=PAUSE)
    for _ in range(TRIES):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=SAY_AFTER if wait else AT_ONCE)
            except Timeout:
                if not wait:
                    raise InUse(
                        f"Another process is at work in '{file.parent}'. Wait until it has ended, or choose"
                        " another --out."
                    ) from None
                if waiting is not None:
                    waiting()
                    waiting = None
                lock.acquire(timeout=-1)
            return lock
        except InUse:
            raise
        except FileNotFoundError as error:  # another process has removed the folder since we made it
            failure = error
            time.sleep(PAUSE)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise OSError(_unwritable(file.parent, error)) from error
    raise OSError(_unwritable(file.parent, failure)) from failure


def _unwritable(folder: Path, error: OSError) -> str:
    return f"'{folder}' cannot be written to ({error.strerror or error}). Choose another folder."


def check_lockable(folder: Path) -> None:
    """Raises OSError unless files can be made and locked in `folder`, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place, FileLock(Path(place) / FILE, timeout=0):
        pass
