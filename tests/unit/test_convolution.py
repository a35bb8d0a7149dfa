"""The 3x3 convolution: the plain one's values, gradients, parameters and exports, whichever way it goes."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ilk.networks.convolution
from ilk.networks.backbones import build_backbone
from ilk.networks.convolution import POSITIONS, SUMMANDS, Conv3x3, RowProducts

FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
SHAPES = [
    # images, channels in, channels out, height, width
    (3, 4, 5, 2, 2), (3, 4, 5, 3, 3), (3, 4, 5, 4, 4), (2, 3, 2, 5, 5), (2, 3, 2, 8, 8), (3, 4, 5, 1, 1),
    (1, 4, 5, 2, 2), (1, 1, 1, 1, 1), (2, 1, 3, 4, 4), (2, 3, 1, 4, 4), (0, 3, 4, 2, 2),
    (2, 3, 4, 1, 4), (2, 3, 4, 5, 2), (2, 3, 4, 2, 7),
]  # fmt: skip


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that went the quicker way."""
    found: list[tuple[int, ...]] = []
    apply = RowProducts.apply

    def noted(x: Tensor, weight: Tensor, stride: int) -> Tensor:
        found.append(tuple(x.shape))
        y: Tensor = apply(x, weight, stride)
        return y

    monkeypatch.setattr(RowProducts, "apply", noted)
    return found


def drawn(shape: tuple[int, ...], layout: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, dtype=dtype).contiguous(memory_format=FORMATS[layout]).requires_grad_()


def both_ways(x: Tensor, weight: Tensor, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Output and both gradients: the products', the plain convolution's."""
    ours, plain = RowProducts.apply(x, weight, stride), F.conv2d(x, weight, stride=stride, padding=1)
    yield ours, plain
    gradient = torch.randn_like(plain)
    yield from zip(
        torch.autograd.grad(ours, (x, weight), gradient), torch.autograd.grad(plain, (x, weight), gradient), strict=True
    )


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_the_plain_convolution(
    shape: tuple[int, ...], stride: int, layout: str
) -> None:
    """In float64, where at most some hundred products of order 1 are summed: 1e-12 is a hundred roundings' room."""
    torch.manual_seed(0)
    images, channels, features, height, width = shape
    x = drawn((images, channels, height, width), layout, torch.float64)
    weight = drawn((features, channels, 3, 3), layout, torch.float64)
    for ours, plain in both_ways(x, weight, stride):
        assert ours.shape == plain.shape and ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("formats", list(product(FORMATS, FORMATS)), ids="-".join)
@pytest.mark.parametrize(("side", "stride"), [(4, 2), (3, 2), (2, 1), (2, 2)])
def test_float32_differs_by_rounding_and_keeps_the_memory_format(
    side: int, stride: int, formats: tuple[str, str]
) -> None:
    """Sums of up to 1152 products of order 1, of order 30 then: 1e-4 is some thirty of float32's roundings there."""
    torch.manual_seed(0)
    x, weight = drawn((32, 64, side, side), formats[0]), drawn((128, 64, 3, 3), formats[1])
    for ours, plain in both_ways(x, weight, stride):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-4)
        for layout in FORMATS.values():
            if plain.shape[2:] != (1, 1):  # which is both
                assert ours.is_contiguous(memory_format=layout) == plain.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradients_are_the_numerical_ones(stride: int) -> None:
    torch.manual_seed(0)
    x, weight = drawn((2, 2, 3, 4), "contiguous", torch.float64), drawn((3, 2, 3, 3), "contiguous", torch.float64)
    assert torch.autograd.gradcheck(lambda x, w: RowProducts.apply(x, w, stride), (x, weight))


def test_one_window_by_hand() -> None:
    """1 to 4 in a map of 2 x 2; taps 1 to 9: the first output is 1*5 + 2*6 + 3*8 + 4*9."""
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], requires_grad=True)
    weight = torch.arange(1.0, 10.0).view(1, 1, 3, 3).requires_grad_()
    y = RowProducts.apply(x, weight, 1)
    assert y.tolist() == [[[[77.0, 67.0], [47.0, 37.0]]]]
    y[0, 0, 0, 0].backward()
    assert x.grad is not None and x.grad.tolist() == [[[[5.0, 6.0], [8.0, 9.0]]]]
    assert weight.grad is not None and weight.grad.tolist() == [[[[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 4.0]]]]


