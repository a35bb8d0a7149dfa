"""Dirty and hostile files beside good ones: none crashes, hangs or fills memory, all are accounted for."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fuzz
from ilk.images import Images, decode_source, load, load_images
from ilk.images.decode import Decoded, decode, strict_pillow

SIDE = 16
GOOD = 40
DEADLINE = 30  # seconds, for what takes about 3 on one thread
LARGE_LIMIT = 1200  # MiB beyond the start, for four pictures of 100 megapixels and four threads; measured 770
SMALL_LIMIT = 300  # MiB likewise for the whole corpus

WATCH = """
import json, sys, time, warnings
from ilk.images import load_images
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
before, start = peak(), time.monotonic()
images = load_images(sys.argv[1], image_size=16, workers=4, cache=False)
report = {"ids": images.ids, "bad": {b.id: b.reason for b in images.bad}, "mib": peak() - before,
          "seconds": time.monotonic() - start, "levels": images[:][:, 0, 0, 0].tolist()}
print(json.dumps(report))
"""


def watched(source: Path) -> dict:
    """What loading the source in a process of its own gave, took and used at its peak."""
    command = [sys.executable, "-c", WATCH, str(source)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "ILK_CACHE": ""})
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def clean(data: bytes) -> np.ndarray:
    """The pixels of a readable file that is read on its own, (3, SIDE, SIDE)."""
    with strict_pillow():
        outcome = decode(data, SIDE, "squash")
    assert isinstance(outcome, Decoded), outcome
    return np.broadcast_to(outcome.pixels, (3, SIDE, SIDE))


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def files_in(folder: Path) -> int:
    """The number of files below a folder that are neither hidden nor links to folders."""
    return sum(
        not name.startswith(".") and not os.path.isdir(os.path.join(here, name))
        for here, _, names in os.walk(folder)
        for name in [*names, *(n for n in _ if os.path.islink(os.path.join(here, n)))]
    )


def is_for_people(reason: str) -> bool:
    """One line of plain text that is more than the name of an exception."""
    return " " in reason and len(reason) < 300 and reason.isprintable() and "Traceback" not in reason


@pytest.fixture(scope="module")
def good() -> dict[str, bytes]:
    """Files that must come through, whatever lies beside them."""
    formats = {f"good/format.{kind}.{fuzz.ending(kind)}": data for kind, data in fuzz.every_format(3).items()}
    plain = {f"good/{i:02}.png": fuzz.encoded(fuzz.scene(100 + i), "PNG") for i in range(GOOD)}
    return {**plain, **formats, **{f"odd/{name}": data for name, data in fuzz.odd_but_good().items()}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, good: dict[str, bytes]) -> Path:
    folder = tmp_path_factory.mktemp("source") / "corpus"
    fill(folder, good)
    fill(folder, {f"damaged/{name}": data for name, data in fuzz.damaged()})
    fill(folder, {f"bombs/{name}": data for name, data in fuzz.bombs().items()})
    text = {"wrong/words.png": b"words", "wrong/page.jpg": b"<html>404</html>", "wrong/nothing.gif": b""}
    other = {"notes.txt": b"words", "table.csv": b"a,b", "damaged/film.mp4": b"\0\0\0\x18ftypmp42"}
    fill(folder, {**text, "wrong/zeros.webp": bytes(5000), **other})
    return folder


@pytest.fixture(scope="module")
def loaded(corpus: Path) -> Images:
    return load_images(corpus, image_size=SIDE, cache=False)


def test_every_file_of_the_corpus_is_good_bad_or_ignored(corpus: Path, loaded: Images) -> None:
    assert files_in(corpus) >= 500
    assert len(loaded) + len(loaded.bad) + loaded.ignored == files_in(corpus) and loaded.ignored == 3
    assert len({*loaded.ids, *(bad.id for bad in loaded.bad)}) == len(loaded) + len(loaded.bad)


def test_good_files_have_the_pixels_of_a_clean_read(loaded: Images, good: dict[str, bytes]) -> None:
    row = {name: i for i, name in enumerate(loaded.ids)}
    assert set(good) <= set(row)
    for name, data in good.items():
        np.testing.assert_array_equal(loaded[row[name]].numpy(), clean(data), err_msg=name)


def test_no_bomb_and_no_cut_file_passes_for_a_picture(loaded: Images) -> None:
    bad = {item.id for item in loaded.bad}
    assert {f"bombs/{name}" for name in fuzz.bombs()} | {"wrong/words.png", "wrong/zeros.webp"} <= bad
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        assert {f"damaged/{kind}-cut{tenth}.{fuzz.ending(kind)}" for tenth in range(8)} <= bad, kind


def test_every_reason_is_one_for_people(loaded: Images) -> None:
    assert [item for item in loaded.bad if not is_for_people(item.reason)] == []
    reasons = {item.id: item.reason for item in loaded.bad}
    assert reasons["wrong/nothing.gif"] == "empty file" and reasons["wrong/page.jpg"] == "not an image but text"
    assert reasons["bombs/claims.png"].startswith("too large") and "Save it as PNG" in reasons["bombs/runs.bmp"]
    assert "2,006 scans" in reasons["bombs/scans.jpg"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read from /proc")
def test_the_corpus_is_read_within_its_time_and_memory(corpus: Path, loaded: Images) -> None:
    report = watched(corpus)
    assert report["ids"] == loaded.ids and report["seconds"] < DEADLINE and report["mib"] < SMALL_LIMIT, report["mib"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read from /proc")
def test_pictures_of_100_megapixels_are_read_in_bounded_memory_by_any_number_of_threads(tmp_path: Path) -> None:
    files = {f"{i}.png": fuzz.flat_png(10_000, 10_000, 50 + i, colour=2) for i in range(3)}
    fill(tmp_path, {**files, "3.png": fuzz.flat_png(100_000, 1000, 53)})
    report = watched(tmp_path)
    assert report["bad"] == {} and report["levels"] == [50, 51, 52, 53]
    assert report["mib"] < LARGE_LIMIT and report["seconds"] < 2 * DEADLINE, report


def test_mutations_never_raise_whatever_the_format() -> None:
    outcomes = {str: 0, Decoded: 0}
    with strict_pillow():
        for kind, data in fuzz.every_format(11).items():
            for seed in range(25):
                outcome = decode(fuzz.mutated(data, 1000 + seed, 2), 8, "pad")
                outcomes[type(outcome)] += 1
                assert isinstance(outcome, Decoded) or is_for_people(outcome) or outcome == "empty file", (kind, seed)
    assert min(outcomes.values()) > 100


def test_pictures_too_large_together_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilk.images.decode.MAX_PIXELS", 100)
    from ilk.images.decode import _room

    at_once, most = [0], [0]

    def hold() -> None:
        with _room(60):
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            time.sleep(0.01)
            at_once[0] -= 1

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [1] and at_once == [0]


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "I", "F", "I;16", "CMYK", "LAB", "1"])
def test_a_picture_flattened_in_bands_is_the_one_flattened_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ilk.images import decode as module

    if mode in ("I", "F", "I;16"):
        values = np.random.default_rng(0).integers(-500 if mode != "I;16" else 0, 60_000, (33, 17))
        picture = Image.fromarray(values.astype({"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]))
    elif mode == "LAB":
        picture = Image.frombytes("LAB", (17, 33), np.random.default_rng(0).bytes(17 * 33 * 3))
    else:
        picture = fuzz.scene(4, 33).crop((0, 0, 17, 33)).convert(mode)
    if mode == "P":
        picture.info["transparency"] = 3
    whole = module._flatten(picture)
    monkeypatch.setattr(module, "BAND_PIXELS", 17 * 5)
    bands = module._flatten(picture)
    assert bands.mode == whole.mode and bands.tobytes() == whole.tobytes()


# Things that are no plain files, and names that are no plain names


def special_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Makes links, pipes, sockets and devices; yields (name, what becomes of it: bad, ignored or good)."""
    (folder / "real.png").write_bytes(fuzz.encoded(fuzz.scene(0), "PNG"))
    yield "real.png", "good"
    for name, target, fate in (
        ("link.png", "real.png", "good"), ("broken.png", "nowhere.png", "bad"), ("self.png", "self.png", "bad"),
        ("circle a.png", "circle b.png", "bad"), ("circle b.png", "circle a.png", "bad"),
        ("text.png", "/etc/hostname", "bad"), ("null.png", "/dev/null", "ignored"),
        ("zero.gif", "/dev/zero", "ignored"),
    ):  # fmt: skip
        (folder / name).symlink_to(target)
        yield name, fate
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "deep").mkdir()
    (folder / "deep" / "up").symlink_to("..", target_is_directory=True)
    for name in ("pipe.png", "pipe.tif", "deep/pipe.jpg"):
        os.mkfifo(folder / name)
        yield name, "ignored"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.png"))
    yield "socket.png", "ignored"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        try:
            os.mknod(folder / "device.png", 0o20666, os.makedev(1, 5))
        except PermissionError:  # a container may forbid it
            return
        yield "device.png", "ignored"


