"""The first half of a ConvNeXt block, a 7 x 7 depthwise convolution and the LayerNorm after it, as one kernel.

Done apart they read and write the picture twice; together once, and what lies between stays in float32. Whether
that is faster depends on the GPU, the library that computes convolutions there, and the shape: so `race` measures,
and nobody uses the kernel where it does not win.

Input and output are `bfloat16|float16|float32[B, C, H, W]` in torch's channels_last order; sums and the norm are in
float32 and rounded once, at the end. The twin is written for reading. The kernel is in dwnorm_triton.py.
"""

# B pictures · C channels · H rows · W columns · T taps, 49

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, layer_norm

from mxbatch.kernels.device import triton_serves

SIDE = 7
GAIN = 1.03
"""The kernel has to be so many times as fast as torch: less is noise."""
ROUNDS = 21


class DepthwiseNorm(nn.Module):
    """`norm(conv(x))`, `[B, C, H, W] -> [B, C, H, W]`; for inference.

    The taps stay in the convolution's type, which is that of `x`; all else is kept in float32. Raises ValueError
    where `misfit` says why the two modules are something else.
    """

    weight_TC: Tensor
    bias_C: Tensor
    gain_C: Tensor
    shift_C: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.LayerNorm) -> None:
        super().__init__()
        if why := misfit(conv, norm):
            raise ValueError(f"no depthwise convolution and norm for this kernel: {why}")
        channels = conv.out_channels
        zeros, ones = conv.weight.new_zeros(channels), conv.weight.new_ones(channels)
        parts = {
            "weight_TC": conv.weight.reshape(channels, SIDE * SIDE).T,
            "bias_C": (zeros if conv.bias is None else conv.bias).float(),
            "gain_C": (ones if norm.weight is None else norm.weight).float(),
            "shift_C": (zeros if norm.bias is None else norm.bias).float(),
        }
        for name, part in parts.items():
            self.register_buffer(name, part.detach().clone(memory_format=torch.contiguous_format))
        self.eps = norm.eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        weights = self.weight_TC, self.bias_C, self.gain_C, self.shift_C
        if triton_serves(x_BCHW.device):
            from mxbatch.kernels.dwnorm_triton import dwnorm

            y_BHWC: Tensor = dwnorm(x_BCHW.permute(0, 2, 3, 1).contiguous(), *weights, self.eps)
            return y_BHWC.permute(0, 3, 1, 2)
        return dwnorm_plainly(x_BCHW, *weights, self.eps)


def misfit(conv: nn.Module, norm: nn.Module) -> str | None:
    """Why the two are not what the kernel computes, or None."""
    if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.LayerNorm):
        return f"{type(conv).__name__} and {type(norm).__name__}"
    asked = {
        "kernel": (conv.kernel_size, (SIDE, SIDE)),
        "padding": (conv.padding, (SIDE // 2, SIDE // 2)),
        "padding mode": (conv.padding_mode, "zeros"),
        "stride": (conv.stride, (1, 1)),
        "dilation": (conv.dilation, (1, 1)),
        "groups": (conv.groups, conv.in_channels),
        "channels": (conv.out_channels, conv.in_channels),
        "norm over": (tuple(norm.normalized_shape), (conv.out_channels,)),
    }
    odd = [f"{what} {found}, not {wanted}" for what, (found, wanted) in asked.items() if found != wanted]
    return ", ".join(odd) or None


def dwnorm_plainly(
    x_BCHW: Tensor, weight_TC: Tensor, bias_C: Tensor, gain_C: Tensor, shift_C: Tensor, eps: float
) -> Tensor:
    """The twin, in torch."""
    channels = x_BCHW.shape[1]
    kernel = weight_TC.float().T.reshape(channels, 1, SIDE, SIDE)
    y_BCHW = conv2d(x_BCHW.float(), kernel, bias_C, padding=SIDE // 2, groups=channels)
    y_BHWC = layer_norm(y_BCHW.permute(0, 2, 3, 1), (channels,), gain_C, shift_C, eps)
    return y_BHWC.permute(0, 3, 1, 2).to(x_BCHW.dtype)


@dataclass(frozen=True, slots=True)
class Race:
    """Medians of the same work done twice, in milliseconds."""

    fused_ms: float
    torch_ms: float

    @property
    def won(self) -> bool:
        return self.fused_ms * GAIN <= self.torch_ms


def race(
    shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device, *, rounds: int = ROUNDS
) -> Race:
    """The kernel against torch's convolution and norm on `[B, C, H, W]`, in turns, on a CUDA device.

    torch computes both in `dtype`, the norm's sums in float32: the fewest bytes that it can move.
    """
    channels = shape[1]
    conv = nn.Conv2d(channels, channels, SIDE, padding=SIDE // 2, groups=channels, device=device, dtype=dtype)
    norm = nn.LayerNorm(channels, device=device, dtype=dtype)
    fused = DepthwiseNorm(conv, norm)
    conv = conv.to(memory_format=torch.channels_last)
    x_BCHW = torch.randn(shape, device=device).to(dtype, memory_format=torch.channels_last)

    def in_torch() -> Tensor:
        y: Tensor = norm(conv(x_BCHW).permute(0, 2, 3, 1))
        return y

    with torch.inference_mode(), torch.cuda.device(device):
        times = [(milliseconds(lambda: fused(x_BCHW)), milliseconds(in_torch)) for _ in range(rounds)]
    return Race(*(median(column) for column in zip(*times[1:], strict=True)))


def milliseconds(work: Callable[[], object], repeats: int = 5) -> float:
    """How long the current CUDA device takes over `work`, on average of `repeats`."""
    begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begun.record()
    for _ in range(repeats):
        work()
    done.record()
    done.synchronize()
    return float(begun.elapsed_time(done)) / repeats
