"""The way everybody begins with: all pixels of a file, to eight bits, resized. Pillow, and pydicom for DICOM.

It is what peers open files with, and what the engine's own decoding is measured beside.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def naive(data: bytes, size: int) -> NDArray[np.uint8]:
    """`uint8[size, size]`, its own and writable. Raises what Pillow and pydicom raise."""
    if data[128:132] == b"DICM":
        import pydicom

        picture = _stretched(pydicom.dcmread(io.BytesIO(data)).pixel_array)
    else:
        picture = Image.open(io.BytesIO(data))
        if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip
            picture = _stretched(np.asarray(picture))
    return np.array(picture.convert("L").resize((size, size), Image.Resampling.BICUBIC))


def open_grey(path: str, size: int) -> NDArray[np.uint8]:
    """`naive` of a file."""
    return naive(Path(path).read_bytes(), size)


def _stretched(grey: NDArray[np.generic]) -> Image.Image:
    """From the darkest to the brightest pixel, to eight bits."""
    levels = grey.astype(np.float32)
    low, high = float(levels.min()), float(levels.max())
    return Image.fromarray(((levels - low) * (255 / max(high - low, 1.0))).astype(np.uint8))
