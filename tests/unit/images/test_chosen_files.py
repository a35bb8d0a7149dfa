"""Which files of a source are taken: never what ilk or the system wrote beside the pictures, and what patterns say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ilk.images import load_images
from ilk.images.choose_files import left_out_line
from ilk.pipeline.export import MANIFEST
from ilk.pipeline.fitting import BEFORE
from ilk.research.grid.row_file import TEXTS
from ilk.system.own_folders import EARLY, ROW_FIELDS
from places import ROOT

STORED_RUN = ROOT / "tests" / "training" / "runs_v1" / "cc"
Photo = Callable[..., bytes]


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def make_run(folder: Path, photo: Photo) -> None:
    """A run folder as ilk writes it, with its pictures."""
    put(folder / "config.json", (STORED_RUN / "config.json").read_bytes())
    put(folder / "clusters.png", photo(90))
    put(folder / "thumbnails" / "sheet-0.webp", photo(91))
    put(folder / "figures" / "training.png", photo(92))


def make_export(folder: Path, photo: Photo) -> None:
    put(folder / MANIFEST, json.dumps({"format": 1, "made": [], "left_out": []}).encode())
    put(folder / "cluster-0" / "cat__a.png", photo(0))


def make_representation(folder: Path, photo: Photo) -> None:
    """A run that has learnt its representation and has no config.json yet."""
    make_run(folder / "representation", photo)
    put(folder / "stray.png", photo(93))


def make_comparison(folder: Path, photo: Photo) -> None:
    put(folder / "rows.jsonl", json.dumps(dict.fromkeys(TEXTS, "x")).encode() + b"\n")
    put(folder / "results.png", photo(94))


OWN_FOLDERS = {
    "run": make_run, "export": make_export, "representation": make_representation, "comparison": make_comparison,
}  # fmt: skip


@pytest.mark.parametrize("kind", OWN_FOLDERS)
@pytest.mark.parametrize("place", ["runs/photos", "cat", "cat/deep/er"])
def test_a_folder_that_ilk_wrote_is_left_out_at_any_depth_and_changes_no_fingerprint(
    photos: Path, photo: Photo, kind: str, place: str
) -> None:
    before = load_images(photos)
    assert before.left_out == {}
    OWN_FOLDERS[kind](photos / place / "own", photo)
    after = load_images(photos)
    assert after.ids == before.ids and after.fingerprint == before.fingerprint
    assert after.left_out == {"own": 1}


def test_the_folders_that_ilk_wrote_are_counted_once_each(photos: Path, photo: Photo) -> None:
    make_run(photos / "runs" / "one", photo)
    make_run(photos / "runs" / "one" / "predictions" / "two", photo)  # inside the first
    make_export(photos / "sorted", photo)
    assert left_out_line(load_images(photos).left_out) == "left out: 2 folders that ilk wrote"


def test_a_run_that_has_just_begun_adds_no_table_to_a_folder_of_tables(tmp_path: Path, photo: Photo) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [photo(1), photo(2)]}), tmp_path / "pictures.parquet")
    put(tmp_path / "runs" / "new" / ".lock", b"")
    pq.write_table(pa.table({"parent": [1]}), tmp_path / "runs" / "new" / "hierarchy.parquet")
    assert len(load_images(tmp_path)) == 2


def test_what_a_run_writes_before_its_config_is_known() -> None:
    assert set(BEFORE) <= EARLY and set(TEXTS) >= ROW_FIELDS


@pytest.mark.parametrize("text", ['{"model_type": "vit"}', "[1, 2]", "{", ""])
def test_a_config_of_another_program_leaves_its_folder_in(photos: Path, text: str) -> None:
    (photos / "cat" / "config.json").write_text(text)
    images = load_images(photos)
    assert len(images) == 7 and images.left_out == {}


def test_a_run_named_as_the_source_is_refused_and_an_export_is_read(photos: Path, photo: Photo) -> None:
    make_run(photos / "runs" / "one", photo)
    with pytest.raises(ValueError, match="is a run that ilk wrote"):
        load_images(photos / "runs" / "one")
    with pytest.raises(ValueError, match="holds no images. Left out: 1 folder that ilk wrote"):
        load_images(photos / "runs")
    make_export(photos / "sorted", photo)
    assert load_images(photos / "sorted").ids == ["cluster-0/cat__a.png"]


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", ".Trash-1000", ".Trashes", "Thumbnails", ".thumbnails", "__MACOSX",
     "lost+found"],
)  # fmt: skip
def test_folders_of_thumbnails_and_deleted_files_are_left_out_and_counted(
    photos: Path, photo: Photo, name: str
) -> None:
    before = load_images(photos)
    put(photos / name / "a.png", photo(50))
    put(photos / "cat" / name / "b.png" / "SYNOPHOTO_THUMB_M.jpg", photo(51))
    images = load_images(photos)
    assert images.ids == before.ids and images.fingerprint == before.fingerprint
    assert left_out_line(images.left_out) == "left out: 2 folders of thumbnails or deleted files"
    assert load_images(photos / name).ids == ["a.png"]  # named itself


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_archives_leave_out_the_same_folders(photos: Path, photo: Photo, tmp_path: Path, kind: str) -> None:
    before = load_images(shutil.make_archive(str(tmp_path / "before"), kind, tmp_path, "photos"))
    make_run(photos / "runs" / "one", photo)
    put(photos / "runs" / "one" / "log.jsonl", b"{}\n")
    make_export(photos / "sorted", photo)
    put(photos / "@eaDir" / "a.png", photo(50))
    after = load_images(shutil.make_archive(str(tmp_path / "after"), kind, tmp_path, "photos"))
    assert sorted(after.ids) == sorted(before.ids) and after.left_out == {"own": 2, "system": 1}
    packed = load_images(shutil.make_archive(str(tmp_path / "export"), kind, photos, "sorted"))
    assert packed.ids == ["sorted/cluster-0/cat__a.png"]


PATTERNS = [
    ({"include": "cat/*"}, ["cat/a.png", "cat/b.png", "cat/c.png"]),
    ({"include": ["cat", "stray*"], "exclude": "*/b.png"}, ["cat/a.png", "cat/c.png", "stray.png"]),
    ({"exclude": ["dog/", "*[bc].png"]}, ["cat/a.png", "stray.png"]),
]


@pytest.mark.parametrize(("given", "ids"), PATTERNS)
def test_patterns_choose_files_of_folders_archives_and_lists(
    photos: Path, tmp_path: Path, given: dict[str, str], ids: list[str]
) -> None:
    archive = shutil.make_archive(str(tmp_path / "a"), "zip", photos)
    for source in (photos, str(photos), archive, sorted(photos.rglob("*.png"))):
        images = load_images(source, **given)
        assert sorted(images.ids) == ids
        assert images.left_out == {"unchosen": 7 - len(ids)}
        whole = load_images(source)
        assert all(np.array_equal(images[i], whole[whole.ids.index(name)]) for i, name in enumerate(images.ids))
        assert images.fingerprint != whole.fingerprint


@pytest.mark.parametrize("as_list", [False, True])
def test_files_that_are_not_chosen_may_change(photos: Path, photo: Photo, as_list: bool) -> None:
    def opened() -> str:
        return load_images(sorted(photos.rglob("*.png")) if as_list else photos, exclude="dog/*").fingerprint

    before = opened()
    put(photos / "dog" / "a.png", photo(70))
    put(photos / "dog" / "new.png", photo(71))
    assert opened() == before
    put(photos / "cat" / "a.png", photo(72))
    assert opened() != before


def test_chosen_files_keep_their_folder_labels(photos: Path) -> None:
    images = load_images(photos, include="dog", labels="folders")
    assert images.label_names == ["dog"] and images.labels is not None and images.labels.tolist() == [0, 0, 0]


def test_an_exclude_pattern_that_matches_nothing_is_counted_as_nothing(photos: Path) -> None:
    assert (
        left_out_line(load_images(photos, exclude="dgo/*").left_out) == "left out: 0 files by --include and --exclude"
    )


def test_patterns_that_cannot_be_meant_are_refused(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"--include 'bird/\*' leaves none of the 7 images \(the first is 'cat/a.png'"):
        load_images(photos, include="bird/*")
    with pytest.raises(ValueError, match="--exclude is ''"):
        load_images(photos, exclude=[""])
    with pytest.raises(TypeError, match="--include is a int"):
        load_images(photos, include=[3])  # type: ignore[list-item]
    for source in (np.zeros((4, 8, 8), np.uint8), load_images(photos), [np.zeros((8, 8), np.uint8)] * 3):
        with pytest.raises(ValueError, match="a folder, an archive or a list of paths"):
            load_images(source, exclude="a*")
