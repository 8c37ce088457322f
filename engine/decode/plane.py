"""What every reader hands over: the grey values of a picture as its file holds them, not yet prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.fault import Kind, Refused

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue: ITU-R BT.601, as JPEG itself uses them."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One picture before the input contract is carried out.

    `channels` is one grey channel, or red, green and blue, each `uint8|uint16|float32[H, W]`. Colour stays in
    channels because luma is linear: weighing them after the reduction costs nothing. H and W may be smaller
    than the `width` and `height` of the original, where a JPEG was decoded at reduced size.
    """

    channels: tuple[NDArray[Any], ...]
    width: int
    height: int
    white_is_zero: bool = False


def channels_of(samples: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
    """Bring `[H, W]` samples of any numeric type to `uint8`, `uint16` or `float32`.

    The percentile window that follows is blind to shifts and scales, so signed values become offset binary
    and wider ones are scaled to 0..1, both in common for all channels. NaN and infinities, which mark padding
    in floating-point pictures, become the least finite value.
    """
    dtype = samples[0].dtype
    if dtype.kind == "b":
        return tuple(sample.view(np.uint8) for sample in samples)
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return tuple(samples)
    if dtype.kind == "i" and dtype.itemsize <= 2:
        unsigned = np.dtype(f"u{dtype.itemsize}")
        sign = unsigned.type(1 << (8 * dtype.itemsize - 1))
        return tuple(sample.astype(unsigned) ^ sign for sample in samples)
    if dtype.kind in "iuf":
        return _scaled(samples)
    raise Refused(Kind.UNSUPPORTED, f"pixels of type {dtype}")


def _scaled(samples: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float32], ...]:
    with np.errstate(all="ignore"):
        finite = [np.isfinite(sample) for sample in samples]
        if not any(mask.any() for mask in finite):
            raise Refused(Kind.BLANK, "no pixel holds a finite value")
        least = min(float(s[m].min()) for s, m in zip(samples, finite, strict=True) if m.any())
        most = max(float(s[m].max()) for s, m in zip(samples, finite, strict=True) if m.any())
        # halves, so that the span of the widest doubles does not overflow
        span = (most / 2 - least / 2) or 1.0
        return tuple(
            np.where(m, (s / 2 - least / 2) / span, 0).astype(np.float32)
            for s, m in zip(samples, finite, strict=True)
        )
