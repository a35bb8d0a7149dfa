"""Training heads on a frozen encoder: which encoder, its features of the images, and the model that comes out."""

from __future__ import annotations

import copy
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from ilk.analysis.neighbours import near_rows
from ilk.images import Images, default_cache_dir
from ilk.images.embeddings import fingerprint, read_embeddings
from ilk.methods.base import Method
from ilk.networks.features import Chained, Features
from ilk.networks.pretrained import Encoder
from ilk.pipeline.build import load_method, method_of
from ilk.pipeline.encoders import auto_encoder, find_encoder, is_encoder
from ilk.pipeline.initial_weights import find_initial
from ilk.pipeline.plan import Frozen, resolve_views
from ilk.pipeline.request import Request
from ilk.runs.config import Plan
from ilk.runs.folder import Run
from ilk.sampling import spaced
from ilk.system.progress import Watch
from ilk.training.encode import encode_images
from ilk.views import ViewRecipe, choose_views, from_description, get_views


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
        side = None if getattr(asked, "image_size", None) else request.image_size  # a module may know its own
        return find_encoder(
            asked, offline=request.offline, say=watch.say, progress=watch.progress, image_size=side
        )  # fmt: skip
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
    if images is None or images.shape[0] != 3:
        return None
    kind, why = choose_views(images[spaced(len(images), 500)])
    if kind != "photo":
        if asked == "auto":
            watch.say(f"no pretrained encoder: these are no photographs ({why})")
        return None
    if chosen := for_a_backbone(request):
        watch.say(
            f"no pretrained encoder: {chosen} speaks of a backbone that is trained here; for an encoder's features name"
            " one (--backbone dinov2-small) or ask for heads alone (--train heads)"
        )
        return None
    return auto_encoder(offline=request.offline, say=watch.say, progress=watch.progress)


def for_a_backbone(request: Request) -> str:
    """The first option of `request` that only makes sense where a backbone is trained, "" if there is none."""
    given = {
        "--init": request.init is not None,
        f"--preset {request.preset}": request.preset != "default",
        "--image-size": request.image_size is not None,
        "--set": bool(request.settings),
    }
    return next((option for option, there in given.items() if there), "")


def as_begun(request: Request) -> Request:
    """`request` with the encoder of the run that it starts from, if that has one and no backbone is named."""
    initial = None if request.init is None or request.backbone is not None else find_initial(request.init)
    if initial is None or initial.plan is None or not is_encoder(initial.plan.backbone):
        return request
    trained = request.train or trained_parts(initial.plan)["train"]
    return replace(request, backbone=named_again(Run(initial.path)), train=trained)


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
        waiting=lambda: watch.say("waiting for another process that encodes the same images"),
    )  # fmt: skip
    return Frozen(with_neighbours(rows, neighbours, watch), described(encoder), views, encoder)


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


def given(rows: np.ndarray, request: Request, images: Images, watch: Watch) -> Frozen:
    """Embeddings that were computed elsewhere, (n, d), in the place of an encoder's features."""
    encoder = {
        "spec": EMBEDDINGS, "title": "embeddings computed elsewhere", "fingerprint": fingerprint(rows),
        "feature_dim": rows.shape[1], "image_size": images.shape[2], "channels": images.shape[0],
    }  # fmt: skip
    features = with_neighbours(rows[:, None].astype(np.float16), request.neighbours, watch)
    return Frozen(features, encoder, ("none", *get_views("none")))


def given_features(embeddings: Any, images: Images, width: int) -> Features:
    """Embeddings of new images for a run that was trained on such. Raises ValueError if they are of another width."""
    rows = read_embeddings(embeddings, images)
    if rows.shape[1] != width:
        raise ValueError(
            f"The embeddings have {rows.shape[1]} features and those of the training had {width}. They"
            " must come from the same encoder."
        )
    return Features(rows[:, None])


def freeze_again(
    config: Plan, encoder: Encoder, images: Images, fabric: Fabric, cache_dir: Any, watch: Watch
) -> Frozen:
    """The features that a run was begun with, from the cache or computed again."""
    saved, said = config.features, config.views
    assert saved is not None  # a run that was trained on an encoder
    views = (said.name, from_description(said.a), from_description(said.b))
    return frozen_features(
        encoder, images, fabric, views, count=saved.views, neighbours=saved.neighbours, cache_dir=cache_dir,
        watch=watch,
    )  # fmt: skip


