"""The pass of an encoder over a collection: what it computes, what it keeps, and when it computes again."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ilk import ViewRecipe, load_images
from ilk.images import Images
from ilk.sampling import seeded
from ilk.system.devices import make_fabric
from ilk.training import encode
from ilk.training.encode import encode_images, in_range
from ilk.views import Views

RECIPE = ViewRecipe(crop_scale=(0.3, 1.0), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4)


class Counting(nn.Module):
    """A small network that counts the images it is shown."""

    feature_dim = 5

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.Dropout(0.5))
        self.shown = 0

    def forward(self, x: Tensor) -> Tensor:
        self.shown += len(x)
        found: Tensor = self.body(x).mean((2, 3))
        return found


class Scaled(nn.Module):
    """A function of the mean colour."""

    feature_dim = 3

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(x.mean((2, 3)))


@pytest.fixture(scope="module")
def images(pictures: Callable[..., Any]) -> Images:
    return load_images(pictures(70)[0])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def encoded(images: Images, fabric: Any, place: Path) -> Callable[..., np.ndarray]:
    """`encoded(encoder, **changes)`: features of 70 images and two views, kept in `place`."""

    def run(encoder: nn.Module, **changes: Any) -> np.ndarray:
        asked = {"images": images, "recipe": RECIPE, "views": 2, "size": 10, "identity": "one", "cache_dir": place}
        asked |= {"fabric": fabric, **changes}
        return encode_images(encoder, asked.pop("images"), asked.pop("fabric"), **asked)

    return run


def test_plain_features_are_what_the_encoder_says_of_each_image(
    encoded: Callable[..., np.ndarray], images: Images
) -> None:
    encoder = Counting()
    found = encoded(encoder, views=0)
    assert found.shape == (70, 1, 5) and found.dtype == np.float16
    assert not encoder.training  # or dropout would act
    with torch.no_grad():
        expected = encoder(images[:].float() / 255)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-3, atol=1e-4)


def test_views_are_random_changes_of_the_image_drawn_from_the_position_of_its_batch(
    encoded: Callable[..., np.ndarray], images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(encode.BATCH, "cpu", 32)
    encoder = Counting()
    found = encoded(encoder)
    assert found.shape == (70, 3, 5)
    for start, view in ((0, 0), (0, 1), (64, 1)):
        x = images[start : start + 32] / 255
        with torch.no_grad():
            expected = encoder(Views(RECIPE, size=10).view(x, RECIPE, seeded(start, view, 0, torch.device("cpu"))))
        np.testing.assert_allclose(found[start : start + 32, 1 + view], expected, rtol=1e-3, atol=1e-4)
    assert len({found[:, view].tobytes() for view in range(3)}) == 3


def test_a_file_holds_the_same_as_memory(encoded: Callable[..., np.ndarray]) -> None:
    kept = encoded(Counting())
    assert isinstance(kept, np.memmap)
    np.testing.assert_array_equal(kept, encoded(Counting(), cache_dir=None))


def test_a_pass_that_was_finished_is_not_done_again(encoded: Callable[..., np.ndarray], place: Path) -> None:
    one, two = Counting(), Counting()
    first = encoded(one)
    assert one.shown == 3 * 70
    np.testing.assert_array_equal(encoded(two), first)
    assert two.shown == 0
    assert len(list(place.iterdir())) == 1


def test_a_finished_file_is_read_where_nothing_can_be_written(
    encoded: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = np.array(encoded(Counting()))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(encode, "held", refuse)
    np.testing.assert_array_equal(encoded(Counting()), first)


def test_a_pass_that_was_stopped_goes_on_and_gives_the_same_numbers(
    encoded: Callable[..., np.ndarray], place: Path
) -> None:
    whole = encoded(Counting(), cache_dir=place / "whole")

    def stop(done: int, total: int) -> None:
        assert total == 70
        if done >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(Counting(), progress=stop)
    (folder,) = place.glob("features-*")
    assert json.loads((folder / "state.json").read_text()) == {"rows": 32}
    again, said = Counting(), []
    found = encoded(again, progress=lambda done, total: said.append(done))
    assert again.shown == 3 * 38 and said == [32, 64, 70]
    np.testing.assert_array_equal(found, whole)


def test_other_weights_views_sizes_images_and_precisions_have_files_of_their_own(
    encoded: Callable[..., np.ndarray], images: Images, place: Path
) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"identity": "two"}, {"views": 1}, {"size": 12}, {"recipe": ViewRecipe(flip=1.0)},
        {"images": images.subset(range(69))}, {"images": images.with_channels(1).with_channels(3)},
        {"fabric": make_fabric("cpu", "bf16")},
    ]  # fmt: skip
    shown = []
    for change in changes:
        encoder = Counting()
        encoded(encoder, **change)
        shown.append(encoder.shown > 0)
    assert shown == [True, True, True, True, True, True, False, True]  # the last but one are the same images
    assert len(list(place.glob("features-*"))) == 7


def damage_state(folder: Path) -> None:
    (folder / "state.json").write_text("{")


def foreign_state(folder: Path) -> None:
    (folder / "state.json").write_text('{"rows": 99999}')


def truncate(folder: Path) -> None:
    with open(folder / "features.npy", "r+b") as file:
        file.truncate(900)


def other_shape(folder: Path) -> None:
    np.save(folder / "features.npy", np.zeros((70, 2, 5), np.float16))


def remove(folder: Path) -> None:
    (folder / "features.npy").unlink()


DAMAGES = [damage_state, foreign_state, truncate, other_shape, remove]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_made_again(
    damage: Callable[[Path], None], encoded: Callable[..., np.ndarray], place: Path
) -> None:
    first = np.array(encoded(Counting()))
    (folder,) = place.glob("features-*")
    damage(folder)
    again = Counting()
    np.testing.assert_array_equal(encoded(again), first)
    assert again.shown == 3 * 70


def test_a_kill_while_a_damaged_file_is_made_again_leaves_no_empty_rows_that_count(
    encoded: Callable[..., np.ndarray], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = np.array(encoded(Counting()))
    (folder,) = place.glob("features-*")
    truncate(folder)
    monkeypatch.setattr(encode, "save_rows", lambda *_: None)  # a kill gives no time to write anything down

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(Counting(), progress=stop)
    monkeypatch.undo()
    np.testing.assert_array_equal(encoded(Counting()), first)


def test_two_at_once_give_one_file_and_one_pass(encoded: Callable[..., np.ndarray], place: Path) -> None:
    encoders, found = [Counting(), Counting()], [None, None]

    def work(i: int) -> None:
        found[i] = np.array(encoded(encoders[i]))  # type: ignore[call-overload]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    np.testing.assert_array_equal(found[0], found[1])
    assert sorted(encoder.shown for encoder in encoders) == [0, 3 * 70]
    assert len(list(place.glob("features-*"))) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float, encoded: Callable[..., np.ndarray]) -> None:
    def late(h: Tensor) -> Tensor:
        return torch.cat([h[:-1], h[-1:] * value])

    with pytest.raises(ValueError, match="not finite.*weights"):
        encoded(Scaled(late))


def test_an_encoder_that_was_put_right_is_not_left_with_rows_of_the_failure(
    encoded: Callable[..., np.ndarray],
) -> None:
    with pytest.raises(ValueError, match="not finite"):
        encoded(Scaled(lambda h: h * float("nan")))
    np.testing.assert_array_equal(encoded(Scaled(lambda h: h)), encoded(Scaled(lambda h: h), cache_dir=None))


def test_a_full_disk_is_a_sentence_before_any_work(
    encoded: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    encoder = Counting()
    with pytest.raises(OSError, match=r"2,100 bytes.* 1,000 .*--cache-dir.*--feature-views"):
        encoded(encoder)
    assert encoder.shown == 0
    monkeypatch.undo()
    assert len(encoded(encoder)) == 70


@pytest.mark.parametrize("factor", [1e-30, 1e-7, 1e-3, 1.0, 1e3, 1e6, 1e30])
def test_directions_survive_whatever_the_scale_of_an_encoder(
    factor: float, encoded: Callable[..., np.ndarray], images: Images
) -> None:
    found = encoded(Scaled(lambda h: h * factor), views=0)[:, 0].astype(np.float64)
    expected = (images[:].double() / 255).mean((2, 3)).numpy()
    assert np.isfinite(found).all()
    unit, wanted = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, expected))
    np.testing.assert_allclose(unit, wanted, atol=1e-3)


def test_rows_that_fit_float16_and_rows_of_zeros_stay_as_they_are() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.01, -0.001], [6e4, 1.0], [-3.0, 2.0]])
    assert torch.equal(in_range(rows), rows)
    assert torch.equal(in_range(torch.tensor([[1e6, -5e5]])), torch.tensor([[6e4, -3e4]]))
    found = in_range(torch.tensor([[1e-6, -5e-7]]))
    torch.testing.assert_close(found, torch.tensor([[1e-2, -5e-3]]))


def test_progress_counts_images_from_none_to_all(encoded: Callable[..., np.ndarray]) -> None:
    said: list[tuple[int, int]] = []
    encoded(Counting(), progress=lambda done, total: said.append((done, total)))
    assert said == [(0, 70), (32, 70), (64, 70), (70, 70)]
