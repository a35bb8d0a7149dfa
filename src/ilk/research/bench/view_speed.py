"""How fast random views are made: SimCLR's list as CC publishes it for each size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from ilk.images import load_images
from ilk.research.bench import other_libraries
from ilk.research.bench.drawn_photos import photo_like
from ilk.research.bench.timing import Case, Conditions
from ilk.views import ViewRecipe, Views, get_views

PART = "views"
SIZES = {32: "cc", 96: "cc-strong", 224: "cc-strong-blur"}  # blur at 224 pixels only, as published
BATCH = {32: 256, 96: 64, 224: 64}


def groups(conditions: Conditions) -> Iterator[list[Case]]:
    for size, name in SIZES.items():
        recipe, _ = get_views(name)
        if conditions.on_gpu:
            yield view_cases(conditions, size, recipe, "GPU", conditions.cores)
            continue
        yield view_cases(conditions, size, recipe, "one core", 1)
        if conditions.cores > 1:
            yield view_cases(conditions, size, recipe, "all cores", conditions.cores)


def view_cases(conditions: Conditions, size: int, recipe: ViewRecipe, where: str, cores: int) -> list[Case]:
    """ilk, kornia and torchvision on the same images; a pass makes two views of each image.

    ilk has two lines: "linear" with colours changed by one matrix, as it does for photographs, and the exact list.
    """
    batch = conditions.smaller(BATCH[size], 32)
    pixels = photo_like(batch, size, conditions.seed)
    images, device = load_images(pixels, image_size=size), torch.device(conditions.device)
    source = images[:].to(device) if conditions.on_gpu else images
    index = torch.arange(batch, device=device)
    draws = torch.Generator(device).manual_seed(conditions.seed)
    both = {"count": 2 * batch, "unit": "views/s"}

    def ours(colours: str) -> Case:
        views, name = Views(replace(recipe, colours=colours), size=size), "ilk" if colours == "exact" else "ilk linear"
        return Case(name=f"{name}, {size} px, {where}", work=lambda: views(source[index], draws), threads=cores, **both)  # type: ignore[arg-type]  # a table

    cases = [ours("linear"), ours("exact")]
    name = f"kornia, {size} px, {where}"
    try:
        change = other_libraries.kornia_views(recipe, size).to(device)  # type: ignore[attr-defined]  # it is a module

        def theirs() -> object:
            floats = source[index] / 255
            return change(floats), change(floats)

        cases.append(Case(name=name, work=theirs, threads=cores, peer=True, **both))  # type: ignore[arg-type]
    except other_libraries.Missing as why:
        cases.append(Case(name=name, work=None, note=str(why), peer=True, unit="views/s"))
    cases.append(torchvision_case(pixels, recipe, size, where, cores))
    return cases


def torchvision_case(pixels: object, recipe: ViewRecipe, size: int, where: str, cores: int) -> Case:
    """One Pillow image at a time in a DataLoader, with a worker for each core."""
    name = f"torchvision, {size} px, {'all cores' if where == 'GPU' else where}"
    try:
        data = other_libraries.Pairs(pixels, other_libraries.torchvision_views(recipe, size))  # type: ignore[arg-type]  # an array
    except other_libraries.Missing as why:
        return Case(name=name, work=None, note=str(why), peer=True, unit="views/s")
    loaded = other_libraries.loader(data, max(8, len(data) // (2 * cores)), cores if cores > 1 else 0, shuffle=False)
    return Case(
        name=name, work=lambda: sum(len(a) for a, _, _ in loaded), count=2 * len(data), unit="views/s", threads=1,
        peer=True, close=lambda: other_libraries.close(loaded),
    )  # fmt: skip
