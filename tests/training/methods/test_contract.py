"""What every method promises, asked of each one in METHODS and of the example, with each preset."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ilk.training.loop
from ilk import Clusterer, load_images
from ilk.analysis.metrics import accuracy
from ilk.methods import METHODS, Method, get_method, get_preset, override, use_method
from ilk.methods.base import Encode
from ilk.methods.records import Preset, Recipe, describe
from ilk.networks.backbones import build_backbone
from ilk.networks.banks import Twin
from ilk.pipeline.build import load_method
from ilk.pipeline.fitting import fit
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.training.assign import Assignments, assign
from ilk.training.confidence import read_calibration
from ilk.training.loop import train
from ilk.views import ViewRecipe

TOY = use_method(f"{Path(__file__).parents[3] / 'examples' / 'own_method.py'}:Toy")
NAMES = [*METHODS, TOY]
CASES = [(method, preset) for method in NAMES for preset in METHODS[method].presets]
SIDE, N, K = 8, 24, 4
EPOCHS = 10
RENEWED = {"scl": ("labels", "moves")}  # what a method works out anew before every epoch


def quick(config: Any, heads: int = 2) -> Any:
    """`config` with at most two cluster heads: starting ten takes seconds."""
    return (
        replace(config, cluster_heads=min(config.cluster_heads, heads)) if hasattr(config, "cluster_heads") else config
    )


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def make(request: pytest.FixtureRequest) -> Callable[[], Method]:
    """Builds a fresh method with the config of one preset, the same each time, on the small backbone."""
    name, preset = request.param

    def build(seed: int = 0) -> Method:
        torch.manual_seed(seed)
        backbone = build_backbone("small", image_size=SIDE, in_channels=3)
        return METHODS[name](backbone, K, N, quick(METHODS[name].presets[preset].config))

    return build


def images(n: int = N, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def batch(method: Method, n: int = N, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    return images(n, seed), images(method.repeats * n, 100 + seed), torch.arange(n)


def encode_with(method: Method) -> Encode:
    @torch.no_grad()
    def encode(m: int) -> Tensor:
        was_training = method.training
        features: Tensor = method.eval().backbone(images()[:m])
        method.train(was_training)
        return features

    return encode


def start(method: Method, epoch: int = EPOCHS - 1, seed: int = 0) -> Method:
    """Starts everything that begins later in training, as at the start of the last epoch."""
    method.start_epoch(epoch, EPOCHS, encode_with(method), seed)
    return method.train()


@pytest.fixture(scope="module")
def begun(make: Callable[[], Method]) -> Callable[[], Method]:
    """Copies of a method in training mode, with all of its parts started."""
    template = start(make())
    return lambda: copy.deepcopy(template).train()


def steps(method: Method, count: int = 3) -> Method:
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 1e-3)
    for number in range(count):
        optimizer.zero_grad()
        terms = method(*batch(method, seed=10 + number))
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        method.after_step()
    return method


def changed(a: Method, b: Method) -> set[str]:
    """The names of the entries in which two states differ."""
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    return {name for name in ours if not torch.equal(ours[name], theirs[name])}


# forward


def test_forward_returns_named_finite_scalars(make: Callable[[], Method], begun: Callable[[], Method]) -> None:
    for method in (make().train(), begun()):
        terms = method(*batch(method))
        assert terms and all(isinstance(name, str) for name in terms)
        assert all(term.shape == () and term.isfinite() and term.dtype == torch.float32 for term in terms.values())


def silent(method: nn.Module) -> set[int]:
    """The ids of the biases before a BatchNorm, which cancels them."""
    layers = [list(module) for module in method.modules() if isinstance(module, nn.Sequential)]
    pairs = [pair for row in layers for pair in pairwise(row)]
    return {id(a.bias) for a, b in pairs if isinstance(a, nn.Linear) and isinstance(b, nn.BatchNorm1d)}


def test_every_parameter_that_is_trained_gets_a_gradient_in_the_last_two_epochs(make: Callable[[], Method]) -> None:
    """Two, because heads may be trained in turn. What is not trained are the twins, which say so."""
    method = make()
    for epoch in (EPOCHS - 2, EPOCHS - 1):
        start(method, epoch)
        torch.stack(list(method(*batch(method)).values())).sum().backward()
        method.after_step()
    twins = {id(p) for module in method.modules() if isinstance(module, Twin) for p in module.parameters()}
    without = silent(method)
    for name, parameter in method.named_parameters():
        assert parameter.requires_grad == (id(parameter) not in twins), name
        if id(parameter) in twins:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert id(parameter) in without or parameter.grad.abs().sum() > 0, name


def test_observed_assignments_are_those_of_the_batch(begun: Callable[[], Method]) -> None:
    method = begun()
    method(*batch(method))
    assert method.observed is not None and not method.observed.requires_grad
    assert method.observed.shape == (N, K)
    assert torch.allclose(method.observed.sum(1), torch.ones(N), atol=1e-5)


@pytest.mark.parametrize("n", [2, 3, 5, 23])
def test_any_batch_of_two_or_more_images_will_do(begun: Callable[[], Method], n: int) -> None:
    method = begun()
    terms = method(*batch(method, n))
    torch.stack(list(terms.values())).sum().backward()
    method.after_step()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert all(value.isfinite().all() for value in method.state_dict().values() if value.is_floating_point())


def test_bf16_changes_the_terms_little_and_leaves_them_float32(begun: Callable[[], Method]) -> None:
    method = begun()
    expected = begun()(*batch(method))
    with torch.autocast("cpu", torch.bfloat16):
        terms = method(*batch(method))
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(expected[name].item(), rel=0.05, abs=0.05)


def test_equal_methods_give_equal_terms(begun: Callable[[], Method]) -> None:
    first, second = (method(*batch(method)) for method in (begun(), begun()))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_swapping_the_views_changes_no_term_of_a_method_that_treats_them_alike(begun: Callable[[], Method]) -> None:
    """SCL and DCDC as published do not: see their own tests."""
    method, other = begun(), begun()
    alike = method.repeats == 1 and getattr(method.config, "symmetric", True)
    a, b, index = batch(method)
    if len(a) != len(b):
        assert not alike
        return
    expected, swapped = method(a, b, index), other(b, a, index)
    same = [swapped[name].item() == pytest.approx(expected[name].item(), abs=1e-5) for name in expected]
    if method.name == "dcdc" and "entropy" in expected:  # of the first view alone
        same.pop(list(expected).index("entropy"))
    assert all(same) == alike


# assignments and embeddings


def test_assignments_are_probabilities_and_embeddings_have_length_1(begun: Callable[[], Method]) -> None:
    method = steps(begun()).eval()
    with torch.inference_mode():
        y, z = method.assign(images()), method.embed(images())
        both = method.assign_and_embed(images())
    assert y.shape == (N, K) and y.min() >= 0 and torch.allclose(y.sum(1), torch.ones(N), atol=1e-5)
    assert z.shape[0] == N and z.dim() == 2 and torch.allclose(z.norm(dim=1), torch.ones(N), atol=1e-5)
    assert torch.equal(both[0], y) and torch.equal(both[1], z)


def test_assignments_and_embeddings_are_float32_inside_a_bf16_autocast(begun: Callable[[], Method]) -> None:
    method = begun().eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        y, z = method.assign_and_embed(images())
    assert y.dtype == z.dtype == torch.float32
    assert torch.allclose(y.sum(1), torch.ones(N), atol=1e-5)


def test_in_eval_mode_an_image_is_assigned_whatever_comes_beside_it(begun: Callable[[], Method]) -> None:
    method = steps(begun()).eval()
    with torch.inference_mode():
        whole, half = method.assign(images()), method.assign(images()[5:9])
    assert torch.allclose(whole[5:9], half, atol=1e-5)


# state


def test_a_saved_state_restores_all_that_assigns_and_trains(
    make: Callable[[], Method], begun: Callable[[], Method], tmp_path: Any
) -> None:
    """Weights, heads, banks, labels, counters and twins: the next step is the same to the last bit."""
    trained = steps(begun(), 5)
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    restored = make(1)  # type: ignore[call-arg]
    assert changed(trained, restored)
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert not changed(trained, restored)
    with torch.inference_mode():
        for ours, theirs in zip(
            restored.eval().assign_and_embed(images()), trained.eval().assign_and_embed(images()), strict=True
        ):
            assert torch.equal(ours, theirs)
    before = copy.deepcopy(trained)
    for method in (start(trained), start(restored)):
        steps(method, 2)
    assert changed(trained, before) and not changed(trained, restored)


def test_a_state_saved_before_the_start_restores_the_wait(
    make: Callable[[], Method], begun: Callable[[], Method]
) -> None:
    early, late = make().train(), begun()
    late.load_state_dict(early.state_dict())
    assert early(*batch(early)).keys() == late(*batch(late)).keys()


def test_starting_is_a_function_of_the_state_the_epoch_and_the_seed(
    make: Callable[[], Method], begun: Callable[[], Method]
) -> None:
    random_state = torch.get_rng_state()
    second = make()
    torch.set_rng_state(random_state)
    start(second)
    assert torch.equal(torch.get_rng_state(), random_state)  # nothing is drawn from the global generator
    assert not changed(begun(), second)
    if getattr(second.config, "warm_start", 0):  # the partitions begin elsewhere with another seed
        assert changed(second, start(make(), seed=1))


def test_starting_again_changes_only_what_is_renewed_each_epoch(begun: Callable[[], Method]) -> None:
    once = begun()
    found = changed(once, start(copy.deepcopy(once)))
    assert all(name.endswith(RENEWED.get(once.name, ())) for name in found)


def test_a_frozen_backbone_keeps_its_weights_and_its_running_statistics(begun: Callable[[], Method]) -> None:
    """The heads learn on; the first views of the training no longer move what BatchNorm remembers."""
    method = begun()
    method.freeze_backbone()
    before = copy.deepcopy(method)
    steps(method.train())
    assert method.training and not method.backbone.training
    names = changed(method, before)
    assert names and not any(name.startswith("backbone.") for name in names)
    assert any(name in names for name, parameter in method.named_parameters() if parameter.requires_grad)


def test_without_freezing_training_moves_weights_and_running_statistics(begun: Callable[[], Method]) -> None:
    names = changed(steps(begun()), begun())
    assert {"backbone.stem.0.weight", "backbone.stem.1.running_mean"} <= names


def test_what_a_method_does_not_use_it_does_not_take(make: Callable[[], Method]) -> None:
    method = make()
    turns = [method.takes_extra(epoch, EPOCHS) for epoch in range(EPOCHS)]
    assert any(turns) == method.uses_extra
    if method.uses_known:
        method.know(torch.full((N,), -1))
    else:
        with pytest.raises(NotImplementedError):
            method.know(torch.full((N,), -1))


# whole trainings


def lasting(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records without their times."""
    return [{k: v for k, v in one.items() if k not in ("seconds", "images_per_second")} for one in records]


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0)


