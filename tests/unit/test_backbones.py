"""Backbones: the published sizes, each stem's feature map, any channel count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ilk.networks.backbones import (
    RESNETS,
    STEMS,
    FrontEnd,
    ResNet,
    backbone_names,
    build_backbone,
    choose_backbone,
    stem,
)
from ilk.networks.heads import mlp


def make(name: str, image_size: int = 32, in_channels: int = 3) -> ResNet:
    backbone = build_backbone(name, image_size=image_size, in_channels=in_channels)
    assert isinstance(backbone, ResNet)
    return backbone.eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "count", "features"),
    [("resnet18", 11_176_512, 512), ("resnet34", 21_284_672, 512), ("resnet50", 23_508_032, 2048)],
)
def test_parameters_are_as_many_as_the_published_networks_without_their_classifier(
    name: str, count: int, features: int
) -> None:
    backbone = make(name)
    assert parameters(backbone) == count and backbone.feature_dim == features


def test_a_resnet_without_a_stem_has_the_published_one() -> None:
    shapes = [[tuple(p.shape) for p in make(name).parameters()] for name in ("resnet18", "resnet18-imagenet")]
    assert shapes[0] == shapes[1] and shapes[0][0] == (64, 3, 7, 7)


@pytest.mark.parametrize(
    ("entry", "size", "side"),
    [("imagenet", 224, 7), ("cifar", 32, 4), ("pica", 32, 3), ("pica", 64, 5), ("pica", 96, 7)],
)
def test_the_feature_map_has_the_published_size(entry: str, size: int, side: int) -> None:
    backbone = make(f"resnet18-{entry}", size)
    with torch.inference_mode():
        assert backbone.feature_map(torch.zeros(1, 3, size, size)).shape == (1, 512, side, side)


def test_the_bottleneck_strides_in_its_3x3_convolution() -> None:
    """As in torchvision (and unlike the first printing of the paper), which its published scores rest on."""
    strides = {conv.kernel_size: conv.stride for conv in make("resnet50").stages[1][0].body if hasattr(conv, "stride")}
    assert strides == {(1, 1): (1, 1), (3, 3): (2, 2)}


@pytest.mark.parametrize("name", ["small", "resnet18", "resnet18-cifar", "resnet18-pica"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_goes_in(name: str, channels: int) -> None:
    backbone = make(name, 16, channels)
    with torch.inference_mode():
        features = backbone(torch.zeros(2, channels, 16, 16))
    assert features.shape == (2, backbone.feature_dim)


@pytest.mark.parametrize("size", [8, 9, 12, 14, 15, 16, 20, 28, 29, 32, 48, 64, 96])
def test_the_small_net_suits_every_size_of_image(size: int) -> None:
    backbone = make("small", size)
    with torch.inference_mode():
        first = backbone.stem(torch.zeros(1, 3, size, size))
        last = backbone.feature_map(torch.zeros(1, 3, size, size))
    assert backbone.feature_dim == last.shape[1] == 128
    assert max(first.shape[2:]) <= 14
    assert min(last.shape[2:]) >= 2


def test_the_small_net_is_small() -> None:
    assert parameters(make("small")) < 400_000


def test_the_output_is_the_mean_of_the_feature_map() -> None:
    torch.manual_seed(0)
    backbone, x = make("small"), torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(backbone(x), backbone.feature_map(x).mean((2, 3)))


@pytest.mark.parametrize("name", ["small", "resnet18", "resnet18-cifar", "resnet18-pica"])
def test_channels_last_gives_the_same_features(name: str) -> None:
    torch.manual_seed(0)
    backbone, x = make(name), torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = backbone(x)
        turned = backbone.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert expected.std() > 0
    assert torch.allclose(turned, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", ["small", "resnet18-cifar"])
def test_every_parameter_gets_a_gradient(name: str) -> None:
    backbone = build_backbone(name, image_size=16, in_channels=3)
    backbone(torch.rand(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


def test_convolutions_start_as_kaiming_says() -> None:
    """Normal, variance 2 / fan-out; BatchNorm starts at 1 and 0, also the last of a block."""
    torch.manual_seed(0)
    for module in make("resnet18").modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.bias is None
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


def test_the_seed_fixes_the_weights() -> None:
    torch.manual_seed(5)
    a = make("small")
    torch.manual_seed(5)
    b = make("small")
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_every_name_builds() -> None:
    with torch.device("meta"):
        for name in backbone_names():
            assert build_backbone(name, image_size=32, in_channels=3).feature_dim in (128, 512, 2048)
    assert len(backbone_names()) == 1 + len(RESNETS) * (1 + len(STEMS))


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("resnet19", "resnet1"),
        ("smal", "small"),
        ("resnet18-cifer", "resnet18-cifar"),
        ("Resnet50-pica", "resnet50-pica"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"'{wrong}'.*Did you mean '{near}.*small, resnet18"):
        build_backbone(wrong, image_size=32, in_channels=3)


def test_a_name_like_no_other_gets_the_list_only() -> None:
    with pytest.raises(ValueError, match="'xyz'.*small,"):
        build_backbone("xyz", image_size=32, in_channels=3)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(ValueError, match="'mnist'.*imagenet, cifar, pica"):
        stem("mnist", 3, 64)


@pytest.mark.parametrize(
    ("size", "device", "name"),
    [(32, "cpu", "small"), (224, "cpu", "small"), (32, "cuda", "resnet18-cifar"), (224, "cuda:0", "resnet34")],
)
def test_the_chosen_backbone_fits_images_and_device(size: int, device: str, name: str) -> None:
    chosen, why = choose_backbone(size, device)
    assert chosen == name and chosen in backbone_names() and why


def test_the_head_is_two_layers_with_biases_and_no_normalisation() -> None:
    torch.manual_seed(0)
    head, h = mlp(4, 6, 3), torch.randn(5, 4)
    first, last = head[0], head[-1]
    assert parameters(head) == 4 * 6 + 6 + 6 * 3 + 3
    expected = (h @ first.weight.T + first.bias).clamp_min(0) @ last.weight.T + last.bias
    assert torch.allclose(head(h), expected, atol=1e-6)


# what comes before the backbone


class Show(nn.Module):
    """A backbone whose features are its input."""

    feature_dim = 7

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_normalisation_by_hand() -> None:
    front = FrontEnd(Show(), 2, mean=[0.5, 0.2], std=[0.25, 0.1], sobel=False)
    x = torch.tensor([1.0, 0.1]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    assert torch.allclose(front(x)[0, :, 1, 1], torch.tensor([2.0, -1.0])) and front.feature_dim == 7


def test_sobel_of_an_edge_by_hand() -> None:
    """A step of 0.3 between two columns: 4 times as much across, nothing down, nothing away from it."""
    front = FrontEnd(Show(), 3, mean=None, std=None, sobel=True)
    x = torch.zeros(2, 3, 6, 6)
    x[0, :, :, 3:] = torch.tensor([0.9, 0.0, 0.0])[:, None, None]  # mean over channels: 0.3
    x[1] = x[0].transpose(1, 2)
    across, down = front(x).unbind(1)
    assert front(x).shape == (2, 2, 6, 6)
    assert torch.allclose(across[0, 1:-1, 2:4].abs(), torch.tensor(1.2)) and (across[0, 1:-1, 1].abs() < 1e-6).all()
    assert (down[0, 1:-1].abs() < 1e-6).all()
    assert torch.allclose(down[1], across[0].T, atol=1e-6) and torch.allclose(across[1], down[0].T, atol=1e-6)


def test_the_front_end_is_what_one_gets_by_applying_it_first() -> None:
    torch.manual_seed(0)
    front = build_backbone(
        "small",
        image_size=12,
        in_channels=3,
        front_end={"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1], "sobel": True},
    ).eval()
    assert isinstance(front, FrontEnd) and front.backbone.stem[0].in_channels == 2 and front.feature_dim == 128
    x = torch.rand(2, 3, 12, 12)
    gray = sum((x[:, c] - m) / s for c, (m, s) in enumerate([(0.4, 0.2), (0.5, 0.3), (0.6, 0.1)])) / 3
    wide = nn.functional.pad(gray, [1, 1, 1, 1])
    smooth_down = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    smooth_across = wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]
    edges = [smooth_down[:, :, :-2] - smooth_down[:, :, 2:], smooth_across[:, :-2] - smooth_across[:, 2:]]
    with torch.inference_mode():
        assert torch.allclose(front(x), front.backbone(torch.stack(edges, 1)), atol=1e-5)


@pytest.mark.parametrize("sobel", [True, False])
def test_nothing_in_a_front_end_is_trained_and_all_of_it_is_saved(sobel: bool) -> None:
    settings = {"mean": [0.4], "std": [0.2], "sobel": sobel}
    front = build_backbone("small", image_size=8, in_channels=1, front_end=settings)
    own = {name for name, _ in front.named_parameters() if not name.startswith("backbone.")}
    assert not own and {"mean", "std"} <= set(front.state_dict())
    other = build_backbone("small", image_size=8, in_channels=1, front_end={"mean": None, "std": None, "sobel": sobel})
    x = torch.rand(2, 1, 8, 8)
    assert not torch.allclose(other.eval()(x), front.eval()(x))
    other.load_state_dict(front.state_dict())
    assert torch.equal(other(x), front(x))
