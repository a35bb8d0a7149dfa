"""Colour changes as one matrix an image: what torchvision's jitter does, as long as nothing is clipped on the way."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ilk.views import DOMAINS, ViewRecipe, Views, from_description, random_views
from ilk.views import operations as op
from ilk.views.domains import describe
from ilk.views.linear import hue_rotation, identity, jitter_map, luma_of
from ilk.views.operations import input_positions

EXACT = (op.brightness, op.contrast, op.saturation)


@pytest.fixture
def middling() -> Tensor:
    """Colours so far from black and white that nothing is clipped."""
    return 0.4 + 0.2 * torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def amounts_of(n: int, *factors: float, turn: float = 0.0) -> Tensor:
    return torch.tensor([[*factors, turn]]).expand(n, 4)


@pytest.mark.parametrize("number", range(3))
def test_each_change_alone_is_torchvisions(number: int, middling: Tensor) -> None:
    factors = [1.0, 1.0, 1.0]
    factors[number] = 1.3
    found = jitter_map(middling, amounts_of(6, *factors), torch.arange(4).expand(6, 4))(middling)
    torch.testing.assert_close(found, EXACT[number](middling, torch.full((6,), 1.3)), atol=1e-6, rtol=0)


def test_in_every_order_the_map_is_one_change_after_another(middling: Tensor) -> None:
    orders = torch.tensor([(*order, 3) for order in itertools.permutations(range(3))])  # one of each for the six images
    factors = (1.2, 0.7, 1.3)
    found = jitter_map(middling, amounts_of(6, *factors), orders)(middling)
    for i, order in enumerate(orders[:, :3].tolist()):
        x = middling[i : i + 1]
        for number in order:
            x = EXACT[number](x, torch.tensor([factors[number]]))
        torch.testing.assert_close(found[i : i + 1], x, atol=1e-6, rtol=0)


def test_each_image_has_its_own_amounts(middling: Tensor) -> None:
    amounts = torch.tensor([[0.6 + 0.1 * i, 1.0, 1.0, 0.0] for i in range(6)])
    found = jitter_map(middling, amounts, torch.arange(4).expand(6, 4))(middling)
    torch.testing.assert_close(found, middling * amounts[:, :1, None, None])


def test_a_turn_of_the_hue_keeps_luma_and_gray_and_a_whole_turn_everything(middling: Tensor) -> None:
    turned = torch.einsum("nij,njhw->nihw", hue_rotation(torch.full((6,), 0.2)), middling)
    torch.testing.assert_close(op.gray(turned), op.gray(middling), atol=1e-5, rtol=0)
    level = torch.full((1, 3, 1, 1), 0.5)
    torch.testing.assert_close(torch.einsum("nij,njhw->nihw", hue_rotation(torch.tensor([0.3])), level), level)
    torch.testing.assert_close(hue_rotation(torch.tensor([1.0]))[0], torch.eye(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("turn", "largest"), [(1 / 3, 1), (-1 / 3, 2)])
def test_the_hue_turns_the_way_torchvisions_does(turn: float, largest: int) -> None:
    reddish = torch.tensor([0.6, 0.4, 0.4])
    assert int((hue_rotation(torch.tensor([turn]))[0] @ reddish).argmax()) == largest
    exact = op.hue(reddish.view(1, 3, 1, 1), torch.tensor([turn]))
    assert int(exact.flatten().argmax()) == largest


def test_colours_stay_between_0_and_1_and_gray_has_none() -> None:
    x = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    recipe = ViewRecipe(
        jitter=1.0, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, gray=1.0, colours="linear"
    )  # fmt: skip
    found = random_views.colour(x, recipe, torch.Generator().manual_seed(0))
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0.05
    torch.testing.assert_close(found[:, 0], found[:, 1])
    torch.testing.assert_close(found[:, 0], found[:, 2])


def test_as_many_images_are_changed_as_the_probabilities_say() -> None:
    x = torch.rand(2000, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    recipe = ViewRecipe(jitter=0.8, brightness=0.4, invert=0.25, colours="linear")
    found = random_views.colour(x, recipe, torch.Generator().manual_seed(0))
    untouched = float((found - x).abs().flatten(1).amax(1).le(1e-6).float().mean())
    assert untouched == pytest.approx(0.2 * 0.75, abs=0.03)
    negative = random_views.colour(x, ViewRecipe(invert=1.0, colours="linear"), torch.Generator().manual_seed(0))
    torch.testing.assert_close(negative, 1 - x)


def test_the_map_of_nothing_changes_nothing(middling: Tensor) -> None:
    torch.testing.assert_close(identity(middling)(middling), middling)
    assert luma_of(middling).sum() == pytest.approx(1, abs=1e-3)


def test_published_lists_are_exact_and_survive_json_and_other_ways_are_refused() -> None:
    for name in ("cc", "cc-strong", "cc-strong-blur", "crlc", "crlc-blur", "moco-cifar", "moco-v2", "dcdc"):
        assert all(
            recipe is None or recipe.colours == "exact" for recipe in (DOMAINS[name].recipe, DOMAINS[name].other)
        )
    old = {key: value for key, value in describe(DOMAINS["photo"].recipe).items() if key != "colours"}
    assert from_description(old).colours == "exact"  # a run of before goes on as it began
    with pytest.raises(ValueError, match="exact or linear.*'fast'"):
        ViewRecipe(colours="fast")


@pytest.mark.parametrize("displaced", [False, True])
@pytest.mark.parametrize("straight", [False, True])
def test_look_ups_are_those_of_affine_grid(straight: bool, displaced: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    mapping = torch.randn(5, 2, 3, generator=generator)
    if straight:
        mapping[:, 0, 1] = mapping[:, 1, 0] = 0
    moved = torch.randn(5, 7, 7, 2, generator=generator) if displaced else None
    expected = F.affine_grid(mapping, [5, 1, 7, 7], align_corners=False) + (moved if displaced else 0)
    found = input_positions(mapping, 7, None, None, moved, straight=straight)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    low, high = torch.full((5, 2), -0.3), torch.full((5, 2), 0.5)
    torch.testing.assert_close(input_positions(mapping, 7, low, high, moved, straight=straight), found.clamp(-0.3, 0.5))


def test_without_waiting_for_the_device_the_jitter_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(40, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    recipe = ViewRecipe(jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    picked = random_views.jittered(x, recipe, torch.Generator().manual_seed(5))
    monkeypatch.setattr(random_views, "selects_rows", lambda x: False)
    torch.testing.assert_close(random_views.jittered(x, recipe, torch.Generator().manual_seed(5)), picked)
    half = random_views.on_some(x, 0.5, torch.Generator().manual_seed(5), lambda part, rows: -part)
    monkeypatch.undo()
    torch.testing.assert_close(
        half, random_views.on_some(x.clone(), 0.5, torch.Generator().manual_seed(5), lambda part, rows: -part)
    )


def test_linear_views_of_a_batch_are_views() -> None:
    images = torch.randint(0, 256, (8, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    a, b = Views(DOMAINS["photo"].recipe, size=16)(images, torch.Generator().manual_seed(0))
    assert a.shape == b.shape == (8, 3, 16, 16)
    assert not torch.equal(a, b) and float(a.min()) >= 0 and float(a.max()) <= 1
