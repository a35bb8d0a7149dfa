"""`Images` itself: indexing, channels, subsets; and how `load_images` chooses size and channels."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from ilk.images import Images, decode_source, load_images

NOISE = np.random.default_rng(0).integers(0, 256, (7, 3, 8, 8), dtype=np.uint8)


@pytest.fixture(params=["plain", "transposed", "memory map", "rows", "gray to colour"])
def images(request, tmp_path):
    """Seven images with the pixels NOISE (or one channel of it, repeated), held in each way."""
    if request.param == "plain":
        return Images(NOISE.copy())
    if request.param == "transposed":
        return load_images(NOISE.transpose(0, 2, 3, 1).copy())
    if request.param == "memory map":
        np.save(tmp_path / "a.npy", NOISE)
        return Images(np.load(tmp_path / "a.npy", mmap_mode="r"))
    if request.param == "rows":
        return Images(np.repeat(NOISE, 2, axis=0), rows=np.arange(7) * 2 + 1)
    return Images(NOISE[:, :1].copy(), channels=3)


@pytest.mark.parametrize(
    ("index", "chosen"),
    [
        (slice(None), [0, 1, 2, 3, 4, 5, 6]),
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -2), [6, 4, 2, 0]),
        (slice(5, 2), []),
        ([3, 3, 0], [3, 3, 0]),
        ([-1, -7], [6, 0]),
        ((2, 1), [2, 1]),
        ([], []),
        (range(2), [0, 1]),
        (np.array([6, 0, 5], dtype=np.uint8), [6, 0, 5]),
        (np.array([True, False, False, True, False, False, False]), [0, 3]),
        (torch.tensor([4, 2]), [4, 2]),
        (torch.arange(7) < 2, [0, 1]),
    ],
)
def test_every_index_gives_a_fresh_tensor_of_those_images(images, index, chosen):
    expected = np.repeat(NOISE[:, :1], 3, axis=1) if images._pixels.shape[1] == 1 else NOISE
    found = images[index]
    assert found.dtype == torch.uint8 and found.is_contiguous()
    np.testing.assert_array_equal(found.numpy(), expected[np.array(chosen, dtype=int)])
    found.zero_()
    np.testing.assert_array_equal(images[:].numpy(), expected)


def test_one_integer_gives_one_image_and_iteration_gives_all(images):
    assert images[2].shape == (3, 8, 8) and torch.equal(images[-1], images[6])
    assert torch.equal(torch.stack(list(images)), images[:]) and len(images) == 7


@pytest.mark.parametrize("index", [7, -8, [0, 7], torch.tensor([-8]), np.ones(6, bool)])
def test_an_index_outside_is_an_error(images, index):
    with pytest.raises(IndexError):
        images[index]


@pytest.mark.parametrize("index", ["a", [0.5], np.zeros((2, 2), int), None])
def test_an_index_of_another_kind_is_an_error(images, index):
    with pytest.raises(TypeError, match="cannot be indexed by"):
        images[index]


def test_a_memory_map_says_that_it_is_not_in_memory(tmp_path):
    np.save(tmp_path / "a.npy", NOISE)
    mapped = Images(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert not mapped.in_memory() and not mapped.subset([0, 1]).in_memory() and Images(NOISE).in_memory()


def test_nbytes_is_what_all_tensors_take(images):
    assert images.nbytes == images[:].numel()


def test_a_subset_keeps_ids_paths_and_labels_together(photos):
    images = load_images(photos, labels="folders")
    chosen = images.subset([5, 0, 6])
    assert chosen.ids == ["dog/c.png", "cat/a.png", "stray.png"] and chosen.labels.tolist() == [1, 0, -1]
    assert chosen.paths == [images.paths[i] for i in (5, 0, 6)] and chosen.name == "photos/ (3 images)"
    assert torch.equal(chosen[:], images[[5, 0, 6]])
    again = chosen.subset(slice(1, None)).subset([1, 0])
    assert again.ids == ["stray.png", "cat/a.png"] and torch.equal(again[:], images[[6, 0]])
    assert len({x.fingerprint for x in (images, chosen, again, images.subset([0, 5, 6]))}) == 4


def test_labels_can_be_replaced_and_removed_without_touching_the_original():
    images = Images(NOISE, ids=list("abcdefg"))
    labelled = images.with_labels([3, 3, 1, 1, -1, 3, 1])
    assert labelled.labels.tolist() == [1, 1, 0, 0, -1, 1, 0] and labelled.label_names == ["1", "3"]
    assert images.labels is None and labelled.with_labels(None).labels is None
    assert images.with_labels({"c": "x"}).labels.tolist() == [-1, -1, 0, -1, -1, -1, -1]


def test_rgb_to_gray_is_pillows_luminosity_and_gray_to_rgb_repeats():
    gray = Images(NOISE).with_channels(1)
    expected = [np.asarray(Image.fromarray(picture.transpose(1, 2, 0)).convert("L")) for picture in NOISE]
    np.testing.assert_array_equal(gray[:].numpy()[:, 0], expected)
    assert gray.shape == (1, 8, 8) and torch.equal(gray.with_channels(3)[:], Images(NOISE)[:])
    one = Images(NOISE[:, :1])
    assert torch.equal(one.with_channels(3)[:], one[:].expand(-1, 3, -1, -1)) and one.with_channels(1) is one


@pytest.mark.parametrize(("present", "wanted"), [(4, 3), (3, 4), (2, 1), (1, 2), (3, 0)])
def test_other_changes_of_channels_are_refused(present, wanted):
    with pytest.raises(ValueError, match=f"channels={wanted}.*{present} channels"):
        load_images(np.zeros((2, 8, 8, present), np.uint8) + np.arange(present, dtype=np.uint8), channels=wanted)


def test_ids_must_be_unique_and_one_for_each():
    with pytest.raises(ValueError, match="'a' is given twice"):
        load_images(NOISE, ids=list("abcadef"))
    with pytest.raises(ValueError, match="3 ids were given for 7 images"):
        load_images(NOISE, ids=list("abc"))
    assert load_images(NOISE, ids=range(7)).ids == list("0123456")


def test_given_ids_skip_those_of_bad_files(photos):
    (photos / "cat" / "b.png").write_bytes(b"")
    images = load_images(photos, ids=list("tuvwxyz"))
    assert images.ids == list("tvwxyz") and images.paths[1].endswith("cat/c.png")


def test_pixels_that_are_not_uint8_of_four_axes_are_refused():
    with pytest.raises(TypeError, match="Use load_images"):
        Images(NOISE.astype(float))


# What load_images chooses


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_images_is_enough(tmp_path, photo, count):
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(photo(number))
    images = load_images(tmp_path)
    assert len(images) == count and images[:].shape == (count, 3, 8, 8)
    assert images.name.endswith("(1 image)" if count == 1 else f"({count} images)")


def test_the_side_is_the_median_short_side_up_to_a_limit(tmp_path, photo):
    for number, size in enumerate([(10, 90), (30, 20), (400, 500), (24, 24), (22, 60)]):
        (tmp_path / f"{number}.png").write_bytes(photo(number, size))
    images = load_images(tmp_path)
    assert images.shape == (3, 22, 22) and images.original_size == (24, 60)
    assert load_images(tmp_path, max_image_size=16).shape == (3, 16, 16)
    assert load_images(tmp_path, image_size=100).shape == (3, 100, 100)


def test_the_side_is_chosen_from_at_most_512_images_spread_over_all(monkeypatch):
    seen = []
    monkeypatch.setattr(decode_source, "read_header", lambda item: seen.append(item))
    source = decode_source.Source("list", "", [str(i) for i in range(5000)], [""] * 5000, lambda i: i)
    decode_source.sample_headers(source, 2)
    assert len(seen) == 512 and min(seen) == 0 and max(seen) == 4999
    gaps = np.diff(sorted(seen))
    assert gaps.min() >= 9 and gaps.max() <= 10


def test_gray_files_keep_one_channel_and_are_decoded_once(tmp_path, photo, decodes):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(photo(number, gray=True))
    assert load_images(tmp_path).shape == (1, 8, 8) and len(decodes) == 4
    assert load_images(tmp_path, channels=3).shape == (3, 8, 8) and len(decodes) == 4


@pytest.mark.parametrize("keep", [True, False])
def test_gray_saved_as_colour_collapses_to_one_channel(tmp_path, encode, keep):
    gray = NOISE[:, 0]
    for i, picture in enumerate(gray):
        (tmp_path / f"{i}.png").write_bytes(encode(np.repeat(picture[..., None], 3, axis=2)))
    (tmp_path / "9.png").write_bytes(encode(gray[0]))
    images = load_images(tmp_path, cache=keep)
    np.testing.assert_array_equal(images[:].numpy(), np.concatenate([gray, gray[:1]])[:, None])


@pytest.mark.parametrize("keep", [True, False])
def test_one_coloured_picture_makes_all_three_channels(tmp_path, encode, monkeypatch, keep):
    monkeypatch.setattr(decode_source, "SAMPLE", 2)  # so that the sample, the first and the last, is gray
    for i in range(7):
        (tmp_path / f"{i}.png").write_bytes(encode(NOISE[i].transpose(1, 2, 0) if i == 4 else NOISE[i, 0]))
    images = load_images(tmp_path, cache=keep)
    expected = np.repeat(NOISE[:, :1], 3, axis=1)
    expected[4] = NOISE[4]
    np.testing.assert_array_equal(images[:].numpy(), expected)


def test_a_build_that_had_to_change_to_colour_goes_on_in_colour(tmp_path, encode, monkeypatch, decodes):
    monkeypatch.setattr(decode_source, "SAMPLE", 2)
    monkeypatch.setattr("ilk.images.cache.CHUNK", 2)
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(encode(NOISE[0].transpose(1, 2, 0) if i == 3 else NOISE[i % 7, 0]))
    counted, stopped = decode_source.decode, []

    def decode(*args):
        if len(decodes) > 10:  # in the second, coloured attempt, after three chunks or more
            stopped.append(1)
            raise KeyboardInterrupt
        return counted(*args)

    monkeypatch.setattr(decode_source, "decode", decode)
    with pytest.raises(KeyboardInterrupt):
        load_images(tmp_path, workers=1)
    monkeypatch.setattr(decode_source, "decode", counted)
    first = len(decodes)
    images = load_images(tmp_path)
    assert images.shape == (3, 8, 8) and 0 < len(decodes) - first < 9


def test_arrays_with_three_equal_channels_collapse_and_others_do_not():
    gray = np.repeat(NOISE[:, :1], 3, axis=1).transpose(0, 2, 3, 1)
    assert load_images(gray).shape == (1, 8, 8) and load_images(gray, channels=3).shape == (3, 8, 8)
    tinted = gray.copy()
    tinted[6, 7, 7, 2] ^= 1
    assert load_images(tinted).shape == (3, 8, 8)
    assert load_images(gray.repeat(2, axis=3)[..., :4]).shape == (4, 8, 8)


def test_items_of_other_channels_are_bad_and_not_a_crash():
    mixed = [NOISE[0].transpose(1, 2, 0), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8)]
    images = load_images(mixed)
    assert images.ids == ["000001"] and [bad.id for bad in images.bad] == ["000000", "000002"]
    assert images.bad[0].reason == "has 3 channels where the first images have 4"


def test_images_given_as_source_are_resized_with_all_they_carry(photos):
    images = load_images(photos, labels="folders", channels=1)
    small = load_images(images, image_size=4)
    assert small.shape == (1, 4, 4) and small.ids == images.ids and small.paths == images.paths
    assert small.labels.tolist() == images.labels.tolist() and small.label_names == images.label_names
    assert small.source_kind == "folder" and load_images(images, labels="none").labels is None
    assert load_images(images, channels=3).shape == (3, 8, 8)


def test_progress_ends_at_the_total_and_comes_from_the_calling_thread(photos):
    calls = []
    load_images(photos, progress=lambda *call: calls.append((*call, threading.current_thread())))
    assert calls[-1] == (7, 7, "decoding images", threading.current_thread())


def test_the_number_of_workers_changes_nothing(photos):
    one, many = load_images(photos, workers=1, cache=False), load_images(photos, workers=9, cache=False)
    assert torch.equal(one[:], many[:]) and one.ids == many.ids


@pytest.mark.parametrize("sequential", [True, False])
def test_few_pictures_are_in_flight_at_once(sequential):
    taken = []
    read = decode_source.Source("x", "x", ["x"] * 300, [""] * 300, lambda i: taken.append(i), sequential=sequential)
    with ThreadPoolExecutor(2) as pool:
        ahead = [len(taken) - n for n, _ in enumerate(decode_source._in_order(pool, read, range(300), str, 2), 1)]
    assert len(taken) == len(ahead) == 300 and max(ahead) <= 8


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"image_size": 0}, "image_size.* 0.*1 to 4,096"),
        ({"image_size": 32.5}, "image_size.*32.5"),
        ({"max_image_size": True}, "max_image_size.*True"),
        (
            {"resize": "squish"},
            "resize.*'squish'.*squash, crop, pad.*Did you mean 'squash'",
        ),
        ({"workers": 0}, "workers.* 0.*at least 1"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        load_images(NOISE, **option)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_pictures_are_rgb_whatever_the_channels(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, channels, 3, 6), dtype=np.uint8)
    found = Images(pixels).pictures(np.array([2, 0]))
    assert [(one.mode, one.size) for one in found] == [("RGB", (6, 3))] * 2
    shown = np.asarray(found[0]).transpose(2, 0, 1)
    np.testing.assert_array_equal(shown, pixels[2, :3] if channels >= 3 else pixels[2, :1].repeat(3, 0))
