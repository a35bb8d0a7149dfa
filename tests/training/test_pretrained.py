"""Pretrained encoders, from tiny checkpoints in the real format and from a hub that runs on this machine."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="the extra ilk[hf] is not installed")

from ilk.networks.backbones import backbone_names
from ilk.networks.pretrained import SHORT_NAMES, Encoder, cache, hub, load_hf
from ilk.networks.pretrained.encoder import EncoderAbout, count, fingerprint, with_channels
from ilk.networks.pretrained.hf import licence_of
from ilk.networks.pretrained.prepare import Preparation, plain_preparation, read_preparation
from tiny_hub import into_cache

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SQUARE = {"size": {"height": 32, "width": 32}}
PREPARATIONS: dict[str, dict[str, Any]] = {
    "dinov2": {
        "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40}, "do_center_crop": True,
        "crop_size": {"height": 28, "width": 28}, "resample": 3, "rescale_factor": 1 / 255, **IMAGENET,
    },
    "vit": {"feature_extractor_type": "ViTFeatureExtractor", "do_normalize": True, "do_resize": True, "size": 32,
            "resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    "clip": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "do_center_crop": True,
             "do_normalize": True, "do_resize": True, "resample": 3, "image_mean": [0.48145466, 0.4578275, 0.40821073],
             "image_std": [0.26862954, 0.26130258, 0.27577711]},
    "siglip": {"image_processor_type": "SiglipImageProcessor", **SQUARE, "resample": 3, "image_mean": [0.5] * 3,
               "image_std": [0.5] * 3},
    "convnext": {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 35, "crop_pct": 0.875, "resample": 3,
                 "do_normalize": True, "do_resize": True, **IMAGENET},
    "resnet": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.8,
               "resample": 2, **IMAGENET},
    "swin": {"image_processor_type": "ViTImageProcessor", **SQUARE, "resample": 3, **IMAGENET},
    "vit_mae": {"image_processor_type": "ViTImageProcessor", **SQUARE, "resample": 2, **IMAGENET},
}  # fmt: skip


def tiny_model(kind: str) -> Any:
    """An untrained model of that type, small enough to save in a blink."""
    import transformers as t

    block = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    text = {**block, "vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    picture = {**block, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    if kind == "dinov2":
        return t.Dinov2Model(t.Dinov2Config(**block, image_size=56, patch_size=14))
    if kind == "vit":
        return t.ViTModel(t.ViTConfig(**picture))
    if kind == "clip":
        return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=picture, projection_dim=12))
    if kind == "siglip":
        return t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=picture))
    if kind == "convnext":
        return t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[4, 8, 12, 20], depths=[1, 1, 1, 1], image_size=32))
    if kind == "resnet":
        return t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1], layer_type="basic"))
    if kind == "swin":
        return t.SwinModel(
            t.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2, image_size=32, patch_size=4)
        )
    if kind == "vit_mae":
        decoder = {"decoder_hidden_size": 8, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1}
        return t.ViTMAEForPreTraining(t.ViTMAEConfig(**picture, **decoder, decoder_intermediate_size=8))
    if kind == "bert":
        return t.BertModel(t.BertConfig(**block, vocab_size=20))
    raise KeyError(kind)


def expected_features(kind: str, model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What the documentation of each architecture calls its features."""
    model.eval()
    with torch.no_grad():
        if kind == "clip":
            return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        if kind == "siglip":
            return model.vision_model(pixel_values=pixels).pooler_output
        if kind == "convnext":
            return model.layernorm(model(pixel_values=pixels).last_hidden_state.mean((2, 3)))
        last = model(pixel_values=pixels).last_hidden_state
        return {"dinov2": lambda: last[:, 0], "vit": lambda: last[:, 0], "swin": lambda: last.mean(1)}.get(
            kind, lambda: last.mean((2, 3))
        )()


