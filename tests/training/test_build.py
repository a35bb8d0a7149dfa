"""One way from a plan to a training: new, resumed and loaded runs, the command line and `Clusterer` agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ilk
import ilk.images.decode_source
from ilk import Clusterer, load_images
from ilk.images.sample import sample_images, sample_rows
from ilk.pipeline.begin import new_training
from ilk.pipeline.build import build, build_method, load_method
from ilk.pipeline.decide import view_settings
from ilk.pipeline.fitting import fit, train_run, write_start
from ilk.pipeline.frozen_features import embeddings_settings, given_features
from ilk.pipeline.request import Request
from ilk.pipeline.results import circumstances
from ilk.pipeline.resume import reopen
from ilk.runs.config import plan_from
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.progress import Watch
from ilk.views import get_views

BATCH = {"batch_size": 32, "cluster_heads": 2}


def request(**changes: Any) -> Request:
    given = {"epochs": 2, "backbone": "small", "views": "object", "device": "cpu", "precision": "float32"}
    return Request(**{"n_clusters": 2, "settings": BATCH, **given, **changes})


def state(method: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in method.state_dict().items()}


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def write_new(training: Any, run: Run) -> None:
    """Writes a new run as `fit` does, up to its first epoch."""
    plan = training.plan.replace(**circumstances(training.images, "cpu", "float32"))
    write_start(replace(training, plan=plan), run, Watch())


@pytest.fixture(scope="module")
def X(pictures: Callable[..., Any]) -> np.ndarray:
    found: np.ndarray = pictures(60, side=8)[0]
    return found


@pytest.mark.parametrize("seed", [0, 7])
def test_new_resumed_and_loaded_runs_have_the_same_weights(
    X: np.ndarray, fabric: Any, tmp_path: Path, seed: int
) -> None:
    run, asked, images = Run(tmp_path / "run"), request(seed=seed), load_images(X)
    new = new_training(asked, images, fabric)
    first = state(new.method)
    write_new(new, run)
    resumed = reopen(asked, X, run, fabric, watch=Watch())
    assert_equal(state(resumed.method), first)
    assert resumed.plan == run.config and resumed.train == new.train
    train_run(new, run, fabric, Watch())
    assert any(not torch.equal(first[name], tensor) for name, tensor in new.method.state_dict().items())
    assert_equal(state(load_method(run)), state(new.method))
    assert_equal(state(build_method(run.config)), first)


def test_heads_on_embeddings_are_built_again_with_the_same_weights(X: np.ndarray, fabric: Any, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
    run, asked, images = Run(tmp_path / "run"), request(backbone=None, views=None, embeddings=rows), load_images(X)
    features = given_features(rows, asked.neighbours, Watch())
    new = new_training(
        asked, images, fabric, features=features, encoder=embeddings_settings(rows, images),
        views=view_settings("none", *get_views("none")),
    )  # fmt: skip
    write_new(new, run)
    resumed = reopen(asked, X, run, fabric, watch=Watch())
    assert_equal(state(resumed.method), state(new.method))
    assert new.method.backbone.directions.abs().sum() > 0
    assert resumed.views.share == new.views.share


def test_a_plan_from_json_builds_the_training_that_was_decided(X: np.ndarray, fabric: Any) -> None:
    images = load_images(X)
    new = new_training(request(method="scl", settings={"batch_size": 32}), images, fabric)
    again = build(plan_from(json.loads(json.dumps(new.plan.as_dict()))), images)
    assert again.plan == new.plan
    assert_equal(state(again.method), state(new.method))


def test_training_settings_of_a_later_version_are_refused_before_they_are_ignored(X: np.ndarray, fabric: Any) -> None:
    images = load_images(X)
    plan = new_training(request(), images, fabric).plan
    later = plan.replace(train=plan.train.replace(lookahead=3))
    with pytest.raises(ValueError, match="lookahead"):
        build(later, images)


def test_a_clusterer_finds_the_clusters_of_the_command_line(X: np.ndarray, tmp_path: Path) -> None:
    run = fit(request(), X, Run(tmp_path / "run"), report=False)
    table = read_table(run / "assignments.parquet")
    public = ilk.fit(
        X, 2, out=tmp_path / "public", epochs=2, backbone="small", views="object", device="cpu", precision="float32",
        settings=BATCH, report=False,
    )  # fmt: skip
    found = Clusterer(
        2, epochs=2, backbone="small", views="object", device="cpu", precision="float32", settings=BATCH
    ).fit(X)
    np.testing.assert_array_equal(found.labels_, table["cluster"].to_numpy())
    np.testing.assert_array_equal(found.confidence_, table["confidence"].to_numpy())
    np.testing.assert_array_equal(read_table(public / "assignments.parquet")["cluster"].to_numpy(), found.labels_)
    assert_equal(state(found.method_), state(load_method(run)))
    assert [record["loss"] for record in found.history_] == [record["loss"] for record in run.log()]
    mine, theirs = found.config_.as_dict(), run.config.as_dict()
    for name in ("created", "command", "format", "asked"):  # what only runs that can go on have
        mine.pop(name, None), theirs.pop(name, None)
    assert mine == theirs


# a look at the images before all of them are decoded


@pytest.fixture
def photos_folder(tmp_path: Path) -> Path:
    """40 noisy images of 40 x 40 pixels, which look like photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        noise = rng.integers(0, 255, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder


def test_a_sample_is_evenly_spaced_and_leaves_the_source_as_it_was(photos_folder: Path) -> None:
    whole = load_images(photos_folder, image_size=16, cache=False)
    sample = sample_images(photos_folder, count=10, image_size=16)
    assert len(sample) == 10 and sample.ids[0] == whole.ids[0] and sample.ids[-1] == whole.ids[-1]
    rows = [whole.ids.index(name) for name in sample.ids]
    assert torch.equal(sample[:], whole[rows])
    array = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 3), dtype=np.uint8)
    assert torch.equal(sample_images(array, count=4)[:], load_images(array)[sample_rows(30, 4, in_order=False)])
    assert torch.equal(sample_images(load_images(array), count=4)[:], sample_images(array, count=4)[:])


def test_where_items_must_be_read_in_order_the_sample_is_the_first_ones() -> None:
    assert sample_rows(100, 5, in_order=True).tolist() == [0, 1, 2, 3, 4]
    assert sample_rows(100, 5, in_order=False).tolist() == [0, 25, 50, 74, 99]
    assert sample_rows(3, 5, in_order=False).tolist() == [0, 1, 2]


def test_photographs_are_decoded_once_on_the_way_to_an_encoder(
    photos_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Besides a sample that is not kept: one cache, at the size of the encoder."""
    monkeypatch.setattr("ilk.pipeline.begin.encoder_for", lambda *_: chosen)
    chosen = ilk.find_encoder(Means())
    cache = tmp_path / "cache"
    run = fit(
        request(backbone=None, views=None, settings={"batch_size": 16}, feature_views=1, neighbours=3), photos_folder,
        Run(tmp_path / "run"), cache_dir=cache, report=False,
    )  # fmt: skip
    assert run.config.images.size == 20 and run.config.encoder.spec == "custom:Means"
    assert len(list(cache.glob("images-*"))) == 1


class Means(torch.nn.Module):
    """An encoder of colours, for images of 20 pixels."""

    feature_dim, image_size, channels = 12, 20, 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
