"""Which format a file has, by its first bytes and never by its name."""

from __future__ import annotations

import struct

HEAD_BYTES = 512
"""How many bytes `sniff` and `looks_like_text` want; fewer will do where the file is shorter."""

_MAGIC = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",  # BigTIFF
    b"MM\0+": "tiff",
}
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_TEXT_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def sniff(head: bytes) -> str | None:
    """`"jpeg"`, `"png"`, `"bmp"`, `"tiff"` or `"dicom"`; None for anything else.

    DICOM comes first: its preamble may legally hold the first bytes of a TIFF.
    """
    if head[128:132] == b"DICM":
        return "dicom"
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS:
        return "bmp"
    return "dicom" if _is_bare_data_set(head) else None


def _is_bare_data_set(head: bytes) -> bool:
    """DICOM without preamble: it opens with an element of group 2 or 8, explicit or of short even length."""
    if len(head) < 8:
        return False
    group, number = struct.unpack_from("<HH", head)
    order = "<"
    if group == 0x0800:
        group, number, order = 0x0008, number >> 8 | (number & 0xFF) << 8, ">"
    if group not in (0x0002, 0x0008) or number > 0x0100:
        return False
    if head[4:6].isalpha() and head[4:6].isupper():
        return True
    length: int = struct.unpack_from(f"{order}I", head, 4)[0]
    return order == "<" and length <= 256 and length % 2 == 0


def looks_like_text(head: bytes) -> bool:
    """Whether the file is something to read (a web page, a table, a pointer file) and not a picture."""
    if head.startswith(_TEXT_MARKS):
        return True
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not just a character cut in two by the end of the head
            return False
        text = head[: error.start].decode()
    return bool(text) and all(character.isprintable() or character in "\t\n\r\f" for character in text)
