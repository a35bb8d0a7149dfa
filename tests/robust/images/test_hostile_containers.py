"""Archives, tables and array files made to harm: refused or listed, in bounded memory and time, nothing written."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fuzz
from ilk.images import load_images

SIDE = 16
PICTURES = [fuzz.encoded(fuzz.scene(i), "PNG") for i in range(3)]
MEMORY = 250  # MiB beyond the start that any of the sources below may take, with the limits a tenth of the real ones
SECONDS = 10  # for each; the slowest was measured at 1.5

# One process for all, whose highest use of memory is read after each; the second limit ends what runs away.
BOUNDED = """
import json, resource, sys, time
import pyarrow.parquet
from ilk.images import archive_limits, archives, load_images, parquet
load_images(sys.argv[1], image_size=16, workers=1, cache=False)  # all that is loaded late is loaded now
archives.MAX_MEMBER_BYTES = archive_limits.MAX_MEMBER_BYTES = 50 << 20
archives.MANY_MEMBERS, parquet.BATCH_BYTES = 5000, 6 << 20
def memory(field):
    return int(next(line for line in open("/proc/self/status") if line.startswith(field)).split()[1]) / 1024
first = memory("VmHWM")
resource.setrlimit(resource.RLIMIT_AS, (int(memory("VmSize") + 3000) << 20,) * 2)
for source in sys.argv[2:]:
    start = time.monotonic()
    try:
        images = load_images(source, image_size=16, workers=2, cache=False)
        report = {"ids": images.ids, "bad": [b.id for b in images.bad], "ignored": images.ignored}
    except ValueError as error:
        report = {"refused": str(error)}
    print(json.dumps(report | {"seconds": time.monotonic() - start, "mib": memory("VmHWM") - first}))
