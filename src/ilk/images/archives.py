"""Images inside zip and tar files, read without ever being unpacked to disk."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .core import BadFile
from .decode import picture_extensions
from .items import (
    MAX_MEMBER_BYTES,
    Source,
    Unreadable,
    file_stamp,
    is_hidden,
    member_path,
    safe_text,
    unique_names,
)

ZIP_ENDINGS = (".zip", ".cbz")
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


def zip_source(file: Path) -> Source:
    """The pictures in a zip file, in its order; their names are their ids."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise ValueError(f"'{file}' cannot be read as a zip file ({error}). It may be incomplete.") from error
    listed = [
        (info, info.filename, info.file_size, _zip_refusal(info)) for info in archive.infolist() if not info.is_dir()
    ]
    return _archive_source(file, "zip", listed, archive.read, archive.close, sequential=False)


def _zip_refusal(info: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link, which is not followed"
    return "is encrypted; unpack it with its password" if info.flag_bits & 1 else None


def tar_source(file: Path) -> Source:
    """The pictures in a tar file, compressed or not, in its order; their names are their ids."""
    try:
        archive = tarfile.open(file, "r:*")  # noqa: SIM115  # read lazily, closed by the source
        members = archive.getmembers()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise ValueError(f"'{file}' cannot be read as a tar file ({error}). It may be incomplete.") from error

    def read(member: tarfile.TarInfo) -> bytes:
        stream = archive.extractfile(member)
        if stream is None:
            raise Unreadable("is not a plain file")
        return stream.read()

    listed = [(m, m.name, m.size, None if m.isreg() else _tar_refusal(m)) for m in members if not m.isdir()]
    # In a compressed file the way back is a new start from the first byte.
    compressed = not isinstance(archive.fileobj, io.BufferedReader)
    return _archive_source(file, "tar", listed, read, archive.close, sequential=compressed)


def _tar_refusal(member: tarfile.TarInfo) -> str:
    return "is a link, which is not followed" if member.issym() or member.islnk() else "is not a plain file"


def _archive_source(
    file: Path,
    kind: str,
    listed: Iterable[tuple[Any, str, int, str | None]],
    read_member: Callable[[Any], bytes],
    close: Callable[[], None],
    *,
    sequential: bool,
) -> Source:
    """The source over `listed`: (member, name, bytes when unpacked, reason to refuse it or None)."""
    absolute = safe_text(os.path.abspath(file))
    members, names, bad, ignored = [], [], [], 0
    for member, raw, size, refusal in listed:
        name = safe_text(raw)
        if is_hidden(name):
            continue
        if os.path.splitext(name)[1].lower() not in picture_extensions():
            ignored += 1
            continue
        reason = _name_refusal(name) or refusal or _size_refusal(size)
        if reason:
            bad.append(BadFile(name, member_path(absolute, name), reason))
            continue
        members.append(member)
        names.append(name.removeprefix("./"))
    if not members:
        close()
        if bad:
            first = "; ".join(f"{item.id}: {item.reason}" for item in bad[:3])
            raise ValueError(f"none of the {len(bad):,} images in '{file}' could be read ({first}).")
        raise ValueError(
            f"'{file}' holds no images, only {ignored:,} files of other kinds. Give an archive of pictures."
        )
    ids = unique_names(names)
    lock = threading.Lock()

    def read(i: int) -> bytes:
        try:
            with lock:  # one position in one file
                return read_member(members[i])
        except Unreadable:
            raise
        except Exception as error:  # a damaged archive raises zlib, lzma, struct and other errors
            raise Unreadable(f"cannot be read from the archive: {error}") from error

    return Source(
        kind=kind,
        title=safe_text(file.name),
        ids=ids,
        paths=[member_path(absolute, name) for name in names],
        read=read,
        stamp=file_stamp([os.fspath(file)], absolute, ids),
        sequential=sequential,
        folders=ids,
        bad=bad,
        ignored=ignored,
        close=close,
    )


def _name_refusal(name: str) -> str | None:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    return "has '..' in its name" if ".." in re.split(r"[/\\]", name) else None


def _size_refusal(size: int) -> str | None:
    if size > MAX_MEMBER_BYTES:
        return f"too large: {size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
    return None
