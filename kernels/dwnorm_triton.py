"""The kernel behind dwnorm.py, as an operator of torch that compilers see through.

A program computes four rows of a few columns, all channels, because the norm needs them together. Ten rows of input
serve the four: going down a column of taps, three stay in registers and one is loaded. So a number is loaded 17.5
times instead of 49 (from the cache, but for the first), and a weight serves four rows.

By count of instructions it is bound by neither memory nor multiplications but by the widening of bfloat16, one for
every number loaded: hence all that reuse. Weights come in the type of the input, spread over a whole tile: so they lie
in registers as the input does, and nothing passes through shared memory between two taps.
"""

# B pictures · C channels · H rows · W columns · T taps, 49

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from mxbatch.kernels.device import interpreted
from mxbatch.kernels.dwnorm import SIDE, dwnorm_plainly

DOWN = tl.constexpr(4)
"""Rows per program."""
ACROSS = 8
"""Columns per program at most: divides the 56, and nearly the 28, 14 and 7 of ConvNeXt at 224."""
TILE = 4096
"""Columns times channels per program at most."""
PER_WARP = 256
"""Eight numbers of each tile per thread: 16 bytes of bfloat16, and few enough to keep nine tiles in registers."""


@triton_op("mxbatch::dwnorm", mutates_args={})
def dwnorm(
    x_BHWC: Tensor, weight_TC: Tensor, bias_C: Tensor, gain_C: Tensor, shift_C: Tensor, eps: float
) -> Tensor:
    """`LayerNorm(convolution(x))`, contiguous `[B, H, W, C]`; what is added and scaled, in float32."""
    return _launch(wrap_triton(_dwnorm), x_BHWC, weight_TC, bias_C, gain_C, shift_C, eps)


@dwnorm.register_kernel("cpu")
def _on_cpu(
    x_BHWC: Tensor, weight_TC: Tensor, bias_C: Tensor, gain_C: Tensor, shift_C: Tensor, eps: float
) -> Tensor:
    """The interpreter where that is asked for, else the twin: programs traced for a GPU run on a CPU, too."""
    if interpreted():
        return _launch(_dwnorm, x_BHWC, weight_TC, bias_C, gain_C, shift_C, eps)
    x_BCHW = x_BHWC.permute(0, 3, 1, 2)
    y_BCHW = dwnorm_plainly(x_BCHW, weight_TC, bias_C, gain_C, shift_C, eps)
    return y_BCHW.permute(0, 2, 3, 1).contiguous()


def _launch(
    kernel: Any,
    x_BHWC: Tensor,
    weight_TC: Tensor,
    bias_C: Tensor,
    gain_C: Tensor,
    shift_C: Tensor,
    eps: float,
) -> Tensor:
    pictures, height, width, channels = x_BHWC.shape
    y_BHWC = torch.empty_like(x_BHWC)
    lanes = triton.next_power_of_2(channels)
    across = max(1, min(ACROSS, TILE // lanes))
    kernel[(triton.cdiv(width, across), triton.cdiv(height, DOWN.value), pictures)](
        x_BHWC,
        weight_TC,
        bias_C,
        gain_C,
        shift_C,
        y_BHWC,
        height,
        width,
        channels,
        eps,
        SIDE=SIDE,
        ACROSS=across,
        LANES=lanes,
        num_warps=max(1, across * lanes // PER_WARP),
    )
    return y_BHWC


@triton.jit
def _dwnorm(
    x_BHWC: tl.tensor,
    weight_TC: tl.tensor,
    bias_C: tl.tensor,
    gain_C: tl.tensor,
    shift_C: tl.tensor,
    y_BHWC: tl.tensor,
    height: int,
    width: int,
    channels: int,
    eps: float,
    SIDE: tl.constexpr,
    ACROSS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    top = DOWN * tl.program_id(1)
    column = (tl.program_id(0) * ACROSS + tl.arange(0, ACROSS))[:, None]
    channel = tl.arange(0, LANES)[None, :] + tl.zeros([ACROSS, 1], tl.int32)
    known = channel < channels
    picture = tl.program_id(2).to(tl.int64) * height * width * channels
    first_sum = tl.zeros([ACROSS, LANES], tl.float32)
    second_sum = tl.zeros([ACROSS, LANES], tl.float32)
    third_sum = tl.zeros([ACROSS, LANES], tl.float32)
    fourth_sum = tl.zeros([ACROSS, LANES], tl.float32)
    for shift in range(SIDE):
        at = column + (shift - SIDE // 2)
        inside = (at >= 0) & (at < width) & known
        source = x_BHWC + picture + at * channels + channel
        tap = weight_TC + shift * channels + channel
        first = _line(source, top - 3, inside, height, width * channels)
        second = _line(source, top - 2, inside, height, width * channels)
        third = _line(source, top - 1, inside, height, width * channels)
        for line in tl.static_range(SIDE):
            fourth = _line(source, top + line, inside, height, width * channels)
            weight = tl.load(tap + line * SIDE * channels, mask=known, other=0).to(tl.float32)
            first_sum += first * weight
            second_sum += second * weight
            third_sum += third * weight
            fourth_sum += fourth * weight
            first, second, third = second, third, fourth
    bias = tl.load(bias_C + channel, mask=known, other=0)
    gain = tl.load(gain_C + channel, mask=known, other=0)
    shift_by = tl.load(shift_C + channel, mask=known, other=0)
    to = y_BHWC + picture + (top * width + column) * channels + channel
    used = known & (column < width)
    pitch = width * channels
    _finish(to, first_sum + bias, used & (top < height), known, gain, shift_by, channels, eps)
    _finish(to + pitch, second_sum + bias, used & (top + 1 < height), known, gain, shift_by, channels, eps)
    _finish(to + 2 * pitch, third_sum + bias, used & (top + 2 < height), known, gain, shift_by, channels, eps)
    _finish(
        to + 3 * pitch, fourth_sum + bias, used & (top + 3 < height), known, gain, shift_by, channels, eps
    )


@triton.jit
def _line(source: tl.tensor, row: int, inside: tl.tensor, height: int, pitch: int) -> tl.tensor:
    """A piece of one row in float32; zeros beyond the picture."""
    return tl.load(source + row * pitch, mask=inside & (row >= 0) & (row < height), other=0).to(tl.float32)


@triton.jit
def _finish(
    to: tl.tensor,
    x: tl.tensor,
    used: tl.tensor,
    known: tl.tensor,
    gain: tl.tensor,
    shift: tl.tensor,
    channels: int,
    eps: float,
) -> None:
    """Store the LayerNorm over the second axis, of which the first `channels` are `known`; the rest of `x` is 0."""
    mean = tl.sum(x, 1)[:, None] / channels
    centred = tl.where(known, x - mean, 0.0)
    variance = tl.sum(centred * centred, 1)[:, None] / channels
    y = centred * (1.0 / tl.sqrt(variance + eps)) * gain + shift
    tl.store(to, y.to(to.dtype.element_ty), mask=used)
