"""Bad radiographs to test with: every builder is a pure function to bytes.

`HUGE` has a small file of every format whose header claims a huge picture. `PLANTED` is what the tests of whole runs
put into an archive, and `PLANTED_CODES` what the quarantine must say about each.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import corpus

_HUGE = 65_500


def truncated_jpeg() -> bytes:
    """Half a JPEG, as a broken copy leaves it."""
    whole = corpus.jpeg()
    return whole[: len(whole) // 2]


def truncated_dicom() -> bytes:
    """Two thirds of an uncompressed DICOM."""
    whole = corpus.dicom()
    return whole[: len(whole) * 2 // 3]


def zero_bytes() -> bytes:
    return b""


def text() -> bytes:
    """A web server's excuse, saved under the name of a radiograph."""
    return b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"


def unknown_format() -> bytes:
    """Bytes that open no format."""
    return b"\0\x01\x02\x03 not a picture \xfe\xfd" * 20


def png_cut_short(data: bytes, missing: int | str) -> bytes:
    """`data` with the last `missing` bytes of its picture (or "all") away, every chunk whole and checked."""
    out, picture, at = data[:8], b"", 8
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        at += 12 + length
        if name == b"IDAT":
            picture += body
            continue
        if name == b"IEND":
            rows = zlib.decompress(picture)
            rows = b"" if missing == "all" else rows[: len(rows) - int(missing)]
            out += corpus.png_chunk(b"IDAT", zlib.compress(rows))
        out += corpus.png_chunk(name, body)
    return out


def broken_palette_png() -> bytes:
    """A palette PNG, one byte of whose palette was flipped after the checksum was made."""
    data = bytearray(corpus.png(mode="P"))
    data[data.index(b"PLTE") + 9] ^= 0x40
    return bytes(data)


def deflate_bomb_dicom(inflated_bytes: int = 800_000_000) -> bytes:
    """A deflated DICOM of under a megabyte that inflates to `inflated_bytes`, before any pixel."""
    plain = corpus.dicom(8, 8, syntax=corpus.DEFLATED)
    start = corpus.data_set_start(plain)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, inflated_bytes))
    block = bytes(1 << 20)
    packed += b"".join(packer.compress(block) for _ in range(inflated_bytes // len(block)))
    return plain[:start] + packed + packer.flush()


def deep_nesting_dicom(levels: int = 5000) -> bytes:
    """Sequences within sequences, deeper than any parser that recurses."""
    plain = corpus.dicom(8, 8)
    start = corpus.data_set_start(plain)
    opening = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return plain[:start] + opening * levels + closing * levels + plain[start:]


def huge_header_jpeg() -> bytes:
    """A JPEG whose header claims 65,500 x 65,500 pixels."""
    data = bytearray(corpus.jpeg(8, 8))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, _HUGE, _HUGE)
    return bytes(data)


def huge_header_png() -> bytes:
    data = bytearray(corpus.png(8, 8))
    struct.pack_into(">II", data, 16, _HUGE, _HUGE)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


def huge_header_bmp() -> bytes:
    data = bytearray(corpus.bmp(8, 8))
    struct.pack_into("<ii", data, 18, _HUGE, _HUGE)
    return bytes(data)


def huge_header_tiff() -> bytes:
    """A Deflate TIFF of one small strip that claims the huge page."""
    data = bytearray(corpus.tiff(corpus.mouse(8, 8), compression="zlib", byteorder="<"))
    (count,) = struct.unpack_from("<H", data, struct.unpack_from("<I", data, 4)[0])
    first = struct.unpack_from("<I", data, 4)[0] + 2
    for at in range(first, first + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] in (256, 257, 278):  # width, length, rows per strip
            struct.pack_into("<HII", data, at + 2, 4, 1, _HUGE)
    return bytes(data)


def huge_header_dicom(syntax: str = corpus.EXPLICIT) -> bytes:
    return corpus.dicom(8, 8, syntax=syntax, Rows=_HUGE, Columns=_HUGE)


HUGE: dict[str, Callable[[], bytes]] = {
    "jpeg": huge_header_jpeg,
    "png": huge_header_png,
    "bmp": huge_header_bmp,
    "tiff": huge_header_tiff,
    "dicom": huge_header_dicom,
}

PLANTED: dict[str, Callable[[], bytes]] = {
    "truncated.jpg": truncated_jpeg,
    "truncated.dcm": truncated_dicom,
    "zero_bytes.jpg": zero_bytes,
    "text.jpg": text,
    "huge_header.jpg": huge_header_jpeg,
    "deflate_bomb.dcm": deflate_bomb_dicom,
    "broken_palette.png": broken_palette_png,
    "unknown_format.jpg": unknown_format,
}

PLANTED_CODES = {
    "truncated.jpg": "MX-D101",
    "truncated.dcm": "MX-D501",
    "zero_bytes.jpg": "MX-D003",
    "text.jpg": "MX-D004",
    "huge_header.jpg": "MX-D103",
    "deflate_bomb.dcm": "MX-D504",
    "broken_palette.png": "MX-D202",
    "unknown_format.jpg": "MX-D005",
}
