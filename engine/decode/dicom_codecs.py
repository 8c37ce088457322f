"""The compressed transfer syntaxes of DICOM: one frame's codestream -> its samples.

A table of our own, and not pydicom's plug-ins, which are tried in turn until one gives a picture: the pixels
of a radiograph must not depend on what else is installed, and a lenient decoder must not save a frame that a
strict one refused. imagecodecs (BSD) has a strict decoder for each syntax; it carries libjpeg-turbo, CharLS
and OpenJPEG. Before any of them runs, the codestream's own header has to agree with the data set's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.fault import Kind, Refused
from mxbatch.engine.decode.jpeg import deep_jpeg, frame_of, has_end

_J2K_START = b"\xff\x4f\xff\x51"
_J2K_FIXED = 44  # bytes from the start marker to the first component's


class Shape(NamedTuple):
    """What a codestream's own header claims."""

    height: int
    width: int
    samples: int
    precision: int


def jpeg_shape(stream: bytes) -> Shape:
    """Shape of a JPEG or JPEG-LS stream."""
    frame = frame_of(stream)
    return Shape(frame.height, frame.width, frame.components, frame.precision)


def j2k_shape(stream: bytes) -> Shape:
    """Shape of a JPEG 2000 stream, bare or in a JP2 box; its first component speaks for all."""
    start = stream.find(_J2K_START, 0, 4096)
    if start < 0:
        raise Refused(Kind.CORRUPT, "no JPEG 2000 codestream")
    if start + _J2K_FIXED > len(stream):
        raise Refused(Kind.TRUNCATED, "the codestream ends within its header")
    right, lower, left, upper = struct.unpack_from(">IIII", stream, start + 8)
    samples, depth = struct.unpack_from(">HB", stream, start + 40)
    return Shape(lower - upper, right - left, samples, (depth & 0x7F) + 1)


def _jpeg(stream: bytes) -> NDArray[Any]:
    return np.stack(deep_jpeg(stream, frame_of(stream)), axis=-1)


def _jpeg_ls(stream: bytes) -> NDArray[Any]:
    import imagecodecs

    if not has_end(stream):  # CharLS would say so as well, but may search for seconds
        raise Refused(Kind.TRUNCATED, "no end marker")
    return np.asarray(imagecodecs.jpegls_decode(stream))


def _jpeg_2000(stream: bytes) -> NDArray[Any]:
    import imagecodecs

    return np.asarray(imagecodecs.jpeg2k_decode(stream))


class Codec(NamedTuple):
    """How to look at a codestream, and how to decode it to `[H, W]` or `[H, W, samples]`."""

    shape: Callable[[bytes], Shape]
    decode: Callable[[bytes], NDArray[Any]]
    own_precision: bool = False
    """Whether its samples fill the stream's own precision, where the data set's Bits Stored says less."""


_JPEG = Codec(jpeg_shape, _jpeg)
_JPEG_LS = Codec(jpeg_shape, _jpeg_ls, own_precision=True)
_JPEG_2000 = Codec(j2k_shape, _jpeg_2000, own_precision=True)

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
CODECS = {
    "1.2.840.10008.1.2.4.51": _JPEG,  # Extended, 12 bit
    "1.2.840.10008.1.2.4.57": _JPEG,  # Lossless
    "1.2.840.10008.1.2.4.70": _JPEG,  # Lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,  # near-lossless
    "1.2.840.10008.1.2.4.90": _JPEG_2000,  # lossless only
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _JPEG_2000,  # High-Throughput, lossless
    "1.2.840.10008.1.2.4.202": _JPEG_2000,
    "1.2.840.10008.1.2.4.203": _JPEG_2000,
}


def decode_rle(stream: bytes, rows: int, columns: int, samples: int, bits: int) -> NDArray[Any]:
    """RLE Lossless -> `[samples, rows, columns]` of `bits` wide unsigned numbers."""
    import imagecodecs

    dtype = np.dtype(f"u{bits // 8}")
    # the buffer is the bound: a stream that holds more than the header says is refused
    buffer = bytearray(rows * columns * samples * dtype.itemsize)
    filled = imagecodecs.dicomrle_decode(stream, dtype, out=buffer)
    if len(filled) < len(buffer):
        raise Refused(Kind.TRUNCATED, "the run-length data end before the last row")
    return np.frombuffer(buffer, dtype).reshape(samples, rows, columns)
