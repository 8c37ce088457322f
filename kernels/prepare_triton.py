"""The kernels behind prepare.py: four launches for a batch, whatever the sizes of its pictures.

    source ──_means──► blocks ──_filter across──► ──_filter down──► grey ──_window──► uint8, normalised

Only `_means` looks at the source, and reads every pixel once; what follows is a fraction of it and stays in the
cache. A picture's sizes are a row of a table, so a batch may mix sizes and depths. Every kernel is launched for the
largest picture; programs that have nothing to do in a smaller one do nothing.
"""

# B pictures · S side of the result

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from mxbatch.kernels.prepare import NO_CONTRAST, Axis, Normalise, Picture, Prepared, axes, ranks

# What a kernel knows of a picture: the columns of the table. An axis takes four, see `_axis`.
ADDRESS, PITCH, DEEP, INVERTED = (tl.constexpr(column) for column in range(4))
DOWN, ACROSS, RANKS = tl.constexpr(4), tl.constexpr(8), tl.constexpr(12)
LENGTH, FACTOR, TARGET, COUNT = (tl.constexpr(column) for column in range(4))
COLUMNS = tl.constexpr(16)

BLOCKS = 64
"""Blocks that one program of `_means` averages."""
ROWS, WIDTH = 4, 128
"""Pixels that one program of `_filter` computes."""
PIXELS = 1024
"""Pixels that `_window`, one program per picture, looks at together."""
WINDOW_WARPS = 8


def prepare_on_gpu(
    pictures: Sequence[Picture],
    size: int,
    percentiles: tuple[float, float],
    normalise: Normalise | None = None,
) -> Prepared:
    """`prepare`, on the pictures' own device and its current stream."""
    device = pictures[0].pixels_HW.device
    ways = [axes(picture, size) for picture in pictures]
    count, high, wide = len(pictures), max(d.blocks for d, _ in ways), max(a.blocks for _, a in ways)
    between = [[ranks(q, d.target * a.target) for q in percentiles] for d, a in ways]
    table_BC = torch.tensor([_row(*each) for each in zip(pictures, ways, between, strict=True)])
    shares_B4 = torch.tensor(
        [[part for *_, share in pair for part in (1 - share, share)] for pair in between], dtype=torch.float64
    )
    table_BC, shares_B4 = table_BC.to(device), shares_B4.to(device)

    blocks, narrow, grey = (
        torch.empty(count, *shape, device=device) for shape in ((high, wide), (high, size), (size, size))
    )
    images_BSS = torch.empty(count, size, size, dtype=torch.uint8, device=device)
    blank_B = torch.empty(count, dtype=torch.bool, device=device)
    norm = normalise or Normalise(mean=0, std=1)
    normalised = torch.empty((count, 1, size, size) if normalise else 0, dtype=norm.dtype, device=device)

    side = triton.next_power_of_2(max(down.factor for down, _ in ways))
    _means[(count, high, triton.cdiv(wide, BLOCKS))](table_BC, blocks, high, wide, BLOCKS=BLOCKS, SIDE=side)
    for source, result, horizontal in ((blocks, narrow, True), (narrow, grey, False)):
        tiles = triton.cdiv(result.shape[1], ROWS), triton.cdiv(size, WIDTH)
        shapes = (*source.shape[1:], *result.shape[1:])
        _filter[(count, *tiles)](
            table_BC, source, result, *shapes, HORIZONTAL=horizontal, ROWS=ROWS, WIDTH=WIDTH
        )
    _window[(count,)](
        table_BC,
        shares_B4,
        grey,
        images_BSS,
        blank_B,
        normalised,
        size,
        norm.mean,
        norm.std,
        NORMALISED=normalise is not None,
        NO_CONTRAST=NO_CONTRAST,
        PIXELS=PIXELS,
        num_warps=WINDOW_WARPS,
    )
    return Prepared(images_BSS, blank_B, normalised if normalise else None)


