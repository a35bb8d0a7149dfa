"""The published lists, the presets by domain, and the choice between them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ilk.views import DOMAINS, ViewRecipe, Views, choose_views, describe, from_description, get_views, view_names
from ilk.views.domains import flat_background, solidity

# the authors' lists: crop, flip, jitter (probability and four strengths), gray, blur
PUBLISHED = {"cc": (0.5, 0.0), "cc-strong": (1.0, 0.0), "cc-strong-blur": (1.0, 0.5)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_cc_has_exactly_the_published_list(name: str) -> None:
    strength, blur = PUBLISHED[name]
    assert get_views(name)[0] == ViewRecipe(
        crop_scale=(0.08, 1.0), crop_ratio=(3 / 4, 4 / 3), flip=0.5, jitter=0.8, brightness=0.8 * strength,
        contrast=0.8 * strength, saturation=0.8 * strength, hue=0.2 * strength, gray=0.2, blur=blur,
        blur_sigma=(0.1, 2.0), vertical_flip=0.0, degrees=0.0, shear=0.0, zoom=(1.0, 1.0), shift=0.0, elastic=0.0,
        invert=0.0,
    )  # fmt: skip


MOCO = {"flip": 0.5, "jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray": 0.2}
LISTS = {
    "crlc": {**MOCO, "crop_scale": (0.2, 1.0)},
    "moco-cifar": {**MOCO, "crop_scale": (0.08, 1.0)},
    "moco-v2": {**MOCO, "crop_scale": (0.2, 1.0), "blur": 0.5, "blur_sigma": (0.1, 2.0)},
}


@pytest.mark.parametrize("name", LISTS)
def test_crlc_and_moco_have_exactly_the_published_lists_for_both_views(name: str) -> None:
    assert get_views(name) == (ViewRecipe(**LISTS[name]),) * 2


def test_crlc_blurs_96_pixels_with_the_published_sigma() -> None:
    """0.1 to 2 pixels at 96; a recipe counts in pixels of 224."""
    recipe, other = get_views("crlc-blur")
    assert [value * 96 / 224 for value in recipe.blur_sigma] == pytest.approx([0.1, 2.0])
    assert recipe == other == replace(get_views("crlc")[0], blur=0.5, blur_sigma=recipe.blur_sigma)


def test_dcdc_crops_the_original_and_changes_the_other_as_published() -> None:
    """40 pixels cut to 32, nothing else; against colours that are always jittered, by up to 0.4 of the hue circle."""
    original, perturbed = get_views("dcdc")
    assert original == ViewRecipe(crop_scale=(0.64, 0.64), crop_ratio=(1.0, 1.0))
    assert perturbed == ViewRecipe(
        crop_scale=(0.2, 1.0), flip=0.5, jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4, gray=0.2
    )


def test_dcdcs_original_view_is_a_window_of_four_fifths_of_the_side() -> None:
    """On a picture whose red is the column and green the row: the window is whole, upright and anywhere."""
    line = torch.arange(40, dtype=torch.uint8)
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    image[0], image[1] = line, line[:, None]
    image[2] = 77
    a, b = Views(*get_views("dcdc"), size=32)(image.expand(60, -1, -1, -1), torch.Generator().manual_seed(0))
    place = a[:, :2] * 255
    start = place[:, :, 0, 0]
    window = torch.arange(32.0)
    assert torch.allclose(place[:, 0], (start[:, 0, None] + window)[:, None, :].expand(-1, 32, -1), atol=1e-3)
    assert torch.allclose(place[:, 1], (start[:, 1, None] + window)[:, :, None].expand(-1, -1, 32), atol=1e-3)
    assert torch.allclose(a[:, 2] * 255, torch.tensor(77.0), atol=1e-3)
    assert start.round().unique().tolist() == list(range(9))  # each of 0 to 8 occurs
    assert (b[:, 2] * 255 - 77).abs().amax() > 20


def test_drawings_are_never_mirrored_nor_cut_hard() -> None:
    recipe, _ = get_views("drawing")
    assert recipe.flip == recipe.vertical_flip == recipe.invert == 0
    assert recipe.crop_scale[0] >= 0.5 and recipe.degrees < 30


def test_no_views_are_an_empty_recipe() -> None:
    assert get_views("none") == (ViewRecipe(), ViewRecipe())


@pytest.mark.parametrize("name", DOMAINS)
def test_every_domain_makes_views_and_says_what_it_is_for(name: str) -> None:
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    a, b = Views(*get_views(name), size=16)(images, torch.Generator().manual_seed(0))
    assert a.isfinite().all() and b.isfinite().all() and DOMAINS[name].about
    assert torch.equal(a, b) == (name == "none")


@pytest.mark.parametrize("name", DOMAINS)
def test_a_recipe_survives_its_description_as_json(name: str) -> None:
    for recipe in get_views(name):
        assert from_description(json.loads(json.dumps(describe(recipe)))) == recipe


def test_a_description_names_every_setting() -> None:
    recipe = ViewRecipe(crop_scale=(0.25, 0.75), hue=0.3)
    values = describe(recipe)
    assert values["crop_scale"] == [0.25, 0.75] and values["hue"] == 0.3
    assert set(values) == set(ViewRecipe.__dataclass_fields__)


@pytest.mark.parametrize(("wrong", "near"), [("foto", "photo"), ("drawings", "drawing"), ("cc-stron", "cc-strong")])
def test_an_unknown_name_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"'{wrong}'.*Did you mean '{near}'.*auto, photo,"):
        get_views(wrong)


@pytest.mark.parametrize("second", ["none", "dcdc", "cc"])
def test_two_names_with_a_plus_are_the_first_view_of_one_and_the_second_of_the_other(second: str) -> None:
    assert get_views(f"photo+{second}") == (get_views("photo")[0], get_views(second)[1])


def test_the_plain_image_of_a_pair_is_untouched_and_the_other_is_not() -> None:
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    a, b = Views(*get_views("photo+none"), size=16)(images, torch.Generator().manual_seed(0))
    assert torch.equal(b, images / 255) and not torch.equal(a, b)


@pytest.mark.parametrize("wrong", ["photo+nothing", "photo+none+photo", "+photo", "photo+", "photo + none"])
def test_a_pair_of_unknown_names_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="views.*photo\\+none"):
        get_views(wrong)


def test_the_names_are_the_domains_and_auto() -> None:
    assert view_names() == ["auto", *DOMAINS]


# the choice


def strokes(n: int = 20, channels: int = 1, light: bool = False) -> Tensor:
    """A bright bar and a dot on a dark ground, or dark on light."""
    random = np.random.default_rng(0)
    images = random.integers(0, 12, (n, channels, 28, 28))
    for image in images:
        column = random.integers(8, 20)
        image[:, 5:23, column : column + 3] = 230
        image[:, 10:14, 4:8] = 200
    images = 255 - images if light else images
    return torch.from_numpy(images.astype(np.uint8))


def things(n: int = 20) -> Tensor:
    """A coloured square on white."""
    images = np.full((n, 3, 32, 32), 250, dtype=np.uint8)
    images[:, :, 8:24, 8:24] = np.random.default_rng(0).integers(0, 200, (n, 3, 1, 1))
    return torch.from_numpy(images)


def noise(n: int = 20, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, channels, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_thin_strokes_on_a_flat_ground_are_drawings(light: bool, channels: int) -> None:
    name, why = choose_views(strokes(light=light, channels=channels))
    assert name == "drawing" and "thin strokes" in why and "% of a typical image is flat background" in why


def test_pictures_full_of_detail_are_photographs() -> None:
    assert choose_views(noise())[0] == "photo" and choose_views(noise(channels=1))[0] == "photo"
    assert choose_views(noise())[1].startswith("only ")


@pytest.mark.parametrize("channels", [1, 3])
def test_solid_things_on_a_flat_ground_are_objects(channels: int) -> None:
    name, why = choose_views(things()[:, :channels])
    assert name == "object" and "solid objects" in why


def test_how_much_is_ground_and_how_solid_the_rest_by_hand() -> None:
    """A white square of half the side: three quarters ground; a square of 9 leaves 8 x 8 of its 16 x 16."""
    image = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    image[..., 8:24, 8:24] = 255
    assert flat_background(image) == 0.75 and solidity(image) == 0.25
    image[..., 8:24, 8:24] = 20  # within what counts as ground, and still the foreground
    assert flat_background(image) == 1 and solidity(image) == 0.25


def test_blank_pictures_are_no_error() -> None:
    assert choose_views(torch.full((3, 3, 16, 16), 7, dtype=torch.uint8))[0] in DOMAINS


def test_a_few_odd_pictures_do_not_change_the_choice() -> None:
    assert choose_views(torch.cat([things(20), noise(6)]))[0] == "object"


def test_one_picture_is_enough_to_choose() -> None:
    assert choose_views(strokes(1))[0] == "drawing"


def test_the_choice_is_always_a_domain() -> None:
    assert all(choose_views(images)[0] in DOMAINS for images in (strokes(), things(), noise(), noise(2, 4)))
