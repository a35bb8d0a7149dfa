"""A 3x3 convolution that learns quickly on the tiny maps at the end of a small network.

On a map of 2 x 2 more than half of the taps fall on the padding, and a library of convolutions multiplies that
too. Here every output position is a sum of matrix products, one for each row of its window, cut to what lies
inside the map. In channels-last memory such a row is a matrix as it stands, so nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

# Where the products are quicker than oneDNN, measured for forward and both gradients in both memory formats on an
# AVX2 core: 7 times or more for one position of 512 channels, 1.1 to 2.6 times for 2 x 2. Above that the gain is
# less and two threads lose it again. A product costs some microseconds however small, hence the second number.
POSITIONS = 4  # at most
SUMMANDS = 2**16  # images x channels in x channels out for each position, at least


class Conv3x3(nn.Conv2d):
    """A convolution without bias, padded by one, with the parameters and the values of `nn.Conv2d`.

    It goes the quicker way where gradients of a float32 batch on a CPU are wanted and the map that comes out
    is tiny: the same sums in another order, whose gradients cannot be differentiated again or taken in batches.
    Anything else, and whatever traces, exports or transforms the module, sees the plain convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102  # alone, it hides what follows from the compiler
            if learns_on_cpu(x, self.weight) and tiny(x, self.weight, self.stride[0]):
                return RowProducts.apply(x, self.weight, self.stride[0])
        return self._conv_forward(x, self.weight, self.bias)


def learns_on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether autograd, and nothing else, follows a float32 batch on a CPU."""
    return (
        type(x) is Tensor  # not a tracer's stand-in
        and x.dim() == 4
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.is_grad_enabled()
        and (x.requires_grad or weight.requires_grad)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.onnx.is_in_onnx_export()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0  # no forward derivatives are wanted
    )


def tiny(x: Tensor, weight: Tensor, stride: int) -> bool:
    """Whether the products are quicker than the convolution, by shape alone."""
    positions = ((x.shape[2] - 1) // stride + 1) * ((x.shape[3] - 1) // stride + 1)
    return positions <= POSITIONS and positions * SUMMANDS <= len(x) * weight.shape[0] * weight.shape[1]


class RowProducts(torch.autograd.Function):
    """`F.conv2d(x, weight, stride=stride, padding=1)` of a (b, c, h, w) batch and a (d, c, 3, 3) weight.

    What comes out, and each gradient, is channels last if `x` or `weight` is, as the plain convolution's are.
    The gradients cannot be differentiated again: that raises a RuntimeError.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        rows, taps = as_rows(x), as_rows(weight)
        sides = [(side - 1) // stride + 1 for side in x.shape[2:]]
        shape = (len(x), len(weight), *sides)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last).zero_()
        y = out.permute(0, 2, 3, 1)
        for at, row, inside, tap, used in windows(x.shape, stride):
            y[at].addmm_(rows[:, row, inside], taps[:, tap, used].T)
        return in_format(out, x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        g = gradient.permute(0, 2, 3, 1).contiguous()
        rows, taps = as_rows(x), as_rows(weight)
        of_x, of_weight = (torch.zeros_like(one, memory_format=torch.channels_last) for one in (x, weight))
        of_rows, of_taps = as_rows(of_x), as_rows(of_weight)
        for at, row, inside, tap, used in windows(x.shape, ctx.stride):
            if ctx.needs_input_grad[0]:
                of_rows[:, row, inside].addmm_(g[at], taps[:, tap, used])
            if ctx.needs_input_grad[1]:
                of_taps[:, tap, used].addmm_(g[at].T, rows[:, row, inside])
        return in_format(of_x, x, weight), in_format(of_weight, x, weight), None


def as_rows(x: Tensor) -> Tensor:
    """(n, c, h, w) as (n, h, w c): without a copy, and to be written through, where `x` is channels last."""
    return x.permute(0, 2, 3, 1).flatten(2)


def windows(shape: tuple[int, ...], stride: int) -> Iterator[tuple[tuple[slice, int, int], int, slice, int, slice]]:
    """Every row of every output position's window: the position (an index of (b, h, w, d)), the row of the map
    and the part of it that is inside, the row of taps and the part of it that is used there."""
    _, channels, height, width = shape
    for y in range((height - 1) // stride + 1):
        for x in range((width - 1) // stride + 1):
            top, left = y * stride - 1, x * stride - 1
            first, last = max(0, -left), min(3, width - left)
            inside = slice((left + first) * channels, (left + last) * channels)
            for tap in range(max(0, -top), min(3, height - top)):
                yield (slice(None), y, x), top + tap, inside, tap, slice(first * channels, last * channels)


def in_format(x: Tensor, *given: Tensor) -> Tensor:
    """Channels last, as `x` is, if any of `given` is that and nothing else (a map of one position is both)."""
    last = (one.is_contiguous(memory_format=torch.channels_last) and not one.is_contiguous() for one in given)
    return x if any(last) else x.contiguous()
