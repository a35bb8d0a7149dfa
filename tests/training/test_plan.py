"""From a wish to a plan: what is chosen, what is reduced with a note, what is refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ilk.pipeline.begin
from ilk import Clusterer, ViewRecipe, load_images
from ilk.methods import METHODS, get_preset
from ilk.networks.backbones import FrontEnd
from ilk.pipeline.begin import new_training
from ilk.pipeline.build import build
from ilk.pipeline.decide import auto_epochs, batch_size, updates_of
from ilk.pipeline.request import Request, device_and_precision
from ilk.runs.config import plan_from
from ilk.system.wording import flag

SMALL = {"backbone": "small", "views": "object", "device": "cpu"}


@pytest.fixture(scope="module")
def images(pictures: Callable[..., Any]) -> Any:
    return load_images(pictures(60, side=8)[0])


def test_fewer_images_than_clusters_are_refused(images: Any, fabric: Any) -> None:
    with pytest.raises(ValueError, match=r"61 clusters need at least 61 images.*has 60"):
        new_training(Request(n_clusters=61, **SMALL), images, fabric)


def test_as_many_clusters_as_images_are_allowed(images: Any, fabric: Any) -> None:
    training = new_training(Request(n_clusters=60, epochs=1, **SMALL), images, fabric)
    assert training.method.n_clusters == training.train.batch_size == 60
    assert any("less than two images a cluster" in note for note in training.plan.notes)


def test_more_clusters_than_the_batch_are_refused_with_the_batch_that_would_do(images: Any, fabric: Any) -> None:
    request = Request(n_clusters=20, settings={"batch_size": 16, "images_per_cluster": 0}, **SMALL)
    with pytest.raises(ValueError, match=r"20 clusters do not fit a batch of 16 images.*batch_size=40"):
        new_training(request, images, fabric)


def test_a_batch_larger_than_the_set_is_reduced_with_a_note(images: Any, fabric: Any) -> None:
    training = new_training(Request(n_clusters=2, epochs=1, settings={"batch_size": 256}, **SMALL), images, fabric)
    assert training.train.batch_size == training.plan.train.batch_size == 60
    assert "batch of 60 instead of 256: there are only 60 images" in training.plan.notes


def test_two_images_make_a_plan(pictures: Callable[..., Any], fabric: Any) -> None:
    training = new_training(Request(n_clusters=2, epochs=1, **SMALL), load_images(pictures(2)[0]), fabric)
    assert training.train.batch_size == 2


@pytest.mark.parametrize("k", [1, 0, -3, 2.5, True, "1", None])
def test_less_than_two_clusters_or_no_whole_number_is_refused(k: Any) -> None:
    with pytest.raises(ValueError, match="number of clusters must be a whole number of at least 2, auto, or a range"):
        Request(n_clusters=k)


def test_epochs_and_minutes_together_are_refused() -> None:
    with pytest.raises(ValueError, match="--epochs or --minutes, not both"):
        Request(n_clusters=2, epochs=3, minutes=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("minutes", 0), ("minutes", float("nan")), ("image_size", 0), ("seed", -1), ("seed", 2**31)],
)
def test_numbers_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{flag(name)} must be .*; got {value}"):
        Request(n_clusters=2, **{name: value})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"method": "ccc"}, "Unknown method 'ccc'. Did you mean 'cc'?"),
        ({"preset": "papers"}, "no preset 'papers'.*paper"),
        ({"views": "fotos"}, "Unknown views 'fotos'. Did you mean 'photo'?"),
        ({"backbone": "resnet19"}, "Unknown backbone 'resnet19'. Did you mean 'resnet18'?"),
        ({"settings": {"learning_rat": "1"}}, "no setting 'learning_rat'. Did you mean 'learning_rate'?"),
        ({"settings": {"batch_size": "many"}}, "batch_size must be a whole number; got 'many'"),
        ({"settings": {"learning_rate": "-1"}}, "learning_rate must be more than 0"),
        ({"settings": {"optimizer": "lion"}}, "optimizer must be adam, adamw or sgd; got 'lion'"),
        ({"settings": {"warm_start": 1}}, "warm_start"),
        ({"device": "gpu"}, "Unknown device 'gpu'. Use auto, cpu, cuda, cuda:0 or mps"),
        ({"precision": "fp16"}, "--precision must be auto, float32 or bf16; got 'fp16'"),
    ],
)
def test_unknown_names_and_values_are_refused_with_what_is_known(
    images: Any, fabric: Any, asked: dict[str, Any], sentence: str
) -> None:
    def plan() -> None:
        request = Request(n_clusters=2, **{**SMALL, **asked})
        device_and_precision(request)
        new_training(request, images, fabric)

    with pytest.raises(ValueError, match=sentence):
        plan()


def test_settings_may_be_text_and_reach_the_method_and_the_loop(images: Any, planned: Callable[..., Any]) -> None:
    training = planned(images, settings={"learning_rate": "0.25", "cluster_heads": "3", "schedule": "constant"})
    assert training.train.learning_rate == 0.25
    assert len(training.method.cluster_heads.heads) == 3
    assert training.plan.train.schedule == "constant"


def test_minutes_become_the_epochs_that_fit_nine_tenths_of_them(
    images: Any, planned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.pipeline.begin, "seconds_per_step", lambda *_: 0.5)
    training = planned(images, epochs=None, minutes=2, settings={"batch_size": 16})
    assert training.train.epochs == training.plan.train.epochs == 72  # 0.9 * 120 s / (3 steps of 0.5 s)
    assert any(note.startswith("72 epochs fit 2 minutes") for note in training.plan.notes)


def test_minutes_too_few_for_one_epoch_still_give_one(
    images: Any, planned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.pipeline.begin, "seconds_per_step", lambda *_: 1000.0)
    assert planned(images, epochs=None, minutes=0.1).train.epochs == 1


def test_minutes_are_measured_on_this_machine(images: Any, planned: Callable[..., Any]) -> None:
    few, many = (planned(images, epochs=None, minutes=minutes).train.epochs for minutes in (0.01, 1))
    assert 1 <= few < many


def test_epochs_left_open_are_as_many_as_give_the_steps_of_the_preset() -> None:
    assert auto_epochs(100, 4000, 10, 1000) == 40
    assert auto_epochs(7, 4000, 10, 1000) == 572
    assert auto_epochs(1, 4000, 10, 1000) == 1000
    assert auto_epochs(10_000, 4000, 10, 1000) == 10


def test_epochs_left_open_follow_the_settings(images: Any, planned: Callable[..., Any]) -> None:
    asked = {"batch_size": 20, "steps": 90, "min_epochs": 1}
    assert planned(images, epochs=None, settings=asked).train.epochs == 30
    assert planned(images, epochs=None, settings={**asked, "epochs": 7}).train.epochs == 7
    assert planned(images, epochs=5, settings={**asked, "epochs": 7}).train.epochs == 5


@pytest.mark.parametrize(("method", "preset"), [(m, p) for m in METHODS for p in METHODS[m].presets])
def test_a_plan_survives_config_json(images: Any, planned: Callable[..., Any], method: str, preset: str) -> None:
    training = planned(images, k=4, method=method, preset=preset, seed=5, views=None)
    stored = plan_from(json.loads(json.dumps(training.plan.as_dict())))
    again = build(stored, images)
    assert again.train == training.train
    assert again.plan == training.plan
    assert (again.views.recipe_a, again.views.recipe_b, again.views.size) == (
        training.views.recipe_a,
        training.views.recipe_b,
        training.views.size,
    )
    assert again.method.config == training.method.config
    ours, theirs = training.method.state_dict(), again.method.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)  # so a run killed at once starts as it did


def test_two_recipes_of_your_own_survive_config_json(images: Any, planned: Callable[..., Any]) -> None:
    pair = (ViewRecipe(flip=0.25, crop_scale=(0.3, 0.9)), ViewRecipe(degrees=12.0))
    stored = plan_from(json.loads(json.dumps(planned(images, views=pair).plan.as_dict())))
    again = build(stored, images)
    assert (again.views.recipe_a, again.views.recipe_b) == pair
    assert stored.views.name == "custom"


def test_the_weights_of_a_plan_depend_on_the_seed_alone(images: Any, planned: Callable[..., Any]) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed + 77)
        return torch.cat([value.flatten() for value in planned(images, seed=seed).method.parameters()])

    torch.rand(5)
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("asked", [{"epochs": 2}, {"epochs": None, "minutes": 0.01}])
def test_making_a_plan_leaves_the_global_random_state_alone(
    images: Any, planned: Callable[..., Any], asked: dict[str, Any]
) -> None:
    torch.manual_seed(42)
    state = torch.get_rng_state()
    planned(images, **asked)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_chosen_automatically_is_explained(images: Any, fabric: Any) -> None:
    training = new_training(Request(n_clusters=2, epochs=1, device="cpu"), images, fabric)
    assert training.plan.backbone == "small"
    assert any(note.startswith("backbone 'small': no GPU") for note in training.plan.notes)
    assert any(note.startswith(f"views '{training.plan.views.name}': ") for note in training.plan.notes)


def test_what_was_asked_for_is_not_explained(images: Any, planned: Callable[..., Any]) -> None:
    assert planned(images).plan.notes == []


class Sum(nn.Module):
    def __init__(self, feature_dim: Any = 4) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.layer = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.mean((2, 3)))


def test_a_backbone_of_your_own_is_named_after_its_class(images: Any, planned: Callable[..., Any]) -> None:
    mine = Sum()
    training = planned(images, backbone=mine)
    assert training.method.backbone is mine
    assert training.plan.backbone == "custom:Sum"


@pytest.mark.parametrize("wrong", [None, 4.0, "4"])
def test_a_backbone_without_a_feature_dim_is_refused(images: Any, planned: Callable[..., Any], wrong: Any) -> None:
    with pytest.raises(TypeError, match="backbone Sum has no integer attribute feature_dim"):
        planned(images, backbone=Sum(wrong))


def test_the_size_that_is_asked_for_beats_that_of_the_preset() -> None:
    assert Request(n_clusters=2).wanted_size() is None
    assert Request(n_clusters=2, preset="paper").wanted_size() == 224
    assert Request(n_clusters=2, preset="paper", image_size=32).wanted_size() == 32
    assert Request(n_clusters=2, settings={"image_size": "20"}).wanted_size() == 20


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("device", "expected"), [("cpu", 128), ("cuda", 256)])
def test_the_default_batch_is_small_on_a_cpu(method: str, device: str, expected: int) -> None:
    fabric = SimpleNamespace(world_size=1, device=torch.device(device))
    recipe, notes = get_preset(method, "default").recipe, []
    assert batch_size(recipe, 10_000, 10, fabric, notes) == expected and not notes
    assert batch_size(recipe, 10_000, 100, fabric, notes) == 800  # eight images a cluster
    assert notes == [f"batch of 800 instead of {expected}: 8 images a cluster"]
    published = [preset.recipe for name, preset in METHODS[method].presets.items() if name != "default"]
    assert all(recipe.batch_size is not None for recipe in published)


@pytest.mark.parametrize(("batch", "expected"), [(800, 3000), (256, 3000), (128, 5045), (64, 8485)])
def test_more_updates_of_smaller_batches_take_the_same_time(batch: int, expected: int) -> None:
    assert updates_of(3000, batch) == expected


def test_a_batch_that_is_left_open_in_words_grows_with_the_clusters() -> None:
    for text in ("auto", "none", None):
        recipe = Request(n_clusters=100, settings={"batch_size": text}).resolved_preset().recipe
        assert recipe.batch_size is None and recipe.images_per_cluster == 8
    asked = Request(n_clusters=100, settings={"batch_size": "64"}).resolved_preset().recipe
    assert asked.batch_size == 64 and asked.images_per_cluster == 0
    both = Request(n_clusters=100, settings={"batch_size": 64, "images_per_cluster": 2}).resolved_preset().recipe
    assert both.images_per_cluster == 2


def test_a_batch_size_that_is_asked_for_is_the_one_that_is_used(images: Any, fabric: Any) -> None:
    request = Request(n_clusters=4, epochs=1, settings={"batch_size": 16}, **SMALL)
    assert new_training(request, images, fabric).train.batch_size == 16


# what comes before the backbone


@pytest.mark.parametrize(("method", "sobel"), [("crlc", False), ("scl", False), ("dcdc", True)])
def test_paper_presets_normalise_by_the_mean_and_deviation_of_the_collection(
    images: Any, planned: Callable[..., Any], method: str, sobel: bool
) -> None:
    training = planned(images, method=method, preset="paper")
    pixels = images[:].permute(1, 0, 2, 3).flatten(1).numpy() / 255
    front = training.plan.front_end
    assert front.mean == pytest.approx(pixels.mean(1)) and front.std == pytest.approx(pixels.std(1), rel=1e-3)
    assert front.sobel == sobel and isinstance(training.method.backbone, FrontEnd)
    assert training.method.backbone.mean.flatten().tolist() == pytest.approx(front.mean)
    x = training.method.backbone(images[:].float() / 255)
    assert x.shape == (60, training.method.feature_dim)


def test_a_front_end_may_be_chosen_and_left_out(images: Any, planned: Callable[..., Any]) -> None:
    assert planned(images).plan.front_end is None
    assert planned(images, settings={"front_end": "sobel"}).plan.front_end.as_dict() == {
        "mean": None, "std": None, "sobel": True
    }  # fmt: skip
    assert planned(images, method="crlc", preset="paper", settings={"front_end": "none"}).plan.front_end is None
    with pytest.raises(ValueError, match="front_end must be none, normalize, sobel or normalize-sobel; got 'edges'"):
        planned(images, settings={"front_end": "edges"})


def test_pictures_of_one_colour_have_a_deviation_to_divide_by(planned: Callable[..., Any]) -> None:
    gray = load_images(np.full((8, 8, 8, 3), 100, dtype=np.uint8))
    training = planned(gray, settings={"front_end": "normalize"})
    assert training.plan.front_end.std == [1e-3]  # gray pictures have one channel


def test_a_run_with_a_front_end_reloads_and_predicts_the_same(
    tmp_path: Path, pictures: Callable[..., Any], clusterer: Callable[..., Any]
) -> None:
    x, _ = pictures(60, side=8)
    settings = {"batch_size": 32, "cluster_heads": 2, "front_end": "normalize-sobel"}
    model = clusterer(settings=settings).fit(x)
    model.save(tmp_path / "run")
    loaded = Clusterer.load(tmp_path / "run")
    assert isinstance(loaded.method_.backbone, FrontEnd)
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))


def test_fitting_a_loaded_model_anew_keeps_its_front_end(
    tmp_path: Path, pictures: Callable[..., Any], clusterer: Callable[..., Any]
) -> None:
    x, _ = pictures(60, side=8)
    model = clusterer(epochs=1, settings={"batch_size": 32, "cluster_heads": 2, "front_end": "sobel"}).fit(x)
    model.save(tmp_path / "run")
    again = Clusterer.load(tmp_path / "run").fit(x)
    assert again.config_.front_end == model.config_.front_end
