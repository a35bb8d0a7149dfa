"""Encoders with a short name: whose they are, how large, under which licence. Best first for photographs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownEncoder:
    """`megabytes`: the size of the download, about."""

    id: str
    title: str
    licence: str
    megabytes: int
    about: str


CLIP_LICENCE = "MIT (of OpenAI's CLIP; the model card names none)"

SHORT_NAMES: dict[str, KnownEncoder] = {
    "dinov2-small": KnownEncoder(
        "facebook/dinov2-small", "DINOv2 small (ViT-S/14)", "Apache-2.0", 88,
        "the default for photographs: learnt from images alone, quick on a CPU",
    ),
    "dinov2-base": KnownEncoder(
        "facebook/dinov2-base", "DINOv2 base (ViT-B/14)", "Apache-2.0", 346,
        "finer than small, about four times as slow",
    ),
    "dinov2-large": KnownEncoder(
        "facebook/dinov2-large", "DINOv2 large (ViT-L/14)", "Apache-2.0", 1217,
        "finer still; wants a GPU",
    ),
    "siglip-base": KnownEncoder(
        "google/siglip-base-patch16-224", "SigLIP base (ViT-B/16)", "Apache-2.0", 813,
        "learnt from images with captions: groups by what is shown rather than by how it looks",
    ),
    "clip-b16": KnownEncoder(
        "openai/clip-vit-base-patch16", "CLIP ViT-B/16", CLIP_LICENCE, 599,
        "learnt from images with captions; also drawings, logos and screenshots",
    ),
    "clip-b32": KnownEncoder(
        "openai/clip-vit-base-patch32", "CLIP ViT-B/32", CLIP_LICENCE, 605,
        "as clip-b16, coarser and about four times as quick",
    ),
    "dino-base": KnownEncoder(
        "facebook/dino-vitb16", "DINO base (ViT-B/16)", "Apache-2.0", 343,
        "the forerunner of DINOv2, learnt from ImageNet without its labels",
    ),
    "dino-small": KnownEncoder(
        "facebook/dino-vits16", "DINO small (ViT-S/16)", "Apache-2.0", 87,
        "as dino-base, smaller",
    ),
    "convnext-tiny": KnownEncoder(
        "facebook/convnext-tiny-224", "ConvNeXt tiny", "Apache-2.0", 114,
        "learnt from the labels of ImageNet; knows everyday objects",
    ),
    "swin-tiny": KnownEncoder(
        "microsoft/swin-tiny-patch4-window7-224", "Swin tiny", "Apache-2.0", 113,
        "learnt from the labels of ImageNet",
    ),
    "resnet50-supervised": KnownEncoder(
        "microsoft/resnet-50", "ResNet-50", "Apache-2.0", 103,
        "learnt from the labels of ImageNet; `resnet50` alone is the untrained network",
    ),
}  # fmt: skip


def known_by_id(model_id: str) -> KnownEncoder | None:
    """The entry of a model's name on the hub, if it has one."""
    return next((one for one in SHORT_NAMES.values() if one.id == model_id), None)
