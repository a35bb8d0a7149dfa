"""A trained model as one ONNX file, preprocessing inside, checked against PyTorch before it is kept."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.methods.base import Method
from ilk.system.files import replacing


class Deployed(nn.Module):
    """uint8 images of any size in; probabilities and embeddings out."""

    def __init__(self, method: Method, size: int) -> None:
        super().__init__()
        self.method, self.size = method, size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.float() / 255
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return self.method.assign_and_embed(x)


def export_onnx(method: Method, file: Path, *, channels: int, size: int) -> float:
    """Writes `method` as ONNX and returns the largest difference from PyTorch that onnxruntime shows.

    Input `images`: uint8 (b, channels, h, w), any b, h and w; it is scaled to [0, 1] and, if needed,
    bilinearly to `size` (without antialiasing: shrink large photographs before). Outputs:
    `probabilities` (b, k) and `embeddings` (b, d). Needs the extra `ilk[onnx]`. Raises ValueError,
    and keeps no file, if the results differ by more than 1e-4.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it and fails late without it
    except ImportError as error:
        raise ValueError(
            f"ONNX export needs the package {error.name}. Install it with: pip install 'ilk[onnx]'"
        ) from None
    model = Deployed(settled(method), size).eval()
    example = torch.randint(0, 256, (2, channels, size + 5, size + 3), dtype=torch.uint8)
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "height", "width"))
    file.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with replacing(file) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, (example,), str(temporary), dynamo=True, external_data=False, verbose=False,
                input_names=["images"], output_names=["probabilities", "embeddings"],
                dynamic_shapes=({0: batch, 2: height, 3: width},),
            )  # fmt: skip
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        worst = max(
            difference(model, session, b, channels, h, w) for b, h, w in ((3, size, size), (1, 2 * size, size + 9))
        )
        if not worst < 1e-4:
            raise ValueError(
                f"The ONNX model differs from PyTorch by {worst:.2g} (at most 1e-4 is accepted); not kept."
            )
    return worst


def settled(method: Method) -> Method:
    """A copy on the CPU whose choice of a head is made: tracing cannot follow a choice that a tensor makes."""
    method = copy.deepcopy(method).cpu().eval()
    for module in method.modules():
        choose: Any = getattr(module, "best", None)
        if choose is not None:
            module.best = lambda best=choose(): best  # type: ignore[assignment]  # the tracer calls it instead
    return method


def difference(model: nn.Module, session: object, batch: int, channels: int, height: int, width: int) -> float:
    images = torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8)
    with torch.inference_mode():
        ours = [output.numpy() for output in model(images)]
    theirs = session.run(None, {"images": images.numpy()})  # type: ignore[attr-defined]  # an InferenceSession
    return float(max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)))
