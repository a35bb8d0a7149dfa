"""Images inside zip and tar files, read without unpacking them to disk."""

from __future__ import annotations

import os
import re
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, cast

from ilk.images.archive_limits import TarStream, check_expansion, zip_member
from ilk.images.choose_files import FoldersLeftOut, left_out_line
from ilk.images.collection import BadFile
from ilk.images.open_picture import explain, picture_extensions
from ilk.images.source import MAX_MEMBER_BYTES, Source, Unreadable, file_stamp, is_hidden, member_path, unique_names
from ilk.system.text import safe_text

ZIP_ENDINGS = (".zip", ".cbz")
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
MANY_MEMBERS = 100_000
MEMBER_BYTES = 16  # of the file per further member, at least; a compressed header alone takes more


def zip_source(file: Path) -> Source:
    """The pictures in a zip file, in its order; their names are their ids. Raises ValueError."""
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # a damaged archive raises struct.error, zlib.error and others
        raise ValueError(f"'{file}' cannot be read as a zip file ({error}). It may be incomplete.") from error
    try:
        packed = os.path.getsize(file)
        members = [info for info in archive.infolist() if not info.is_dir()]
        if sum(info.compress_size for info in members) > packed:
            raise ValueError(f"'{file}' is refused: its members overlap. Make the archive anew from the pictures.")
        listed = [(info, info.filename, info.file_size, _zip_refusal(info)) for info in members]
        return _archive_source(
            file, "zip", listed, lambda info: zip_member(archive, info), archive.close, packed=packed, sequential=False
        )
    except BaseException:
        archive.close()
        raise


def _zip_refusal(info: zipfile.ZipInfo) -> str | None:
    """Why a member is not read, or None."""
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link, which is not followed"
    if info.flag_bits & 1:
        return "is encrypted; unpack it with its password"
    # With the other methods a few bytes can unpack to gigabytes, all at once.
    known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return None if known else "is compressed by a method other than deflate; unpack it"


def tar_source(file: Path) -> Source:
    """The pictures in a tar file, compressed or not, in its order; their names are their ids. Raises ValueError."""
    try:
        stream = TarStream(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{file}' cannot be read as a tar file ({error}). It may be incomplete.") from error
    try:
        archive, members = _tar_members(file, stream)

        def read(member: tarfile.TarInfo) -> bytes:
            content = archive.extractfile(member)
            if content is None:
                raise Unreadable("is not a plain file")
            return content.read()

        listed = [(m, m.name, m.size, None if m.isreg() else _tar_refusal(m)) for m in members if not m.isdir()]
        packed = os.path.getsize(file) if stream.compressed else None
        source = _archive_source(file, "tar", listed, read, stream.close, packed=packed, sequential=stream.compressed)
    except BaseException:
        stream.close()
        raise
    if stream.last.strip(b"\0") or len(stream.last) < tarfile.BLOCKSIZE:
        reason = f"damaged or cut short after {len(members):,} members; the rest is not read"
        source.bad.append(BadFile(source.title, safe_text(os.path.abspath(file)), reason))
    return source


def _tar_members(file: Path, stream: TarStream) -> tuple[tarfile.TarFile, list[tarfile.TarInfo]]:
    """The archive and all its members in order. Raises ValueError if it is damaged or made to fill a computer."""
    members: list[tarfile.TarInfo] = []
    most = MANY_MEMBERS + os.path.getsize(file) // MEMBER_BYTES
    try:
        archive = tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:")  # noqa: SIM115  # closed by the source
        for member in archive:
            if members and member.offset <= members[-1].offset:
                raise ValueError("its headers run in a circle")
            if len(members) == most:
                raise ValueError(f"it has more than {most:,} members, too many for its size")
            members.append(member)
    except Exception as error:  # as with a zip file
        raise ValueError(f"'{file}' cannot be read as a tar file ({error}). It may be incomplete.") from error
    stream.listed = True
    return archive, members


def _tar_refusal(member: tarfile.TarInfo) -> str:
    """Why a member that is not a plain file is not read."""
    return "is a link, which is not followed" if member.issym() or member.islnk() else "is not a plain file"


def _archive_source(
    file: Path,
    kind: str,
    listed: Iterable[tuple[Any, str, int, str | None]],
    read_member: Callable[[Any], bytes],
    close: Callable[[], None],
    *,
    packed: int | None,
    sequential: bool,
) -> Source:
    """The source with the pictures among `listed`: (member, name, unpacked bytes, reason not to read it or None).

    `packed`: the bytes of the archive, None if it is not compressed. Raises ValueError if no picture can be read.
    """
    absolute = safe_text(os.path.abspath(file))
    members, names, bad, ignored, unpacked = [], [], list[BadFile](), 0, 0
    listed = list(listed)
    folders = FoldersLeftOut(raw for _, raw, _, _ in listed)
    for member, raw, size, refusal in listed:
        name = safe_text(raw)
        if folders.leave_out(raw) or is_hidden(name):
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
        unpacked += size
    try:
        check_expansion(unpacked, unpacked if packed is None else packed)
    except ValueError as error:
        raise ValueError(f"'{file}' is refused: {error}.") from error
    if not members:
        if bad:
            first = "; ".join(f"{item.id}: {item.reason}" for item in bad[:3])
            raise ValueError(f"none of the {len(bad):,} images in '{file}' could be read ({first}).")
        also = f" ({left_out_line(folders.counts())})" if folders.counts() else ""
        raise ValueError(
            f"'{file}' holds no images, only {ignored:,} files of other kinds{also}. Give an archive of pictures."
        )
    ids = unique_names(names)
    lock = threading.Lock()

    def read(i: int) -> bytes:
        try:
            with lock:  # the archive has one position for all threads
                return read_member(members[i])
        except Unreadable:
            raise
        except Exception as error:  # of many types, as above
            raise Unreadable(f"cannot be read from the archive: {explain(error)}") from error

    def stamp() -> bytes:
        return file_stamp([os.fspath(file)], absolute, ids)

    return Source(
        kind=kind,
        title=safe_text(file.name),
        ids=ids,
        paths=[member_path(absolute, name) for name in names],
        read=read,
        stamp=stamp(),
        restamp=stamp,
        sequential=sequential,
        folders=ids,
        bad=bad,
        ignored=ignored,
        left_out=folders.counts(),
        close=close,
    )


def _name_refusal(name: str) -> str | None:
    """Why a member of that name is not read, or None."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    return "has '..' in its name" if ".." in re.split(r"[/\\]", name) else None


def _size_refusal(size: int) -> str | None:
    """Why a member of that many bytes is not read, or None."""
    if size > MAX_MEMBER_BYTES:
        return f"too large: {size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
    return None
