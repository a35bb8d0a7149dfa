"""Copies are found whatever was done to them, look-alikes are not copies, and blank or broken images are named."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.datasets import load_digits

from ilk.analysis.duplicates import DuplicateGroup, find_duplicates, flag_images, odd_line
from ilk.analysis.duplicates.find import PLAIN, STRICT, compare, isolated_groups, near_groups
from ilk.analysis.duplicates.sketches import averaging, candidates, sketch_all
from ilk.images import Images
from places import SHARED_DATA

FLOWERS = SHARED_DATA / "flowers"
SIDE = 48


def scene(number: int, side: int = 150) -> Image.Image:
    """A picture of soft blobs that is unlike every other."""
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def pixels(picture: Image.Image, side: int = SIDE) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BOX)).transpose(2, 0, 1)


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(picture: Image.Image) -> Image.Image:
    """2 % shorter each way."""
    x, y = max(1, round(picture.width / 100)), max(1, round(picture.height / 100))
    return picture.crop((x, y, picture.width - x, picture.height - y))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 60": lambda one: compressed(one, 60),
    "70 % of the size": lambda one: compressed(one.resize((round(one.width * 0.7), round(one.height * 0.7))), 90),
    "crop of 2 %": cropped,
    "brightness + 10 %": lambda one: ImageEnhance.Brightness(one).enhance(1.1),
}


def as_images(found: list[np.ndarray] | np.ndarray) -> Images:
    return Images(np.ascontiguousarray(np.stack(list(found))))


def rows(groups: list[DuplicateGroup]) -> list[list[int]]:
    return [group.rows.tolist() for group in groups]


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    return [pixels(scene(i)) for i in range(80)]


def test_different_pictures_are_in_no_group(scenes: list[np.ndarray]) -> None:
    assert find_duplicates(as_images(scenes)) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_near_its_original(change: str, scenes: list[np.ndarray]) -> None:
    copies = [pixels(CHANGES[change](scene(i))) for i in (3, 40)]
    groups = find_duplicates(as_images([*scenes, *copies]))
    assert rows(groups) == [[3, 80], [40, 81]]
    assert all(group.kind == "near" and 0.9 < group.similarity[1] < 1 and group.similarity[0] == 1 for group in groups)
    assert groups[0].kinds == ["near", "near"]


def test_equal_pixels_are_exact_and_join_the_near_ones(scenes: list[np.ndarray]) -> None:
    near = pixels(compressed(scene(5), 60))
    groups = find_duplicates(as_images([*scenes, scenes[5], near, near, scenes[9], scenes[9]]))
    assert rows(groups) == [[5, 80, 81, 82], [9, 83, 84]]
    assert groups[0].kinds == ["near", "exact", "near", "near"]
    assert groups[1].kinds == ["exact"] * 3
    assert groups[1].similarity.tolist() == [1, 1, 1]


def test_gray_pictures_and_two_images_alone_work_as_well() -> None:
    gray = pixels(scene(1)).mean(0, keepdims=True).astype(np.uint8)
    softer = (gray * 0.9 + 10).round().astype(np.uint8)
    assert rows(find_duplicates(as_images([gray, softer]))) == [[0, 1]]
    assert find_duplicates(as_images([gray])) == []


def test_the_same_shape_in_another_colour_is_no_copy(scenes: list[np.ndarray]) -> None:
    assert find_duplicates(as_images([*scenes, scenes[7][[2, 0, 1]]])) == []


def test_an_all_but_black_copy_is_no_copy_but_is_flagged(scenes: list[np.ndarray]) -> None:
    images = as_images([*scenes, (scenes[7] * 0.12).astype(np.uint8)])
    assert find_duplicates(images) == []
    (flag,) = flag_images(images)
    assert (flag.row, flag.flag) == (80, "dark")
    assert f"{flag.value:.0f} of 255" in flag.sentence


def test_blank_images_are_flagged_and_are_copies_of_nothing(scenes: list[np.ndarray]) -> None:
    random = np.random.default_rng(0)
    red = np.zeros((3, SIDE, SIDE), dtype=np.uint8)
    red[0] = 220
    white = [np.full_like(red, 255)] * 3
    noise = (random.normal(120, 1, red.shape)).round().astype(np.uint8)
    images = as_images([*scenes, *white, red, red, noise])
    assert find_duplicates(images) == []
    assert [(one.row, one.flag) for one in flag_images(images)] == [(80 + i, "blank") for i in range(6)]


def test_a_continuum_of_look_alikes_is_no_group() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    discs = [255 / (1 + np.exp(np.hypot(x - 10 - i * 0.4, y - 24) - 9)) for i in range(70)]
    images = as_images([one.astype(np.uint8)[None] for one in discs])
    pairs = np.array([(a, b) for a in range(70) for b in range(a + 1, 70)])
    shift, alike = compare(images, pairs)
    assert len(near_groups(pairs, shift, alike, 70)[0]) == 70  # so it is not for want of nearness
    assert find_duplicates(images) == []


def test_a_group_stands_alone_when_hardly_anything_else_is_near() -> None:
    pairs = np.array([(0, 1), (0, 7), (2, 3), (2, 4), (3, 5), (2, 6), (8, 9), (9, 10), (9, 11)])
    shift = np.array([0.005, 0.016, 0.005, 0.013, 0.014, 0.0145, 0.017, 0.02, 0.021])
    assert sorted(map(sorted, isolated_groups(pairs, shift, STRICT))) == [[0, 1]]
    # 0.017 is a copy by the plain standard, but two more images are nearer than 1.6 times that
    assert sorted(map(sorted, isolated_groups(pairs, shift, PLAIN))) == [[0, 1, 7], [2, 3, 4, 5, 6]]
    assert sorted(map(sorted, isolated_groups(pairs[:-1], shift[:-1], PLAIN)))[-1] == [8, 9]


def test_the_difference_is_that_of_a_shift_of_so_much() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    wave = [128 + 100 * np.sin(2 * np.pi * (2 * (x + moved) + y)) for moved in (0, 0.01)]
    images = as_images([one.round().astype(np.uint8)[None] for one in wave])
    shift, alike = compare(images, np.array([[0, 1]]))
    assert shift[0] == pytest.approx(0.01 * 2 / np.sqrt(5), rel=0.05)  # 2 of its sqrt(5) slopes are along x
    assert alike[0] == pytest.approx(np.cos(2 * np.pi * 0.02), abs=0.002)


def test_averaging_keeps_the_mean_and_is_the_mean_of_whole_blocks() -> None:
    assert np.allclose(averaging(48, 16) @ np.arange(48.0), np.arange(48.0).reshape(16, 3).mean(1))
    assert np.allclose(averaging(28, 16).sum(1), 1)
    assert np.allclose(averaging(8, 16) @ np.arange(8.0), np.repeat(np.arange(8.0), 2))


def test_candidates_among_thousands_hold_the_copies_and_far_from_all_pairs() -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (4000, 1, 6, 6)).astype(np.float32)
    found = averaging(6, 24) @ coarse @ averaging(6, 24).T
    noisy = (found[:100] + random.normal(0, 4, found[:100].shape)).clip(0, 255)
    images = Images(np.concatenate([found, noisy]).astype(np.uint8))
    pairs = candidates(sketch_all(images, None), np.arange(len(images)))
    assert {(i, 4000 + i) for i in range(100)} <= set(map(tuple, pairs.tolist()))
    assert len(pairs) < 2_000 and (pairs[:, 0] < pairs[:, 1]).all()


def test_an_embedding_can_contradict_and_must_fit(scenes: list[np.ndarray]) -> None:
    images = as_images([*scenes, pixels(compressed(scene(3), 60)), pixels(compressed(scene(4), 60))])
    embedding = np.eye(82)[[*range(80), 3, 60]]
    assert rows(find_duplicates(images, embedding)) == [[3, 80]]
    with pytest.raises(ValueError, match="80 embeddings.*82 images"):
        find_duplicates(images, embedding[:80])


def test_progress_reaches_the_last_image(scenes: list[np.ndarray]) -> None:
    told: list[tuple[int, int]] = []
    find_duplicates(as_images(scenes), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (80, 80)


def test_handwritten_digits_are_neither_copies_nor_odd() -> None:
    images = Images((load_digits().images * (255 / 16)).astype(np.uint8)[:, None])
    assert find_duplicates(images) == []
    assert flag_images(images) == []


def test_a_cut_off_picture_is_told_from_a_thing_on_plain_ground(scenes: list[np.ndarray]) -> None:
    cut = scenes[0].copy()
    cut[:, 30:] = 128
    ground = np.full_like(cut, 250)
    ground[:, 8:24, 8:40] = scenes[1][:, 8:24, 8:40]
    (flag,) = flag_images(as_images([*scenes, cut, ground]))
    assert (flag.row, flag.flag, flag.value) == (80, "cut", 18 / 48)
    assert "38%" in flag.sentence


def test_what_many_images_have_is_no_fault(scenes: list[np.ndarray]) -> None:
    dark = [(one * 0.15).astype(np.uint8) for one in scenes]
    assert flag_images(as_images(dark)) == []
    banded = [one.copy() for one in scenes]
    for one in banded[:20]:
        one[:, 36:] = 0
    assert flag_images(as_images(banded)) == []


def test_bright_and_blurred_images_are_named(scenes: list[np.ndarray]) -> None:
    sharp = [pixels(scene(i).filter(ImageFilter.DETAIL)) for i in range(80)]
    washed = (220 + scenes[0] * 0.12).astype(np.uint8)
    coarse = Image.fromarray(np.random.default_rng(5).integers(0, 256, (2, 2, 3), dtype=np.uint8))
    soft = pixels(coarse.resize((150, 150), Image.Resampling.BICUBIC))
    assert [(one.row, one.flag) for one in flag_images(as_images([*sharp, washed, soft]))] == [
        (80, "bright"), (81, "blurred")
    ]  # fmt: skip


def test_the_line_says_what_was_found_and_where(scenes: list[np.ndarray]) -> None:
    blank = np.zeros_like(scenes[0])
    images = as_images([*scenes, scenes[0], blank, (scenes[7] * 0.12).astype(np.uint8)])
    assert odd_line(find_duplicates(images), flag_images(images)) == (
        "1 group of exact copies (2 images) in duplicates.csv; 1 image looks blank or broken: flags.csv;"
        " 1 image is very dark, bright or blurred: flags.csv"
    )
    assert odd_line([], []) is None


@pytest.mark.skipif(not FLOWERS.is_dir(), reason=f"the photographs are not in {FLOWERS}")
def test_copies_of_photographs_are_found_and_no_others_are_invented() -> None:
    files = sorted(FLOWERS.glob("*/*.jpg"))[::12]
    opened = [Image.open(file).convert("RGB") for file in files]
    changed = [pixels(change(one)) for change in CHANGES.values() for one in opened[::4]]
    source = np.tile(np.arange(0, len(opened), 4), len(CHANGES))
    groups = find_duplicates(as_images([*map(pixels, opened), *changed]))
    group_of = {row: number for number, group in enumerate(groups) for row in group.rows.tolist()}
    original = np.concatenate([np.arange(len(opened)), source])
    found = [group_of.get(int(row)) is not None and group_of.get(int(row)) == group_of.get(len(opened) + i)
             for i, row in enumerate(source)]  # fmt: skip
    assert np.mean(found) >= 0.98
    assert all(len(set(original[group.rows])) == 1 for group in groups)
