"""Checkpoints as the code of CC's authors writes them, from a network with their names that is written out here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ilk.pipeline.build import load_method
from ilk.pipeline.import_cc import import_cc
from ilk.runs.folder import Run


class Unit(nn.Module):
    """A residual block with torchvision's names; `wide`: the bottleneck of ResNet-50."""

    def __init__(self, before: int, width: int, stride: int, wide: bool) -> None:
        super().__init__()
        after = 4 * width if wide else width
        plan = [(before, width, 1, 1), (width, width, 3, stride), (width, after, 1, 1)]
        if not wide:
            plan = [(before, width, 3, stride), (width, after, 3, 1)]
        self.count = len(plan)
        for i, (a, b, size, step) in enumerate(plan, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, size, step, size // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.count else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Trunk(nn.Module):
    def __init__(self, depths: list[int], wide: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        before = 64
        for number, depth in enumerate(depths, 1):
            width = 32 * 2**number
            units = []
            for i in range(depth):
                units.append(Unit(before, width, 2 if i == 0 and number > 1 else 1, wide))
                before = 4 * width if wide else width
            setattr(self, f"layer{number}", nn.Sequential(*units))
        self.rep_dim = before

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x.mean((2, 3))


class Published(nn.Module):
    """CC's network by the names and shapes of the authors' code."""

    def __init__(self, depths: list[int], wide: bool = False, feature_dim: int = 128, clusters: int = 10) -> None:
        super().__init__()
        self.resnet = Trunk(depths, wide)
        d = self.resnet.rep_dim
        self.instance_projector = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, feature_dim))
        self.cluster_projector = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, clusters), nn.Softmax(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.answers(x)[0]

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.resnet(x)
        return self.cluster_projector(h), F.normalize(self.instance_projector(h), dim=1)


DEPTHS = {"resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3]}


def pictures(n: int, side: int, seed: int = 0) -> Tensor:
    """Broad random shapes, dark to bright, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 5, 5, generator=generator) * torch.linspace(0.3, 1, n)[:, None, None, None]
    return F.interpolate(coarse, (side, side), mode="bilinear")


def made(name: str = "resnet18", **shape: int) -> Published:
    """A network whose outputs differ clearly between images: with running statistics, and with confident heads."""
    torch.manual_seed(3)
    network = Published(DEPTHS[name], wide=name == "resnet50", **shape)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.9
            nn.init.uniform_(module.weight, 0.7, 1.1)
            nn.init.uniform_(module.bias, -0.1, 0.1)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1.0 / module.in_features**0.5)
    with torch.no_grad():
        network.train()(pictures(8, 64))
        h = network.eval().resnet(pictures(8, 64))
        for head in (network.instance_projector, network.cluster_projector):
            head[0].weight /= h.std(0) + 1e-3
            head[0].bias.copy_(-head[0].weight @ h.mean(0))
    return network


def write(network: nn.Module, file: Path, epoch: int = 1000) -> Path:
    """A checkpoint like the authors': the network, Adam's state after a step, and the epoch."""
    optimizer = torch.optim.Adam(network.cluster_projector.parameters(), lr=3e-4)  # type: ignore[union-attr]
    torch.save({"net": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, file)
    return file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoint_1000.tar of a ResNet-18; do not change it."""
    return write(made(), tmp_path_factory.mktemp("cc") / "checkpoint_1000.tar")


@pytest.fixture
def changed(checkpoint: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], Any]], Path]:
    """`changed(edit)`: a copy whose contents `edit` has changed (or replaced, by what it returns)."""

    def make(edit: Callable[[dict[str, Any]], Any]) -> Path:
        saved = torch.load(checkpoint, weights_only=True)
        answer = edit(saved)
        torch.save(saved if answer is None else answer, tmp_path / "changed.tar")
        return tmp_path / "changed.tar"

    return make


@pytest.mark.parametrize(
    ("name", "shape"), [("resnet18", {"clusters": 15, "feature_dim": 64}), ("resnet34", {}), ("resnet50", {})]
)
def test_the_imported_run_answers_as_the_published_network(name: str, shape: dict[str, int], tmp_path: Path) -> None:
    network = made(name, **shape)
    run = import_cc(write(network, tmp_path / "c.tar"), tmp_path / "run")
    method = load_method(Run(tmp_path / "run").open())
    x = pictures(4, 64, seed=1)
    with torch.no_grad():
        y, z = network.answers(x)
        found_y, found_z = method.assign_and_embed(x)
    assert (y.max(0).values - y.min(0).values).max() > 0.1  # the images do differ
    torch.testing.assert_close(found_y, y, rtol=0, atol=1e-5)
    torch.testing.assert_close(found_z, z, rtol=0, atol=1e-5)
    assert run.config.backbone == f"{name}-imagenet" and run.config.n_clusters == shape.get("clusters", 10)


def test_predict_sees_images_as_the_authors_do(checkpoint: Path, tmp_path: Path) -> None:
    from ilk.pipeline.predicting import predict
    from ilk.runs.tables import read_table

    (tmp_path / "photos").mkdir()
    for i, picture in enumerate((pictures(6, 120, seed=2) * 255).byte()):
        wide = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((180, 120))
        wide.save(tmp_path / "photos" / f"{i}.png")
    run = import_cc(checkpoint, tmp_path / "run", image_size=64)
    predict(run, tmp_path / "photos", tmp_path / "out", device="cpu", report=False)
    table = read_table(tmp_path / "out" / "assignments.parquet")
    pixels = [  # squeezed to a square by Pillow, divided by 255, not normalised
        np.asarray(Image.open(tmp_path / "photos" / f"{i}.png").resize((64, 64), Image.Resampling.BILINEAR))
        for i in range(6)
    ]
    with torch.no_grad():
        y, _ = made().answers(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255)
    assert len(set(y.argmax(1).tolist())) > 1
    assert table["cluster"].to_pylist() == y.argmax(1).tolist()
    np.testing.assert_allclose(table["confidence"].to_numpy(), y.max(1).values.numpy(), atol=0.03)


