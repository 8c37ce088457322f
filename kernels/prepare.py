"""Pictures of any size in, `uint8[B, S, S]` out: the input contract's steps 2 to 5 for what is decoded on a GPU.

The contract, as the host carries it out (engine/decode/contract.py says why):

1. means over `factor` x `factor` blocks, where `factor` leaves the longest side twice the target or more; blocks
   at the right and lower edges average the pixels that they have;
2. a bicubic filter (a = -1/2), as wide as the reduction asks for, from the blocks to a longest side of S;
3. the two percentiles of the result, interpolated linearly, become 0 and 255; rounded half to even, clipped;
4. inverted where zero is white; 5. padded with 0, centred, to S x S.

Twin and kernel keep to it within one grey level of the host and of each other: they add up float32 numbers in
other orders, and what lies on the border between two levels may fall to either side. Nothing else may differ.
The twin is written for reading. The kernel is in prepare_triton.py.
"""

# B pictures · H, W rows and columns of one · S side of the result

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from mxbatch.kernels.device import triton_serves

DTYPES = (torch.uint8, torch.uint16)
NO_CONTRAST = 1e-5
"""A window narrower than this share of its grey level is what rounding leaves of a constant picture."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One grey plane on its device, as a decoder left it."""

    pixels_HW: Tensor
    """`uint8|uint16[H, W]`; neighbours in a row lie side by side."""
    width: int
    """Of the original, in pixels: more than W where a JPEG was decoded at reduced size."""
    height: int
    white_is_zero: bool = False

    def __post_init__(self) -> None:
        pixels = self.pixels_HW
        if pixels.dtype not in DTYPES or pixels.ndim != 2 or not pixels.numel() or pixels.stride(1) != 1:
            raise ValueError(
                f"a picture is uint8|uint16[H, W] in rows, got {pixels.dtype}{list(pixels.shape)}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalise:
    """How the encoder would normalise grey levels in [0, 1], and the type that it wants them in."""

    mean: float
    std: float
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch as a model wants it."""

    images_BSS: Tensor
    """`uint8`; black where `blank`."""
    blank_B: Tensor
    """`bool`: the window is empty, so there is nothing to see. The host refuses such a picture."""
    normalised_B1SS: Tensor | None
    """The same grey levels as the encoder's first layer wants them, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a reduction, in pixels."""

    length: int
    """Of the picture as it was decoded."""
    factor: int
    """Pixels per block."""
    target: int

    @property
    def blocks(self) -> int:
        return -(-self.length // self.factor)

    @property
    def reach(self) -> int:
        """Half the filter's width, `2 * reach`, in units in which a block is `factor * target` wide and a pixel of
        the result `length`. Whole numbers: so no position is rounded, and any device finds the same taps.
        """
        return max(self.length, self.factor * self.target)


def axes(picture: Picture, size: int) -> tuple[Axis, Axis]:
    """Rows and columns on their way to a longest side of `size`; the original's shape is kept."""
    height, width = picture.pixels_HW.shape
    original = (picture.height, picture.width)
    factor = max(1, max(height, width) // (2 * size))
    down, across = (max(1, round(side * size / max(original))) for side in original)
    return Axis(height, factor, down), Axis(width, factor, across)


def ranks(percentile: float, count: int) -> tuple[int, int, float]:
    """Which two of `count` ascending values a percentile lies between, and how far on the way to the second."""
    at = percentile / 100 * (count - 1)
    first = math.floor(at)
    return first, min(first + 1, count - 1), at - first


def prepare(
    pictures: Sequence[Picture],
    size: int,
    percentiles: tuple[float, float],
    normalise: Normalise | None = None,
) -> Prepared:
    """`pictures`, all on one device, as one batch on that device. On a GPU their pixels are read once."""
    if len({picture.pixels_HW.device for picture in pictures}) != 1:
        raise ValueError("prepare takes one or more pictures, all on one device")
    if triton_serves(pictures[0].pixels_HW.device):
        from mxbatch.kernels.prepare_triton import prepare_on_gpu

        return prepare_on_gpu(pictures, size, percentiles, normalise)
    return prepare_plainly(pictures, size, percentiles, normalise)


def prepare_plainly(
    pictures: Sequence[Picture],
    size: int,
    percentiles: tuple[float, float],
    normalise: Normalise | None = None,
) -> Prepared:
    """The twin: one picture after the other, in torch."""
    images, blank = zip(*(_prepare_one(picture, size, percentiles) for picture in pictures), strict=True)
    levels_BSS = torch.stack(images)
    normalised = None
    if normalise is not None:
        grey_BSS = levels_BSS / 255
        normalised = ((grey_BSS - normalise.mean) / normalise.std)[:, None].to(normalise.dtype)
    return Prepared(levels_BSS.to(torch.uint8), torch.stack(blank), normalised)


def _prepare_one(picture: Picture, size: int, percentiles: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Grey levels `float32[S, S]`, and whether the picture is blank."""
    down, across = axes(picture, size)
    pixels = picture.pixels_HW.to(torch.float32)
    blocks = avg_pool2d(pixels[None], down.factor, ceil_mode=True)[0]
    grey = filter_matrix(down, blocks.device) @ (blocks.double() @ filter_matrix(across, blocks.device).T)
    grey = grey.float()

    ascending = grey.flatten().sort().values.double()
    low, high = (
        torch.lerp(ascending[first], ascending[second], share)
        for first, second, share in (ranks(percentile, len(ascending)) for percentile in percentiles)
    )
    blank = ~(high - low > NO_CONTRAST * torch.maximum(low.abs(), high.abs()))
    levels = ((grey - low.float()) * (255 / (high - low)).float()).clip(0, 255).round()
    levels = torch.where(blank, 0, 255 - levels if picture.white_is_zero else levels)
    left, top = (size - across.target) // 2, (size - down.target) // 2
    margins = (left, size - across.target - left, top, size - down.target - top)
    return pad(levels, margins), blank


def filter_matrix(axis: Axis, device: torch.device) -> Tensor:
    """`float64[target, blocks]`: what every block gives to every pixel of the result; rows add up to 1."""
    pixels, blocks = (torch.arange(count, device=device) for count in (axis.target, axis.blocks))
    distance = (2 * pixels[:, None] + 1) * axis.length - (2 * blocks + 1) * axis.factor * axis.target
    x = distance.double().abs() / (2 * axis.reach)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0))
    return weights / weights.sum(dim=1, keepdim=True)
