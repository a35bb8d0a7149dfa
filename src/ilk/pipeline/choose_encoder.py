"""Which pretrained encoder a new training uses, if any: from the request, and from a look at the images."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ilk.images import Images
from ilk.networks.pretrained import Encoder
from ilk.pipeline.encoders import auto_encoder, find_encoder, is_encoder
from ilk.pipeline.initial_weights import find_initial
from ilk.pipeline.request import Request
from ilk.pipeline.trained import backbone_name, pretrained_backbone, trained_parts
from ilk.runs.folder import Run
from ilk.system.progress import Watch


def named_encoder(request: Request, watch: Watch) -> Encoder | None:
    """The frozen encoder that the request alone decides on; None where images decide or a backbone is trained.

    Raises ValueError where only heads are to be trained and there is nothing pretrained to train them on.
    """
    asked = request.backbone
    if request.train == "all":
        return None
    module = isinstance(asked, nn.Module)
    if asked is not None and (request.train == "heads" if module else asked != "auto" and is_encoder(asked)):
        side = None if getattr(asked, "image_size", None) else request.image_size  # a module may know its own
        return find_encoder(asked, offline=request.offline, say=watch.say, progress=watch.progress, image_size=side)
    if request.train != "heads":
        return None
    if asked not in (None, "auto"):
        raise ValueError(
            f"--train heads needs an encoder that has learnt something, and '{asked}' starts from chance. Give"
            " --backbone a pretrained one (dinov2-small, hf:..., run:FOLDER, weights:FILE), or leave --train out."
        )
    encoder = auto_encoder(offline=request.offline, say=watch.say, progress=watch.progress)
    if encoder is None:
        raise ValueError(
            "--train heads needs a pretrained encoder and there is none at hand. Give one with --backbone"
            " (hf:FOLDER, run:FOLDER, weights:FILE), or leave --train out to train from scratch."
        )
    return encoder


def images_decide(request: Request) -> bool:
    """Whether a pretrained encoder is used if the images turn out to be in colour."""
    return request.train is None and (request.backbone is None or request.backbone == "auto")


SMALLEST = 16  # pixels; smaller pictures have no details that an encoder of photographs could use


def encoder_for(sample: Images, request: Request, watch: Watch) -> Encoder | None:
    """The best encoder at hand if the images of `sample` are in colour, None to train from scratch; says why.

    Colour decides, not how much of a picture is flat ground: photographs of objects on a plain ground look like
    drawings to that measure and gain as much from an encoder. Gray images keep the training from scratch, which is
    better for digits (USPS: 0.97 against 0.58 by k-means on the features of EfficientNet-Lite0).
    """
    if sample.shape[0] != 3:
        return None
    if (side := min(sample.original_size or sample.shape[1:])) < SMALLEST:
        if request.backbone == "auto":
            watch.say(f"no pretrained encoder: images of {side} pixels are too small for one")
        return None
    if option := backbone_option(request):
        watch.say(
            f"no pretrained encoder: {option} is for a backbone that is trained here. To train on the features of an"
            " encoder, name one (--backbone dinov2-small) or ask for heads alone (--train heads)"
        )
        return None
    return auto_encoder(offline=request.offline, say=watch.say, progress=watch.progress)


def backbone_option(request: Request) -> str:
    """The first option of `request` that only makes sense where a backbone is trained, "" if there is none."""
    given = {
        "--init": request.init is not None,
        f"--preset {request.preset}": request.preset != "default",
        "--image-size": request.image_size is not None,
        "--set": bool(request.settings),
    }
    return next((option for option, there in given.items() if there), "")


def whole_encoder(request: Request, watch: Watch) -> Encoder | None:
    """The pretrained encoder that is trained on together with the heads, None for other backbones."""
    if request.backbone == "auto" and request.train == "all":
        return auto_encoder(offline=request.offline, say=watch.say, progress=watch.progress)
    return pretrained_backbone(request.backbone, watch, offline=request.offline)


def with_initial_encoder(request: Request) -> Request:
    """`request` with the encoder of the run that it starts from, if that has one and no backbone is named."""
    initial = None if request.init is None or request.backbone is not None else find_initial(request.init)
    if initial is None or initial.plan is None or not is_encoder(initial.plan.backbone):
        return request
    trained = request.train or trained_parts(initial.plan)["train"]
    return replace(request, backbone=backbone_name(Run(initial.path)), train=trained)