@dataclass
class Unbroken:
    training: Callable[[], Any]  # a fresh plan of the same training
    pictures: Any
    method: Method
    records: list[dict[str, Any]]
    found: Assignments


@pytest.fixture(
    scope="module",
    params=[*((name, "default") for name in NAMES), ("crlc", "memory-bank"), ("scl", "paper"), ("dcdc", "paper")],
    ids="-".join,
)
def unbroken(
    request: pytest.FixtureRequest,
    planned: Callable[..., Any],
    three_kinds: tuple[np.ndarray, np.ndarray],
    fabric: Any,
) -> Unbroken:
    """A training of four epochs of three steps without interruption; parts that begin later start in the third."""
    name, preset = request.param
    pictures = load_images(three_kinds[0][:52])
    config = get_preset(name, preset).config
    settings = {"batch_size": 16, "warmup": 0, **({"warm_start": 0.5} if getattr(config, "warm_start", 0) else {})}

    def plan() -> Any:
        return planned(pictures, k=4, method=name, preset=preset, epochs=4, settings=settings)

    one = plan()
    records = list(train(one.method, pictures, one.views, one.train, fabric))
    return Unbroken(plan, pictures, one.method, records, assign(one.method, pictures, fabric))


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("epochs", [1, 3])  # before the start, and after it
def test_a_training_that_goes_on_from_its_checkpoint_equals_the_unbroken_one_to_the_last_bit(
    unbroken: Unbroken, fabric: Any, tmp_path: Path, epochs: int
) -> None:
    def work() -> tuple[Method, Generator[dict[str, Any], None, None]]:
        training = unbroken.training()
        return training.method, train(
            training.method,
            unbroken.pictures,
            training.views,
            training.train,
            fabric,
            checkpoint=tmp_path / "checkpoint.pt",
        )

    _, records = work()
    before = [next(records) for _ in range(epochs)]
    records.close()
    resumed, records = work()
    torch.manual_seed(123)  # the global generator must not matter
    after = list(records)
    assert lasting(before + after) == lasting(unbroken.records)
    assert not changed(resumed, unbroken.method)
    found = assign(resumed, unbroken.pictures, fabric)
    for name in ("cluster", "confidence", "embedding"):
        np.testing.assert_array_equal(getattr(found, name), getattr(unbroken.found, name))


