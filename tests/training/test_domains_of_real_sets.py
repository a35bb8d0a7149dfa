"""The views chosen for real image sets."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from ilk.views import choose_views
from places import SHARED_DATA

pytestmark = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the real image sets are not at {SHARED_DATA}")


@pytest.fixture(scope="module")
def sets() -> ModuleType:
    """The reader that lies beside the packed image sets."""
    spec = importlib.util.spec_from_file_location("sets", SHARED_DATA / "sets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scanned_digits_are_drawings(sets: ModuleType) -> None:
    images = torch.from_numpy(sets.load("usps").images[::50])[:, None]
    assert choose_views(images)[0] == "drawing"


def test_pictures_of_clothes_are_objects(sets: ModuleType) -> None:
    images = torch.from_numpy(sets.load("fashion_mnist").images[::300])[:, None]
    assert choose_views(images)[0] == "object"


def test_photographs_of_flowers_are_photographs() -> None:
    files = sorted((SHARED_DATA / "flowers").glob("*/*"))[::40]
    images = [np.asarray(Image.open(file).convert("RGB").resize((64, 64))) for file in files]
    assert choose_views(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))[0] == "photo"