def test_links_pipes_sockets_and_devices_neither_hang_nor_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    (tmp_path / "photos").mkdir()
    fates = dict(special_files(tmp_path / "photos"))
    images = load_images(tmp_path / "photos", image_size=SIDE, workers=2)
    expected = {fate: sorted(n for n, f in fates.items() if f == fate) for fate in ("good", "bad", "ignored")}
    assert sorted(images.ids) == expected["good"] and sorted(b.id for b in images.bad) == expected["bad"]
    assert images.ignored == len(expected["ignored"]) and all(is_for_people(bad.reason) for bad in images.bad)
    assert {bad.id: bad.reason for bad in images.bad}["self.png"].startswith("cannot be opened: ")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.zip", "a.tar", "a.tar.gz", "a.parquet", "a.png", "a"])
def test_a_pipe_given_as_the_source_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="neither a folder nor a plain file"):
        load_images(tmp_path / name)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="the administrator may read every file")
def test_files_and_folders_that_may_not_be_read_are_listed(tmp_path: Path) -> None:
    fill(tmp_path, {name: fuzz.encoded(fuzz.scene(0), "PNG") for name in ("good.png", "shut.png", "closed/in.png")})
    os.chmod(tmp_path / "shut.png", 0)
    os.chmod(tmp_path / "closed", 0)
    images = load_images(tmp_path)
    os.chmod(tmp_path / "closed", 0o700)
    assert images.ids == ["good.png"]
    assert [(b.id, b.reason) for b in images.bad] == [
        ("closed", "cannot be opened: Permission denied"), ("shut.png", "cannot be opened: Permission denied"),
    ]  # fmt: skip


