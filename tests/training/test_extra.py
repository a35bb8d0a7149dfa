"""Extra images: they help the training, before the others, and nothing of them comes out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import ilk.training.loop
from ilk import Clusterer, load_images
from ilk.pipeline.begin import new_training
from ilk.pipeline.fitting import fit
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.sampling import batches, seeded
from ilk.system.progress import Watch
from ilk.training.loop import train
from ilk.training.pace import seconds_per_step

BATCH = {"batch_size": 16}  # 60 images: three steps; 37 extra images: two


@pytest.fixture(scope="module")
def images(pictures: Callable[..., Any]) -> Any:
    return load_images(pictures(60, side=8)[0])


@pytest.fixture(scope="module")
def extra(pictures: Callable[..., Any]) -> Any:
    return load_images(pictures(37, side=8, start=500)[0])


@pytest.fixture(scope="module")
def with_extra(images: Any, extra: Any, fabric: Any) -> Callable[..., Any]:
    """A plan for a tiny training with extra images."""

    def make(method: str = "cc", epochs: int = 4, **settings: Any) -> Any:
        asked = {"backbone": "small", "views": "object", "device": "cpu", "method": method, "epochs": epochs}
        heads = {} if method == "scl" else {"cluster_heads": 2}
        return new_training(
            Request(n_clusters=2, settings={**BATCH, **heads, **settings}, **asked), images, fabric, extra
        )

    return make


def spied(training: Any, images: Any, fabric: Any, **options: Any) -> tuple[list[tuple[bool, Any, Any]], list[Any]]:
    """(whether extra, names of the terms, indices or else the number of images) of each step, and the records."""
    steps = []
    forward = training.method.forward

    def listening(a: Any, b: Any, index: Any) -> Any:
        terms = forward(a, b, index)
        steps.append((index is None, set(terms), len(a) if index is None else index.tolist()))
        return terms

    training.method.forward = listening
    return steps, list(
        train(training.method, images, training.views, training.train, fabric, extra=training.extra, **options)
    )


def test_the_extra_pass_comes_first_and_has_the_instance_term_alone(
    with_extra: Callable[..., Any], images: Any, fabric: Any
) -> None:
    steps, records = spied(with_extra(epochs=2, warm_start=0), images, fabric)
    assert [extra for extra, _, _ in steps] == [True, True, False, False, False] * 2
    assert all(names == {"instance"} for extra, names, _ in steps if extra)
    assert all(names == {"instance", "cluster", "entropy"} for extra, names, _ in steps if not extra)
    for record in records:
        assert set(record["terms"]) == {"instance", "cluster", "entropy", "extra_instance"}
        own = [value for name, value in record["terms"].items() if not name.startswith("extra_")]
        assert record["loss"] == pytest.approx(math.fsum(own))


def test_extra_images_have_no_index(with_extra: Callable[..., Any], images: Any, fabric: Any) -> None:
    steps, _ = spied(with_extra(epochs=2), images, fabric)
    assert [extra for extra, _, _ in steps] == [True, True, False, False, False] * 2
    assert all(0 <= i < 60 for extra, _, index in steps if not extra for i in index)


def test_dcdc_takes_extra_images_in_the_turns_of_its_over_clustering_head(
    with_extra: Callable[..., Any], images: Any, fabric: Any
) -> None:
    training = with_extra("dcdc", epochs=4, warm_start=0, over_clusters=6, repeats=2)
    steps, records = spied(training, images, fabric)
    assert [extra for extra, _, _ in steps] == [True, True, *[False] * 6] * 2
    assert all(name.startswith("over_") for extra, names, _ in steps if extra for name in names)
    assert [any(name.startswith("extra_over") for name in one["terms"]) for one in records] == [True, False] * 2


def test_steps_of_passes_that_are_left_out_are_jumped(with_extra: Callable[..., Any], images: Any, fabric: Any) -> None:
    calls: list[tuple[int, int]] = []
    training = with_extra("dcdc", epochs=4, warm_start=0, over_clusters=6)
    _, records = spied(training, images, fabric, on_step=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 18, 19, 20]
    assert {total for _, total in calls} == {20}
    halfway = (
        training.train.learning_rate * (0.5 + 0.5 * math.cos(math.pi * 9 / 20)) * min(1, 10 / 50)
    )  # step 9, two epochs of 5 steps
    assert records[1]["learning_rate"] == pytest.approx(halfway)


def test_fewer_extra_images_than_a_batch_make_a_smaller_batch(
    images: Any, pictures: Callable[..., Any], fabric: Any
) -> None:
    few = load_images(pictures(5, side=8, start=900)[0])
    request = Request(
        n_clusters=2, epochs=1, backbone="small", views="object", device="cpu", settings={**BATCH, "cluster_heads": 1}
    )
    steps, _ = spied(new_training(request, images, fabric, few), images, fabric)
    assert [size for extra, _, size in steps if extra] == [5]


def test_the_streams_of_extra_and_main_passes_differ() -> None:
    assert not torch.equal(batches(60, 60, 0, 0)[0], batches(60, 60, 0, 0, 1024)[0])
    cpu = torch.device("cpu")
    seeds = {seeded(seed, epoch, stream, cpu).initial_seed() for seed in range(3) for epoch in range(3)
             for stream in (0, 1, 2, 1024, 1025, 1026, 2048)}  # fmt: skip
    assert len(seeds) == 3 * 3 * 7


def test_the_main_pass_sees_the_batches_that_it_would_see_without_extra_images(
    with_extra: Callable[..., Any], images: Any, fabric: Any, planned: Callable[..., Any]
) -> None:
    steps, _ = spied(with_extra(epochs=2), images, fabric)
    plain, _ = spied(planned(images, epochs=2, settings=BATCH), images, fabric)
    assert [index for extra, _, index in steps if not extra] == [index for _, _, index in plain]


def test_the_time_of_a_step_is_measured_with_extra_images(
    with_extra: Callable[..., Any], images: Any, extra: Any, fabric: Any
) -> None:
    training = with_extra(warm_start=0)
    before = {name: value.clone() for name, value in training.method.state_dict().items()}
    assert seconds_per_step(training.method, images, training.views, training.train, fabric, extra) > 0
    assert all(torch.equal(value, before[name]) for name, value in training.method.state_dict().items())


def test_minutes_hold_fewer_epochs_with_extra_images(
    images: Any, extra: Any, fabric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.pipeline.begin, "seconds_per_step", lambda *_: 0.5)
    request = Request(
        n_clusters=2, minutes=2, backbone="small", views="object", device="cpu", settings={**BATCH, "cluster_heads": 1}
    )
    assert new_training(request, images, fabric).train.epochs == 72  # 108 s / (3 steps of 0.5 s)
    assert new_training(request, images, fabric, extra).train.epochs == 43  # 108 s / (5 steps of 0.5 s)


@pytest.mark.parametrize("method", ["crlc", "scl", "c2bin"])
def test_a_method_without_use_for_extra_images_says_which_have(method: str, with_extra: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=rf"{method} has no use for extra images .--extra.. Methods that have: .*cc"):
        with_extra(method)


def test_settings_that_never_take_extra_images_are_refused(with_extra: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="dcdc takes extra images in none of its 4 epochs.*over_clusters"):
        with_extra("dcdc", warm_start=0, over_clusters=0)
    with pytest.raises(ValueError, match="in none of its 1 epoch "):
        with_extra("dcdc", epochs=1)


def test_extra_images_of_another_size_or_a_single_one_are_refused(
    images: Any, pictures: Callable[..., Any], fabric: Any
) -> None:
    request = Request(n_clusters=2, epochs=1, backbone="small", views="object", device="cpu")
    with pytest.raises(ValueError, match="extra images are 3x10x10 .*the others 3x8x8"):
        new_training(request, images, fabric, load_images(pictures(4, side=10)[0]))
    with pytest.raises(ValueError, match="At least 2 extra images"):
        new_training(request, images, fabric, load_images(pictures(2, side=8)[0]).subset([0]))


# from end to end


def asked(**changes: Any) -> Request:
    settings = {"batch_size": 32, "cluster_heads": 2}
    given = {"epochs": 4, "backbone": "small", "views": "object", "device": "cpu", "precision": "float32", **changes}
    return Request(n_clusters=2, settings=settings, **given)


class Stop(Watch):
    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, record: dict[str, Any]) -> None:
        if record["epoch"] == self.last:
            raise KeyboardInterrupt


@pytest.fixture
def more(tmp_path: Path, photo_folder: Callable[..., Path]) -> Path:
    return photo_folder(tmp_path / "more", 40, side=20, start=700)


def test_nothing_of_the_extra_images_comes_out(tmp_path: Path, photos: Path, more: Path) -> None:
    run = fit(asked(), photos, Run(tmp_path / "run"), extra=more)
    table = pq.read_table(run / "assignments.parquet")
    assert table.num_rows == 60 and all(str(photos) in path for path in table["path"].to_pylist())
    assert run.config.extra.as_dict() == {
        "name": "more/ (40 images)", "n": 40, "fingerprint": run.config.extra.fingerprint
    }  # fmt: skip
    assert any("40 extra images" in note for note in run.config.notes)
    assert "extra_instance" in run.log()[0]["terms"]
    assert json.loads((run / "scores.json").read_text())["images"] == 60


def test_a_resumed_training_with_extra_images_equals_an_unbroken_one(
    tmp_path: Path, photos: Path, more: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0)
    whole = fit(asked(), photos, Run(tmp_path / "whole"), extra=more)
    broken = Run(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        fit(asked(), photos, broken, extra=more, watch=Stop(2))
    fit(asked(), photos, broken, extra=more, resume=True)
    for name in ("model.safetensors", "assignments.csv", "embeddings.npy"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    assert [one["terms"] for one in broken.log()] == [one["terms"] for one in whole.log()]


def test_resume_needs_the_same_extra_images(
    tmp_path: Path, photos: Path, more: Path, photo_folder: Callable[..., Path], run: Run
) -> None:
    began = fit(asked(epochs=1), photos, Run(tmp_path / "began"), extra=more)
    (began / "assignments.parquet").unlink()
    with pytest.raises(ValueError, match="began with extra images, more/ .*--extra"):
        fit(asked(epochs=1), photos, began, resume=True)
    with pytest.raises(ValueError, match="extra images are not those that"):
        fit(asked(epochs=1), photos, began, extra=photo_folder(tmp_path / "others", 6), resume=True)
    with pytest.raises(ValueError, match="began without extra images"):
        fit(asked(epochs=run.config.train.epochs), photos, run, extra=more, resume=True)


def test_a_clusterer_takes_extra_images(pictures: Callable[..., Any], clusterer: Callable[..., Any]) -> None:
    X, more = pictures(60)[0], pictures(40, start=300, gray=True)[0]
    found: Clusterer = clusterer().fit(X, extra=more)
    assert len(found.labels_) == 60 and "extra_instance" in found.history_[0]["terms"]
    with pytest.raises(ValueError, match="crlc has no use for extra images"):
        clusterer(method="crlc").fit(X, extra=more)
