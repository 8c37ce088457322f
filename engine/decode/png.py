"""PNG, any depth, palette or interlacing, through Pillow.

Pillow checks the checksums of small chunks but not of the picture data, and is content with a file that stops
before IEND. Both are checked here, in one cheap walk, so that a damaged radiograph is not scored. Pillow
gives 16-bit grey in full and the high bytes of 16-bit colour.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.fault import Kind, Refused, check_extent
from mxbatch.engine.decode.pillow import grey_plane
from mxbatch.engine.decode.plane import Plane

_SIGNATURE_BYTES = 8
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples per pixel


def read_png(data: bytes, contract: InputContract, limits: Limits) -> Plane:
    """Grey of a PNG: `uint8`, or `uint16` where the file holds 16-bit grey."""
    from PIL.PngImagePlugin import PngImageFile

    if len(data) < 33:
        raise Refused(Kind.TRUNCATED, "the file ends within its header")
    if data[12:16] != b"IHDR":
        raise Refused(Kind.CORRUPT, "the first chunk is not the header")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if colour not in _SAMPLES:
        raise Refused(Kind.CORRUPT, f"colour type {colour} does not exist")
    check_extent(width, height, _SAMPLES[colour] * max(depth / 8, 1), limits)
    check_chunks(data)
    with PngImageFile(BytesIO(data)) as picture:
        return grey_plane(picture)


def check_chunks(data: bytes) -> None:
    """Refuse a PNG that ends before IEND, or in which a chunk that pixels depend on fails its checksum."""
    view = memoryview(data)
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
        at = end + 4


def _shown(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")
