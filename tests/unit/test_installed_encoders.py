"""Encoders in installed packages: their descriptions are data, checked before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ilk.networks.pretrained import installed
from ilk.networks.pretrained.efficientnet_lite import EPSILON, SCALES, STAGES, EfficientNetLite, load_weights, rounded
from ilk.networks.pretrained.installed import installed_encoders, load_installed, read_description

GOOD: dict[str, Any] = {
    "format": 1, "title": "A network", "kind": "efficientnet-lite", "scale": "lite0", "licence": "MIT",
    "source": "here", "file": "weights.pth", "sha256": "0" * 64, "rank": 3,
}  # fmt: skip


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`offer(name, **changes)`: a package `name` that describes an encoder, found as if it were installed."""
    names: list[tuple[str, str]] = []
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(installed, "offered", lambda: tuple(names))

    def make(name: str, **changes: Any) -> Path:
        folder = tmp_path / f"package_{name}"
        folder.mkdir()
        (folder / "__init__.py").write_text("raise SystemExit('this code must not run')")
        (folder / "weights.pth").write_bytes(b"no weights")
        (folder / "ilk_encoder.json").write_text(json.dumps({**GOOD, **changes}))
        names.append((name, folder.name))
        return folder

    return make


def test_installed_encoders_come_best_first_and_their_packages_are_not_imported(offer: Any) -> None:
    offer("weak", rank=1)
    offer("strong", rank=5)
    (offer("gone", rank=9) / "weights.pth").unlink()
    assert [encoder.name for encoder in installed_encoders()] == ["strong", "weak"]


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"format": 2}, "format 1"),
        ({"kind": "pickle"}, "unknown kind 'pickle'"),
        ({"title": 3}, "title"),
        ({"rank": "high"}, "rank"),
        ({"file": "../../etc/passwd"}, "outside"),
        ({"file": "/etc/passwd"}, "outside"),
    ],
)
def test_a_wrong_description_is_said_and_left_out(changes: dict[str, Any], fact: str, offer: Any) -> None:
    folder = offer("odd", **changes)
    said: list[str] = []
    assert installed_encoders(said.append) == []
    assert len(said) == 1 and "'odd'" in said[0]
    with pytest.raises(ValueError, match=fact):
        read_description("odd", folder)


def test_other_weights_than_described_are_refused(offer: Any) -> None:
    offer("odd")
    with pytest.raises(ValueError, match="SHA-256"):
        load_installed("odd")


def test_an_unknown_name_suggests_the_nearest(offer: Any) -> None:
    offer("lite")
    with pytest.raises(ValueError, match="Did you mean 'lite'"):
        load_installed("litee")


def made_state(scale: str) -> dict[str, torch.Tensor]:
    """Random weights under the names of the converted checkpoints."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, norm: str, after: int, before: int, kernel: int) -> None:
        size = (after, before, kernel, kernel)
        state[f"{name}.weight"] = torch.randn(size, generator=generator) / (before * kernel**2) ** 0.5
        for part in ("weight", "bias", "running_mean"):
            state[f"{norm}.{part}"] = torch.randn(after, generator=generator) * 0.2 + (part == "weight")
        state[f"{norm}.running_var"] = torch.rand(after, generator=generator) + 0.5

    network = EfficientNetLite(SCALES[scale])
    conv("_conv_stem", "_bn0", 32, 3, 3)
    for i, block in enumerate(network.blocks):
        depthwise: Any = block.depthwise
        inner, name = depthwise.in_channels, f"_blocks.{i}"
        project: Any = block.project
        if block.expand is not None:
            expand: Any = block.expand
            conv(f"{name}._expand_conv", f"{name}._bn0", inner, expand.in_channels, 1)
        conv(f"{name}._depthwise_conv", f"{name}._bn1", inner, 1, depthwise.kernel_size[0])
        conv(f"{name}._project_conv", f"{name}._bn2", project.out_channels, inner, 1)
    conv("_conv_head", "_bn1", 1280, network.head.in_channels, 1)
    return state


def literal(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 written out: each convolution, then its BatchNorm, with TensorFlow's padding."""

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight = state[f"{conv}.weight"]
        kernel = weight.shape[-1]
        for dim in (2, 3):  # rows, then columns
            n = x.shape[dim]
            total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
            pad = [0, 0, total // 2, total - total // 2] if dim == 2 else [total // 2, total - total // 2]
            x = F.pad(x, pad)
        y = F.conv2d(x, weight, stride=stride, groups=groups)
        mean, var, gain, bias = (state[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, mean, var, gain, bias, eps=EPSILON)

    h = F.relu6(layer(x, "_conv_stem", "_bn0", stride=2))
    number, before = 0, 32
    for repeats, _, stride, expansion, after in STAGES:
        for i in range(repeats):
            name, y = f"_blocks.{number}", h
            if expansion > 1:
                y = F.relu6(layer(y, f"{name}._expand_conv", f"{name}._bn0"))
            y = F.relu6(layer(y, f"{name}._depthwise_conv", f"{name}._bn1", stride if i == 0 else 1, y.shape[1]))
            y = layer(y, f"{name}._project_conv", f"{name}._bn2")
            h = h + y if i and before == after else y
            number, before = number + 1, after
    return F.relu6(layer(h, "_conv_head", "_bn1")).mean((2, 3))


def test_the_folded_network_equals_the_one_written_out() -> None:
    state = {name: tensor.double() for name, tensor in made_state("lite0").items()}
    network = EfficientNetLite(SCALES["lite0"]).double()
    load_weights(network, state)
    x = torch.rand(2, 3, 65, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(network(x), literal(state, x), rtol=1e-9, atol=1e-9)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="_bn0"):
        load_weights(EfficientNetLite(SCALES["lite0"]), {})


@pytest.mark.parametrize(("channels", "expected"), [(16 * 1.1, 16), (24 * 1.1, 24), (40 * 1.1, 48), (320 * 1.1, 352)])
def test_widths_are_rounded_to_eights(channels: float, expected: int) -> None:
    assert rounded(channels) == expected