def test_a_gradient_that_is_expanded_and_an_input_that_is_a_view() -> None:
    torch.manual_seed(0)
    whole, weight = (
        drawn((6, 8, 5, 5), "channels-last", torch.float64),
        drawn((4, 8, 3, 3), "contiguous", torch.float64),
    )
    x = whole[::2, 1:7:2, 1:5, :4]
    used = weight[:, :3]
    ours = torch.autograd.grad(RowProducts.apply(x, used, 2).mean(), (whole, weight))
    plain = torch.autograd.grad(F.conv2d(x, used, stride=2, padding=1).mean(), (whole, weight))
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_either_gradient_can_be_had_alone() -> None:
    torch.manual_seed(0)
    x, weight = drawn((3, 4, 2, 2), "channels-last"), drawn((5, 4, 3, 3), "channels-last")
    for i, given in enumerate([(x, weight.detach()), (x.detach(), weight)]):
        y, plain = RowProducts.apply(*given, 1), F.conv2d(*given, padding=1)
        y.square().sum().backward()
        expected = torch.autograd.grad(plain.square().sum(), given[i])[0]
        grads = [given[0].grad, given[1].grad]
        torch.testing.assert_close(grads[i], expected, rtol=1e-5, atol=1e-4)
        assert grads[1 - i] is None
        x.grad = weight.grad = None


