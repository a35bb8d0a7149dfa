"""The model of a finished run: its method, and the encoder in front of it where heads alone were trained."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from torch import nn

from ilk.methods.base import Method
from ilk.networks.features import Chained
from ilk.networks.pretrained import Encoder
from ilk.pipeline.build import load_method
from ilk.pipeline.encoders import find_encoder, is_encoder
from ilk.pipeline.frozen_features import EMBEDDINGS
from ilk.runs.config import CUSTOM, Plan
from ilk.runs.folder import Run
from ilk.system.own_folders import REPRESENTATION
from ilk.system.progress import Watch

OWN = f"run:{REPRESENTATION}"  # the name of that encoder, wherever the outer run is moved


def load_model(run: Run, watch: Watch | None = None, module: nn.Module | None = None) -> Method:
    """The trained model of a run, from images to clusters, whatever its backbone is.

    `module`: the untrained backbone or the encoder, where the run was given one in Python.
    """
    method, encoder = load_parts(run, watch or Watch(), module)
    return method if encoder is None else on_images(method, encoder)


def load_parts(
    run: Run, watch: Watch, module: nn.Module | None = None, *, offline: bool = False
) -> tuple[Method, Encoder | None]:
    """The trained method of a run, and the encoder whose features it takes, None if it takes images."""
    plan = run.config
    if plan.encoder is not None:
        return load_method(run), run_encoder(run, watch, module, offline=offline)
    return load_method(run, module or pretrained_backbone(plan.backbone, watch, offline=offline)), None


def on_images(heads: Method, encoder: Encoder) -> Method:
    """The method that takes images: a copy of the heads behind the encoder, for prediction only."""
    whole = copy.deepcopy(heads)
    whole.backbone = Chained(encoder, whole.backbone)
    return whole.eval()


def pretrained_backbone(name: object, watch: Watch, *, offline: bool = False) -> Encoder | None:
    """The pretrained encoder that is trained on as a backbone, None where `name` is not that of one."""
    if not isinstance(name, str) or not is_encoder(name):
        return None
    return find_encoder(name, offline=offline, say=watch.say, progress=watch.progress)


def own_encoder(run: Run, watch: Watch) -> Encoder:
    """The encoder that a run has learned for itself, in a run inside its folder."""
    encoder = find_encoder(f"run:{run / REPRESENTATION}", in_channels=1, say=watch.say)
    encoder.about = replace(encoder.about, spec=OWN)
    return encoder


def run_encoder(run: Run, watch: Watch, module: nn.Module | None = None, *, offline: bool = False) -> Encoder:
    """The encoder that a run's heads were trained on. Raises ValueError if its weights have changed since.

    `module`: the encoder, where the run was given one in Python.
    """
    saved = run.config.encoder
    if saved is None:
        raise ValueError(f"'{run}' trained a backbone on images; it has no frozen encoder.")
    if module is None and saved.spec.startswith(CUSTOM):
        raise ValueError(
            f"This run was trained on an encoder of your own ({saved.spec.removeprefix(CUSTOM)}). Pass it in Python:"
            " Clusterer.load(folder, backbone=...)."
        )
    if saved.spec == EMBEDDINGS:
        raise ValueError(
            f"'{run}' was trained on embeddings that were computed elsewhere. Give those of the images (--embeddings)."
        )
    if saved.spec == OWN:
        encoder = own_encoder(run, watch)
    else:
        encoder = find_encoder(
            saved.spec if module is None else module, offline=offline, say=watch.say, progress=watch.progress,
            image_size=saved.image_size,
        )  # fmt: skip
    if encoder.about.fingerprint != saved.fingerprint:
        raise ValueError(
            f"The encoder {saved.spec} has other weights than when this run was trained, so its clusters would mean"
            " nothing. Bring back the old weights, or train again."
        )
    return encoder


def backbone_name(run: Run) -> str:
    """The name with which another training gets the backbone or encoder of this run."""
    name = run.config.backbone
    return f"run:{(run / REPRESENTATION).resolve()}" if name == OWN else name


def trained_parts(plan: Plan) -> dict[str, Any]:
    """The options `train`, `feature_views` and `neighbours` that a training on an encoder had."""
    if plan.features is None:
        return {"train": "all"} if is_encoder(plan.backbone) else {}
    return {"train": "heads", "feature_views": plan.features.views, "neighbours": plan.features.neighbours}
