"""Export of a trained model, with its preprocessing, to an ONNX file that is checked against PyTorch."""

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
    """A method with its preprocessing: uint8 images of any size -> probabilities (b, k) and embeddings (b, d)."""

    def __init__(self, method: Method, size: int) -> None:
        super().__init__()
        self.method, self.size = method, size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.float() / 255
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return self.method.assign_and_embed(x)


def export_onnx(method: Method, file: Path, *, channels: int, size: int) -> float:
    """The largest absolute difference between onnxruntime and PyTorch on random images, after writing `file`.

    Input `images`: uint8 (b, channels, h, w), any b, h and w; scaled to [0, 1] and resized bilinearly to `size`
    (without antialiasing, so reduce large photographs before). Outputs: `probabilities` (b, k) and `embeddings`
    (b, d). Needs the extra `ilk[onnx]`. Raises ValueError if that is not installed, or if the results differ by 1e-4
    or more; then no file is kept.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it and fails late without it
    except ImportError as error:
        raise ValueError(
            f"ONNX export needs the package {error.name}. Install it with: pip install 'ilk[onnx]'"
        ) from None
    model = Deployed(with_fixed_head(method), size).eval()
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


def with_fixed_head(method: Method) -> Method:
    """A copy of `method` on the CPU whose best head is fixed, since tracing cannot follow a choice by a tensor."""
    method = copy.deepcopy(method).cpu().eval()
    for module in method.modules():
        choose: Any = getattr(module, "best", None)
        if choose is not None:
            module.best = lambda best=choose(): best  # type: ignore[assignment]  # called by the tracer instead
    return method


def difference(model: nn.Module, session: object, batch: int, channels: int, height: int, width: int) -> float:
    """The largest absolute difference between `model` and `session` on random images of that shape."""
    images = torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8)
    with torch.inference_mode():
        expected = [output.numpy() for output in model(images)]
    actual = session.run(None, {"images": images.numpy()})  # type: ignore[attr-defined]  # an InferenceSession
    return float(max(np.abs(a - b).max() for a, b in zip(expected, actual, strict=True)))