"""
only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the use of memory from /proc")


def tarred(members: list[tuple[str, bytes]], **options: object) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", **options) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


GOOD = [(f"{i}.png", data) for i, data in enumerate(PICTURES)]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """One tar header, of a size that may be a lie or negative."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = max(0, size), kind, link
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        block[124:136] = b"\xff" + size.to_bytes(11, "big", signed=True)
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def lying_zip(data: bytes, claimed: int, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip whose last member says that it has fewer bytes than it unpacks to."""
    stream = io.BytesIO(zipped(GOOD))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("lie.png", data, method)
    packed = bytearray(stream.getvalue())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        packed[packed.rindex(mark) + place : packed.rindex(mark) + place + 4] = struct.pack("<I", claimed)
    return bytes(packed)


def overlapping_zip() -> bytes:
    """A zip of a thousand members that are all the same bytes of the file."""
    data = zipped([("0.png", PICTURES[0])])
    start = data.index(b"PK\x01\x02")
    entry = data[start : data.index(b"PK\x05\x06")]
    directory = b"".join(entry.replace(b"0.png", b"%c.png" % (65 + i % 26)) for i in range(1000))
    return data[:start] + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1000, 1000, len(directory), start, 0)


def encrypted_zip() -> bytes:
    packed = bytearray(zipped([*GOOD, ("secret.png", PICTURES[0])]))
    packed[packed.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(packed)


def body(members: list[tuple[str, bytes]]) -> bytes:
    """A tar file without its end mark."""
    return b"".join(header(name, len(data)) + data + bytes(-len(data) % 512) for name, data in members)


def zeros(packer: Callable[[bytes], bytes], count: int) -> bytes:
    """Many members of 4 MB of zeros, packed together: each within the limit, all of them not."""
    return packer(body([("zero.png", bytes(4 << 20))])) * count


def repeated(path: Path) -> None:
    """A table of 300 MB, stored as one value that stands in every row."""
    values = pa.array([bytes(15 << 20)] * 20 + [PICTURES[0]], pa.binary())
    pq.write_table(pa.table({"image": values}), path, use_dictionary=True, dictionary_pagesize_limit=1 << 30)


END = bytes(1024)
MB = 1 << 20
HARMFUL: dict[str, Callable[[], bytes]] = {
    "circle.tar": lambda: header("0.png", 0) + header("back.png", -512) + END,
    "backwards.tar": lambda: body(GOOD) + header("back.png", -512 - len(body(GOOD[2:]))) + END,
    "negative header.tar": lambda: header("0.png", 0) + header("x", -4096, tarfile.XHDTYPE) + END,
    "claims.tar": lambda: body(GOOD) + header("huge.png", 7 << 30),
    "long name.tar": lambda: header("././@LongLink", 6 << 30, tarfile.GNUTYPE_LONGNAME) + tarred(GOOD),
    "extended.tar": lambda: header("pax", 6 << 30, tarfile.XHDTYPE) + tarred(GOOD),
    "overlap.zip": overlapping_zip,
    "nested.zip": lambda: zipped([*GOOD, ("inner.zip", zipped([("b.png", bytes(MB))])), ("inner.tar", END)]),
    "claims.npz": lambda: zipped([("x.npy", npy((40_000, 256, 256), bytes(1000)))]),
    "bomb.npz": lambda: zipped([("x.npy", npy((100, 1024, 1024), bytes(100 * MB)))]),
    "empty members.tar.bz2": lambda: bz2.compress(header("0.png", 0) * 6000 + END),
    "many.zip": lambda: zipped([*GOOD, *[(f"b{i}.png", bytes(20 * MB)) for i in range(6)]]),
    "many.tar.gz": lambda: zeros(lambda data: gzip.compress(data, 9), 60) + gzip.compress(END),
    "many.tar.bz2": lambda: zeros(bz2.compress, 200) + bz2.compress(END),
    "long name.tar.gz": lambda: gzip.compress(
        header("././@LongLink", 120 * MB, tarfile.GNUTYPE_LONGNAME) + bytes(120 * MB)
    ),
    "one.zip": lambda: zipped([*GOOD, ("big.png", bytes(60 * MB))]),
    "lie.zip": lambda: lying_zip(bytes(300 * MB), 1000),
    "bzip lie.zip": lambda: lying_zip(bytes(10 * MB), 1000, zipfile.ZIP_BZIP2),
}
SURVIVORS = ("nested.zip", "one.zip", "lie.zip", "bzip lie.zip")  # whose pictures are read


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What loading each harmful file gave, and took, by its name."""
    folder = tmp_path_factory.mktemp("harmful")
    for name, make in HARMFUL.items():
        (folder / name).write_bytes(make())
    repeated(folder / "repeated.parquet")
    (folder / "warm.tar.gz").write_bytes(gzip.compress(tarred(GOOD)))
    before = sorted(os.listdir(folder))
    names = [*HARMFUL, "repeated.parquet"]
    command = [sys.executable, "-c", BOUNDED, "warm.tar.gz", *names]
    environment = {**os.environ, "ILK_CACHE": str(folder / "cache")}
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert sorted(os.listdir(folder)) == before  # nothing was unpacked
    return dict(zip(names, map(json.loads, answer.stdout.splitlines()), strict=True))


@only_linux
@pytest.mark.parametrize("name", [*HARMFUL, "repeated.parquet"])
def test_a_harmful_file_is_refused_or_listed_within_limits_of_memory_and_time(reports, name: str) -> None:
    report = reports[name]
    assert report["mib"] < MEMORY and report["seconds"] < SECONDS, report
    if name == "repeated.parquet":
        assert report["ids"] == ["000020"] and len(report["bad"]) == 20
    elif name in SURVIVORS:
        assert report["ids"] == ["0.png", "1.png", "2.png"]
        assert len(report["bad"]) == (name != "nested.zip") and report["ignored"] == 2 * (name == "nested.zip")
    else:
        assert f"'{name}'" in report["refused"], report


@only_linux
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("overlap.zip", "its members overlap. Make the archive anew"), ("circle.tar", "its headers run in a circle"),
        ("empty members.tar.bz2", "members, too many for its size"), ("claims.tar", "unexpected end of data"),
        ("long name.tar", "a header claims 6,442,450,944 bytes"), ("many.zip", "unpacks to more than 200 times its"),
        ("many.tar.bz2", "If you trust it, unpack it yourself"), ("claims.npz", "claims 2,621,440,000 bytes and holds"),
        ("bomb.npz", "unpacks to more than 200 times its"),
    ],
)  # fmt: skip
def test_the_reason_for_refusing_a_file_is_told(reports, name: str, expected: str) -> None:
    assert expected in reports[name]["refused"]


