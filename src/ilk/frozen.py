"""Training heads on a frozen encoder: which encoder, its features of the images, and the model that comes out."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from ilk.batches import spaced
from ilk.encode import encode_images
from ilk.encoders import auto_encoder, find_encoder, is_encoder
from ilk.features import Chained, Features
from ilk.images import Images, default_cache_dir
from ilk.methods.base import Method
from ilk.neighbours import near_rows
from ilk.plan import Frozen, resolve_views
from ilk.pretrained import Encoder
from ilk.request import Request
from ilk.runs import Run, method_of
from ilk.views import ViewRecipe, choose_views, from_description
from ilk.watch import Watch


def choose_encoder(request: Request, images: Images | None, watch: Watch) -> Encoder | None:
    """The encoder to train heads on, None where a backbone is to be trained; says which and why.

    A request that names neither backbone nor preset gets the best pretrained encoder at hand if the images
    look like photographs (`images` may be None when the request alone decides).
    """
    asked = request.backbone
    if request.train == "all":
        return None
    module = isinstance(asked, nn.Module)
    if asked is not None and (request.train == "heads" if module else asked != "auto" and is_encoder(asked)):
        return find_encoder(asked, offline=request.offline, say=watch.say, progress=watch.progress)
    if asked not in (None, "auto"):
        if request.train == "heads":
            raise ValueError(
                f"--train heads needs an encoder that has learnt something, and '{asked}' starts from chance. Give"
                " --backbone a pretrained one (dinov2-small, hf:..., run:FOLDER, weights:FILE), or leave --train out."
            )
        return None
    if request.train == "heads":
        found = auto_encoder(offline=request.offline, say=watch.say, progress=watch.progress)
        if found is None:
            raise ValueError(
                "--train heads needs a pretrained encoder and there is none at hand. Give one with --backbone"
                " (hf:FOLDER, run:FOLDER, weights:FILE), or leave --train out to train from scratch."
            )
        return found
    by_itself = request.preset == "default" and request.init is None and not request.settings
    if images is None or not by_itself or request.image_size is not None or images.shape[0] != 3:
        return None
    kind, why = choose_views(images[spaced(len(images), 500)])
    if kind != "photo":
        if asked == "auto":
            watch.say(f"no pretrained encoder: these are no photographs ({why})")
        return None
    return auto_encoder(offline=request.offline, say=watch.say, progress=watch.progress)


def described(encoder: Encoder) -> dict[str, Any]:
    """What config.json says of an encoder."""
    about = asdict(encoder.about)
    return {**about, "feature_dim": encoder.feature_dim, "image_size": encoder.image_size, "channels": encoder.channels}


def frozen_features(
    encoder: Encoder,
    images: Images,
    fabric: Fabric,
    views: tuple[str, ViewRecipe, ViewRecipe],
    *,
    count: int,
    neighbours: int,
    cache_dir: str | os.PathLike[str] | None,
    watch: Watch,
) -> Frozen:
    """The features of all images and of `count` random views of each, and who is near whom."""
    rows = encode_images(
        encoder, images, fabric, recipe=views[1], views=count, size=encoder.image_size,
        identity=encoder.about.fingerprint,
        cache_dir=Path(cache_dir).expanduser() if cache_dir is not None else default_cache_dir(),
        progress=lambda done, total: watch.progress(done, total, f"encoding ({1 + count} x)" if count else "encoding"),
    )  # fmt: skip
    return Frozen(with_neighbours(rows, neighbours, watch), described(encoder), views)


def with_neighbours(rows: np.ndarray, neighbours: int, watch: Watch) -> Features:
    """Features that know who is near whom. Raises ValueError where there is nothing to learn from."""
    few = min(neighbours, len(rows) - 1)
    if rows.shape[1] == 1 and few < 1:
        raise ValueError(
            "Heads learn from views of an image or from its neighbours, and there are neither. Use --feature-views 4"
            " or --neighbours 10."
        )
    near = None
    if few > 0:
        near = near_rows(
            rows[:, 0], few, progress=lambda done, total: watch.progress(done, total, "finding neighbours")
        )
    return Features(rows, near)


def freeze(request: Request, encoder: Encoder, images: Images, fabric: Fabric, cache_dir: Any, watch: Watch) -> Frozen:
    """The features that `request` asks for."""
    notes: list[str] = []
    views = resolve_views(request, "auto", images, notes)
    for note in notes if request.feature_views else []:
        watch.say(note)
    return frozen_features(
        encoder, images, fabric, views, count=request.feature_views, neighbours=request.neighbours,
        cache_dir=cache_dir, watch=watch,
    )  # fmt: skip


def freeze_again(
    config: Mapping[str, Any], encoder: Encoder, images: Images, fabric: Fabric, cache_dir: Any, watch: Watch
) -> Frozen:
    """The features that a run was begun with, from the cache or computed again."""
    saved, said = config["features"], config["views"]
    views = (said["name"], from_description(said["a"]), from_description(said["b"]))
    return frozen_features(
        encoder, images, fabric, views, count=saved["views"], neighbours=saved["neighbours"], cache_dir=cache_dir,
        watch=watch,
    )  # fmt: skip


def heads_again(config: dict[str, Any], frozen: Frozen) -> Method:
    """The untrained heads that a run began with, on features computed again."""
    method = method_of(config)
    method.backbone.load_state_dict(frozen.backbone().state_dict())
    method.reset_twin()
    return method


def encoder_of(
    config: Mapping[str, Any], watch: Watch, module: nn.Module | None = None, *, offline: bool = False
) -> Encoder:
    """The encoder that a run's heads were trained on. Raises ValueError if its weights are others now.

    `module`: the encoder, when the run was given one in Python.
    """
    saved = config["encoder"]
    if module is None and saved["spec"].startswith("custom:"):
        raise ValueError(
            f"This run was trained on an encoder of your own ({saved['spec'][7:]}). Pass it in Python:"
            " Clusterer.load(folder, backbone=...)."
        )
    found = find_encoder(module or saved["spec"], offline=offline, say=watch.say, progress=watch.progress)
    if found.about.fingerprint != saved["fingerprint"]:
        raise ValueError(
            f"The encoder {saved['spec']} has other weights than when this run was trained; its clusters would mean"
            " nothing. Bring back the weights of then, or train anew."
        )
    return found


def on_images(heads: Method, encoder: Encoder) -> Method:
    """The method that takes images: a copy of the heads behind the encoder, for prediction only."""
    whole = copy.deepcopy(heads)
    whole.backbone = Chained(encoder, whole.backbone)
    return whole.eval()


def load_model(run: Run, watch: Watch | None = None, module: nn.Module | None = None) -> Method:
    """The trained model of a run, from images to clusters, whatever its backbone is.

    `module`: the untrained backbone or the encoder, when the run was given one in Python.
    """
    watch, config = watch or Watch(), run.config
    if config.get("encoder") is not None:
        return on_images(run.load_method(), encoder_of(config, watch, module))
    return run.load_method(module or whole_encoder_of(config, watch))


def whole_encoder(request: Request, watch: Watch) -> Encoder | None:
    """The pretrained encoder that is to be trained on with the heads (`train="all"`), None for other backbones."""
    asked = request.backbone
    if asked == "auto" and request.train == "all":
        return auto_encoder(offline=request.offline, say=watch.say, progress=watch.progress)
    if not isinstance(asked, str) or not is_encoder(asked):
        return None
    return find_encoder(asked, offline=request.offline, say=watch.say, progress=watch.progress)


def whole_encoder_of(config: Mapping[str, Any], watch: Watch, *, offline: bool = False) -> Encoder | None:
    """The encoder that a run trained on, for its shape; None where the backbone is one of ours."""
    name = config["backbone"]
    if name.startswith("custom:") or not is_encoder(name):
        return None
    return find_encoder(name, offline=offline, say=watch.say, progress=watch.progress)
