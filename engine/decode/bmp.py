"""BMP, with palette, 16 to 32 bits, and run-length encoding.

Eight bits with a palette of greys, as scanners write them, are looked at where they lie; the rest goes through
Pillow. Pillow pads a run-length picture that stops early, so the end is checked here.
"""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.fault import Kind, Refused, check_extent
from mxbatch.engine.decode.pillow import grey_plane
from mxbatch.engine.decode.plane import Plane

_RUN_LENGTH = (1, 2)  # compression methods
_END_MARK = b"\0\1"
_GREYS = np.arange(256, dtype=np.uint8)[:, None]
_GREYS_BYTES = 4 * len(_GREYS)


def read_bmp(data: bytes, contract: InputContract, limits: Limits) -> Plane:
    """Grey of a BMP, `uint8`."""
    from PIL.BmpImagePlugin import BmpImageFile

    if len(data) < 38:
        raise Refused(Kind.TRUNCATED, "the file ends within its header")
    start, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes == 12:  # OS/2: 16-bit sizes, never compressed
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, from_top = 0, False
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        height, from_top = abs(height), height < 0
    check_extent(width, height, max(bits / 8, 1), limits)
    if compression in _RUN_LENGTH:
        runs = int(struct.unpack_from("<I", data, 34)[0])
        if start + runs > len(data) or not data[start : start + runs].rstrip(b"\0").endswith(_END_MARK):
            raise Refused(Kind.TRUNCATED, "no end mark after the run-length data")
    elif start + (width * bits + 31) // 32 * 4 * height > len(data):
        raise Refused(Kind.TRUNCATED, "the file ends before its last row")
    elif bits == 8 and compression == 0 and _is_grey(data, header_bytes, start):
        row_bytes = (width + 3) // 4 * 4
        rows = np.frombuffer(data, np.uint8, row_bytes * height, start).reshape(height, row_bytes)[:, :width]
        return Plane((rows if from_top else rows[::-1],), width, height)
    with BmpImageFile(BytesIO(data)) as picture:
        return grey_plane(picture)


def _is_grey(data: bytes, header_bytes: int, start: int) -> bool:
    """Whether a palette of 256 entries (blue, green, red and a spare byte each) leads each number to itself."""
    palette = 14 + header_bytes
    if header_bytes == 12 or start < palette + _GREYS_BYTES:  # OS/2 has three bytes to an entry
        return False
    colours = struct.unpack_from("<I", data, 46)[0]
    entries = np.frombuffer(data, np.uint8, _GREYS_BYTES, palette).reshape(-1, 4)
    return colours in (0, 256) and bool((entries[:, :3] == _GREYS).all())
