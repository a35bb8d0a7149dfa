"""ilk groups the images of an unlabelled collection by what they show, by deep contrastive clustering."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_MODULE_OF = {
    "Clusterer": "ilk.estimator",
    "Images": "ilk.images",
    "METHODS": "ilk.methods",
    "Method": "ilk.methods",
    "OutOfMemory": "ilk.system.devices",
    "Preset": "ilk.methods",
    "Recipe": "ilk.methods",
    "Run": "ilk.runs.folder",
    "TrainingDiverged": "ilk.training.loop",
    "ViewRecipe": "ilk.views",
    "Views": "ilk.views",
    "build_backbone": "ilk.networks.backbones",
    "evaluate": "ilk.verbs",
    "find_encoder": "ilk.pipeline.encoders",
    "fit": "ilk.verbs",
    "load_images": "ilk.images",
    "load_model": "ilk.verbs",
    "predict": "ilk.verbs",
    "report": "ilk.verbs",
}

__all__ = [
    "METHODS", "Clusterer", "Images", "Method", "OutOfMemory", "Preset", "Recipe", "Run", "TrainingDiverged",
    "ViewRecipe", "Views", "build_backbone", "evaluate", "find_encoder", "fit", "load_images", "load_model", "predict",
    "report",
]  # fmt: skip

if TYPE_CHECKING:
    from ilk.estimator import Clusterer
    from ilk.images import Images, load_images
    from ilk.methods import METHODS, Method, Preset, Recipe
    from ilk.networks.backbones import build_backbone
    from ilk.pipeline.encoders import find_encoder
    from ilk.runs.folder import Run
    from ilk.system.devices import OutOfMemory
    from ilk.training.loop import TrainingDiverged
    from ilk.verbs import evaluate, fit, load_model, predict, report
    from ilk.views import ViewRecipe, Views


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `import ilk` and `ilk --help` do not import torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ilk' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
