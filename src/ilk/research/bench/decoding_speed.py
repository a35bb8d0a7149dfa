"""How fast image files are decoded and resized."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ilk.images import load_images
from ilk.research.bench import other_libraries
from ilk.research.bench.timing import Case, Conditions

PART = "decode"
SIZES = (96, 224)


def groups(conditions: Conditions) -> Iterator[list[Case]]:
    """Groups of cases that are compared with each other."""
    count = len(load_images(conditions.folder, image_size=8, cache=False, workers=conditions.cores))
    for size in SIZES:
        for where, workers in worker_counts(conditions.cores):
            yield [
                Case(name=f"ilk, folder -> {size} px, {where}", work=ours(conditions, size, workers), count=count),
                theirs(conditions.folder, size, where, workers, count),
            ]


def worker_counts(cores: int) -> list[tuple[str, int]]:
    """The numbers of threads or workers that are measured."""
    return [("one core", 1)] + ([("all cores", cores)] if cores > 1 else [])


def ours(conditions: Conditions, size: int, workers: int) -> Callable[[], object]:
    return lambda: load_images(conditions.folder, image_size=size, cache=False, workers=workers)


def theirs(folder: Path, size: int, where: str, workers: int, count: int) -> Case:
    name = f"torchvision ImageFolder -> {size} px, {where}"
    try:
        data = other_libraries.image_folder(folder, size)
    except other_libraries.Missing as why:
        return Case(name=name, work=None, note=str(why), peer=True)
    if workers == 1:
        return Case(name=name, work=lambda: [data[i] for i in range(len(data))], count=count, peer=True)
    loaded = other_libraries.loader(data, 64, workers, shuffle=False)
    return Case(
        name=name, work=lambda: sum(len(x) for x, _ in loaded), count=count, peer=True,
        close=lambda: other_libraries.close(loaded),
    )  # fmt: skip