def save(model: Any, folder: Path, kind: str) -> Path:
    model.save_pretrained(folder)
    if kind in PREPARATIONS:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATIONS[kind]))
    return folder


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`stored(kind)`: the folder of a tiny checkpoint, made once; do not change it."""
    place = tmp_path_factory.mktemp("checkpoints")

    def make(kind: str) -> Path:
        folder = place / kind
        return folder if folder.exists() else save(tiny_model(kind), folder, kind)

    return make


@pytest.fixture
def copied(stored: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`copied(kind)`: such a folder to do with as one likes."""
    return lambda kind: Path(shutil.copytree(stored(kind), tmp_path / f"my {kind}"))


pytestmark = pytest.mark.usefixtures("hub_cache")


def smooth(n: int = 3, side: int = 61) -> torch.Tensor:
    """uint8 images with broad shapes and full contrast, as photographs have."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(n, 3, 9, 9, generator=generator)
    large = nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return (large * 255).round().byte()


KINDS = [kind for kind in PREPARATIONS if kind != "vit_mae"]


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_that_each_architecture_calls_its_own(kind: str, stored: Callable[[str], Path]) -> None:
    encoder = load_hf(stored(kind))
    x = torch.rand(3, 3, encoder.image_size, encoder.image_size)
    pixels = encoder.preparation(x)
    expected = expected_features(kind, tiny_model(kind), pixels)
    with torch.no_grad():
        found = encoder(x)
    assert found.shape == (3, encoder.feature_dim) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", PREPARATIONS)
@pytest.mark.parametrize("side", [61, 20])
def test_preparation_matches_the_processor_of_transformers(kind: str, side: int, stored: Callable[[str], Path]) -> None:
    from transformers import AutoImageProcessor

    images = smooth(side=side)
    processor = AutoImageProcessor.from_pretrained(str(stored(kind)), backend="pil")
    arrays = [image.permute(1, 2, 0).numpy() for image in images]
    expected = torch.as_tensor(np.stack(processor(arrays, return_tensors="np")["pixel_values"]))
    encoder = load_hf(stored(kind))
    found = encoder.preparation(images / 255)
    assert found.shape == expected.shape
    level = 1 / 255 / min(PREPARATIONS[kind]["image_std"])
    assert (found - expected).abs().max() < 1.5 * level  # Pillow rounds to bytes, once in each direction


@pytest.mark.parametrize("kind", ["clip", "siglip"])  # the middle of the shortest edge, and squeezed
def test_images_that_are_not_square_are_prepared_as_transformers_does(kind: str, stored: Callable[[str], Path]) -> None:
    from transformers import AutoImageProcessor

    wide = nn.functional.interpolate(smooth(1).float(), (40, 80), mode="bilinear").round().byte()
    processor = AutoImageProcessor.from_pretrained(str(stored(kind)), backend="pil")
    expected = processor([wide[0].permute(1, 2, 0).numpy()], return_tensors="np")["pixel_values"]
    found = read_preparation(PREPARATIONS[kind], 3, None)(wide / 255)
    assert found.shape == (1, 3, 32, 32)
    level = 1 / 255 / min(PREPARATIONS[kind]["image_std"])
    assert (found - torch.as_tensor(np.stack(expected))).abs().max() < 1.5 * level


def test_images_of_the_named_size_are_not_resized() -> None:
    preparation = read_preparation(PREPARATIONS["dinov2"], 3, None)
    x = torch.rand(2, 3, 40, 40)
    mean, std = (torch.tensor(IMAGENET[name])[:, None, None] for name in ("image_mean", "image_std"))
    assert preparation.image_size == 40
    torch.testing.assert_close(preparation(x), (x[:, :, 6:34, 6:34] - mean) / std)


@pytest.mark.parametrize(
    ("size", "crop", "side", "seen"),
    [
        (224, None, 224, (224, 224)),
        ([96, 96], None, 96, (96, 96)),
        ({"shortest_edge": 256}, 224, 256, (224, 224)),
        ({"shortest_edge": 256, "height": None}, {"height": 224, "width": 224}, 256, (224, 224)),
        ({"height": 30, "width": 20}, None, 30, (30, 20)),
        (None, {"height": 48, "width": 48}, 48, (48, 48)),
        (None, None, 70, (70, 70)),
    ],
)
def test_every_form_of_a_size_is_read(size: Any, crop: Any, side: int, seen: tuple[int, int]) -> None:
    config = {**IMAGENET, "size": size} | ({"crop_size": crop} if crop else {})
    preparation = read_preparation(config, 3, 70)
    assert preparation.image_size == side
    assert preparation(torch.rand(1, 3, 50, 50)).shape[2:] == seen


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_mean": None}, "image_mean"),
        ({"image_std": [0.0, 1, 1]}, "not positive"),
        ({"image_mean": [0.5, 0.5]}, "2 .*image_mean.*3 channels"),
        ({"image_mean": "gray"}, "image_mean.*'gray'"),
        ({"size": {"max_height": 4, "max_width": 4}}, "size.*form"),
        ({"size": -3}, "size.*-3"),
        ({"size": {"shortest_edge": "big"}}, "size.*'big'"),
        ({"size": 20, "crop_size": 30}, "30 x 30.*20 x 20"),
        ({"resample": 77}, "resample.*77"),
        ({"size": None}, "does not say the size of the images"),
    ],
)
def test_an_impossible_preparation_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_preparation({**IMAGENET, "size": 32, **change}, 3, None)


def test_gray_is_repeated_and_other_channels_are_refused(stored: Callable[[str], Path]) -> None:
    encoder = load_hf(stored("resnet"))
    gray = torch.rand(2, 1, 30, 30)
    torch.testing.assert_close(encoder(gray), encoder(gray.repeat(1, 3, 1, 1)))
    with pytest.raises(ValueError, match="3 channels.* 4"):
        encoder(torch.rand(2, 4, 30, 30))
    assert with_channels(torch.ones(1, 3, 2, 2), 1).unique().item() == pytest.approx(1.0)


def test_masked_autoencoders_see_the_whole_image_and_always_say_the_same(stored: Callable[[str], Path]) -> None:
    encoder = load_hf(stored("vit_mae"))
    x = torch.rand(1, 3, 32, 32)
    first = encoder(x)
    torch.testing.assert_close(encoder(x), first, rtol=0, atol=0)
    for top in range(0, 32, 8):
        for left in range(0, 32, 8):
            changed = x.clone()
            changed[:, :, top : top + 8, left : left + 8] = 0
            assert not torch.allclose(encoder(changed), first, atol=1e-5), (top, left)


def test_weights_that_the_file_lacks_do_not_become_random_features(copied: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied("vit")
    tensors = load_file(folder / "model.safetensors")
    without = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    assert len(without) < len(tensors)
    save_file(without, folder / "model.safetensors", metadata={"format": "pt"})
    first, second = load_hf(folder), load_hf(folder)  # the pooler is not used: as self-supervised ViTs come
    assert first.about.fingerprint == second.about.fingerprint
    save_file(dict(list(without.items())[3:]), folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"my vit'.*config.json.* \(\w+"):
        load_hf(folder)


def test_position_embeddings_are_interpolated_where_the_processor_asks_for_another_size(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("vit")
    (folder / "preprocessor_config.json").write_text(
        json.dumps({**PREPARATIONS["vit"], "size": {"height": 48, "width": 48}})
    )
    encoder = load_hf(folder)
    assert encoder.image_size == 48 and encoder(torch.rand(1, 3, 48, 48)).shape == (1, 16)


def test_about_tells_where_an_encoder_comes_from(copied: Callable[[str], Path]) -> None:
    folder = copied("dinov2")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- dino\n---\n# A model\nlicense: mit\n")
    said: list[str] = []
    about = load_hf(folder, say=said.append).about
    parameters = sum(p.numel() for p in tiny_model("dinov2").parameters())
    assert about.spec == f"hf:{folder.resolve()}" and about.licence == "Apache-2.0"
    assert about.parameters == parameters and about.bytes == 4 * parameters
    assert said == [f"encoder my dinov2: {count(parameters)} parameters, weights: Apache-2.0 ({folder})"]
    assert load_hf(about.spec.removeprefix("hf:")).about == about


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "MIT"),
        ("---\ntags: [a]\nlicense: 'cc-by-nc-4.0'  \n---\n", "cc-by-nc-4.0"),
        ("---\r\nlicense: apache-2.0\r\n---\r\n", "Apache-2.0"),
        ("---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("# no head\nlicense: mit\n", None),
        ("---\ntags: [a]\n---\nlicense: mit\n", None),
        (None, None),
    ],
)
def test_the_licence_is_that_of_the_model_card(tmp_path: Path, card: str | None, licence: str | None) -> None:
    if card is not None:
        (tmp_path / "README.md").write_bytes(card.encode())
    assert licence_of(tmp_path) == licence


def test_unknown_and_non_commercial_licences_are_said(copied: Callable[[str], Path]) -> None:
    folder, said = copied("resnet"), []
    load_hf(folder, say=said.append)
    assert "weights: of unknown licence" in said[0] and len(said) == 1
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    load_hf(folder, say=said.append)
    assert "weights: cc-by-nc-4.0" in said[1] and said[2] == "these weights are not for commercial use"


def test_the_fingerprint_is_of_the_weights_and_of_the_preparation(copied: Callable[[str], Path]) -> None:
    folder = copied("resnet")
    encoder = load_hf(folder)
    same = encoder.about.fingerprint
    assert same == load_hf(folder).about.fingerprint == fingerprint(encoder.network, encoder.preparation)
    with torch.no_grad():
        next(encoder.network.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(encoder.network, encoder.preparation) != same
    (folder / "preprocessor_config.json").write_text(json.dumps({**PREPARATIONS["resnet"], "resample": 3}))
    assert load_hf(folder).about.fingerprint != same


def test_gradients_pass_through_and_bfloat16_autocast_gives_float32(stored: Callable[[str], Path]) -> None:
    encoder = load_hf(stored("dinov2"))
    x = torch.rand(2, 3, 50, 50, requires_grad=True)
    (
        encoder(x) * torch.linspace(-1, 1, encoder.feature_dim)
    ).sum().backward()  # a plain sum is constant behind LayerNorm
    assert x.grad is not None and x.grad.abs().sum() > 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        rough = encoder(x)
    assert rough.dtype == torch.float32 and torch.allclose(rough, encoder(x), atol=0.1)


def test_a_processor_saved_by_newer_versions_is_read(copied: Callable[[str], Path]) -> None:
    folder = copied("clip")
    before = load_hf(folder)
    (folder / "preprocessor_config.json").unlink()
    nested = {"processor_class": "CLIPProcessor", "image_processor": PREPARATIONS["clip"]}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    assert load_hf(folder).preparation.steps == before.preparation.steps


def test_text_towers_are_left_out(stored: Callable[[str], Path]) -> None:
    for kind in ("clip", "siglip"):
        encoder = load_hf(stored(kind))
        assert not [name for name in encoder.state_dict() if "text" in name]
        assert encoder.about.parameters < sum(p.numel() for p in tiny_model(kind).parameters())


def broken_folder(folder: Path, how: str) -> None:
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "no preparation":
        (folder / "preprocessor_config.json").unlink()
    elif how == "pickles":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "cut weights":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif how == "cut config":
        (folder / "config.json").write_text('{"model_type": "resn')
    elif how == "list config":
        (folder / "config.json").write_text("[]")
    elif how == "unknown type":
        (folder / "config.json").write_text(
            json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}})
        )
        (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()")
    elif how == "other library":
        (folder / "config.json").write_text(json.dumps({"architecture": "vit_small_patch14", "num_classes": 0}))
    elif how == "not finite":
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        next(t for t in tensors.values() if t.is_floating_point()).view(-1)[0] = float("nan")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    elif how == "path in index":
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no config", "no config.json"),
        ("no preparation", "no preprocessor_config.json"),
        ("pickles", "pickle"),
        ("no weights", "no model.safetensors"),
        ("cut weights", "damaged or incomplete"),
        ("cut config", "damaged config.json"),
        ("list config", "damaged config.json"),
        ("unknown type", "config.json.*transformers"),
        ("other library", "transformers library"),
        ("not finite", "not finite"),
        ("path in index", "damaged model.safetensors.index.json"),
    ],
)
def test_a_broken_folder_is_one_sentence(how: str, said: str, copied: Callable[[str], Path]) -> None:
    folder = copied("resnet")
    broken_folder(folder, how)
    with pytest.raises(ValueError, match=said) as caught:
        load_hf(folder)
    text = str(caught.value)
    assert "my resnet" in text and text.endswith(".") and "\n" not in text
    assert not (folder / "ran").exists()


def test_a_language_model_is_refused(stored: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="'bert'"):
        load_hf(stored("bert"))


def test_a_missing_folder_and_a_missing_package_are_sentences(
    stored: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"'./nowhere'"):
        load_hf("./nowhere")
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "transformers" else real(name))
    with pytest.raises(ValueError, match=r"transformers.*pip install 'ilk\[hf\]'"):
        load_hf(stored("resnet"))


def test_short_names_are_no_names_of_untrained_backbones() -> None:
    assert not SHORT_NAMES.keys() & set(backbone_names())
    assert all(one.licence and one.megabytes > 0 and one.id.count("/") == 1 for one in SHORT_NAMES.values())
    assert next(iter(SHORT_NAMES)) == "dinov2-small"


def test_a_cached_model_is_used_without_asking_anybody(hub_cache: Path, stored: Callable[[str], Path]) -> None:
    into_cache(stored("dinov2"), hub_cache, "facebook/dinov2-small")
    about = load_hf("dinov2-small").about
    assert (about.spec, about.revision) == ("hf:facebook/dinov2-small", "abc")
    assert about.title == "DINOv2 small (ViT-S/14)" and about.licence == "Apache-2.0"
    assert load_hf("facebook/dinov2-small", offline=True).about == about


def test_the_cache_prefers_main_and_passes_over_incomplete_copies(
    hub_cache: Path, stored: Callable[[str], Path]
) -> None:
    first = into_cache(stored("resnet"), hub_cache, "a/b", "one")
    second = into_cache(stored("resnet"), hub_cache, "a/b", "two", main=False)
    os.utime(first, (1, 1))  # main is older, and yet what is wanted
    assert cache.cached("a/b") == first and cache.cached("a/b", "two") == second
    (first / "model.safetensors").unlink()
    assert cache.cached("a/b") == second
    (second / "preprocessor_config.json").unlink()
    assert cache.cached("a/b") is None and cache.cached("a/c") is None


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert cache.cache_folder() == tmp_path / "hub"
    monkeypatch.delenv("HF_HUB_CACHE")
    assert cache.cache_folder() == tmp_path / "home" / "hub"
    monkeypatch.delenv("HF_HOME")
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "huggingface" / "hub"


@pytest.mark.parametrize("how", ["argument", "ILK_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_a_model_that_is_not_cached_is_refused_at_once(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how != "argument":
        monkeypatch.setenv(how, "1")
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: pytest.fail("the network was used"))
    with pytest.raises(ValueError, match=r"'facebook/dinov2-small'.*cache"):
        load_hf("dinov2-small", offline=how == "argument")


def test_without_a_network_it_is_one_sentence_and_soon() -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"'a/b'.*http://127.0.0.1:9"):
        load_hf("a/b")
    assert time.monotonic() - start < 10


class FakeHub(ThreadingHTTPServer):
    """A hub of one model, `org/tiny`, on this machine."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.status, self.code, self.delay = folder, 200, "", 0.0
        self.main_hides: tuple[str, ...] = ()  # files that only the pull request has
        self.commit: str | None = None  # what it says instead of main's commit
        self.number: object = 1  # of the pull request
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server, self.path.split("?")[0]
        hub.asked.append(path)
        time.sleep(hub.delay)
        if hub.status != 200:
            return self.answer(b"{}", hub.status, {"X-Error-Code": hub.code} if hub.code else {})
        commit = "f" * 40 if "refs%2Fpr%2F1" in path else "e" * 40
        if "/resolve/" in path:
            commit = path.split("/")[-2]
            file = hub.folder / path.split("/")[-1]
            return self.answer(file.read_bytes(), 200, {"ETag": f'"{file.name}-1"', "X-Repo-Commit": commit})
        if path.endswith("/discussions"):
            offers = [{"num": hub.number, "title": "Adding `safetensors` variant of this model", "status": "open",
                       "isPullRequest": True, "author": {"name": "SFconvertbot"}, "createdAt": "2023-06-22T00:00:00Z",
                       "repo": {"name": "org/tiny", "type": "model"}}]  # fmt: skip
            return self.answer(json.dumps({"discussions": offers, "count": 1, "start": 0}).encode(), 200, {})
        commit = hub.commit or commit
        hidden = () if commit.startswith("f") or "f" * 40 in path else hub.main_hides
        if "/tree/" in path:
            tree = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": f"{number:040x}"}
                for number, file in enumerate(sorted(hub.folder.iterdir()))
                if file.name not in hidden
            ]
            return self.answer(json.dumps(tree).encode(), 200, {})
        files = [
            {"rfilename": file.name, "size": file.stat().st_size}
            for file in sorted(hub.folder.iterdir())
            if file.name not in hidden
        ]
        info = {"id": "org/tiny", "modelId": "org/tiny", "sha": commit, "siblings": files, "tags": [], "private": False,
                "cardData": {"license": "mit"}}  # fmt: skip
        return self.answer(json.dumps(info).encode(), 200, {})

    def answer(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
        except OSError:
            pass  # the other side has given up, as some of these tests mean it to


@pytest.fixture
def fake_hub(copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    folder = copied("resnet")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    server = FakeHub(folder)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once_with_its_size_and_progress(fake_hub: FakeHub, hub_cache: Path) -> None:
    said: list[str] = []
    seen: list[tuple[int, int, str]] = []
    encoder = load_hf("org/tiny", say=said.append, progress=lambda *state: seen.append(state))
    assert said[0] == f"downloading org/tiny: 0 MB, weights: mit, kept in {hub_cache}"
    assert "weights: MIT" in said[1]
    assert seen and all(what == "downloading (MB)" and done <= total for done, total, what in seen)
    assert encoder.about.fingerprint == load_hf(fake_hub.folder).about.fingerprint
    assert encoder.about.revision == "e" * 40
    asked = len(fake_hub.asked)
    assert load_hf("org/tiny").about == encoder.about and len(fake_hub.asked) == asked


def test_where_main_has_pickles_only_the_hubs_own_conversion_is_taken(fake_hub: FakeHub) -> None:
    fake_hub.main_hides = ("model.safetensors",)
    (fake_hub.folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert load_hf("org/tiny").about.revision == "f" * 40
    assert not any("pytorch_model" in path for path in fake_hub.asked)
    assert load_hf("org/tiny", offline=True).about.revision == "f" * 40


def test_only_the_files_that_are_needed_are_downloaded(fake_hub: FakeHub, hub_cache: Path) -> None:
    for name in ("tf_model.h5", "pytorch_model.bin", "notes.txt"):
        (fake_hub.folder / name).write_bytes(b"large")
    load_hf("org/tiny")
    copies = hub_cache / "models--org--tiny" / "snapshots" / ("e" * 40)
    assert sorted(file.name for file in copies.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    assert (hub_cache / "models--org--tiny" / "refs" / "main").read_text() == "e" * 40


@pytest.mark.parametrize("commit", ["../../../outside", "e" * 39, "E" * 40, "", "e" * 40 + "/..", "refs/heads/main"])
def test_a_commit_that_is_none_never_becomes_a_path(commit: str, fake_hub: FakeHub, hub_cache: Path) -> None:
    fake_hub.commit = commit or "-"
    with pytest.raises(ValueError, match="instead of a commit of 40 hexadecimal digits") as caught:
        load_hf("org/tiny")
    assert "\n" not in str(caught.value) and not list(hub_cache.glob("**/*"))
    assert not any("/resolve/" in path for path in fake_hub.asked)


@pytest.mark.parametrize("number", ["1/../../../x", "1", 1.5, True, -1, None])
def test_a_pull_request_without_a_number_is_not_asked_for(number: object, fake_hub: FakeHub) -> None:
    fake_hub.main_hides, fake_hub.number = ("model.safetensors",), number
    with pytest.raises(ValueError, match="pickle"):
        load_hf("org/tiny")
    assert not any("pr%2F" in path or "/resolve/" in path for path in fake_hub.asked)


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a/../../b", "a b", ".hidden", "a" * 201, "a\\b"])
def test_a_revision_that_leads_out_of_the_cache_is_refused(revision: str, fake_hub: FakeHub) -> None:
    with pytest.raises(ValueError, match="is no revision of a model. Give a branch, a tag or a commit"):
        load_hf(f"org/tiny@{revision}")
    assert fake_hub.asked == []


def test_a_reference_that_leads_out_of_the_cache_is_passed_over(
    hub_cache: Path, stored: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = into_cache(stored("resnet"), hub_cache, "a/b", "one")
    (hub_cache / "models--a--b" / "refs" / "main").write_text(f"../../../{stored('resnet').name}")
    assert cache.cached("a/b") == copy


def test_an_index_names_plain_files_only() -> None:
    for name in ("../x.safetensors", "*.safetensors", "[a-z].safetensors", "a/b.safetensors", ".safetensors", "x.bin"):
        with pytest.raises(ValueError, match="damaged"):
            cache.shard_names(json.dumps({"weight_map": {"a": name}}))
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}}
    assert cache.shard_names(json.dumps(index)) == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]


def test_an_interrupted_download_ends_its_threads(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_hf("org/tiny", progress=stopped)
    assert load_hf("org/tiny").about.revision == "e" * 40  # and the next attempt goes on


def test_a_model_of_pickles_only_is_refused_before_anything_is_downloaded(fake_hub: FakeHub) -> None:
    (fake_hub.folder / "model.safetensors").rename(fake_hub.folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="'org/tiny'.*pickle"):
        load_hf("org/tiny")
    assert not any("/resolve/" in path for path in fake_hub.asked)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "no model 'org/tiny'"),
        (401, "", "no model 'org/tiny'"),
        (403, "GatedRepo", "'org/tiny'.*gated.*hf auth login"),
        (404, "RevisionNotFound", "'org/tiny'.*revision"),
        (500, "", r"\(500\)"),
    ],
)
def test_each_refusal_of_the_hub_is_a_sentence(status: int, code: str, said: str, fake_hub: FakeHub) -> None:
    fake_hub.status, fake_hub.code = status, code
    start = time.monotonic()
    with pytest.raises(ValueError, match=said) as caught:
        load_hf("org/tiny")
    assert "\n" not in str(caught.value) and time.monotonic() - start < 15