def _row(picture: Picture, way: tuple[Axis, Axis], between: list[tuple[int, int, float]]) -> list[int]:
    pixels = picture.pixels_HW
    deep = pixels.dtype == torch.uint16
    source = [pixels.data_ptr(), pixels.stride(0), int(deep), int(picture.white_is_zero)]
    return [*source, *_axis(way[0]), *_axis(way[1]), *(rank for *pair, _ in between for rank in pair)]


def _axis(axis: Axis) -> list[int]:
    return [axis.length, axis.factor, axis.target, axis.blocks]


@triton.jit
def _means(
    table_BC: tl.tensor, blocks: tl.tensor, high: int, wide: int, BLOCKS: tl.constexpr, SIDE: tl.constexpr
) -> None:
    """Means of `BLOCKS` neighbouring blocks; `SIDE` is the power of two that holds a block's side."""
    picture, row = tl.program_id(0), tl.program_id(1)
    entry = table_BC + picture * COLUMNS
    height, width = tl.load(entry + DOWN + LENGTH).to(tl.int32), tl.load(entry + ACROSS + LENGTH).to(tl.int32)
    factor = tl.load(entry + DOWN + FACTOR).to(tl.int32)
    block = tl.program_id(2) * BLOCKS + tl.arange(0, BLOCKS)
    column = block[:, None] * factor + tl.arange(0, SIDE)[None, :]
    inside = (tl.arange(0, SIDE)[None, :] < factor) & (column < width)
    if row * factor < height and tl.program_id(2) * BLOCKS * factor < width:
        address, pitch, deep = tl.load(entry + ADDRESS), tl.load(entry + PITCH), tl.load(entry + DEEP)
        lines = tl.minimum(factor, height - row * factor)
        total = tl.zeros([BLOCKS, SIDE], tl.float32)
        for line in range(lines):
            at = (row * factor + line) * pitch + column
            if deep != 0:
                pixels = tl.load(address.to(tl.pointer_type(tl.uint16)) + at, mask=inside, other=0).to(
                    tl.float32
                )
            else:
                pixels = tl.load(address.to(tl.pointer_type(tl.uint8)) + at, mask=inside, other=0).to(
                    tl.float32
                )
            total += pixels
        amount = lines * tl.minimum(factor, tl.maximum(width - block * factor, 1))
        mean = tl.sum(total, 1) / amount.to(tl.float32)
        to = blocks + picture.to(tl.int64) * high * wide + row * wide + block
        tl.store(to, mean, mask=block * factor < width)