STRANGE = [
    b"line\nbreak.png", b"tab\tbell\x07.png", b"'single' \"double\" `back`.png", b"-rf.png", b"--help.png", b" .png",
    b"$(reboot);&|<>*?.png", b"a::b.png", b"back\\slash.png", b"invalid\xff\xfe.png", b"cut\xe2\x82.png",
    b"%s%n{0}.png",
    "e\u0301.png".encode(), "\u00e9.png".encode(), "\u202egnp.png".encode(), "\U0001f600.png".encode(), b"A.PNG",
    b"x" * 251 + b".png", b"\xc3\xa9" * 125 + b".png", b"con.png", b"\\udcff.png", b"\xff.png", b"a,b;c.png",
]  # fmt: skip


def test_names_of_every_kind_are_read_and_told_apart(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "photos")
    os.mkdir(folder)
    for i, name in enumerate([*STRANGE, b".hidden.png", b".DS_Store", b"-.txt"]):
        with open(os.path.join(folder, name), "wb") as stream:
            stream.write(fuzz.encoded(Image.new("RGB", (4, 4), (i, 2 * i, 200)), "PNG"))
    images = load_images(tmp_path / "photos")
    again = load_images(tmp_path / "photos")  # from the cache
    assert images.bad == [] and images.ignored == 1 and len(set(images.ids)) == len(STRANGE)
    assert sorted(images[:][:, 0, 0, 0].tolist()) == list(range(len(STRANGE))) and again.ids == images.ids
    assert all(name.encode("utf-8") for name in [*images.ids, *images.paths])
    both = [name for name in images.ids if unicodedata.normalize("NFC", name) == "\u00e9.png"]
    assert len(both) == 2


# A source that changes while it is read


@pytest.fixture
def at_listing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """`at_listing(change)`: once, `change()` happens after the source was listed and before it is decoded."""

    def arrange(change: Callable[[], None]) -> None:
        real, left = load.find_source, [change]

        def find(given: object) -> object:
            found = real(given)
            if left:
                left.pop()()
            return found

        monkeypatch.setattr(load, "find_source", find)

    return arrange


def replaced(file: Path, data: bytes) -> None:
    file.with_suffix(".new").write_bytes(data)
    os.replace(file.with_suffix(".new"), file)


def to_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


