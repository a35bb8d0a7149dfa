"""Small pictures of a few kinds, tiny trainings of them, and a cache folder that is never the user's."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from command import Command, Outcome
from lane_budgets import pytest_runtest_call, pytest_runtest_makereport
from once import made_once, session_folder

__all__ = ["pytest_runtest_call", "pytest_runtest_makereport"]  # hooks that pytest finds here

KINDS = ("disc", "stripes")
CACHE_NUMBERS = itertools.count()
TINY = {"batch_size": 32, "cluster_heads": 2}  # settings that train 60 images in a blink


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which each test has a cache of its own."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def own_cache(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of this test's cache, which ilk creates if it is used: most tests never do."""
    folder = cache_root / str(next(CACHE_NUMBERS))
    monkeypatch.setenv("ILK_CACHE", str(folder))
    monkeypatch.setenv("ILK_ENCODER", "none")  # tests of encoders take it away: `hub_cache`
    return folder


@pytest.fixture
def cache_dir(own_cache: Path) -> Path:
    """This test's cache folder, empty."""
    own_cache.mkdir()
    return own_cache


@pytest.fixture(autouse=True)
def kept_random_state() -> Iterator[None]:
    """Whatever a test does to torch's global generator, the next one starts as if it had not been."""
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def draw(kind: int, number: int, side: int) -> np.ndarray:
    """A red disc (kind 0) or blue stripes (kind 1) on a dark ground, uint8 (side, side, 3)."""
    random = np.random.default_rng(2 * number + kind)
    y, x = np.mgrid[:side, :side]
    picture = np.zeros((side, side, 3)) + random.integers(0, 30, 3)
    if kind == 0:
        centre = side / 2 + random.normal(0, 0.5, 2)
        picture[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (side / 3) ** 2] = [220, 60, 40]
    else:
        picture[(y + random.integers(0, 3)) // 2 % 2 == 0] = [40, 90, 220]
    return (picture + random.normal(0, 10, picture.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def pictures() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`pictures(n, side=12, gray=False, start=0)`: n uint8 images, half discs and half stripes, and their kinds."""

    def make(n: int, side: int = 12, gray: bool = False, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        kinds = (np.arange(n) >= n // 2).astype(np.int64)
        images = np.stack([draw(int(kind), start + i, side) for i, kind in enumerate(kinds)])
        return (images.mean(3).astype(np.uint8) if gray else images), kinds

    return make


@pytest.fixture(scope="session")
def photo_folder() -> Callable[..., Path]:
    """`photo_folder(path, n=60)`: fills a folder with n PNGs in the sub-folders `disc` and `stripes`."""

    def make(folder: Path, n: int = 60, side: int = 12, start: int = 0) -> Path:
        for i in range(n):
            kind = int(i >= n // 2)
            file = folder / KINDS[kind] / f"{i:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(kind, start + i, side)).save(file)
        return folder

    return make


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, photo_folder: Callable[..., Path]) -> Path:
    """60 photographs in two sub-folders and three files that only look like some; do not change it."""

    def make(folder: Path) -> None:
        photo_folder(folder)
        Image.fromarray(draw(0, 99, 40)).save(folder / "disc" / "whole.jpg")
        data = (folder / "disc" / "whole.jpg").read_bytes()
        (folder / "disc" / "whole.jpg").unlink()
        (folder / "disc" / "truncated.jpg").write_bytes(data[: len(data) // 2])
        (folder / "stripes" / "nothing.png").write_bytes(b"")
        (folder / "stripes" / "words.jpg").write_text("this is no picture")

    return made_once(session_folder(tmp_path_factory) / "my photos", make)


@pytest.fixture(scope="session")
def fabric() -> Any:
    from ilk.system.devices import make_fabric

    return make_fabric("cpu", "float32")


def tiny(method: str) -> dict[str, int]:
    """Those settings of `TINY` that the method knows."""
    from ilk.methods import get_preset

    preset = get_preset(method, "default")
    return {name: value for name, value in TINY.items() if any(hasattr(part, name) for part in preset[:2])}


@pytest.fixture(scope="session")
def planned(fabric: Any) -> Callable[..., Any]:
    """`planned(images, k=2, **request)`: a fresh plan for a tiny training on the CPU in float32."""
    from ilk.pipeline.begin import new_training
    from ilk.pipeline.request import Request

    def make(images: Any, k: int = 2, **asked: Any) -> Any:
        settings = {**tiny(asked.get("method", "cc")), **asked.pop("settings", {})}
        asked = {"epochs": 4, "backbone": "small", "views": "object", "device": "cpu", **asked}
        return new_training(Request(n_clusters=k, settings=settings, **asked), images, fabric)

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """The folder of a finished run on `photos`; do not change it, `run` is a copy that may be."""
    from ilk.pipeline.fitting import fit
    from ilk.pipeline.request import Request
    from ilk.runs.folder import Run

    request = Request(
        n_clusters=2, epochs=4, backbone="small", views="object", device="cpu", precision="float32", settings=TINY
    )
    cache = tmp_path_factory.mktemp("trained-cache")
    return made_once(
        session_folder(tmp_path_factory) / "a run",
        lambda folder: fit(request, photos, Run(folder), labels="folders", cache_dir=cache),
    )


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Any:
    from ilk.runs.folder import Run

    return Run(shutil.copytree(trained, tmp_path / "a run"))


@pytest.fixture(scope="session")
def clusterer() -> Callable[..., Any]:
    """`clusterer(**parameters)`: an untrained Clusterer that fits 60 images in a blink."""
    from ilk import Clusterer

    def make(n_clusters: Any = 2, **asked: Any) -> Any:
        settings = tiny(asked.get("method", "cc"))
        defaults = {"epochs": 3, "backbone": "small", "views": "object", "settings": settings, "device": "cpu"}
        return Clusterer(n_clusters, **{**defaults, **asked})

    return make


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of models, no encoder in an installed package, and nothing but port 9 of this machine to ask."""
    monkeypatch.delenv("ILK_ENCODER", raising=False)
    monkeypatch.setattr("ilk.networks.pretrained.installed.offered", lambda: ())
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "ILK_OFFLINE",
                 "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a DINOv2 of two small layers; do not change it."""
    transformers = pytest.importorskip("transformers", reason="the extra ilk[hf] is not installed")
    folder = tmp_path_factory.mktemp("dino") / "tiny"
    torch.manual_seed(0)
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28}
    transformers.Dinov2Model(transformers.Dinov2Config(**settings)).save_pretrained(folder)
    prepared = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 28}, "do_center_crop": True,
                "crop_size": {"height": 28, "width": 28}, "image_mean": [0.5] * 3, "image_std": [0.2] * 3}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`call("fit", ...)`: what `ilk fit ...` does in an empty folder, without the seconds of a new process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    from ilk.cli import main

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ilk", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        return Outcome(code, *capfd.readouterr())

    return run
