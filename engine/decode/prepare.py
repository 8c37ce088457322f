"""From the grey values of a file to the model's `uint8[S, S]`: steps 2 to 6 of contract.py.

Large pictures are first averaged over whole blocks of pixels, straight from the file's integers (blocks.py), and
only the small result is resized finely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mxbatch.engine.decode.blocks import block_means
from mxbatch.engine.decode.contract import InputContract
from mxbatch.engine.decode.fault import Kind, Refused
from mxbatch.engine.decode.plane import LUMA, Plane
from mxbatch.engine.decode.ranks import tails
from mxbatch.engine.decode.upright import upright

_ROUNDING = 1e-5
"""Contrast below this share of the grey level is what float32 sums leave behind on a constant picture."""


def prepare(plane: Plane, contract: InputContract) -> NDArray[np.uint8]:
    """`uint8[S, S]`, C-contiguous. Raises `Refused` with kind BLANK where the window is empty."""
    small = reduce(plane, contract.reads)
    picture = window(small, contract.window, inverted=plane.white_is_zero)
    return upright(picture, contract.size) if contract.upright else pad(picture, contract.size)


def reduce(plane: Plane, size: int) -> NDArray[np.float32]:
    """The luma with its longest side brought to `size`, as `float32[h, w]` in the file's grey levels.

    The shape follows the original's aspect ratio, so that a JPEG decoded at reduced size keeps it too.
    """
    longest = max(plane.width, plane.height)
    to_width, to_height = (max(1, round(side * size / longest)) for side in (plane.width, plane.height))
    height, width = plane.channels[0].shape
    # blocks stop at twice the target: the fine filter then still decides what the picture looks like
    factor = max(1, max(height, width) // (2 * size))
    averaged = [block_means(channel, factor) for channel in plane.channels]
    grey = averaged[0]
    if len(averaged) == 3:
        grey = LUMA[0] * averaged[0] + LUMA[1] * averaged[1] + LUMA[2] * averaged[2]
    # the last blocks may be incomplete; the box tells the filter how much of them is picture
    box = (0.0, 0.0, width / factor, height / factor)
    picture = Image.fromarray(np.ascontiguousarray(grey, np.float32))
    return np.asarray(picture.resize((to_width, to_height), Image.Resampling.BICUBIC, box=box))


def window(
    grey: NDArray[np.float32], percentiles: tuple[float, float], *, inverted: bool
) -> NDArray[np.uint8]:
    """Stretch `[h, w]` so that its `percentiles` become 0 and 255, round and clip."""
    low, high = tails(grey, *percentiles)
    if not high - low > _ROUNDING * max(abs(low), abs(high)):
        raise Refused(
            Kind.BLANK, f"{percentiles[0]:g} to {percentiles[1]:g} % of the picture have one grey level"
        )
    levels = grey - np.float32(low)
    levels *= np.float32(255 / (high - low))
    np.clip(np.rint(levels, out=levels), 0, 255, out=levels)
    picture = levels.astype(np.uint8)
    return 255 - picture if inverted else picture


def pad(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Centre `[h, w]` on a black `[size, size]`; an odd row or column left over goes below or right."""
    height, width = picture.shape
    top, left = (size - height) // 2, (size - width) // 2
    out = np.zeros((size, size), np.uint8)
    out[top : top + height, left : left + width] = picture
    return out
