"""The cache is used again exactly when it may be, survives kills, and never stands in the way."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from ilk.images import cache, cache_folder, decode_source, load_images
from ilk.system import lock


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def same(a, b):
    np.testing.assert_array_equal(a[:].numpy(), b[:].numpy())
    return (a.ids, a.paths, a.bad, a.shape, a.original_size, a.fingerprint) == (
        b.ids, b.paths, b.bad, b.shape, b.original_size, b.fingerprint
    )  # fmt: skip


@pytest.fixture
def chunks_of_two(monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 2)


def test_a_second_load_decodes_nothing_and_gives_the_same(photos, decodes):
    (photos / "broken.png").touch()
    first = load_images(photos)
    assert len(decodes) == 8
    second = load_images(photos)
    assert len(decodes) == 8 and same(first, second)
    assert not second.in_memory() and [bad.id for bad in second.bad] == ["broken.png"]


def test_the_cache_is_one_folder_with_an_array_that_numpy_opens(photos, cache_dir):
    images = load_images(photos)
    assert entries(cache_dir) == [f"images-{images.fingerprint}"]
    pixels = np.load(cache_dir / f"images-{images.fingerprint}" / "images.npy")
    np.testing.assert_array_equal(pixels, images[:].numpy())
    index = json.loads((cache_dir / f"images-{images.fingerprint}" / "index.json").read_text())
    assert index["ids"] == images.ids and index["shape"] == [7, 3, 8, 8]


def test_cache_dir_is_used_before_the_environment(photos, cache_dir, tmp_path):
    load_images(photos, cache_dir=tmp_path / "new" / "place")
    assert entries(cache_dir) == [] and len(entries(tmp_path / "new" / "place")) == 1


def test_labels_ids_and_channels_do_not_make_another_cache(photos, decodes):
    load_images(photos)
    load_images(photos, labels="folders")
    load_images(photos, ids=list("tuvwxyz"))
    assert load_images(photos, channels=1).shape == (1, 8, 8)
    assert load_images(photos, image_size=8).shape == (3, 8, 8)  # what None chose
    assert len(decodes) == 7


def change_content(folder, photo):
    (folder / "cat/a.png").write_bytes(photo(99))


def change_time(folder, photo):
    os.utime(folder / "cat/a.png", ns=(1, 1))


def add(folder, photo):
    (folder / "cat/z.png").write_bytes(photo(99))


def remove(folder, photo):
    (folder / "cat/a.png").unlink()


def rename(folder, photo):
    (folder / "cat/a.png").rename(folder / "cat/renamed.png")


@pytest.mark.parametrize("change", [change_content, change_time, add, remove, rename])
def test_a_changed_folder_is_decoded_again(photos, photo, decodes, change):
    before = load_images(photos)
    count = len(decodes)
    change(photos, photo)
    after = load_images(photos)
    assert len(decodes) == count + len(after) and before.fingerprint != after.fingerprint


@pytest.mark.parametrize("option", [{"image_size": 4}, {"max_image_size": 5}, {"resize": "crop"}])
def test_other_decoding_options_make_another_cache(photos, decodes, option, cache_dir):
    load_images(photos)
    images = load_images(photos, **option)
    assert len(decodes) == 14 and len(entries(cache_dir)) == 2
    assert same(images, load_images(photos, **option)) and len(decodes) == 14


def test_two_folders_with_equal_names_sizes_and_times_do_not_share(tmp_path, encode, decodes):
    for name, level in (("one", 10), ("two", 200)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bmp").write_bytes(encode(np.full((8, 8), level, np.uint8), "BMP"))
        os.utime(tmp_path / name / "a.bmp", ns=(5, 5))
    assert load_images(tmp_path / "one")[0].max() == 10 and load_images(tmp_path / "two")[0].max() == 200


class Stop(Exception):
    pass


def stop_after(monkeypatch, count):
    """Makes decoding fail for good after `count` pictures; returns what undoes it."""
    real, seen = decode_source.decode, []

    def failing(*args):
        seen.append(1)
        if len(seen) > count:
            raise Stop
        return real(*args)

    monkeypatch.setattr(decode_source, "decode", failing)
    return lambda: monkeypatch.setattr(decode_source, "decode", real)


def test_an_interrupted_build_goes_on_where_it_stopped(photos, decodes, chunks_of_two, monkeypatch, cache_dir):
    (photos / "bad.png").touch()  # the first of 8, in the first chunk
    expected = load_images(photos, cache_dir=cache_dir / "other")
    decodes.clear()
    again = stop_after(monkeypatch, 5)
    with pytest.raises(Stop):
        load_images(photos, workers=1)
    assert entries(cache_dir) == [f"images-{expected.fingerprint}.part", "other"]
    again()
    done = []
    decodes.clear()
    images = load_images(photos, progress=lambda n, total, what: done.append((n, total, what)))
    assert len(decodes) == 4  # two whole chunks of two were on disk
    assert same(images, expected) and done[-1] == (8, 8, "decoding images")
    assert entries(cache_dir) == [f"images-{expected.fingerprint}", "other"]


def test_a_half_written_line_of_progress_costs_only_its_chunk(photos, decodes, chunks_of_two, monkeypatch, cache_dir):
    again = stop_after(monkeypatch, 6)
    with pytest.raises(Stop):
        load_images(photos, workers=1)
    again()
    (progress,) = cache_dir.glob("*.part/done.jsonl")
    progress.write_text(progress.read_text()[:-9])
    decodes.clear()
    images = load_images(photos)
    assert len(decodes) == 3 and same(images, load_images(photos, cache=False))


def test_an_interrupted_build_of_a_changed_folder_starts_anew(photos, photo, decodes, chunks_of_two, monkeypatch):
    again = stop_after(monkeypatch, 5)
    with pytest.raises(Stop):
        load_images(photos, workers=1)
    again()
    change_content(photos, photo)
    decodes.clear()
    assert same(load_images(photos), load_images(photos, cache=False)) and len(decodes) == 14


@pytest.mark.parametrize("file", ["images.npy", "plan.json", "done.jsonl"])
def test_an_interrupted_build_that_lost_a_file_starts_anew(
    photos, decodes, chunks_of_two, monkeypatch, cache_dir, file
):
    again = stop_after(monkeypatch, 5)
    with pytest.raises(Stop):
        load_images(photos, workers=1)
    again()
    (part,) = cache_dir.glob("*.part")
    (part / file).unlink()
    decodes.clear()
    assert same(load_images(photos), load_images(photos, cache=False)) and len(decodes) == 14


def drop_index(folder):
    (folder / "index.json").unlink()


def garble_index(folder):
    (folder / "index.json").write_text("{ nonsense")


def index_of_another_version(folder):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"format": -1}))


def index_of_other_ids(folder):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"ids": index["ids"][::-1]}))


def index_that_is_a_list(folder):
    (folder / "index.json").write_text("[1, 2]")


def wrong_shape(folder):
    np.save(folder / "images.npy", np.zeros((7, 3, 4, 4), np.uint8))


def wrong_dtype(folder):
    np.save(folder / "images.npy", np.zeros((7, 3, 8, 8), np.int8))


def cut_array(folder):
    os.truncate(folder / "images.npy", 1000)


def no_array(folder):
    (folder / "images.npy").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        drop_index, garble_index, index_of_another_version, index_of_other_ids, index_that_is_a_list,
        wrong_shape, wrong_dtype, cut_array, no_array,
    ],
)  # fmt: skip
def test_a_damaged_cache_is_built_again(photos, decodes, cache_dir, damage):
    expected = load_images(photos, cache=False)
    load_images(photos)
    decodes.clear()
    damage(next(cache_dir.glob("images-*[0-9a-f]")))
    assert same(load_images(photos), expected) and len(decodes) == 7
    assert same(load_images(photos), expected) and len(decodes) == 7


def test_two_builders_of_one_cache_share_the_work(photos, decodes, monkeypatch):
    counted = decode_source.decode

    def slow(*args):
        time.sleep(0.02)
        return counted(*args)

    monkeypatch.setattr(decode_source, "decode", slow)
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_images(photos, workers=1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3 and len(decodes) == 7
    assert same(found[0], found[1]) and same(found[1], found[2])


def test_a_lock_is_held_by_one_at_a_time_and_freed_by_an_error(tmp_path):
    def fail_inside():
        with lock.locked(tmp_path / "lock"):
            with pytest.raises(lock.InUse), lock.locked(tmp_path / "lock", wait=False):
                raise AssertionError("two hold one lock")
            raise Stop

    with pytest.raises(Stop):
        fail_inside()
    with lock.locked(tmp_path / "lock", wait=False):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_who_waits_for_the_decoding_of_another_says_so(photos, cache_dir, monkeypatch):
    monkeypatch.setattr(lock, "SAY_AFTER", 0.1)
    load_images(photos)
    finished = next(cache_dir.glob("images-*[0-9a-f]"))
    shutil.rmtree(finished)
    told = threading.Event()
    said, loaded = [], []

    def progress(done, total, what):
        said.append((done, total, what))
        told.set()

    with lock.locked(finished.with_name(finished.name + ".lock")):
        thread = threading.Thread(target=lambda: loaded.append(load_images(photos, progress=progress)))
        thread.start()
        assert told.wait(30)
        assert said == [(0, 7, "waiting for another process that decodes the same images")] and not loaded
    thread.join(30)
    assert len(loaded[0]) == 7 and said[-1] == (7, 7, "decoding images")


def test_a_full_disk_is_told_with_the_folder_the_bytes_and_the_way_out(photos, cache_dir, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 100))
    with pytest.raises(OSError, match=rf"{cache_dir}' needs 1,344 bytes.*100 left.*ILK_CACHE or --cache-dir"):
        load_images(photos)


def test_a_disk_that_fills_up_while_writing_is_told_likewise(photos, monkeypatch):
    def full(stream):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "to_disk", full)
    with pytest.raises(OSError, match="needs 1,344 bytes.*ILK_CACHE"):
        load_images(photos)


def test_a_cache_folder_that_cannot_be_written_is_replaced_by_memory_with_a_warning(photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be written .* decoded into memory, every time"):
        images = load_images(photos, cache_dir=tmp_path / "file" / "cache")
    assert images.in_memory() and len(images) == 7


def test_a_finished_cache_is_read_from_a_folder_that_cannot_be_written(photos, decodes, monkeypatch):
    first = load_images(photos)

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decode_source, "check_lockable", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load_images(photos), first) and len(decodes) == 7


def test_images_too_large_for_memory_need_a_folder_that_can_be_written(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_source, "MEMORY_BYTES", 1000)
    (tmp_path / "file").touch()
    for keep in (True, False):
        with pytest.raises(OSError, match="need 1,344 bytes, too many for memory.*--cache-dir"):
            load_images(photos, cache_dir=tmp_path / "file" / "cache", cache=keep)


def test_without_a_cache_nothing_is_left_on_disk(photos, cache_dir, monkeypatch):
    expected = load_images(photos, cache_dir=cache_dir / "other")
    assert same(load_images(photos, cache=False), expected) and entries(cache_dir) == ["other"]
    monkeypatch.setattr(decode_source, "MEMORY_BYTES", 1000)
    images = load_images(photos, cache=False)
    assert not images.in_memory() and same(images, expected) and entries(cache_dir) == ["other"]


def test_sources_in_memory_are_not_cached_and_have_the_fingerprint_of_their_content(cache_dir, encode):
    noise = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    for given in (noise, [encode(picture) for picture in noise], noise.transpose(0, 3, 1, 2)):
        assert load_images(given).fingerprint == load_images(noise.copy()).fingerprint
    changed = noise.copy()
    changed[3, 7, 7, 2] ^= 1
    assert load_images(changed).fingerprint != load_images(noise).fingerprint
    assert entries(cache_dir) == []


def test_nothing_is_kept_of_a_source_without_a_readable_image(tmp_path, cache_dir):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    for _ in range(2):
        with pytest.raises(ValueError, match="empty file"):
            load_images(tmp_path / "in")
    assert entries(cache_dir) == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "parquet"])
def test_archives_and_tables_are_cached_until_they_change(photos, tmp_path, decodes, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(names):
        path = tmp_path / f"a.{kind}"
        if kind == "parquet":
            pq.write_table(pa.table({"image": [(photos / name).read_bytes() for name in names]}), path)
        else:
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            for name in names:
                (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(photos / name, tmp_path / "copy" / name)
            shutil.make_archive(str(tmp_path / "a"), "zip" if kind == "zip" else "gztar", tmp_path / "copy")
        return path

    path = make(["cat/a.png", "cat/b.png", "dog/a.png"])
    assert same(load_images(path), load_images(path)) and len(decodes) == 3
    make(["cat/a.png", "dog/b.png"])
    assert len(load_images(path)) == 2 and len(decodes) == 5


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_default_folder_is_where_the_platform_keeps_caches(platform, monkeypatch, tmp_path):
    monkeypatch.delenv("ILK_CACHE")
    monkeypatch.setattr(cache_folder.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    expected = {"linux": ".cache/ilk", "darwin": "Library/Caches/ilk", "win32": "AppData/ilk/cache"}
    assert cache_folder.default_cache_dir() == tmp_path / expected[platform]
