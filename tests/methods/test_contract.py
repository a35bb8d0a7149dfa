"""What every method promises, asked of each one in METHODS with each of its presets."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ilk.backbones import build_backbone
from ilk.methods import METHODS, Method, get_method, get_preset, override
from ilk.methods.base import Preset, Recipe, describe

CASES = [(method, preset) for method in METHODS for preset in METHODS[method].presets]
SIDE, N, K = 8, 24, 3
EPOCHS = 10


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def make(request: pytest.FixtureRequest) -> Callable[[], Method]:
    """Builds a fresh method with the config of one preset, the same each time, on the small backbone."""
    name, preset = request.param

    def build(seed: int = 0) -> Method:
        torch.manual_seed(seed)
        backbone = build_backbone("small", image_size=SIDE, in_channels=3)
        return METHODS[name](backbone, K, N, METHODS[name].presets[preset].config)

    return build


def images(n: int = N, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def batch(n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    return images(n, 1), images(n, 2), torch.arange(n)


def encode_with(method: Method) -> Callable[[int], Tensor]:
    @torch.no_grad()
    def encode(m: int) -> Tensor:
        was_training = method.training
        features = method.eval().backbone(images()[:m])
        method.train(was_training)
        return features

    return encode


def start(method: Method, epoch: int = EPOCHS - 1, seed: int = 0) -> Method:
    """All that waits for its turn in the training starts: the last epoch is about to begin."""
    method.start_epoch(epoch, EPOCHS, encode_with(method), seed)
    return method.train()


@pytest.fixture(scope="module")
def begun(make: Callable[[], Method]) -> Callable[[], Method]:
    """Copies of a method in which all has started, in training mode."""
    template = start(make())
    return lambda: copy.deepcopy(template).train()


def steps(method: Method, count: int = 3) -> Method:
    optimizer = torch.optim.Adam(method.parameters(), 1e-3)
    for number in range(count):
        optimizer.zero_grad()
        terms = method(images(N, 10 + number), images(N, 20 + number), torch.arange(N))
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        method.after_step()
    return method


def same_state(a: Method, b: Method) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# forward


def test_forward_returns_named_finite_scalars(make: Callable[[], Method], begun: Callable[[], Method]) -> None:
    for method in (make().train(), begun()):
        terms = method(*batch())
        assert terms and all(isinstance(name, str) for name in terms)
        assert all(term.shape == () and term.isfinite() and term.dtype == torch.float32 for term in terms.values())


def test_every_parameter_gets_a_gradient_once_all_has_started(begun: Callable[[], Method]) -> None:
    method = begun()
    torch.stack(list(method(*batch()).values())).sum().backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_observed_assignments_are_those_of_the_batch(begun: Callable[[], Method]) -> None:
    method = begun()
    method(*batch())
    assert method.observed is not None and not method.observed.requires_grad
    assert method.observed.shape == (N, K)
    assert torch.allclose(method.observed.sum(1), torch.ones(N), atol=1e-5)


@pytest.mark.parametrize("n", [2, 3, 5, 23])
def test_any_batch_of_two_or_more_images_will_do(begun: Callable[[], Method], n: int) -> None:
    method = begun()
    terms = method(*batch(n))
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_bf16_changes_the_terms_little_and_leaves_them_float32(begun: Callable[[], Method]) -> None:
    expected = begun()(*batch())
    with torch.autocast("cpu", torch.bfloat16):
        terms = begun()(*batch())
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(expected[name].item(), rel=0.05, abs=0.05)


def test_equal_methods_give_equal_terms(begun: Callable[[], Method]) -> None:
    first, second = (begun()(*batch()) for _ in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_swapping_the_views_changes_no_term(begun: Callable[[], Method]) -> None:
    """True of methods that treat both views alike, which all of these do."""
    a, b, index = batch()
    expected, swapped = begun()(a, b, index), begun()(b, a, index)
    for name in expected:
        assert swapped[name].item() == pytest.approx(expected[name].item(), abs=1e-5)


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
    trained = steps(begun(), 5)
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    restored = make(1)  # type: ignore[call-arg]
    assert not same_state(trained, restored)
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert same_state(trained, restored)
    with torch.inference_mode():
        for ours, theirs in zip(
            restored.eval().assign_and_embed(images()), trained.eval().assign_and_embed(images()), strict=True
        ):
            assert torch.equal(ours, theirs)
    ours, theirs = restored.train()(*batch()), trained.train()(*batch())
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert same_state(trained, restored)


def test_a_state_saved_before_the_start_restores_the_wait(
    make: Callable[[], Method], begun: Callable[[], Method]
) -> None:
    early, late = make().train(), begun()
    late.load_state_dict(early.state_dict())
    assert early(*batch()).keys() == late(*batch()).keys()


def test_starting_is_a_function_of_the_state_the_epoch_and_the_seed(
    make: Callable[[], Method], begun: Callable[[], Method]
) -> None:
    random_state = torch.get_rng_state()
    second = make()
    torch.set_rng_state(random_state)
    start(second)
    assert torch.equal(torch.get_rng_state(), random_state)  # nothing is drawn from the global generator
    assert same_state(begun(), second)
    if not same_state(second, make()):
        assert not same_state(second, start(make(), seed=1))


def test_starting_twice_changes_nothing_more(begun: Callable[[], Method]) -> None:
    once = begun()
    twice = start(copy.deepcopy(once))
    assert same_state(once, twice)


# presets


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name: str) -> None:
    method = METHODS[name]
    assert method.name == name and method.title and any(letter.isdigit() for letter in method.source)
    assert {"default", "paper"} <= set(method.presets)
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
    with pytest.raises(ValueError, match="Method 'cc' has no preset 'papr'. Known: .*paper"):
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
        ("epochs", "many", "epochs must be of type int; got 'many'"),
        ("epochs", "2.5", "epochs must be of type int; got '2.5'"),
        ("epochs", "inf", "epochs must be of type int; got 'inf'"),
        ("epochs", [3], "epochs must be of type int"),
        ("epochs", "0", "epochs must be at least 1; got 0"),
        ("batch_size", "1", "batch_size must be at least 2; got 1"),
        ("batch_size", "none", "batch_size must be of type int; got 'none'"),
        ("batch_size", None, "batch_size cannot be None"),
        ("learning_rate", "0", "learning_rate must be more than 0; got 0"),
        ("learning_rate", "nan", "learning_rate must be more than 0; got nan"),
        ("learning_rate", "fast", "learning_rate must be of type float; got 'fast'"),
        ("weight_decay", "-1", "weight_decay must be at least 0; got -1"),
        ("optimizer", "adan", "Unknown optimizer 'adan'. Use adam, adamw or sgd."),
        ("schedule", "linear", "Unknown schedule 'linear'. Use constant or cosine."),
        ("warmup", "-5", "warmup must be at least 0; got -5"),
        ("steps", "0", "steps must be at least 1; got 0"),
        ("image_size", "0", "image_size must be at least 1; got 0"),
        ("cluster_heads", "0", "cluster_heads must be at least 1; got 0"),
        ("embedding_dim", "0", "embedding_dim must be at least 1"),
        ("instance_temperature", "0", "instance_temperature must be more than 0"),
        ("cluster_temperature", "nan", "cluster_temperature must be more than 0; got nan"),
        ("entropy_weight", "-0.5", "entropy_weight must be at least 0; got -0.5"),
        ("warm_start", "1", r"warm_start is a part of the training in \[0, 1\); got 1.0"),
        ("warm_start", "-0.1", "warm_start is a part of the training"),
    ],
)
def test_a_bad_value_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(PRESET, {name: value})