def test_a_second_derivative_is_refused() -> None:
    x, weight = drawn((2, 3, 2, 2), "contiguous"), drawn((4, 3, 3, 3), "contiguous")
    (first,) = torch.autograd.grad(RowProducts.apply(x, weight, 1).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_what_follows_may_overwrite_the_output() -> None:
    torch.manual_seed(0)
    x, weight = drawn((3, 4, 2, 2), "contiguous"), drawn((5, 4, 3, 3), "contiguous")
    ours = torch.autograd.grad(F.relu(RowProducts.apply(x, weight, 1), inplace=True).sum(), (x, weight))
    plain = torch.autograd.grad(F.relu(F.conv2d(x, weight, padding=1)).sum(), (x, weight))
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


# the module


def layer(stride: int = 1, channels: int = 128) -> Conv3x3:
    torch.manual_seed(0)
    return Conv3x3(channels, channels, stride).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def test_the_parameters_are_those_of_the_plain_module() -> None:
    torch.manual_seed(3)
    ours = Conv3x3(5, 7, 2)
    torch.manual_seed(3)
    plain = nn.Conv2d(5, 7, 3, 2, padding=1, bias=False)
    assert isinstance(ours, nn.Conv2d) and list(ours.state_dict()) == list(plain.state_dict()) == ["weight"]
    assert torch.equal(ours.weight, plain.weight)
    plain.load_state_dict(ours.state_dict())
    ours.load_state_dict(plain.state_dict())


@pytest.mark.parametrize(
    ("images", "channels", "side", "stride", "quicker"),
    [
        (16, 128, 2, 1, True), (15, 128, 2, 1, False), (16, 128, 4, 2, True), (16, 128, 3, 2, True),
        (64, 128, 3, 1, False), (64, 128, 5, 2, False), (4, 128, 1, 1, True), (3, 128, 1, 1, False),
    ],
)  # fmt: skip
def test_the_shape_decides(
    images: int, channels: int, side: int, stride: int, quicker: bool, taken: list[tuple[int, ...]]
) -> None:
    x = torch.rand(images, channels, side, side)
    layer(stride, channels)(x)
    assert taken == ([tuple(x.shape)] if quicker else [])


def test_the_tiny_maps_of_the_small_net_go_the_quicker_way(taken: list[tuple[int, ...]]) -> None:
    build_backbone("small", image_size=32, in_channels=3)(torch.rand(32, 3, 32, 32)).sum().backward()
    assert taken == [(32, 64, 4, 4), (32, 128, 2, 2)]


def plain_is_taken(module: nn.Module, x: Tensor, taken: list[tuple[int, ...]]) -> bool:
    """And that it is what `F.conv2d` gives, to the last bit."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return torch.equal(module(x), F.conv2d(x, weight, padding=1)) and not taken


def test_the_plain_way_without_gradients(taken: list[tuple[int, ...]]) -> None:
    module, x = layer(), torch.rand(16, 128, 2, 2)
    with torch.no_grad():
        assert plain_is_taken(module, x, taken)
    with torch.inference_mode():
        assert plain_is_taken(module, x, taken)
    assert plain_is_taken(module.requires_grad_(False), x, taken)
    module(x.requires_grad_())
    assert taken


def test_the_plain_way_in_other_precisions(taken: list[tuple[int, ...]]) -> None:
    module, x = layer(), torch.rand(16, 128, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x).dtype == torch.bfloat16 and plain_is_taken(module, x, taken)
    assert plain_is_taken(copy.deepcopy(module).double(), x.double(), taken)
    assert plain_is_taken(copy.deepcopy(module).bfloat16(), x.bfloat16(), taken)
    with pytest.raises(RuntimeError, match="expected"):  # as ever
        module(x.double())
    assert not taken


def test_the_plain_way_for_one_image_without_a_batch_and_on_other_devices(taken: list[tuple[int, ...]]) -> None:
    assert plain_is_taken(layer(1, 512), torch.rand(512, 2, 2), taken)
    assert layer().to("meta")(torch.rand(16, 128, 2, 2, device="meta")).shape == (16, 128, 2, 2) and not taken


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript still has to see it
def test_tracers_and_exporters_see_a_convolution(taken: list[tuple[int, ...]]) -> None:
    module, x = layer(), torch.rand(16, 128, 2, 2)
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("b", min=2)},))
    assert "aten.conv2d.default" in exported.graph_module.code
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), F.conv2d(x, module.weight, padding=1))
    assert "conv2d" in torch.fx.symbolic_trace(nn.Sequential(module)).code
    assert "_convolution" in str(torch.jit.trace(module, x).inlined_graph)
    assert "conv2d" in str(torch.jit.script(module).inlined_graph)
    assert not taken


def test_transforms_of_functions_see_a_convolution(taken: list[tuple[int, ...]]) -> None:
    module, x = layer(), torch.rand(2, 16, 128, 2, 2)
    weight = {"weight": module.weight}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(module, parameters, (x,)).square().mean()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, x)["weight"]
    assert not taken
    loss(weight, x[0]).backward()
    assert len(taken) == 1 and module.weight.grad is not None
    torch.testing.assert_close(each[0], module.weight.grad, rtol=1e-4, atol=1e-6)


def test_forward_derivatives_see_a_convolution(taken: list[tuple[int, ...]]) -> None:
    module, x = layer(), torch.rand(16, 128, 2, 2)
    with torch.autograd.forward_ad.dual_level():
        found = module(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
        tangent = torch.autograd.forward_ad.unpack_dual(found).tangent
    torch.testing.assert_close(tangent, F.conv2d(torch.ones_like(x), module.weight, padding=1))
    assert not taken


def test_a_copy_and_a_pickled_one_are_the_same() -> None:
    module, x = layer(), torch.rand(16, 128, 2, 2)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (
        copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)
    ):  # fmt: skip
        assert type(other) is Conv3x3 and torch.equal(other(x), module(x))


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_a_network_learns_the_same_whichever_way_its_convolutions_go(
    name: str, monkeypatch: pytest.MonkeyPatch, taken: list[tuple[int, ...]]
) -> None:
    """In float32 through BatchNorm: 1e-3 of the largest gradient. A wrong tap changes them by more than a tenth."""
    torch.manual_seed(0)
    net = build_backbone(name, image_size=32, in_channels=3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(32, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    direction = torch.randn(net.feature_dim)
    found = []
    for most in (POSITIONS, 0):
        monkeypatch.setattr(ilk.networks.convolution, "POSITIONS", most)
        net.zero_grad()
        (net(x) * direction).square().mean().backward()
        found.append([p.grad for p in net.parameters()])
        assert bool(taken) == (most > 0)
        taken.clear()
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-3 * plain.abs().max().item())


def test_a_step_is_the_same_to_the_last_bit_each_time() -> None:
    def gradients() -> list[Tensor]:
        torch.manual_seed(0)
        net = build_backbone("small", image_size=32, in_channels=3)
        net(torch.rand(64, 3, 32, 32)).square().mean().backward()
        return [p.grad for p in net.parameters() if p.grad is not None]

    first = gradients()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, gradients(), strict=True))


def test_the_rule_is_what_was_measured() -> None:
    """A change of either number needs new measurements, on maps of 1 x 1 to 4 x 4 and batches of 1 to 256."""
    assert (POSITIONS, SUMMANDS) == (4, 65536)