def test_a_hub_that_hangs_is_given_up(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub.delay = 5.0
    monkeypatch.setattr(hub, "ANSWER", 0.3)
    start = time.monotonic()
    with pytest.raises(ValueError, match="download.*network"):
        load_hf("org/tiny")
    assert time.monotonic() - start < 4


def test_a_download_that_stalls_is_given_up_and_one_that_goes_on_is_not() -> None:
    with pytest.raises(TimeoutError):
        hub.bounded(lambda: time.sleep(5), 0.3, lambda: 0)
    assert hub.bounded(lambda: time.sleep(0.8) or "done", 0.4, time.monotonic) == "done"
    with pytest.raises(KeyError):
        hub.bounded(lambda: {}["x"], 1)


def test_a_full_disk_and_an_impossible_name_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "The disk is full" in str(hub.explained(OSError(28, "No space left on device"), "a/b", None))
    with pytest.raises(ValueError, match="'what is this\\?'"):
        load_hf("what is this?")


def test_an_encoder_of_any_network_resizes_and_keeps_the_rest() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[2:] == (8, 8)
            return x.mean((2, 3)).double()

    about = EncoderAbout("custom:Mean", "Mean", "here", "unknown", 0, 0, "x")
    preparation: Preparation = plain_preparation(8)
    encoder = Encoder(Mean(), preparation, feature_dim=3, channels=3, about=about)
    x = torch.full((2, 3, 5, 9), 0.25)
    assert encoder(x).dtype == torch.float32 and torch.allclose(encoder(x), torch.full((2, 3), 0.25))
    assert encoder.state_dict() == {}
