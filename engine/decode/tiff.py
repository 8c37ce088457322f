"""TIFF of 1 to 32 bits, striped or tiled, through tifffile: the largest page of the file.

A TIFF is a web of offsets, so its size says nothing about its cost. Before anything is decoded the number of
pages is bounded, the kind of compression must be a known one, and all strips have to lie within the file:
that also tells a truncated file apart from a broken one.
"""

from __future__ import annotations

import logging
import math
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.dicom_codecs import Shape, j2k_shape, jpeg_shape
from mxbatch.engine.decode.fault import Kind, Refused, check_extent
from mxbatch.engine.decode.jpeg import has_end
from mxbatch.engine.decode.plane import LUMA, Plane, channels_of

if TYPE_CHECKING:
    from tifffile import TiffPage

_MAX_PAGES = 256
_SINGLE_NUMBERS = (
    "imagewidth",
    "imagelength",
    "imagedepth",
    "tilewidth",
    "tilelength",
    "tiledepth",
    "rowsperstrip",
    "samplesperpixel",
    "bitspersample",
    "compression",
    "photometric",
)
"""A damaged tag may hold a list instead, and a list times a height is a longer list: gigabytes of it."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEG = 7
_CODESTREAMS = {_JPEG: jpeg_shape, 33003: j2k_shape, 33005: j2k_shape, 34712: j2k_shape}
"""Compressions whose strips have a header of their own, which could claim more than the page."""
_BOUNDED = frozenset({1, 5, 8, 32946, 32773, 50000})
"""Compressions that decode into a buffer of the page's size: none, LZW, Deflate (two codes), PackBits,
Zstandard.
"""

# it reports what it works around; a logger without handlers would print that among our progress
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_tiff(data: bytes, contract: InputContract, limits: Limits) -> Plane:
    """Grey of the largest page: `uint8`, `uint16` or `float32`, not inverted."""
    import tifffile

    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            page = _largest(file)
            _check(page, data, limits)
            # samples in planes, depth, rows, columns, samples within pixels
            pixels = _view(page, data) if page.is_final else page.asarray(squeeze=False, maxworkers=1)
            colormap = page.colormap if page.photometric == _PALETTE else None
    except tifffile.TiffFileError as error:
        raise Refused(Kind.CORRUPT, str(error)) from error
    samples = np.moveaxis(pixels[:, 0], -1, 1).reshape(-1, *pixels.shape[2:4])
    samples = samples[: 3 if page.photometric in (_RGB, _YCBCR) else 1]  # the others are alpha
    if colormap is not None:
        samples = _luma(colormap)[samples]
    return Plane(
        channels_of(list(samples)), page.imagewidth, page.imagelength, page.photometric == _WHITE_IS_ZERO
    )


def _view(page: TiffPage, data: bytes) -> NDArray[Any]:
    """The pixels of a page that is one piece and not compressed, where they lie in the file."""
    if page.dtype is None:
        raise ValueError("its pixels have no type")
    dtype = np.dtype(page.parent.byteorder + page.dtype.char)
    return np.frombuffer(data, dtype, math.prod(page.shaped), page.dataoffsets[0]).reshape(page.shaped)


def _largest(file: Any) -> TiffPage:
    pages = []
    for page in file.pages:
        pages.append(page)
        if not all(isinstance(getattr(page, name), int) for name in _SINGLE_NUMBERS):
            raise Refused(Kind.CORRUPT, "a size that is not one number")
        if len(pages) > _MAX_PAGES:
            raise Refused(Kind.UNSUPPORTED, f"more than {_MAX_PAGES} pages")
    if not pages:
        raise Refused(Kind.NO_PIXELS, "a file without pages")
    largest: TiffPage = max(pages, key=lambda page: page.imagewidth * page.imagelength)
    return largest


def _check(page: TiffPage, data: bytes, limits: Limits) -> None:
    """Refuse by the page's tags alone."""
    if page.dtype is None:
        raise Refused(Kind.UNSUPPORTED, f"samples of {page.bitspersample} bits")
    pixel_bytes = page.dtype.itemsize * page.samplesperpixel
    check_extent(page.imagewidth, page.imagelength, pixel_bytes, limits)
    if page.is_tiled:
        check_extent(page.tilewidth, page.tilelength, pixel_bytes, limits)
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR):
        raise Refused(Kind.UNSUPPORTED, f"photometric interpretation {int(page.photometric)}")
    if page.photometric == _YCBCR and page.compression != _JPEG:
        raise Refused(Kind.UNSUPPORTED, "YCbCr without JPEG")
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise Refused(Kind.UNSUPPORTED, "a volume")
    if page.compression not in _BOUNDED and page.compression not in _CODESTREAMS:
        raise Refused(Kind.UNSUPPORTED, f"compression {int(page.compression)}")
    _check_strips(page, data)


def _check_strips(page: TiffPage, data: bytes) -> None:
    if not page.dataoffsets or len(page.dataoffsets) != len(page.databytecounts):
        raise Refused(Kind.CORRUPT, "the lists of strips do not match")
    if max(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)) > len(data):
        raise Refused(Kind.TRUNCATED, "the file ends before its last strip")
    row_bytes = -(-page.imagewidth * page.samplesperpixel * page.bitspersample // 8)
    if page.compression == 1 and sum(page.databytecounts) < row_bytes * page.imagelength:
        raise Refused(Kind.TRUNCATED, "the strips are shorter than the page")
    if shape_of := _CODESTREAMS.get(page.compression):
        rows, columns = (
            (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        )
        for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream = data[offset : offset + length]
            shape: Shape = shape_of(stream)
            if shape.height > rows or shape.width > columns or shape.samples > page.samplesperpixel:
                raise Refused(Kind.CORRUPT, "a strip claims more pixels than its page has room for")
            if not has_end(stream):
                raise Refused(Kind.TRUNCATED, "a strip without end marker")


def _luma(colormap: Any) -> Any:
    """`float32[entries]` from the `uint16[3, entries]` of a palette."""
    return sum(
        np.float32(weight) * colour.astype(np.float32) for weight, colour in zip(LUMA, colormap, strict=True)
    )