def test_links_devices_and_names_that_lead_outside_are_listed_and_nothing_is_written(tmp_path: Path) -> None:
    kinds = {
        "soft.png": (tarfile.SYMTYPE, "../../outside.png"), "hard.png": (tarfile.LNKTYPE, "/etc/passwd"),
        "pipe.png": (tarfile.FIFOTYPE, ""), "device.png": (tarfile.CHRTYPE, ""), "disk.png": (tarfile.BLKTYPE, ""),
    }  # fmt: skip
    outside = ["../up.png", "/root.png", "a/../../b.png", "..\\w.png", "C:/w.png", "\\\\host\\share.png"]
    special = b"".join(header(name, 0, kind, link) for name, (kind, link) in kinds.items())
    (tmp_path / "a.tar").write_bytes(special + tarred([*GOOD, *[(name, PICTURES[0]) for name in outside]]))
    (tmp_path / "a.zip").write_bytes(zipped([*GOOD, *[(name, PICTURES[0]) for name in outside]]))
    before = sorted(os.walk(tmp_path.parent))
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    tar, zip_ = (load_images(tmp_path / f"a.{kind}", image_size=SIDE, cache_dir=cache) for kind in ("tar", "zip"))
    assert len(tar) == len(zip_) == 3 and len(tar.bad) == 11 and len(zip_.bad) == 6
    assert {bad.id for bad in tar.bad} == {*kinds, *outside} and all(len(bad.reason) > 10 for bad in tar.bad)
    assert [entry for entry in sorted(os.walk(tmp_path.parent)) if not entry[0].startswith(str(cache))][1:] == before[
        1:
    ]