RED = fuzz.encoded(Image.new("RGB", (40, 40), (250, 0, 0)), "PNG")
CHANGES = {
    "removed": (lambda f: (f / "1.png").unlink(), "file not found"),
    "emptied": (lambda f: (f / "1.png").write_bytes(b""), "empty file"),
    "cut short": (lambda f: os.truncate(f / "1.png", 60), "damaged"),
    "replaced": (lambda f: replaced(f / "1.png", RED), None),
    "made a pipe": (lambda f: to_pipe(f / "1.png"), "is not a plain file"),
    "made a folder": (lambda f: ((f / "1.png").unlink(), (f / "1.png").mkdir()), "cannot be opened: Is a directory"),
    "joined by another": (lambda f: (f / "9.png").write_bytes(RED), None),
    "moved": (lambda f: (f / "1.png").rename(f / "8.png"), "file not found"),
}


@pytest.mark.parametrize("how", list(CHANGES))
@pytest.mark.parametrize("cache", [True, False])
def test_a_file_changed_while_it_is_read_is_told_and_read_anew_the_next_time(tmp_path, at_listing, how, cache) -> None:
    folder = tmp_path / "photos"
    fill(folder, {f"{i}.png": fuzz.encoded(fuzz.scene(i), "PNG") for i in range(4)})
    change, reason = CHANGES[how]
    at_listing(lambda: change(folder))
    with pytest.warns(UserWarning, match=r"'photos/' changed"):
        images = load_images(folder, image_size=SIDE, cache=cache)
    assert [bad.id for bad in images.bad] == (["1.png"] if reason else [])
    assert all(bad.reason.startswith(reason) for bad in images.bad) and {"0.png", "2.png", "3.png"} <= set(images.ids)
    for name in set(images.ids) - {"1.png"}:
        data = (folder / name).read_bytes()
        np.testing.assert_array_equal(images[images.ids.index(name)].numpy(), clean(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_images(folder, image_size=SIDE)
    plain = {path.name for path in folder.iterdir() if path.is_file()}
    assert {*again.ids, *(bad.id for bad in again.bad)} == plain
    if how == "replaced":
        assert again[1].numpy()[:, 0, 0].tolist() == [250, 0, 0]


def test_a_folder_that_goes_away_while_it_is_read_and_comes_back_is_read_anew(tmp_path, at_listing) -> None:
    folder, away = tmp_path / "photos", tmp_path / "away"
    fill(folder, {f"{i}.png": fuzz.encoded(fuzz.scene(i), "PNG") for i in range(4)})
    (tmp_path / "kept.png").write_bytes(RED)
    sources = [*sorted(folder.iterdir()), tmp_path / "kept.png"]  # one file is left, so that it is no error
    at_listing(lambda: folder.rename(away))
    with pytest.warns(UserWarning, match="changed"):
        assert load_images(sources, image_size=SIDE).ids == ["kept.png"]
    away.rename(folder)
    assert len(load_images(sources, image_size=SIDE)) == 5


def test_what_failed_for_the_moment_is_tried_again_and_not_remembered(tmp_path, monkeypatch) -> None:
    fill(tmp_path / "photos", {f"{i}.png": fuzz.encoded(fuzz.scene(i), "PNG") for i in range(4)})
    from ilk.images import decode as module

    real, failing = module._decode_picture, [OSError(24, "Too many open files"), MemoryError()]

    def decode_picture(*given: object) -> object:
        if failing:
            raise failing.pop()
        return real(*given)

    monkeypatch.setattr(module, "_decode_picture", decode_picture)
    first = load_images(tmp_path / "photos", image_size=SIDE)
    assert sorted(bad.reason for bad in first.bad) == [
        "cannot be read just now: Too many open files", "cannot be read just now: not enough memory to decode it",
    ]  # fmt: skip
    assert len(load_images(tmp_path / "photos", image_size=SIDE)) == 4
    monkeypatch.setattr(decode_source, "decode", lambda *_: pytest.fail("decoded although the cache is whole"))
    assert len(load_images(tmp_path / "photos", image_size=SIDE)) == 4


def test_an_archive_replaced_while_it_is_read_is_told(tmp_path, at_listing) -> None:
    import zipfile

    def pack(seed: int) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.png", fuzz.encoded(fuzz.scene(seed), "PNG"))
        return stream.getvalue()

    file = tmp_path / "a.zip"
    file.write_bytes(pack(0))
    at_listing(lambda: replaced(file, pack(1)))
    with pytest.warns(UserWarning, match="'a.zip' changed"):
        first = load_images(file, image_size=SIDE)
    np.testing.assert_array_equal(first[0].numpy(), clean(fuzz.encoded(fuzz.scene(0), "PNG")))
    second = load_images(file, image_size=SIDE)
    np.testing.assert_array_equal(second[0].numpy(), clean(fuzz.encoded(fuzz.scene(1), "PNG")))
