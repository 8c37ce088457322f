"""BMP, with palette, 16 to 32 bits, and run-length encoding, through Pillow.

Pillow pads a run-length picture that stops early, so the end is checked here.
"""

from __future__ import annotations

import struct
from io import BytesIO

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.fault import Kind, Refused, check_extent
from mxbatch.engine.decode.pillow import grey_plane
from mxbatch.engine.decode.plane import Plane

_RUN_LENGTH = (1, 2)  # compression methods
_END_MARK = b"\0\1"


def read_bmp(data: bytes, contract: InputContract, limits: Limits) -> Plane:
    """Grey of a BMP, `uint8`."""
    from PIL.BmpImagePlugin import BmpImageFile

    if len(data) < 38:
        raise Refused(Kind.TRUNCATED, "the file ends within its header")
    start, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes == 12:  # OS/2: 16-bit sizes, never compressed
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        height = abs(height)  # negative: rows from the top
    check_extent(width, height, max(bits / 8, 1), limits)
    if compression in _RUN_LENGTH:
        runs = int(struct.unpack_from("<I", data, 34)[0])
        if start + runs > len(data) or not data[start : start + runs].rstrip(b"\0").endswith(_END_MARK):
            raise Refused(Kind.TRUNCATED, "no end mark after the run-length data")
    elif start + (width * bits + 31) // 32 * 4 * height > len(data):
        raise Refused(Kind.TRUNCATED, "the file ends before its last row")
    with BmpImageFile(BytesIO(data)) as picture:
        return grey_plane(picture)