@triton.jit
def _filter(
    table_BC: tl.tensor,
    source: tl.tensor,
    result: tl.tensor,
    source_high: int,
    source_wide: int,
    high: int,
    wide: int,
    HORIZONTAL: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """The bicubic filter in one direction. Weights are computed where they are used: there is no table of taps."""
    picture = tl.program_id(0)
    entry = table_BC + picture * COLUMNS
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(2) * WIDTH + tl.arange(0, WIDTH))[None, :]
    if HORIZONTAL:
        axis, pixel = entry + ACROSS, column
        used = (row < tl.load(entry + DOWN + COUNT)) & (column < tl.load(entry + ACROSS + TARGET))
    else:
        axis, pixel = entry + DOWN, row
        used = (row < tl.load(entry + DOWN + TARGET)) & (column < tl.load(entry + ACROSS + TARGET))
    length, factor = tl.load(axis + LENGTH).to(tl.int32), tl.load(axis + FACTOR).to(tl.int32)
    target, count = tl.load(axis + TARGET).to(tl.int32), tl.load(axis + COUNT).to(tl.int32)
    block_width = factor * target
    reach = tl.maximum(length, block_width)
    first = tl.maximum((2 * pixel + 1) * length - 4 * reach, 0) // (2 * block_width)
    source += picture.to(tl.int64) * source_high * source_wide
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    weights = tl.zeros([ROWS, WIDTH], tl.float32)
    for tap in range(4 * reach // block_width + 2):
        block = first + tap
        distance = (2 * pixel + 1) * length - (2 * block + 1) * block_width
        x = tl.abs(distance).to(tl.float32) / (2 * reach).to(tl.float32)
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        weight = tl.where(x < 1, near, tl.where(x < 2, far, 0.0))
        weight = tl.where(block < count, weight, 0.0)
        at = row * source_wide + block if HORIZONTAL else block * source_wide + column
        total += weight * tl.load(source + at, mask=used & (block < count), other=0)
        weights += weight
    to = result + picture.to(tl.int64) * high * wide + row * wide + column
    tl.store(to, total / tl.where(used, weights, 1.0), mask=used)


@triton.jit
def _window(
    table_BC: tl.tensor,
    shares_B4: tl.tensor,
    grey_BSS: tl.tensor,
    images_BSS: tl.tensor,
    blank_B: tl.tensor,
    normalised_BSS: tl.tensor,
    size: int,
    mean: float,
    std: float,
    NORMALISED: tl.constexpr,
    NO_CONTRAST: tl.constexpr,
    PIXELS: tl.constexpr,
) -> None:
    """Percentiles, window, inversion and margins of one picture.

    The four grey levels that the two percentiles lie between are found exactly, bit by bit from the highest: a bit
    is set where no more pixels than the rank allows are less than the number that it makes.
    """
    picture = tl.program_id(0).to(tl.int64)
    entry = table_BC + picture * COLUMNS
    high, wide = tl.load(entry + DOWN + TARGET).to(tl.int32), tl.load(entry + ACROSS + TARGET).to(tl.int32)
    grey_BSS += picture * size * size
    place = tl.arange(0, 4)
    rank = tl.load(entry + RANKS + place).to(tl.int32)
    key = tl.zeros([4], tl.uint32)
    for step in range(32):
        candidate = key | (tl.full([4], 0x80000000, tl.uint32) >> step)
        less = tl.zeros([PIXELS, 4], tl.int32)
        for start in range(0, high * wide, PIXELS):
            at = start + tl.arange(0, PIXELS)
            grey = tl.load(
                grey_BSS + at // wide * size + at % wide, mask=at < high * wide, other=float("inf")
            )
            less += (_key(grey)[:, None] < candidate[None, :]).to(tl.int32)
        key = tl.where(tl.sum(less, 0) <= rank, candidate, key)
    parts = _grey(key).to(tl.float64) * tl.load(shares_B4 + picture * 4 + place)
    low = tl.sum(tl.where(place < 2, parts, 0.0), 0)
    top = tl.sum(tl.where(place < 2, 0.0, parts), 0)
    contrast = top - low > NO_CONTRAST * tl.maximum(tl.abs(low), tl.abs(top))
    tl.store(blank_B + picture, contrast == 0)
    scale = (255.0 / tl.where(contrast, top - low, 1.0)).to(tl.float32)
    darkest = low.to(tl.float32)

    inverted = tl.load(entry + INVERTED) != 0
    for start in range(0, size * size, PIXELS):
        at = start + tl.arange(0, PIXELS)
        row, column = at // size - (size - high) // 2, at % size - (size - wide) // 2
        inside = (row >= 0) & (row < high) & (column >= 0) & (column < wide)
        grey = tl.load(grey_BSS + row * size + column, mask=inside, other=0)
        level = tl.minimum(tl.maximum((grey - darkest) * scale, 0.0), 255.0)
        level = (level + 12582912.0) - 12582912.0  # half to even: 1.5 * 2**23 leaves no room for a fraction
        level = tl.where(inverted, 255.0 - level, level)
        level = tl.where(contrast, tl.where(inside, level, 0.0), 0.0)
        used = at < size * size
        tl.store(images_BSS + picture * size * size + at, level.to(tl.uint8), mask=used)
        if NORMALISED:
            normal = tl.div_rn(tl.div_rn(level, 255.0) - mean, std)
            to = normalised_BSS + picture * size * size + at
            tl.store(to, normal.to(normalised_BSS.dtype.element_ty), mask=used)


@triton.jit
def _key(grey: tl.tensor) -> tl.tensor:
    """Whole numbers that ascend as the floating-point numbers do."""
    bits = grey.to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def _grey(key: tl.tensor) -> tl.tensor:
    """The inverse of `_key`."""
    bits = tl.where(key >> 31 != 0, key & 0x7FFFFFFF, key ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)