def test_encrypted_members_are_listed_and_duplicate_names_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(encrypted_zip())
    assert [bad.reason for bad in load_images(tmp_path / "a.zip").bad] == ["is encrypted; unpack it with its password"]
    with pytest.warns(UserWarning, match="Duplicate name"):
        (tmp_path / "b.zip").write_bytes(zipped([("a.png", PICTURES[0]), ("a.png", PICTURES[1])]))
    images = load_images(tmp_path / "b.zip", image_size=40)
    assert images.ids == ["a.png", "a.png#2"]
    assert [image.numpy().transpose(1, 2, 0).tobytes() for image in images] == [
        fuzz.scene(i).tobytes() for i in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2"])
def test_an_archive_cut_or_damaged_anywhere_is_refused_or_says_what_is_lost(tmp_path: Path, kind: str) -> None:
    data = zipped(GOOD) if kind == "zip" else tarred(GOOD)
    data = gzip.compress(data) if kind == "tar.gz" else bz2.compress(data) if kind == "tar.bz2" else data
    file, outcomes = tmp_path / f"a.{kind}", []
    cut = [data[: len(data) * part // 30] for part in range(30)]
    for broken in [*cut, *(fuzz.mutated(data, seed, 3) for seed in range(30))]:
        file.write_bytes(broken)
        try:
            images = load_images(file, image_size=40, cache=False)
        except ValueError as error:
            outcomes.append("refused")
            assert str(file) in str(error) or "'a." in str(error)  # noqa: PT017
            continue
        pixels = {image.numpy().transpose(1, 2, 0).tobytes() for image in images}
        assert pixels <= {fuzz.scene(i).tobytes() for i in range(3)}
        whole = len(images) + len(images.bad) + images.ignored >= 3
        assert whole or any("damaged or cut short after" in bad.reason for bad in images.bad)
        outcomes.append("read")
    assert "refused" in outcomes and ("read" in outcomes or kind.startswith("tar."))


def test_a_tar_cut_at_a_header_says_how_many_members_it_still_had(tmp_path: Path) -> None:
    data = tarred(GOOD)
    second = data.index(b"1.png")
    for broken in (data[:second], data[: second + 300], data[:second] + b"\x07" * 512 + data[second + 512 :]):
        (tmp_path / "a.tar").write_bytes(broken)
        images = load_images(tmp_path / "a.tar")
        assert images.ids == ["0.png"] and [(bad.id, bad.reason) for bad in images.bad] == [
            ("a.tar", "damaged or cut short after 1 members; the rest is not read")
        ]
    (tmp_path / "a.tar").write_bytes(data)
    assert load_images(tmp_path / "a.tar").bad == []


# Tables


def table(path: Path, column: pa.Array, **others: object) -> Path:
    pq.write_table(pa.table({"image": column, **others}), path)
    return path


def test_cells_that_are_no_pictures_are_listed_and_the_others_read(tmp_path: Path) -> None:
    cells = [
        PICTURES[0],
        b"",
        None,
        b"no picture",
        os.urandom(5000),
        PICTURES[1][:90],
        fuzz.bombs()["zip.png"],
        PICTURES[1],
    ]
    images = load_images(table(tmp_path / "a.parquet", pa.array(cells, pa.binary())), image_size=40)
    assert images.ids == ["000000", "000007"] and [bad.id for bad in images.bad] == [f"00000{i}" for i in range(1, 7)]
    assert images[1].numpy().transpose(1, 2, 0).tobytes() == fuzz.scene(1).tobytes()
    assert [bad.reason for bad in images.bad][:3] == ["empty: the row holds no bytes"] * 2 + ["not an image but text"]


ROWS = [None, {"bytes": None, "path": None}, {"bytes": b"", "path": ""}, {"bytes": b"", "path": "../../etc/passwd"},
        {"bytes": None, "path": "a\0b.png"}, {"bytes": None, "path": "pipe.png"}, {"bytes": None, "path": "/dev/zero"},
        {"bytes": None, "path": "https://example.org/a.png"}, {"bytes": PICTURES[0], "path": "/x/../y"}]  # fmt: skip


def test_paths_in_cells_that_lead_to_no_plain_picture_are_listed_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    images = load_images(table(tmp_path / "a.parquet", pa.array(ROWS)), image_size=40)
    assert len(images) == 1 and len(images.bad) == len(ROWS) - 1
    assert [bad.reason for bad in images.bad][5:7] == ["is not a plain file"] * 2


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "/etc/passwd"]), pa.array([[1, 2], None]), pa.array([None, None]), pa.array([1.5, 2]),
        pa.array([{"bytes": "text"}, {"bytes": "/etc/passwd"}]), pa.array([{"bytes": [1]}, None]),
        pa.array([{"bytes": {"bytes": b"x"}}, None]), pa.array([[b"x"], [b"y"]]),
    ],
    ids=["text", "list", "null", "float", "struct of text", "struct of list", "nested struct", "list of bytes"],
)  # fmt: skip
def test_a_table_without_a_column_of_encoded_pictures_is_refused_with_its_columns(tmp_path: Path, column) -> None:
    with pytest.raises(ValueError, match=r"image \("):
        load_images(table(tmp_path / "a.parquet", column))


@pytest.mark.parametrize("values", [[{"a": 1}, {"a": 2}], [[1], [2]], [b"\xff", b"\xfe"], [None, None]])
def test_odd_columns_of_ids_and_labels_do_not_stop_the_pictures(tmp_path: Path, values: list[object]) -> None:
    made = table(tmp_path / "a.parquet", pa.array(PICTURES[:2]), id=values, label=values)
    assert len(load_images(made)) == 2


