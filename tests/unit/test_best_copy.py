"""Which of several copies is kept: never a link instead of the file it leads to."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ilk.images import load_images
from ilk.pipeline.best_copy import best_first
from ilk.pipeline.results import write_duplicates_and_flags
from ilk.runs.folder import Run
from ilk.system.progress import Watch


def picture(path: Path, side: int = 64, changed: int = 1_000_000_000) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(np.random.default_rng(3).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    coarse.resize((64, 64), Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.BICUBIC).save(path)
    os.utime(path, (changed, changed))
    return str(path)


def linked(path: Path, target: Path) -> str:
    path.symlink_to(target)
    return str(path)


def order(*paths: str) -> list[int]:
    return best_first(np.arange(len(paths)), paths).tolist()


def test_a_file_comes_before_every_link_to_it(tmp_path: Path) -> None:
    original = picture(tmp_path / "z" / "z.png")
    link = linked(tmp_path / "a.png", tmp_path / "z" / "z.png")
    chain = linked(tmp_path / "0.png", tmp_path / "a.png")
    folder = linked(tmp_path / "b", tmp_path / "z") + "/z.png"
    assert order(chain, link, folder, original)[0] == 3


def test_a_file_comes_before_a_larger_and_older_link(tmp_path: Path) -> None:
    large = tmp_path / "elsewhere" / "large.png"
    picture(large, side=128, changed=500_000_000)
    assert order(linked(tmp_path / "a.png", large), picture(tmp_path / "b.png")) == [1, 0]


def test_in_a_source_that_is_itself_a_link_files_come_before_links(tmp_path: Path) -> None:
    picture(tmp_path / "real" / "z.png")
    linked(tmp_path / "real" / "a.png", tmp_path / "real" / "z.png")
    root = linked(tmp_path / "source", tmp_path / "real")
    assert order(f"{root}/a.png", f"{root}/z.png") == [1, 0]


def test_then_come_more_pixels_then_age_then_the_order_of_the_source(tmp_path: Path) -> None:
    small_old = picture(tmp_path / "a.png", side=32, changed=100)
    large_new = picture(tmp_path / "b.png", side=96, changed=900)
    large_old = picture(tmp_path / "c.png", side=96, changed=200)
    same = picture(tmp_path / "d.png", side=96, changed=200)
    assert order(small_old, large_new, large_old, same) == [2, 3, 1, 0]


@pytest.mark.parametrize("path", ["", "/no/such.png", "a.zip::b.png", "/dev/null", "/"])
def test_what_has_no_file_of_its_own_comes_after_what_has(tmp_path: Path, path: str) -> None:
    assert order(path, path, picture(tmp_path / "a.png")) == [2, 0, 1]


def test_the_table_keeps_the_original_and_marks_its_links(tmp_path: Path) -> None:
    """Deleting every image that is not kept must leave one of each group readable."""
    picture(tmp_path / "photos" / "z.png")
    linked(tmp_path / "photos" / "a.png", tmp_path / "photos" / "z.png")
    picture(tmp_path / "photos" / "m.png", changed=1_100_000_000)
    images = load_images(tmp_path / "photos", cache_dir=tmp_path / "cache")
    (tmp_path / "run").mkdir()

    class Same:
        embedding = np.ones((3, 2), dtype=np.float32)

    write_duplicates_and_flags(Run(tmp_path / "run"), images, Same(), Watch())  # type: ignore[arg-type]  # only its embedding is read
    with open(tmp_path / "run" / "duplicates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["kept"], row["kind"]) for row in rows] == [
        ("z.png", "yes", "exact"), ("m.png", "no", "exact"), ("a.png", "no", "exact"),
    ]  # fmt: skip
