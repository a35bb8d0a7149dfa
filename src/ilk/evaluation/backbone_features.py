"""The output of a run's network before its heads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from lightning_fabric import Fabric

from ilk.images import Images
from ilk.methods.base import Method
from ilk.networks.passes import map_images
from ilk.system.devices import choose_device, choose_precision, make_fabric, place

BATCH = 256


def fabric_of(device: str) -> Fabric:
    """The fabric of a device's name, in the precision that suits it."""
    chosen = choose_device(device)
    return make_fabric(chosen, choose_precision("auto", chosen))


def backbone_features(
    method: Method, images: Images, fabric: Fabric, progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """The backbone's features of every image, (n, d) float32.

    Where heads were trained on a frozen encoder, these are the principal directions of the encoder's features.
    """
    method.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    (h,) = map_images(
        lambda x: (method.backbone(x),), place(images, fabric.device), torch.arange(len(images)), fabric,
        batch_size=BATCH, keep=lambda h: (h.float().cpu(),), progress=progress,
    )  # fmt: skip
    return h.numpy()