def test_an_image_column_of_numbers_for_paths_is_listed(tmp_path: Path) -> None:
    rows = pa.array([{"bytes": None, "path": 7}, {"bytes": PICTURES[0], "path": 8}])
    images = load_images(table(tmp_path / "a.parquet", rows))
    assert len(images) == 1 and images.bad[0].reason == "empty: the row holds no bytes"


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_table_is_refused_or_lists_the_rows_it_lost(tmp_path: Path, seed: int) -> None:
    whole = table(tmp_path / "whole.parquet", pa.array(PICTURES)).read_bytes()
    file = tmp_path / "a.parquet"
    for i in range(20):
        file.write_bytes(whole[: len(whole) * i // 20] if seed == 0 else fuzz.mutated(whole, 100 * seed + i, 4))
        try:
            images = load_images(file, cache=False)
        except ValueError as error:
            assert "a.parquet" in str(error)  # noqa: PT017
        else:
            assert len(images) + len(images.bad) == 3


# Array files


def npy(shape: tuple[int, ...], data: bytes = b"", dtype: str = "|u1") -> bytes:
    """A .npy file whose header claims that shape."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("kind", ["npy", "npz", "npz labels", "bare pickle"])
def test_pickles_are_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    trap, good = np.array([Bomb()], dtype=object), np.zeros((1, 8, 8), np.uint8)
    if kind == "npy":
        np.save("a.npy", trap)
    elif kind == "bare pickle":
        import pickle

        Path("a.npy").write_bytes(pickle.dumps(Bomb()))
    else:
        np.savez("a.npz", **({"x": trap} if kind == "npz" else {"x": good, "labels": trap}))
    with pytest.raises(ValueError, match="NumPy"):
        load_images(next(Path().glob("a.np*")))
    assert not Path("unpickled").exists()


CLAIMS = {
    "huge": npy((1 << 40, 64, 64)), "beyond 64 bits": npy((1 << 70, 64, 64)), "negative": npy((-5, 8, 8), bytes(320)),
    "short": npy((10, 8, 8), bytes(100)), "empty": npy((0, 8, 8)), "scalar": npy((), b"x"),
    "words": npy((2,), b"xy", "|S1"),
    "no header": b"\x93NUMPY\x01\x00\xff\xff", "version": b"\x93NUMPY\x09\x00" + bytes(100), "nothing": b"",
    "times": npy((2, 8, 8), bytes(1024), "<M8[s]"), "void": npy((2, 8, 8), bytes(1024), "|V8"),
    "complex": npy((2, 8, 8), bytes(1024), "<c8"),
}  # fmt: skip


@pytest.mark.parametrize("claim", list(CLAIMS))
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_false_header_is_a_sentence_about_the_file(tmp_path: Path, claim: str, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    file.write_bytes(CLAIMS[claim] if kind == "npy" else zipped([("x.npy", CLAIMS[claim])]))
    with pytest.raises((ValueError, TypeError), match=f"a.{kind}|a.{kind}'"):
        load_images(file)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_an_array_file_damaged_anywhere_is_a_sentence_or_the_array(tmp_path: Path, kind: str) -> None:
    whole = io.BytesIO()
    (np.save if kind == "npy" else np.savez_compressed)(whole, np.arange(192, dtype=np.uint8).reshape(3, 8, 8))
    for seed in range(60):
        data = whole.getvalue()
        broken = data[: len(data) * seed // 20] if seed < 20 else fuzz.mutated(data, seed, 2)
        (tmp_path / f"a.{kind}").write_bytes(broken)
        try:
            images = load_images(tmp_path / f"a.{kind}", cache=False)
        except (ValueError, TypeError) as error:
            assert f"a.{kind}" in str(error)  # noqa: PT017
        else:
            assert len(images) + len(images.bad) >= 1
