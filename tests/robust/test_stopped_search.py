"""A search for the number of clusters that was stopped goes on and ends as an unbroken one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ilk.pipeline.build import load_method
from ilk.pipeline.fitting import fit
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.system.progress import Watch


def pictures(n: int) -> np.ndarray:
    """Gray images of 8 x 8 pixels with one bright quarter each."""
    random = np.random.default_rng(0)
    images = random.integers(0, 60, (n, 8, 8))
    for row in range(n):
        y, x = divmod(row % 4, 2)
        images[row, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] += 150
    return images.astype(np.uint8)


class Stop(Exception):
    """The exception that takes the place of a kill."""


class Stopper(Watch):
    """Stops the work when the `number`-th epoch has ended."""

    def __init__(self, number: int) -> None:
        self.left = number

    def epoch(self, record: dict[str, object]) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stop


@pytest.mark.parametrize("after", [1, 4])
def test_a_stopped_search_goes_on_and_ends_as_an_unbroken_one(tmp_path: Path, after: int) -> None:
    """After one epoch the representation is under way, after four the heads are (the first training has two)."""
    images = pictures(80)
    request = Request(n_clusters="2-6", epochs=2, settings={"batch_size": 32, "cluster_heads": 2})
    whole = fit(request, images, Run(tmp_path / "whole"), report=False)
    with pytest.raises(Stop):
        fit(request, images, Run(tmp_path / "run"), report=False, watch=Stopper(after))
    broken = fit(request, images, Run(tmp_path / "run"), report=False, resume=True)
    assert broken.config.number == whole.config.number
    models = [load_method(run).state_dict() for run in (whole, broken)]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_an_iterator_serves_both_trainings_of_a_search_for_the_number(
    photo_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """The training of the representation and that of the heads both read the source."""
    files = iter(sorted(photo_folder(tmp_path / "photos", 40).rglob("*.png")))
    request = Request(
        n_clusters="2-4", epochs=2, train="all", settings={"batch_size": 16}, device="cpu", precision="float32"
    )
    run = fit(request, files, Run(tmp_path / "run"), cache_dir=tmp_path / "cache", report=False)
    assert run.config.images.n == 40 and 2 <= run.config.n_clusters <= 4