def heads_again(config: Plan, frozen: Frozen) -> Method:
    """The untrained heads that a run began with, on features computed again."""
    method = method_of(config)
    method.backbone.load_state_dict(frozen.backbone().state_dict())
    method.reset_twin()
    return method


EMBEDDINGS = "embeddings:"  # the encoder of a run that was given embeddings
REPRESENTATION = "representation"  # the run inside a run that learnt the encoder of its heads


def own_encoder(run: Run, watch: Watch) -> Encoder:
    """The encoder that a run has learnt for itself, in a run inside its folder, wherever that is moved."""
    found = find_encoder(f"run:{run / REPRESENTATION}", in_channels=1, say=watch.say)
    found.about = replace(found.about, spec=f"run:{REPRESENTATION}")
    return found


def encoder_of(run: Run, watch: Watch, module: nn.Module | None = None, *, offline: bool = False) -> Encoder:
    """The encoder that a run's heads were trained on. Raises ValueError if its weights are others now.

    `module`: the encoder, when the run was given one in Python.
    """
    saved = run.config.encoder
    assert saved is not None  # asked by the caller
    if module is None and saved.spec.startswith("custom:"):
        raise ValueError(
            f"This run was trained on an encoder of your own ({saved.spec[7:]}). Pass it in Python:"
            " Clusterer.load(folder, backbone=...)."
        )
    if saved.spec == EMBEDDINGS:
        raise ValueError(
            f"'{run}' was trained on embeddings that were computed elsewhere. Give those of the images (--embeddings)."
        )
    if saved.spec == f"run:{REPRESENTATION}":
        found = own_encoder(run, watch)
    else:
        found = find_encoder(
            saved.spec if module is None else module, offline=offline, say=watch.say, progress=watch.progress,
            image_size=saved.image_size,
        )  # fmt: skip
    if found.about.fingerprint != saved.fingerprint:
        raise ValueError(
            f"The encoder {saved.spec} has other weights than when this run was trained; its clusters would mean"
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
    method, encoder = load_parts(run, watch or Watch(), module)
    return method if encoder is None else on_images(method, encoder)


def load_parts(
    run: Run, watch: Watch, module: nn.Module | None = None, *, offline: bool = False
) -> tuple[Method, Encoder | None]:
    """The trained method of a run, and the encoder whose features it takes, None if it takes images."""
    config = run.config
    if config.encoder is not None:
        return load_method(run), encoder_of(run, watch, module, offline=offline)
    whole = whole_encoder_of(config, watch, offline=offline) if module is None else None
    return load_method(run, module if whole is None else whole), None


def named_again(run: Run) -> str:
    """The name of a run's backbone with which another training has the same."""
    name = run.config.backbone
    return f"run:{(run / REPRESENTATION).resolve()}" if name == f"run:{REPRESENTATION}" else name


def trained_parts(config: Plan) -> dict[str, Any]:
    """What was asked of a training on an encoder: which of its parts were trained, and on what."""
    seen = config.features
    if seen is None:
        return {"train": "all"} if is_encoder(config.backbone) else {}
    return {"train": "heads", "feature_views": seen.views, "neighbours": seen.neighbours}


def whole_encoder(request: Request, watch: Watch) -> Encoder | None:
    """The pretrained encoder that is to be trained on with the heads (`train="all"`), None for other backbones."""
    asked = request.backbone
    if asked == "auto" and request.train == "all":
        return auto_encoder(offline=request.offline, say=watch.say, progress=watch.progress)
    if not isinstance(asked, str) or not is_encoder(asked):
        return None
    return find_encoder(asked, offline=request.offline, say=watch.say, progress=watch.progress)


def whole_encoder_of(config: Plan, watch: Watch, *, offline: bool = False) -> Encoder | None:
    """The encoder that a run trained on, for its shape; None where the backbone is one of ours."""
    name = config.backbone
    if name.startswith("custom:") or not is_encoder(name):
        return None
    return find_encoder(name, offline=offline, say=watch.say, progress=watch.progress)
