"""The bytes of a tar file, compressed or not, with limits that only a hostile archive meets."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path
from typing import IO, Any

from ilk.images.source import MAX_MEMBER_BYTES

EXPANSION = 200  # no archive of pictures unpacks to so many times its size
HEADER_BYTES = 1 << 20  # for one header, which may hold a long name
PIECE = 1 << 16


def check_expansion(unpacked: int, packed: int) -> None:
    """ValueError for a compressed archive of `packed` bytes that unpacks to far more than pictures would."""
    if unpacked > MAX_MEMBER_BYTES + EXPANSION * packed:
        raise ValueError(
            f"it unpacks to more than {EXPANSION} times its {packed:,} bytes, as archives made to fill "
            "a computer do. If you trust it, unpack it yourself"
        )


class TarStream:
    """What `tarfile` reads a tar file through.

    `compressed`: whether the way back is a new start from the first byte.
    `last`: the header-sized block read last, by which the end of a whole archive is known.
    `listed`: set when only members are left to read.
    """

    def __init__(self, file: Path) -> None:
        self._raw = open(file, "rb")  # noqa: SIM115  # closed by `close`
        self._stream = _decompressed(self._raw)
        self._packed = os.fstat(self._raw.fileno()).st_size
        self.compressed = self._stream is not self._raw
        self.listed = False
        self.last = b""

    def read(self, size: int) -> bytes:
        """ValueError for more than a header, or a member, can have: the space is taken before it is filled."""
        if not 0 <= size <= (MAX_MEMBER_BYTES if self.listed else HEADER_BYTES):
            raise ValueError(f"a header claims {size:,} bytes")
        self._check(self._stream.tell() + size)
        data = self._stream.read(size)
        if not self.listed and size == 512:
            self.last = data
        return data

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()
        self._raw.close()

    def _check(self, position: int) -> None:
        if self.compressed:
            check_expansion(position, self._packed)


def _decompressed(raw: io.BufferedReader) -> IO[bytes]:
    start = raw.peek(6)[:6]
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if start.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(raw)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            from compression import zstd  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise ValueError("it is compressed by zstd, which needs Python 3.14; unpack it") from None
        opened: Any = zstd.ZstdFile(raw)
        return opened
    return raw


def zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, and never more in memory than it says it has: `ZipFile.read` unpacks all at once."""
    parts = []
    with archive.open(info) as stream:
        while part := stream.read(PIECE):
            parts.append(part)
    return b"".join(parts)
