"""Encoders that have a short name: their model on the hub, size and licence. The best for photographs comes first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownEncoder:
    """A model of the hub. `megabytes`: the approximate size of the download."""

    id: str
    title: str
    licence: str
    megabytes: int
    about: str


CLIP_LICENCE = "MIT (of OpenAI's CLIP; the model card names none)"

SHORT_NAMES: dict[str, KnownEncoder] = {
    "dinov2-small": KnownEncoder(
        "facebook/dinov2-small", "DINOv2 small (ViT-S/14)", "Apache-2.0", 88,
        "the default for photographs: trained on images alone, fast on a CPU",
    ),
    "dinov2-base": KnownEncoder(
        "facebook/dinov2-base", "DINOv2 base (ViT-B/14)", "Apache-2.0", 346,
        "finer distinctions than small, takes about four times as long",
    ),
    "dinov2-large": KnownEncoder(
        "facebook/dinov2-large", "DINOv2 large (ViT-L/14)", "Apache-2.0", 1217,
        "finer still; for a GPU",
    ),
    "siglip-base": KnownEncoder(
        "google/siglip-base-patch16-224", "SigLIP base (ViT-B/16)", "Apache-2.0", 813,
        "trained on images with captions: groups by what is shown rather than by how it looks",
    ),
    "clip-b16": KnownEncoder(
        "openai/clip-vit-base-patch16", "CLIP ViT-B/16", CLIP_LICENCE, 599,
        "trained on images with captions; also for drawings, logos and screenshots",
    ),
    "clip-b32": KnownEncoder(
        "openai/clip-vit-base-patch32", "CLIP ViT-B/32", CLIP_LICENCE, 605,
        "like clip-b16, coarser and about four times as fast",
    ),
    "dino-base": KnownEncoder(
        "facebook/dino-vitb16", "DINO base (ViT-B/16)", "Apache-2.0", 343,
        "the predecessor of DINOv2, trained on ImageNet without its labels",
    ),
    "dino-small": KnownEncoder(
        "facebook/dino-vits16", "DINO small (ViT-S/16)", "Apache-2.0", 87,
        "like dino-base, smaller",
    ),
    "convnext-tiny": KnownEncoder(
        "facebook/convnext-tiny-224", "ConvNeXt tiny", "Apache-2.0", 114,
        "trained on the labels of ImageNet; for everyday objects",
    ),
    "swin-tiny": KnownEncoder(
        "microsoft/swin-tiny-patch4-window7-224", "Swin tiny", "Apache-2.0", 113,
        "trained on the labels of ImageNet",
    ),
    "resnet50-supervised": KnownEncoder(
        "microsoft/resnet-50", "ResNet-50", "Apache-2.0", 103,
        "trained on the labels of ImageNet; `resnet50` alone is the untrained network",
    ),
}  # fmt: skip


def known_by_id(model_id: str) -> KnownEncoder | None:
    """The entry of a model, by its name on the hub, or None."""
    return next((encoder for encoder in SHORT_NAMES.values() if encoder.id == model_id), None)
