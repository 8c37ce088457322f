"""What a decoded file must show: grey values, by the contract alone, and as another library reads them."""

from __future__ import annotations

from io import BytesIO

import corpus
import numpy as np
from PIL import Image

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.plane import Plane, channels_of
from mxbatch.engine.decode.prepare import prepare
from mxbatch.engine.decode.radiograph import decode

CONTRACT, LIMITS = InputContract(size=128, window=(0, 100)), Limits()
GREY, DEEP = corpus.mouse(), corpus.mouse(bits=16)
COLOUR = corpus.coloured(GREY)


def shown(grey, *, white_is_zero=False):
    """The contract, applied to grey values or to `[H, W, 3]` that never were in a file."""
    samples = [grey] if grey.ndim == 2 else list(np.moveaxis(grey, -1, 0))
    return prepare(Plane(channels_of(samples), grey.shape[1], grey.shape[0], white_is_zero), CONTRACT)


def assert_shows(data, grey, *, form, within=0, **options):
    decoded = decode(data, CONTRACT, LIMITS)
    assert (decoded.format, decoded.width, decoded.height) == (form, grey.shape[1], grey.shape[0])
    difference = np.abs(decoded.image.astype(int) - shown(grey, **options))
    assert difference.max() <= within


def luma(picture):
    return np.asarray(picture.convert("L"))


def as_pillow_reads(data):
    with Image.open(BytesIO(data)) as picture:
        return luma(picture)
