"""PNG: what radiographs are written as through libpng, which is half again as fast; the rest through Pillow.

Pillow checks the checksums of small chunks but not of the picture data, and both are content with a file that stops
before IEND. Both are checked here, in one cheap walk, so that a damaged radiograph is not scored. Palettes, packed
bits, interlaced pictures and 16-bit colour, of which Pillow gives the high bytes, are left to Pillow. libpng refuses
a picture that lacks rows; Pillow leaves them black, so for what it reads the rows are counted first.
"""

from __future__ import annotations

import logging
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.fault import Kind, Refused, check_extent
from mxbatch.engine.decode.pillow import grey_plane
from mxbatch.engine.decode.plane import Plane

_SIGNATURE_BYTES = 8
_GREY, _COLOUR, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 4, 6
_PLAIN = frozenset({(_GREY, 8), (_GREY, 16), (_COLOUR, 8), (_GREY_ALPHA, 8), (_COLOUR_ALPHA, 8)})
"""Colour type and depth of what both libraries give alike."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples per pixel
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced picture (PNG, third edition, 8.2): first column and row, step right and down."""
_BLOCK_BYTES = 1 << 18

# it reports what libpng only warns about; a logger without handlers would print that among our progress
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())


def read_png(data: bytes, contract: InputContract, limits: Limits) -> Plane:
    """Grey of a PNG: `uint8`, or `uint16` where the file holds 16-bit grey."""
    if len(data) < 33:
        raise Refused(Kind.TRUNCATED, "the file ends within its header")
    if data[12:16] != b"IHDR":
        raise Refused(Kind.CORRUPT, "the first chunk is not the header")
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if colour not in _SAMPLES:
        raise Refused(Kind.CORRUPT, f"colour type {colour} does not exist")
    check_extent(width, height, _SAMPLES[colour] * max(depth / 8, 1), limits)
    parts = picture_data(data)
    if (colour, depth) in _PLAIN and not interlaced:
        return Plane((_plain(data),), width, height)
    _check_rows(parts, inflated_bytes(width, height, _SAMPLES[colour] * depth, interlaced=bool(interlaced)))
    return read_any_png(data)


def read_any_png(data: bytes) -> Plane:
    """Grey of any PNG that has passed the checks, by Pillow."""
    from PIL.PngImagePlugin import PngImageFile

    with PngImageFile(BytesIO(data)) as picture:
        return grey_plane(picture)


def _plain(data: bytes) -> NDArray[Any]:
    """`uint8[H, W]` or `uint16[H, W]` by libpng, alpha dropped and colour weighed as Pillow does it."""
    import imagecodecs

    pixels: NDArray[Any] = imagecodecs.png_decode(data)
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 2:
        return pixels[:, :, 0]
    return np.asarray(Image.fromarray(pixels).convert("L"))


def picture_data(data: bytes) -> list[memoryview]:
    """The compressed picture, chunk by chunk.

    A PNG that ends before IEND, or in which a chunk that pixels depend on fails its checksum, is refused.
    """
    view = memoryview(data)
    parts: list[memoryview] = []
    at, name = _SIGNATURE_BYTES, b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise Refused(Kind.TRUNCATED, "the file ends before its last chunk")
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise Refused(Kind.TRUNCATED, f"the file ends within chunk {_shown(name)}")
        critical = not name[0] & 0x20
        if critical and zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise Refused(Kind.CORRUPT, f"chunk {_shown(name)} fails its checksum")
        if name == b"IDAT":
            parts.append(view[at + 8 : end])
        at = end + 4
    return parts


def inflated_bytes(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    """How long a picture of `bits` per pixel is before compression: a filter byte and whole bytes in each row."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, right, down in passes:
        columns, rows = -((left - width) // right), -((top - height) // down)
        if columns > 0 < rows:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _check_rows(parts: list[memoryview], expected: int) -> None:
    """Refuse a picture that inflates to less than `expected` bytes; never more than a block of it is held."""
    inflater, length = zlib.decompressobj(), 0
    try:
        for part in parts:
            rest: bytes | memoryview = part
            while rest and length < expected and not inflater.eof:
                length += len(inflater.decompress(rest, _BLOCK_BYTES))
                rest = inflater.unconsumed_tail
        while length < expected and (held := inflater.decompress(b"", _BLOCK_BYTES)):
            length += len(held)
    except zlib.error:
        raise Refused(Kind.CORRUPT, "the picture does not decompress") from None
    if length < expected:
        raise Refused(Kind.CORRUPT, f"the picture has {length} of {expected} bytes")


def _shown(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")