def test_the_run_says_where_it_comes_from_and_what_is_not_known(checkpoint: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run = import_cc(checkpoint, tmp_path / "run", say=said.append)
    plan = run.open().config
    assert said == ["resnet18-imagenet at 224 pixels, 10 clusters, after 1000 epochs"]
    assert plan.imported == {"from": str(checkpoint.resolve()), "format": "cc", "epoch": 1000}
    assert plan.method == "cc" and plan.images.as_dict() == {"n": 1, "channels": 3, "size": 224}
    assert plan.front_end is None  # the authors do not normalise
    assert any("not trained by ilk" in note for note in plan.notes)


def test_a_checkpoint_of_several_gpus_and_one_of_an_old_torch_are_read(
    changed: Callable[..., Path], checkpoint: Path, tmp_path: Path
) -> None:
    def edit(saved: dict[str, Any]) -> None:
        net = {f"module.{key}": t for key, t in saved["net"].items() if not key.endswith("num_batches_tracked")}
        saved["net"] = net
        del saved["epoch"]

    first, second = import_cc(checkpoint, tmp_path / "a"), import_cc(changed(edit), tmp_path / "b")
    x = torch.rand(2, 3, 64, 64)
    for mine, other in zip(
        load_method(first).assign_and_embed(x), load_method(second).assign_and_embed(x), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)
    assert second.config.imported["epoch"] is None


class Bomb:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(
    changed: Callable[..., Path], tmp_path: Path
) -> None:
    file = changed(lambda saved: saved.update(extra=Bomb(tmp_path / "ran")))
    with pytest.raises(ValueError, match="holds more than tensors and numbers, which could run code") as caught:
        import_cc(file, tmp_path / "run")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "run").exists()
    assert "\n" not in str(caught.value)


def rename(net: dict[str, Any], old: str, new: str) -> None:
    net[new] = net.pop(old)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda s: [1, 2], "no network under the key 'net'"),
        (lambda s: s["net"], "no network under the key 'net'"),
        (lambda s: s.update(net={"a": 3}), "something other than tensors"),
        (lambda s: s.update(net={"resnet.conv1.weight": torch.zeros(2)}), "lacks instance_projector and cluster"),
        (lambda s: s["net"].pop("resnet.layer3.0.bn2.weight"), r"lacks a weight .*stages\.2\.0\.body\.4\.weight"),
        (lambda s: s["net"].pop("cluster_projector.2.weight"), r"lacks cluster_projector\.2\.weight"),
        (lambda s: rename(s["net"], "resnet.bn1.weight", "resnet.fc.weight"), r"holds resnet\.fc\.weight"),
        (lambda s: s["net"].update({"decoder.weight": torch.zeros(2)}), r"holds decoder\.weight"),
        (lambda s: s["net"].update({"resnet.layer1.2.conv1.weight": torch.zeros(2)}), "no ResNet-18, -34 or -50"),
        (lambda s: s["net"].update({"resnet.conv1.weight": torch.zeros(64, 3, 3, 3)}), "64x3x3x3 there and 64x3x7x7"),
        (lambda s: s["net"].update({"resnet.conv1.weight": torch.zeros(64)}), "impossible shape 64"),
        (lambda s: s["net"]["resnet.bn1.bias"].fill_(float("nan")), r"not finite numbers .*stem\.1\.bias"),
        (lambda s: s["net"].update({"cluster_projector.2.weight": torch.zeros(1, 512)}), "has 1 cluster"),
    ],
)
def test_another_network_is_one_sentence(
    edit: Callable[[dict[str, Any]], Any], said: str, changed: Callable[..., Path], tmp_path: Path
) -> None:
    def quiet(saved: dict[str, Any]) -> Any:
        answer = edit(saved)
        return answer if answer is not None and (answer == [1, 2] or answer is saved["net"]) else None

    with pytest.raises(ValueError, match=said) as caught:
        import_cc(changed(quiet), tmp_path / "run")
    assert "changed.tar" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_missing_a_damaged_and_an_empty_file_are_sentences(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file"):
        import_cc(tmp_path / "none.tar", tmp_path / "run")
    data = checkpoint.read_bytes()
    for content in (data[: len(data) // 2], b"", b"some words"):
        (tmp_path / "damaged.tar").write_bytes(content)
        with pytest.raises(ValueError, match="damaged.tar' cannot be read") as caught:
            import_cc(tmp_path / "damaged.tar", tmp_path / "run")
        assert "run code" not in str(caught.value)


def test_a_folder_that_holds_something_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        import_cc(checkpoint, tmp_path / "run")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="image_size must be from 1 to 4096"):
        import_cc(checkpoint, tmp_path / "other", image_size=0)


def test_a_file_of_another_kind_is_said_to_be_none_of_torch(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    with pytest.raises(ValueError, match="photo.jpg' cannot be read: it is no file that torch has saved"):
        import_cc(tmp_path / "photo.jpg", tmp_path / "run")