@pytest.fixture(scope="module")
def finished(
    request: pytest.FixtureRequest,
    three_kinds: tuple[np.ndarray, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """The run folder of the default preset on images of three classes."""
    pictures, kind = three_kinds
    views = ViewRecipe(crop_scale=(0.6, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    few = {"cluster_heads": 3} if hasattr(get_preset(request.param, "default").config, "cluster_heads") else {}
    asked = Request(
        n_clusters=3, method=request.param, epochs=10, backbone="small", views=views, device="cpu",
        precision="float32", settings={"batch_size": 50, "warmup": 0, **few},
    )  # fmt: skip
    run = Run(tmp_path_factory.mktemp("runs") / request.param)
    fit(asked, pictures, run, labels=kind, cache_dir=tmp_path_factory.mktemp("cache"))
    return run


each_finished = pytest.mark.parametrize("finished", NAMES, indirect=True)


@each_finished
def test_three_obvious_kinds_are_found(finished: Run, three_kinds: tuple[np.ndarray, np.ndarray]) -> None:
    assert accuracy(three_kinds[1], read_table(finished / "assignments.parquet")["cluster"].to_numpy()) > 0.9


@each_finished
def test_a_model_from_its_run_folder_assigns_as_when_it_was_trained(
    finished: Run, three_kinds: tuple[np.ndarray, np.ndarray], fabric: Any
) -> None:
    pictures, _ = three_kinds
    loaded = Clusterer.load(finished.folder)
    temperature = read_calibration(finished).temperature
    found = assign(
        load_method(finished), load_images(pictures), fabric, temperature=temperature, probabilities=True
    )  # fmt: skip
    np.testing.assert_array_equal(found.cluster, loaded.labels_)  # the file of the training
    np.testing.assert_array_equal(found.confidence, loaded.confidence_)
    np.testing.assert_array_equal(loaded.predict(pictures), loaded.labels_)
    np.testing.assert_allclose(found.probability.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_of_one_epoch_has_clusters_too(name: str) -> None:
    torch.manual_seed(0)
    config = quick(get_preset(name, "default").config)
    config = replace(config, warm_start=0.5) if hasattr(config, "warm_start") else config
    method = METHODS[name](build_backbone("small", image_size=SIDE, in_channels=3), K, N, config)
    method.start_epoch(0, 1, encode_with(method), 0)
    method.train()(*batch(method))
    assert method.observed is not None


SIZES = [(name, n, epochs) for name in NAMES for n, epochs in ((40, 2), (70, 1))]


@pytest.mark.filterwarnings("ignore:the clusters are collapsing")
@pytest.mark.parametrize(("name", "n", "epochs"), SIZES)
def test_partial_fit_on_another_number_of_images_can_be_saved_and_loaded(
    name: str,
    n: int,
    epochs: int,
    clusterer: Callable[..., Any],
    three_kinds: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
) -> None:
    model = clusterer(3, method=name, epochs=2).fit(three_kinds[0][:60])
    model.partial_fit(three_kinds[0][:n], epochs=epochs).save(tmp_path / "run")
    found = Clusterer.load(tmp_path / "run").predict(three_kinds[0])
    np.testing.assert_array_equal(found, model.predict(three_kinds[0]))


# presets


@pytest.mark.parametrize("name", NAMES)
def test_a_method_says_what_it_is(name: str) -> None:
    method = METHODS[name]
    assert method.name == name and method.title and any(letter.isdigit() for letter in method.source)
    assert ({"default"} if name == TOY else {"default", "paper"}) <= set(method.presets)
    assert get_method(name) is method


@pytest.mark.parametrize(("method", "preset"), CASES)
def test_a_preset_survives_json(method: str, preset: str) -> None:
    found = get_preset(method, preset)
    values = json.loads(json.dumps(describe(found)))
    assert type(found.config)(**values["config"]) == found.config
    assert Recipe(**values["recipe"]) == found.recipe
    assert found.about and "\n" not in found.about


@pytest.mark.parametrize(("method", "preset"), CASES)
def test_every_setting_of_a_preset_may_be_given_as_the_text_of_its_value(method: str, preset: str) -> None:
    found = get_preset(method, preset)
    values = {**describe(found)["recipe"], **describe(found)["config"]}
    assert override(found, {name: str(value) for name, value in values.items()}) == found


@pytest.mark.parametrize(("method", "preset"), CASES)
def test_config_and_recipe_share_no_name(method: str, preset: str) -> None:
    values = describe(get_preset(method, preset))
    assert not set(values["config"]) & set(values["recipe"])


def test_unknown_methods_and_presets_are_refused_with_what_is_known() -> None:
    with pytest.raises(ValueError, match="Unknown method 'ccc'. Did you mean 'cc'\\? Known: cc"):
        get_method("ccc")
    with pytest.raises(ValueError, match="Unknown method 'kmeans'.*Known: cc"):
        get_method("kmeans")
    with pytest.raises(ValueError, match="Method 'cc' has no preset 'papr'. Did you mean 'paper'. Known: .*paper"):
        get_preset("cc", "papr")


# overrides


PRESET: Preset = METHODS["cc"].presets["default"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "100", 100), ("epochs", 7, 7), ("epochs", "none", None), ("epochs", None, None),
        ("batch_size", "64", 64), ("batch_size", 64.0, 64), ("learning_rate", "1e-3", 1e-3), ("learning_rate", 1, 1.0),
        ("optimizer", "sgd", "sgd"), ("image_size", "auto", None), ("backbone", "auto", "auto"),
        ("cluster_heads", "3", 3), ("instance_temperature", "0.1", 0.1), ("warm_start", "0", 0.0),
    ],
)  # fmt: skip
def test_an_override_is_converted_to_the_type_of_its_setting(name: str, value: Any, expected: Any) -> None:
    changed = override(PRESET, {name: value})
    part = changed.recipe if hasattr(changed.recipe, name) else changed.config
    found = getattr(part, name)
    assert found == expected and type(found) is type(expected)


def test_overrides_change_only_what_they_name() -> None:
    changed = override(PRESET, {"epochs": "5", "cluster_heads": "2"})
    assert changed.recipe == replace(PRESET.recipe, epochs=5)
    assert changed.config == replace(PRESET.config, cluster_heads=2)
    assert changed.about == PRESET.about
    assert override(PRESET, {}) == PRESET


@pytest.mark.parametrize(
    ("wrong", "near"), [("epoch", "epochs"), ("learning_rte", "learning_rate"), ("cluster_head", "cluster_heads")]
)
def test_an_unknown_setting_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"There is no setting '{wrong}'. Did you mean '{near}'\\? Known: backbone, "):
        override(PRESET, {wrong: "1"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "many", "epochs must be a whole number; got 'many'"),
        ("epochs", "2.5", "epochs must be a whole number; got 2.5"),
        ("epochs", "inf", "epochs must be a finite number; got inf"),
        ("epochs", [3], "epochs must be a whole number"),
        ("epochs", "0", "epochs must be at least 1; got 0"),
        ("batch_size", "1", "batch_size must be at least 2; got 1"),
        ("warmup", "none", "warmup must be a whole number; got 'none'"),
        ("warmup", None, "warmup must be a whole number; got None"),
        ("learning_rate", "0", "learning_rate must be more than 0; got 0"),
        ("learning_rate", "nan", "learning_rate must be a finite number; got nan"),
        ("learning_rate", "fast", "learning_rate must be a number; got 'fast'"),
        ("weight_decay", "-1", "weight_decay must be at least 0; got -1"),
        ("optimizer", "adan", "optimizer must be adam, adamw or sgd; got 'adan'. Did you mean 'adam'\\?"),
        ("schedule", "linear", "schedule must be constant or cosine; got 'linear'"),
        ("warmup", "-5", "warmup must be at least 0; got -5"),
        ("steps", "0", "steps must be at least 1; got 0"),
        ("image_size", "0", "image_size must be at least 1; got 0"),
        ("cluster_heads", "0", "cluster_heads must be at least 1; got 0"),
        ("embedding_dim", "0", "embedding_dim must be at least 1"),
        ("instance_temperature", "0", "instance_temperature must be more than 0"),
        ("cluster_temperature", "nan", "cluster_temperature must be a finite number; got nan"),
        ("entropy_weight", "-0.5", "entropy_weight must be at least 0; got -0.5"),
        ("warm_start", "1", "warm_start must be less than 1; got 1.0"),
        ("warm_start", "-0.1", "warm_start must be at least 0; got -0.1"),
    ],
)
def test_a_bad_value_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(PRESET, {name: value})
