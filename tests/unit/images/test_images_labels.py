"""Labels from folders, tables, sequences and mappings reach the right image."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ilk.images import load_images
from ilk.images.labels import encode_labels, folder_labels, split_folders


def named(images):
    """{id: label name or None}."""
    return {i: images.label_names[c] if c >= 0 else None for i, c in zip(images.ids, images.labels, strict=True)}


def test_folders_are_labels_only_when_asked_for(photos):
    assert load_images(photos).labels is None
    images = load_images(photos, labels="folders")
    assert images.label_names == ["cat", "dog"]
    assert images.labels.dtype == np.int64 and images.labels.tolist() == [0, 0, 0, 1, 1, 1, -1]


def test_the_first_folder_is_the_label(photos, photo):
    (photos / "dog" / "puppies").mkdir()
    (photos / "dog" / "puppies" / "x.png").write_bytes(photo(9))
    assert named(load_images(photos, labels="folders"))["dog/puppies/x.png"] == "dog"


@pytest.mark.parametrize("splits", [("train", "val"), ("Train", "TEST"), ("training", "valid"), ("validation",)])
@pytest.mark.parametrize("above", ["", "set/"])
def test_folders_of_a_split_are_no_labels(tmp_path, photo, splits, above):
    for number, split in enumerate(splits):
        for kind in ("cat", "dog"):
            file = tmp_path / above / split / kind / f"{number}.png"
            file.parent.mkdir(parents=True)
            file.write_bytes(photo(number))
    images = load_images(tmp_path, labels="folders")
    assert images.label_names == ["cat", "dog"]
    assert named(images) == {name: name.split("/")[-2] for name in images.ids}
    if not above:
        assert split_folders(images.ids) == sorted(splits)


def test_a_picture_beside_the_classes_of_a_split_has_no_label(tmp_path, photo):
    for name in ("train/cat/a.png", "train/stray.png", "val/dog/young/b.png", "top.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(photo(1))
    assert named(load_images(tmp_path, labels="folders")) == {
        "top.png": None, "train/cat/a.png": "cat", "train/stray.png": None, "val/dog/young/b.png": "dog",
    }  # fmt: skip


def test_a_class_that_is_called_like_a_split_stays_one_among_others():
    assert folder_labels(["test/a.png", "cat/b.png"]) == ["test", "cat"]


def test_folders_that_are_only_a_split_are_refused_as_labels():
    with pytest.raises(ValueError, match="only the folders test, train"):
        folder_labels(["train/a.png", "test/b.png", "c.png"])


def test_folder_labels_work_for_archives_and_lists_and_with_given_ids(photos, tmp_path):
    import shutil

    archive = shutil.make_archive(str(tmp_path / "a"), "zip", photos)
    in_zip = load_images(archive, labels="folders")
    assert all(name == (i.split("/")[0] if "/" in i else None) for i, name in named(in_zip).items())
    paths = [photos / "dog/a.png", photos / "cat/a.png"]
    assert named(load_images(paths, labels="folders", ids=["x", "y"])) == {"x": "dog", "y": "cat"}


def test_folder_labels_stay_with_their_images_when_one_is_bad(photos):
    (photos / "cat" / "b.png").write_bytes(b"")
    images = load_images(photos, labels="folders")
    assert images.labels.tolist() == [0, 0, 1, 1, 1, -1]


def test_folder_labels_without_folders_are_an_error(photos):
    with pytest.raises(ValueError, match="none of the 3 is in one .*'a.png'"):
        load_images(photos / "cat", labels="folders")
    with pytest.raises(ValueError, match="labels='folders' needs a folder"):
        load_images(np.zeros((2, 8, 8), np.uint8), labels="folders")


TABLES = {
    "id": lambda photos: ["id", "cat/a.png", "dog/c.png"],
    "path": lambda photos: ["path", str(photos / "cat/a.png"), str(photos / "dog/c.png")],
    "path beside the table": lambda photos: ["filename", "photos/cat/a.png", "./photos/dog/c.png"],
    "backslashes": lambda photos: ["Path", "cat\\a.png", "dog\\c.png"],
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_is_matched_by_id_or_path_and_the_rest_is_unknown(photos, kind, ending):
    key, first, second = TABLES[kind](photos)
    table = photos.parent / f"labels.{ending}"
    if ending == "csv":
        table.write_text(f"{key},note,label\n{first},x,young\n{second},x,old\nelsewhere.png,x,old\n")
    else:
        pq.write_table(pa.table({key: [first, second], "label": ["young", "old"]}), table)
    images = load_images(photos, labels=table)
    assert images.label_names == ["old", "young"]
    assert {i: name for i, name in named(images).items() if name} == {
        "cat/a.png": "young",
        "dog/c.png": "old",
    }


def test_a_table_of_bare_names_matches_only_names_that_are_there_once(photos, photo):
    (photos / "cat" / "only.png").write_bytes(photo(9))
    table = photos.parent / "labels.csv"
    table.write_text("filename,label\nonly.png,1\na.png,2\nstray,3\n")
    found = {i: name for i, name in named(load_images(photos, labels=str(table))).items() if name}
    assert found == {"cat/only.png": "1", "stray.png": "3"}  # there are two a.png


def test_a_table_that_matches_nothing_shows_an_id_of_each_side(photos, tmp_path):
    (tmp_path / "l.csv").write_text("id,label\nIMG_1,cat\n")
    with pytest.raises(ValueError, match="'IMG_1'.*'cat/a.png'"):
        load_images(photos, labels=tmp_path / "l.csv")


def test_a_table_without_the_columns_or_with_two_labels_for_one_is_refused(photos, tmp_path):
    (tmp_path / "l.csv").write_text("name,kind\ncat/a.png,cat\n")
    with pytest.raises(ValueError, match="name, kind.*'id'"):
        load_images(photos, labels=tmp_path / "l.csv")
    (tmp_path / "l.csv").write_text("id,label\ncat/a.png,cat\ncat/a.png,dog\n")
    with pytest.raises(ValueError, match="'cat/a.png'.*'cat' and 'dog'"):
        load_images(photos, labels=tmp_path / "l.csv")


def test_a_table_may_have_a_byte_order_mark_and_quoted_newlines(photos, tmp_path, photo):
    (photos / "two\nlines.png").write_bytes(photo(9))
    (tmp_path / "l.csv").write_bytes('\ufeffid,label\n"two\nlines.png",Größe\n'.encode())
    assert named(load_images(photos, labels=tmp_path / "l.csv"))["two\nlines.png"] == "Größe"


def test_a_table_that_is_not_text_gives_a_sentence(photos, tmp_path):
    (tmp_path / "l.csv").write_bytes(b"id,label\n\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as a CSV table"):
        load_images(photos, labels=tmp_path / "l.csv")


def test_an_unknown_word_for_labels_suggests_the_nearest(photos):
    with pytest.raises(FileNotFoundError, match="'folder'.*Did you mean 'folders'"):
        load_images(photos, labels="folder")


def test_a_sequence_is_in_source_order_and_counts_bad_files(photos):
    (photos / "cat" / "b.png").write_bytes(b"")
    images = load_images(photos, labels=list("abcdefg"))
    assert [name for name in named(images).values()] == list("acdefg")
    with pytest.raises(ValueError, match="6 labels were given for 7 images"):
        load_images(photos, labels=list("abcdef"))


def test_none_drops_the_labels_that_a_source_brings(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 8, 8), np.uint8), y=[0, 1, 2])
    assert load_images(tmp_path / "a.npz").labels.tolist() == [0, 1, 2]
    assert load_images(tmp_path / "a.npz", labels="none").labels is None
    assert load_images(tmp_path / "a.npz", labels=[5, 5, 6]).label_names == ["5", "6"]


@pytest.mark.parametrize(
    ("values", "codes", "names"),
    [
        (["b", "a", "b"], [1, 0, 1], ["a", "b"]),
        (["10", "9", "-1"], [1, 0, -1], ["9", "10"]),
        (["x", "-1"], [1, 0], ["-1", "x"]),
        (np.array([7, -1, 3]), [1, -1, 0], ["3", "7"]),
        (torch.tensor([2, 2, 0]), [1, 1, 0], ["0", "2"]),
        ([1.0, float("nan"), 0.0], [1, -1, 0], ["0", "1"]),
        ([None, "", "a"], [-1, -1, 0], ["a"]),
        ([True, False], [1, 0], ["False", "True"]),
        ([None, None], [-1, -1], []),
        ([b"x", "x"], [0, 0], ["x"]),
    ],
)
def test_labels_become_codes_into_sorted_names(values, codes, names):
    found, ordered = encode_labels(values, len(values))
    assert found.tolist() == codes and ordered == names and found.dtype == np.int64


def test_one_hot_labels_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*labels.argmax\(1\)"):
        encode_labels(np.eye(2, 3), 2)


def test_a_mapping_labels_by_id(photos):
    images = load_images(photos, labels={"cat/a.png": "x", "gone": "y"})
    assert {i: name for i, name in named(images).items() if name} == {"cat/a.png": "x"}
    with pytest.raises(ValueError, match="'a'.*'cat/a.png'"):
        load_images(photos, labels={"a": 1})
