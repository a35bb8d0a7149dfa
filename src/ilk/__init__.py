"""ilk finds images of the same kind in unlabelled collections, by deep contrastive clustering."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOMES = {
    "Clusterer": "ilk.estimator",
    "Images": "ilk.images",
    "METHODS": "ilk.methods",
    "Method": "ilk.methods",
    "Run": "ilk.runs.folder",
    "ViewRecipe": "ilk.views",
    "Views": "ilk.views",
    "build_backbone": "ilk.networks.backbones",
    "load_images": "ilk.images",
}

__all__ = ["METHODS", "Clusterer", "Images", "Method", "Run", "ViewRecipe", "Views", "build_backbone", "load_images"]

if TYPE_CHECKING:
    from ilk.estimator import Clusterer
    from ilk.images import Images, load_images
    from ilk.methods import METHODS, Method
    from ilk.networks.backbones import build_backbone
    from ilk.runs.folder import Run
    from ilk.views import ViewRecipe, Views


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that `import ilk` and `ilk --help` load no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ilk' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
