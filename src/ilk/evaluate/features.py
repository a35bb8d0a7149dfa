"""What the network of a run gives before its heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ilk.evaluate.data import Collection, Rows
from ilk.system.devices import choose_device, choose_precision, fitting, make_fabric, place
from ilk.views import plain

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from ilk.evaluate.scene import Scene

BATCH = 256


def fabric_of(device: str) -> Fabric:
    chosen = choose_device(device)
    return make_fabric(chosen, choose_precision("auto", chosen))


def backbone_features(scene: Scene, of: Collection) -> np.ndarray:
    """The backbone's features of every image of a collection, (n, d) float32.

    Where heads were trained on a frozen encoder, these are the main directions of the encoder's features. The
    images are opened again. Raises ValueError where images or model cannot be.
    """
    images, method = scene.open(Rows(of, np.arange(len(of)))), scene.method()
    fabric = fabric_of(scene.asked.device)
    method.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    source, parts = place(images, fabric.device), []
    with torch.inference_mode():
        for rows in torch.arange(len(images)).split(BATCH):
            with fabric.autocast():
                (h,) = fitting(lambda x: (method.backbone(x),), plain(source[rows.to(fabric.device)]))
            parts.append(h.float().cpu())
            scene.watch.progress(int(rows[-1]) + 1, len(images), "backbone features")
    return torch.cat(parts).numpy()
