"""Every kind of source gives the same pixels, with ids that are stable and unique."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ilk.images import BadFile, Images, load_images

NOISE = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
CHW = NOISE.transpose(0, 3, 1, 2)


def same(images, expected=CHW):
    """True where the images hold exactly these pixels."""
    found = images[:]
    assert found.dtype == torch.uint8 and images.shape == found.shape[1:]
    np.testing.assert_array_equal(found.numpy(), expected)
    return len(images) == len(expected) == len(images.ids) == len(set(images.ids)) == len(images.paths)


@pytest.fixture
def pngs(encode):
    return [encode(picture) for picture in NOISE]


@pytest.fixture
def folder(tmp_path, pngs):
    root = tmp_path / "in"
    for i, data in enumerate(pngs):
        (root / f"d{i % 2}").mkdir(parents=True, exist_ok=True)
        (root / f"d{i % 2}" / f"{i}.png").write_bytes(data)
    return root


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tarred(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


# Folders and files


def test_a_folder_is_read_in_the_order_of_relative_paths(folder):
    images = load_images(folder)
    assert images.ids == ["d0/0.png", "d0/2.png", "d0/4.png", "d1/1.png", "d1/3.png"]
    assert images.paths == [str(folder / name) for name in images.ids]
    assert same(images, CHW[[0, 2, 4, 1, 3]])
    assert (images.name, images.source_kind, images.original_size) == ("in/ (5 images)", "folder", (8, 8))
    assert images.labels is None and images.bad == []


def test_a_folder_may_be_given_as_text_or_relative(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert load_images("in").paths == load_images(str(folder)).paths == load_images(folder).paths
    monkeypatch.chdir(folder)
    assert load_images(".").name == "in/ (5 images)"


def test_hidden_files_are_skipped_and_other_kinds_are_counted(folder, pngs):
    for name in (".hidden.png", "__MACOSX/d0/0.png", ".git/0.png", "Thumbs.db"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pngs[0])
    for name in ("notes.txt", "d0/model.pt", "LICENSE"):
        (folder / name).write_text("x")
    images = load_images(folder)
    assert len(images) == 5 and images.ignored == 3 and images.bad == []


def test_unreadable_files_are_listed_and_take_no_row(folder, pngs):
    (folder / "d0" / "1 empty.JPG").touch()
    (folder / "d1" / "2 text.png").write_text("not a picture")
    (folder / "d1" / "9 cut.png").write_bytes(pngs[0][:100])
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    images = load_images(folder)
    assert same(images, CHW[[0, 2, 4, 1, 3]])
    assert images.ids == ["d0/0.png", "d0/2.png", "d0/4.png", "d1/1.png", "d1/3.png"]
    assert images.bad[0] == BadFile("d0/1 empty.JPG", str(folder / "d0" / "1 empty.JPG"), "empty file")
    assert [bad.id for bad in images.bad[1:]] == ["d1/2 text.png", "d1/9 cut.png", "gone.png"]
    assert images.bad[1].reason == "not an image but text" and images.bad[3].reason == "file not found"


def test_links_to_files_are_followed_and_loops_of_folders_end(folder):
    (folder / "a link.png").symlink_to(folder / "d0" / "0.png")
    (folder / "d0" / "loop").symlink_to(folder, target_is_directory=True)
    assert load_images(folder).ids == [
        "a link.png",
        "d0/0.png",
        "d0/2.png",
        "d0/4.png",
        "d1/1.png",
        "d1/3.png",
    ]


def test_a_link_to_a_folder_is_followed_but_no_folder_is_read_twice(folder, tmp_path, pngs):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.png").write_bytes(pngs[0])
    (folder / "aa").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "bb").symlink_to(folder / "d0", target_is_directory=True)
    assert load_images(folder).ids == ["aa/x.png", "d0/0.png", "d0/2.png", "d0/4.png", "d1/1.png", "d1/3.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["pipe.png", "link.png"])
def test_a_pipe_named_like_a_picture_is_not_waited_for(folder, tmp_path, name):
    os.mkfifo(tmp_path / "pipe.png" if name == "link.png" else folder / name)
    if name == "link.png":
        (folder / name).symlink_to(tmp_path / "pipe.png")
    assert len(load_images(folder)) == 5
    assert load_images([folder / "d0/0.png", folder / name]).bad[0].reason == "is not a plain file"


def test_names_may_hold_letters_spaces_and_newlines_of_any_script(tmp_path, pngs):
    names = ["Käse 🧀.png", "two\nlines.png", "with space.png", "日本語/猫.png", "a'b\"c,d.png"]
    for name, data in zip(names, pngs, strict=True):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    for _ in range(2):  # built, then from the cache
        images = load_images(tmp_path / "in")
        assert images.ids == sorted(names)
        assert same(images, CHW[[names.index(name) for name in images.ids]])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_gets_an_id_that_can_be_written_anywhere(tmp_path, pngs):
    (tmp_path / "in").mkdir()
    with open(os.fsencode(tmp_path / "in") + b"/caf\xe9.png", "wb") as stream:
        stream.write(pngs[0])
    images = load_images(tmp_path / "in")
    assert same(images, CHW[:1]) and images.ids[0].encode("utf-8") == b"caf\\udce9.png"


def test_a_single_file_is_one_image(folder):
    images = load_images(folder / "d0" / "2.png")
    assert same(images, CHW[2:3]) and images.ids == ["2.png"] and images.name == "2.png (1 image)"


def test_a_picture_without_an_ending_is_read_when_it_is_named_itself(tmp_path, pngs):
    (tmp_path / "picture").write_bytes(pngs[0])
    assert same(load_images(tmp_path / "picture"), CHW[:1])


def test_a_list_of_paths_keeps_its_order_and_names_below_the_common_folder(folder):
    paths = [folder / "d1" / "3.png", str(folder / "d0" / "0.png"), folder / "d1" / "1.png"]
    images = load_images(paths)
    assert images.ids == ["d1/3.png", "d0/0.png", "d1/1.png"] and same(images, CHW[[3, 0, 1]])


def test_a_path_given_twice_gets_two_ids(folder):
    path = folder / "d0" / "0.png"
    assert load_images([path, path, path]).ids == ["0.png", "0.png#2", "0.png#3"]


def test_a_list_lists_what_is_missing_or_a_folder(folder):
    images = load_images([folder / "d0" / "0.png", folder / "gone.png", folder / "d1"])
    assert images.ids == ["d0/0.png"]
    assert [(bad.id, bad.reason.split(",")[0]) for bad in images.bad] == [
        ("gone.png", "file not found"),
        ("d1", "is a folder"),
    ]


def test_globs_arrays_and_tuples_of_paths_are_lists_of_paths(folder):
    expected = ["0.png", "2.png", "4.png"]
    paths = sorted((folder / "d0").glob("*.png"))
    for given in (iter(paths), tuple(paths), np.array([str(path) for path in paths])):
        assert load_images(given).ids == expected


@pytest.mark.parametrize("kind", ["bytes", "PIL", "array", "tensor", "mixed"])
def test_a_list_of_pictures_in_memory_gets_positions_as_ids(kind, pngs, folder):
    make = {
        "bytes": lambda i: pngs[i],
        "PIL": lambda i: Image.fromarray(NOISE[i]),
        "array": lambda i: NOISE[i],
        "tensor": lambda i: torch.from_numpy(CHW[i].copy()),
        "mixed": lambda i: [pngs[0], folder / "d1/1.png", NOISE[2], Image.open(folder / "d1/3.png"), pngs[4]][i],
    }[kind]
    images = load_images([make(i) for i in range(5)])
    assert images.ids == ["000000", "000001", "000002", "000003", "000004"] and same(images)


def test_one_pillow_image_or_one_file_in_memory_is_one_image(pngs):
    assert same(load_images(Image.fromarray(NOISE[0])), CHW[:1]) and same(load_images(pngs[0]), CHW[:1])


# Arrays and tensors


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (NOISE, CHW),
        (torch.from_numpy(NOISE), CHW),
        (torch.from_numpy(CHW.copy()), CHW),
        (CHW, CHW),
        (NOISE[..., 0], CHW[:, :1]),
        (NOISE[..., :1], CHW[:, :1]),
        (NOISE[..., :2], CHW[:, :2]),
        (np.concatenate([NOISE, NOISE[..., :1]], axis=3), np.concatenate([CHW, CHW[:, :1]], axis=1)),
        (np.repeat(NOISE, 4, axis=3), np.repeat(CHW, 4, axis=1)),
        (torch.from_numpy(np.repeat(CHW, 4, axis=1)), np.repeat(CHW, 4, axis=1)),
    ],
)
def test_arrays_and_tensors_of_every_layout_keep_their_pixels(given, expected):
    images = load_images(given)
    assert same(images, expected) and images.in_memory() and images.ids[0] == "000000"


def test_a_tensor_that_could_be_either_layout_is_refused():
    with pytest.raises(ValueError, match=r"\(n, c, h, w\).*\(n, h, w, c\)"):
        load_images(torch.zeros((2, 8, 8, 8), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (NOISE.astype(np.float64) / 255, CHW),
        (torch.from_numpy(NOISE).float() / 255, CHW),
        (NOISE.astype(np.int64), CHW),
        (NOISE.astype(np.uint16), CHW),
        (NOISE > 127, np.where(CHW > 127, 255, 0)),
    ],
)
def test_floats_booleans_and_wider_integers_become_uint8(values, expected):
    assert same(load_images(values), expected)


def test_bfloat16_tensors_are_accepted():
    images = load_images((torch.arange(64).reshape(1, 8, 8) / 64).to(torch.bfloat16))
    assert (images[0].flatten() - torch.arange(64) * 255 / 64).abs().max() <= 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, r"1\.5.*\[0, 1\].*astype"),
        (255.0, r"255.*\[0, 1\].*astype"),
        (-0.25, r"-0\.25.*normalisation"),
        (float("nan"), "NaN"),
        (float("inf"), r"\binf\b"),
    ],
)
def test_floats_out_of_range_are_refused_with_the_value(value, message):
    values = np.full((3, 8, 8), 0.5, dtype=np.float32)
    values[2, 7, 7] = value
    with pytest.raises(ValueError, match=message):
        load_images(values)


@pytest.mark.parametrize("value", [-1, 256, 40_000])
def test_integers_out_of_range_are_refused_with_the_value(value):
    values = np.zeros((3, 8, 8), dtype=np.int32)
    values[1, 2, 3] = value
    with pytest.raises(ValueError, match=f"{value}.*0..255"):
        load_images(values)


@pytest.mark.parametrize("given", [np.zeros((8, 8), np.uint8), np.zeros((0, 8, 8), np.uint8), torch.zeros(3)])
def test_arrays_of_other_shapes_are_refused(given):
    with pytest.raises(ValueError, match=r"shape \("):
        load_images(given)


def test_arrays_of_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="complex"):
        load_images(np.zeros((2, 8, 8), dtype=complex))


def test_a_large_or_oblong_array_is_resized():
    array = np.zeros((3, 100, 120), np.uint8)
    array[:, :, 60:] = 200
    images = load_images(array)
    assert images.shape == (1, 64, 64) and images.original_size == (100, 120)
    found = images[:]
    assert found[:, :, :, :31].max() == 0 and found[:, :, :, 33:].min() == 200
    assert load_images(array, image_size=100).shape == (1, 100, 100)


def test_npz_brings_images_labels_and_ids(tmp_path):
    np.savez(tmp_path / "a.npz", images=NOISE, labels=[3, 1, 3, -1, 7], ids=list("vwxyz"))
    images = load_images(tmp_path / "a.npz")
    assert same(images) and images.ids == list("vwxyz")
    assert images.label_names == ["1", "3", "7"] and images.labels.tolist() == [1, 0, 1, -1, 2]
    np.savez(tmp_path / "b.npz", x=NOISE, y=np.arange(5))
    assert load_images(tmp_path / "b.npz").labels.tolist() == [0, 1, 2, 3, 4]


def test_npz_without_images_or_with_pickles_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=NOISE)
    with pytest.raises(ValueError, match="'x' or 'images'"):
        load_images(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.array([{}, None], dtype=object))
    with pytest.raises(ValueError, match="cannot be read as a NumPy file"):
        load_images(tmp_path / "b.npz")


def test_npy_is_read_where_it_lies(tmp_path):
    np.save(tmp_path / "a.npy", NOISE)
    images = load_images(tmp_path / "a.npy")
    assert same(images) and not images.in_memory()


def test_an_npy_of_large_images_is_cached_in_the_wanted_size(tmp_path, decodes):
    np.save(tmp_path / "a.npy", np.broadcast_to(NOISE[:, :1, :1], (5, 16, 16, 3)))
    for _ in range(2):
        images = load_images(tmp_path / "a.npy", image_size=8)
        assert same(images, np.broadcast_to(CHW[:, :, :1, :1], CHW.shape))
    assert len(decodes) == 5 and not images.in_memory()


# Datasets


class Pairs(torch.utils.data.Dataset):
    classes = ("cat", "dog", "eel")

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return self.item(i)


@pytest.mark.parametrize(
    "item",
    [
        lambda i: (Image.fromarray(NOISE[i]), i % 3),
        lambda i: (torch.from_numpy(CHW[i] / 255.0), torch.tensor(i % 3)),
        lambda i: (NOISE[i], np.int64(i % 3)),
        lambda i: {"image": Image.fromarray(NOISE[i]), "label": i % 3},
        lambda i: {"pixel_values": torch.from_numpy(CHW[i].copy()), "labels": i % 3},
        lambda i: {"img": NOISE[i], "label": i % 3},
    ],
)
def test_a_dataset_gives_images_labels_and_class_names(item):
    images = load_images(Pairs(item))
    assert same(images) and images.labels.tolist() == [0, 1, 2, 0, 1]
    assert images.label_names == ["cat", "dog", "eel"] and images.name == "Pairs (5 images)"


def test_a_dataset_without_labels_has_none():
    assert load_images(Pairs(lambda i: Image.fromarray(NOISE[i]))).labels is None
    assert load_images(Pairs(lambda i: (NOISE[i], NOISE[i]))).labels is None  # two views are no label


def test_an_item_that_fails_is_bad_and_labels_stay_with_their_images():
    def item(i):
        if i == 1:
            raise OSError("disk on fire")
        return NOISE[i], i % 3

    images = load_images(Pairs(item))
    assert images.ids == ["000000", "000002", "000003", "000004"] and images.labels.tolist() == [0, 2, 0, 1]
    assert images.bad == [BadFile("000001", "", "disk on fire")]


def test_a_dataset_of_normalised_tensors_is_an_error_and_not_bad_files():
    with pytest.raises(ValueError, match="item 0 of Pairs.* -.*normalisation"):
        load_images(Pairs(lambda i: torch.from_numpy(CHW[i] / 255.0) - 0.5))


def test_a_dataset_dict_without_an_image_names_its_keys():
    with pytest.raises(ValueError, match="'picture', 'label'"):
        load_images(Pairs(lambda i: {"picture": NOISE[i], "label": 0}))


def test_an_iterable_dataset_is_refused():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(NOISE)

    with pytest.raises(TypeError, match="no fixed order"):
        load_images(Stream())


# Archives


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tgz", "tar.xz"])
def test_archives_are_read_in_their_order_and_leave_nothing_on_disk(tmp_path, pngs, kind):
    members = [(f"top/d{i % 2}/{9 - i}.png", data) for i, data in enumerate(pngs)]
    members[2:2] = [("top/readme.txt", b"x"), ("__MACOSX/top/._0.png", b"x"), ("top/bad.png", b"")]
    path = tmp_path / f"photos.{kind}"
    if kind == "zip":
        zipped(path, members)
    else:
        tarred(path, members, "w" if kind == "tar" else "w:xz" if kind == "tar.xz" else "w:gz")
    images = load_images(path)
    assert same(images) and images.ids == [f"top/d{i % 2}/{9 - i}.png" for i in range(5)]
    assert images.paths[0] == f"{path}::top/d0/9.png" and images.name == f"photos.{kind} (5 images)"
    assert images.bad == [BadFile("top/bad.png", f"{path}::top/bad.png", "empty file")] and images.ignored == 1
    assert os.listdir(tmp_path) == [path.name]


EVIL = [
    "/etc/evil.png",
    "../evil.png",
    "a/../../evil.png",
    "C:\\evil.png",
    "..\\evil.png",
    "\\\\host\\evil.png",
]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", EVIL)
def test_members_that_point_outside_are_refused_one_by_one(tmp_path, pngs, kind, name):
    make = {"zip": zipped, "tar": tarred}[kind]
    images = load_images(make(tmp_path / f"a.{kind}", [("good.png", pngs[0]), (name, pngs[1])]))
    assert images.ids == ["good.png"] and [bad.id for bad in images.bad] == [name]
    assert "absolute" in images.bad[0].reason or ".." in images.bad[0].reason


def test_links_in_archives_are_refused(tmp_path, pngs):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("soft.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("good.png")
        info.size = len(pngs[0])
        archive.addfile(info, io.BytesIO(pngs[0]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.png", pngs[0])
        info = zipfile.ZipInfo("soft.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert [bad.reason for bad in load_images(tmp_path / "a.tar").bad] == ["is a link, which is not followed"] * 2
    assert [bad.reason for bad in load_images(tmp_path / "a.zip").bad] == ["is a link, which is not followed"]


def test_a_member_that_declares_too_many_bytes_is_never_read(tmp_path, pngs, monkeypatch):
    monkeypatch.setattr("ilk.images.archives.MAX_MEMBER_BYTES", 2000)
    path = zipped(tmp_path / "a.zip", [("good.png", pngs[0]), ("big.png", bytes(3000))])
    assert load_images(path).bad[0].reason == "too large: 3,000 bytes, more than 2,000"


def test_a_damaged_member_is_bad_and_the_others_are_read(tmp_path, pngs):
    path = zipped(tmp_path / "a.zip", [(f"{i}.png", data) for i, data in enumerate(pngs)])
    data = path.read_bytes()
    path.write_bytes(data.replace(pngs[2], pngs[2][:-40] + bytes(40)))
    images = load_images(path)
    assert images.ids == ["0.png", "1.png", "3.png", "4.png"] and "archive" in images.bad[0].reason


def test_a_member_that_is_there_twice_gets_two_ids(tmp_path, pngs):
    images = load_images(tarred(tmp_path / "a.tar", [("x.png", pngs[0]), ("x.png", pngs[1])]))
    assert images.ids == ["x.png", "x.png#2"] and same(images, CHW[:2])


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.parquet", "a.npz", "a.npy"])
def test_a_file_that_is_not_what_its_name_says_gives_a_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"nonsense" * 100)
    with pytest.raises(ValueError, match=f"{name}' cannot be read as"):
        load_images(tmp_path / name)


def test_archives_without_pictures_or_with_only_refused_ones_say_so(tmp_path, pngs):
    with pytest.raises(ValueError, match="holds no images, only 1 "):
        load_images(zipped(tmp_path / "a.zip", [("readme.txt", b"")]))
    with pytest.raises(ValueError, match=r"none of the 1 images .*absolute name"):
        load_images(zipped(tmp_path / "b.zip", [("/x.png", pngs[0])]))


# Parquet


def huggingface(path, pngs, labels, start=0):
    """A file as `datasets` writes it: {bytes, path} and a ClassLabel in the metadata."""
    rows = [{"bytes": data, "path": f"{start + i}.png"} for i, data in enumerate(pngs)]
    features = {"img": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = pa.table({"label": labels, "img": rows})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=2)
    return path


def test_hugging_face_parquet_brings_images_ids_and_class_names(tmp_path, pngs):
    images = load_images(huggingface(tmp_path / "a.parquet", pngs, [1, 0, 1, -1, 0]))
    assert same(images) and images.ids == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert images.label_names == ["cat", "dog"] and images.labels.tolist() == [1, 0, 1, -1, 0]


def test_a_folder_of_parquet_files_is_read_as_one(tmp_path, pngs):
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / "README.md").write_text("card")
    huggingface(tmp_path / "set/data/train-0.parquet", pngs[:3], [0, 0, 1])
    huggingface(tmp_path / "set/data/train-1.parquet", pngs[3:], [1, 1], start=3)
    images = load_images(tmp_path / "set")
    assert same(images) and images.source_kind == "parquet" and images.labels.tolist() == [0, 0, 1, 1, 1]
    assert images.name == "set/ (5 images)" and images.paths[4].endswith("train-1.parquet::000001")


def test_parquet_of_plain_bytes_finds_image_id_and_label_columns(tmp_path, pngs):
    table = pa.table({"thumb": [b"x"] * 5, "filename": list("vwxyz"), "class": list("aabba"), "image": pngs})
    pq.write_table(table, tmp_path / "a.parquet")
    images = load_images(tmp_path / "a.parquet")
    assert same(images) and images.ids == list("vwxyz") and images.labels.tolist() == [0, 0, 1, 1, 0]


def test_parquet_falls_back_to_the_only_bytes_column_and_to_positions(tmp_path, pngs):
    pq.write_table(pa.table({"payload": pngs, "id": [1, 2, 2, 3, 4]}), tmp_path / "a.parquet")
    images = load_images(tmp_path / "a.parquet")
    assert same(images) and images.ids[4] == "000004" and images.labels is None


def test_parquet_rows_without_bytes_use_the_path_or_are_bad(tmp_path, pngs):
    (tmp_path / "x.png").write_bytes(pngs[1])
    rows = [
        {"bytes": pngs[0], "path": None},
        {"bytes": None, "path": "x.png"},
        {"bytes": None, "path": None},
        None,
    ]
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    images = load_images(tmp_path / "a.parquet")
    assert same(images, CHW[:2]) and [bad.reason for bad in images.bad] == ["empty: the row holds no bytes"] * 2


def test_parquet_rows_far_apart_and_backwards_are_the_right_ones(tmp_path, encode):
    from ilk.images.parquet import parquet_source

    pictures = [encode(np.full((4, 4), i, np.uint8)) for i in range(200)]
    pq.write_table(pa.table({"image": pictures}), tmp_path / "a.parquet", row_group_size=90)
    source = parquet_source([tmp_path / "a.parquet"], tmp_path / "a.parquet")
    for i in (0, 1, 70, 89, 90, 199, 64, 63, 5, 180, 179, 100, 199, 0):
        assert source.read(i) == pictures[i]
    source.close()


def test_parquet_files_of_different_columns_are_refused(tmp_path, pngs):
    pq.write_table(pa.table({"image": pngs, "label": [0] * 5}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": pngs}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet'.*column 'label'"):
        load_images(tmp_path)


def test_a_damaged_parquet_page_makes_its_rows_bad_and_no_others(tmp_path, pngs):
    pq.write_table(
        pa.table({"image": pngs}),
        tmp_path / "a.parquet",
        row_group_size=2,
        compression="gzip",
        use_dictionary=False,
    )
    start = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0).data_page_offset
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    body = data.index(b"\x1f\x8b", start)  # where the page's gzip stream begins
    data[body : body + 60] = bytes(60)
    (tmp_path / "a.parquet").write_bytes(data)
    images = load_images(tmp_path / "a.parquet")
    assert images.ids == ["000000", "000001", "000004"] and same(images, CHW[[0, 1, 4]])
    assert all("cannot be read from the table" in bad.reason for bad in images.bad) and len(images.bad) == 2


def test_parquet_without_pictures_lists_its_columns(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a \(int64\), b \(string\)"):
        load_images(tmp_path / "a.parquet")


# What is not a source


def test_a_missing_path_suggests_the_nearest_name(folder):
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*/in'\?"):
        load_images(folder.parent / "inn")
    with pytest.raises(FileNotFoundError, match=r"not even '.*/inn'\. Did you mean '.*/in'\?"):
        load_images(folder.parent / "inn" / "d0" / "0.png")


def test_an_empty_folder_says_so_and_one_of_other_kinds_says_what_it_has(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none' holds no images. It is empty"):
        load_images(tmp_path / "none")
    (tmp_path / "none" / "a.csv").touch()
    (tmp_path / "none" / "b.zip").touch()
    with pytest.raises(ValueError, match=r"1 \.csv, 1 \.zip\); an archive .* must be given itself"):
        load_images(tmp_path / "none")


@pytest.mark.parametrize("given", ["https://example.org/a.zip", "s3://bucket/photos", ["http://example.org/a.png"]])
def test_remote_addresses_are_refused(given):
    with pytest.raises(ValueError, match="is a remote address"):
        load_images(given)


@pytest.mark.parametrize("given", [None, 7, 2.5, {"x": NOISE}, {"a.png"}, [3]])
def test_other_things_are_refused_with_what_is_accepted(given):
    with pytest.raises(TypeError, match=r"paths"):
        load_images(given)


@pytest.mark.parametrize("given", [[], (), ""])
def test_nothing_is_refused(given):
    with pytest.raises(ValueError, match="empty"):
        load_images(given)


def test_a_table_of_labels_is_not_a_source_of_images(tmp_path):
    (tmp_path / "a.csv").write_text("id,label\n")
    with pytest.raises(ValueError, match="source of images"):
        load_images(tmp_path / "a.csv")


def test_all_bad_is_an_error_that_names_three_reasons(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.png").touch()
    with pytest.raises(ValueError, match=r"none of the 4 images .*a\.png: empty file; b\.png: .*; c\.png") as caught:
        load_images(tmp_path)
    assert "d.png" not in str(caught.value)
    with pytest.raises(ValueError, match="only image"):
        load_images(tmp_path / "a.png")


def test_images_are_their_own_source():
    images = load_images(NOISE)
    assert load_images(images) is images and load_images(images, image_size=8) is images
    assert isinstance(images, Images)
