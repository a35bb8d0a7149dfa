"""The model as one ONNX file."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ilk.pipeline.onnx
from ilk import load_images
from ilk.methods import METHODS
from ilk.pipeline.onnx import export_onnx
from ilk.training.assign import assign

CASES = [("cc", 1, "none"), *((name, 3, "none") for name in METHODS), ("dcdc", 3, "normalize-sobel")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def exported(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pictures: Callable[..., Any],
    planned: Callable[..., Any],
) -> tuple[Any, Any, Any, float]:
    """A method, the session of its ONNX file, the images, and the difference that was reported."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    name, channels, front_end = request.param
    images = load_images(pictures(8, gray=channels == 1)[0])
    method = planned(images, k=3, method=name, settings={"front_end": front_end}).method.eval()
    if hasattr(method, "cluster_heads"):
        method.cluster_heads.loss = torch.tensor([2.0, 1.0])  # not the first head is the best
    file = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    worst = export_onnx(method, file, channels=channels, size=12)
    assert [item.name for item in file.parent.iterdir()] == ["model.onnx"]
    return method, onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]), images, worst


def test_onnx_equals_torch_on_real_images(exported: Any, fabric: Any) -> None:
    method, session, images, worst = exported
    assert 0 <= worst < 1e-4
    found = assign(method, images, fabric, probabilities=True)
    probabilities, embeddings = session.run(None, {"images": images[:].numpy()})
    np.testing.assert_allclose(probabilities, found.probability, atol=1e-4)
    with torch.inference_mode():
        expected = method.embed(images[:].float() / 255).numpy()
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(1), found.cluster)


@pytest.mark.parametrize("shape", [(1, 12, 12), (5, 12, 12), (2, 40, 25), (3, 7, 9), (1, 1, 1)])
def test_batch_and_size_are_free(exported: Any, shape: tuple[int, int, int]) -> None:
    method, session, images, _ = exported
    b, h, w = shape
    pixels = torch.randint(0, 256, (b, images.shape[0], h, w), dtype=torch.uint8)
    with torch.inference_mode():
        x = torch.nn.functional.interpolate(pixels.float() / 255, size=(12, 12), mode="bilinear")
        expected = method.assign(x).numpy()
    probabilities, embeddings = session.run(["probabilities", "embeddings"], {"images": pixels.numpy()})
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnxscript"])
def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=rf"{missing}.*pip install 'ilk\[onnx\]'"):
        export_onnx(None, tmp_path / "model.onnx", channels=3, size=12)  # type: ignore[arg-type]  # never looked at
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_differs_from_torch_is_not_kept(
    tmp_path: Path, pictures: Callable[..., Any], planned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    method = planned(load_images(pictures(8)[0])).method
    (tmp_path / "model.onnx").write_bytes(b"the old one")
    monkeypatch.setattr(ilk.pipeline.onnx, "difference", lambda *_: 0.01)
    with pytest.raises(ValueError, match="0.01.*not kept"):
        export_onnx(method, tmp_path / "model.onnx", channels=3, size=12)
    assert (tmp_path / "model.onnx").read_bytes() == b"the old one"
    assert len(list(tmp_path.iterdir())) == 1
