"""Reading zip and tar files within limits that only an archive made to do harm exceeds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path
from typing import IO

from ilk.images.source import MAX_MEMBER_BYTES

EXPANSION = 200  # an archive of pictures never unpacks to more than this many times its size
HEADER_BYTES = 1 << 20  # of one header, which may hold a long name
PIECE = 1 << 16


def check_expansion(unpacked: int, packed: int) -> None:
    """Raises ValueError if an archive of `packed` bytes unpacks to more than pictures ever would."""
    if unpacked > MAX_MEMBER_BYTES + EXPANSION * packed:
        raise ValueError(
            f"it unpacks to more than {EXPANSION} times its {packed:,} bytes, as archives made to fill "
            "a computer do. If you trust it, unpack it yourself"
        )


class TarStream:
    """A tar file, compressed or not, as the stream that `tarfile` reads from.

    `compressed`: whether seeking back means to start again from the first byte.
    `last`: the last block of the size of a header; in a complete archive it is empty.
    `listed`: set by the caller when all headers are read and only members are left.
    """

    def __init__(self, file: Path) -> None:
        self._raw = open(file, "rb")  # noqa: SIM115  # closed by `close`
        self._stream = _decompressed(self._raw)
        self._packed = os.fstat(self._raw.fileno()).st_size
        self.compressed = self._stream is not self._raw
        self.listed = False
        self.last = b""

    def read(self, size: int) -> bytes:
        """The next `size` bytes. Raises ValueError if that is more than a header or member can have."""
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
    """The stream of the uncompressed bytes, by the first bytes of the file. Raises ValueError for unknown zstd."""
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
        unpacked: IO[bytes] = zstd.ZstdFile(raw)
        return unpacked
    return raw


def zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, in pieces: `ZipFile.read` would unpack all of it before its size is known."""
    parts = []
    with archive.open(info) as stream:
        while part := stream.read(PIECE):
            parts.append(part)
    return b"".join(parts)
