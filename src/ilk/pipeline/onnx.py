"""Export of a trained model, with preprocessing and calibration, to an ONNX file that is checked against PyTorch."""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk import __version__
from ilk.methods.base import Method
from ilk.system.files import replacing
from ilk.training.assign import tempered

CHECKED_SIZES = ((3, 1.0, 1.0), (1, 2.0, 1.4), (2, 3.3, 0.7))  # images, and sides as multiples of the model's


class Deployed(nn.Module):
    """A method with its preprocessing: uint8 images of any size -> calibrated probabilities and embeddings."""

    def __init__(self, method: Method, size: int, temperature: Sequence[float] = ()) -> None:
        super().__init__()
        self.method, self.size = method, size
        self.temperature = tuple(temperature)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = F.interpolate(
            images.float(), size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True
        )
        # not rounded to whole levels as ilk's pixels are: ties would differ between onnxruntime and PyTorch
        y, z = self.method.assign_and_embed(x / 255)
        return tempered(y, self.temperature), z


def load_runtime() -> Any:
    """The module onnxruntime, with its telemetry off. Raises ValueError where a package is missing.

    Its telemetry is on by default and writes a device id and an event queue into the home folder. The variable must
    be set before the import, so this is the one place that imports it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it and fails late without it
    except ImportError as error:
        raise ValueError(
            f"ONNX export needs the package {error.name}. Install it with: pip install 'ilk[onnx]'"
        ) from None
    return onnxruntime


def export_onnx(
    method: Method, file: Path, *, channels: int, size: int, temperature: Sequence[float] = (),
    names: Sequence[str | None] = (),
) -> float:  # fmt: skip
    """The largest absolute difference between onnxruntime and PyTorch on random images, after writing `file`.

    Input `images`: uint8 (b, channels, h, w), any b, h and w. The graph resizes as ilk does (bilinear with
    antialiasing, to `size`). Outputs: `probabilities` (b, k), calibrated by `temperature` (one
    for each cluster, none: as they are), and `embeddings` (b, d). The metadata are those of `metadata_of`. Needs the
    extra `ilk[onnx]`. Raises ValueError if that is not installed, or if the results differ by 1e-4 or more; then no
    file is kept.
    """
    onnxruntime = load_runtime()
    import onnx

    model = Deployed(with_fixed_head(method), size, temperature).eval()
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
        graph = onnx.load(str(temporary))
        onnx.helper.set_model_props(graph, metadata_of(channels, size, temperature, names))
        onnx.save(graph, str(temporary))
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        worst = max(
            difference(model, session, b, channels, max(1, round(high * size)), max(1, round(wide * size)))
            for b, high, wide in CHECKED_SIZES
        )
        if not worst < 1e-4:
            raise ValueError(
                f"The ONNX model differs from PyTorch by {worst:.2g} (at most 1e-4 is accepted); not kept."
            )
    return worst


def metadata_of(
    channels: int, size: int, temperature: Sequence[float], names: Sequence[str | None]
) -> dict[str, str]:  # fmt: skip
    """The metadata of the file. `temperatures` and `cluster_names` are JSON lists, [] where there are none."""
    return {
        "ilk_version": __version__, "channels": str(channels), "size": str(size),
        "temperatures": json.dumps(list(temperature)), "cluster_names": json.dumps(list(names)),
    }  # fmt: skip


def with_fixed_head(method: Method) -> Method:
    """A copy of `method` on the CPU whose best head is fixed, since tracing cannot follow a choice by a tensor."""
    method = copy.deepcopy(method).cpu().eval()
    for module in method.modules():
        choose: Any = getattr(module, "best", None)
        if choose is not None:
            module.best = lambda best=choose(): best  # type: ignore[assignment]  # called by the tracer instead
    return method


def difference(model: nn.Module, session: Any, batch: int, channels: int, height: int, width: int) -> float:
    """The largest absolute difference between `model` and `session` on random images of that shape."""
    images = torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8)
    with torch.inference_mode():
        expected = [output.numpy() for output in model(images)]
    actual = session.run(None, {"images": images.numpy()})
    return float(max(np.abs(a - b).max() for a, b in zip(expected, actual, strict=True)))
