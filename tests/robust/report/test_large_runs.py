"""Reports of runs with thousands of images: time, memory, and the size of the files."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ilk.images import Images
from ilk.reports.page import render
from ilk.reports.payload import collect
from ilk.reports.sprites import MOST, write_thumbnails
from ilk.runs.tables import Cluster
from made_payloads import make_payload
from payload_checks import check

Written = Callable[..., Path]


def clusters_of(n: int, k: int) -> list[Cluster]:
    rows = [np.arange(number, n, k) for number in range(k)]
    return [Cluster(number, own[::-1].copy(), own, 0.5) for number, own in enumerate(rows)]


def test_a_run_of_20000_images_takes_little_time_and_memory(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run", 20_000, 20, side=4)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    payload = collect(folder)
    check(payload)
    assert payload["run"]["shown"] == 10_000 and payload["sprites"]["count"] == 10_000
    assert len(payload["sprites"]["sheets"]) == 10
    assert time.process_time() - began < 60  # seconds; 5 measured
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB; 20,000 squared is 1.6 GB
    more = collect(folder, 20_000)
    check(more)
    assert more["run"]["shown"] == 20_000 and more["sprites"]["count"] == 10_000
    shutil.rmtree(folder)


def test_ten_thousand_images_take_about_five_megabytes() -> None:
    assert len(render(make_payload(10_000, 20, labels=True, tile=36)).encode()) < 6_000_000


def test_of_many_images_a_sample_has_thumbnails_and_a_report_of_all_shows_the_others_without(
    tmp_path: Path, written_run: Written
) -> None:
    folder = written_run(tmp_path / "run", 12_000, 5, side=2)
    index = json.loads((folder / "thumbnails" / "index.json").read_text())
    assert len(index["rows"]) == MOST == len(set(index["rows"])) and index["rows"] == sorted(index["rows"])
    payload = collect(folder, 12_000)
    assert payload["sprites"]["count"] == MOST
    assert payload["images"]["row"][:MOST] == index["rows"]
    assert sorted(payload["images"]["row"]) == list(range(12_000))
    for one in payload["clusters"]:
        assert len(one["typical"]) == 24 and max(one["typical"]) < MOST and max(one["uncertain"]) < MOST


def test_photographs_take_less_than_400_bytes_each_at_36_pixels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (5001, 3, 6, 6)).astype(np.uint8)  # busier than most photographs
    pixels = np.repeat(np.repeat(coarse, 6, 2), 6, 3)
    write_thumbnails(tmp_path, Images(pixels), clusters_of(5001, 2))
    size = sum(file.stat().st_size for file in (tmp_path / "thumbnails").glob("sheet-*"))
    assert size / 5001 < 400
