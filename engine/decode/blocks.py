"""Means over blocks of pixels, straight from a picture's integers: where the time of large pictures goes.

Sums of strided slices, in 16 bits as long as they fit. No copy of the full picture is made, which for 16-bit
radiographs is several times faster than resizing in floating point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Number = type[np.uint16] | type[np.float32]


def block_means(channel: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means over `factor` x `factor` blocks, `float32[ceil(H / factor), ceil(W / factor)]`.

    Blocks at the right and lower edges average the pixels that they have.
    """
    if factor == 1:
        return channel.astype(np.float32)
    height, width = channel.shape
    top = _top(channel)
    down = _sums(channel, factor, _holding(top * factor))
    across = _sums(down.T, factor, _holding(top * factor**2)).T
    means: NDArray[np.float32] = np.divide(across, factor**2, dtype=np.float32)
    means[-1] *= factor / (height - factor * (len(means) - 1))
    means[:, -1] *= factor / (width - factor * (means.shape[1] - 1))
    return means


def _top(channel: NDArray[Any]) -> float:
    """What no value of `channel` exceeds. Few radiographs use all of their 16 bits."""
    if channel.dtype.kind != "u":
        return np.inf
    return 255 if channel.dtype.itemsize == 1 else int(channel.max())


def _holding(top: float) -> _Number:
    """The narrowest type for sums up to `top`; float32 holds whole numbers below 2^24 exactly, and rounds others."""
    return np.uint16 if top <= 0xFFFF else np.float32


def _sums(rows: NDArray[Any], factor: int, dtype: _Number) -> NDArray[Any]:
    """Sums of each `factor` rows that follow each other; the last may be of fewer."""
    sums = rows[::factor].astype(dtype)
    for offset in range(1, min(factor, len(rows))):
        part = rows[offset::factor]
        np.add(sums[: len(part)], part, out=sums[: len(part)])
    return sums
