"""The top-level elements of a DICOM file, as views of its bytes: the structure, without any meaning.

Why this is not pydicom, which the tests hold it against: pydicom's parser speaks through `warnings`, whose
filters belong to the whole process and cannot be silenced from one of several threads; it recurses into
sequences as deep as a file says; it inflates deflated sets without a bound; and it builds every element of a
header of which a radiograph needs fifteen. What is left when those are taken away is this loop. It never
recurses, copies no value, and takes any element that runs past the end for a truncated file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mxbatch.engine.decode.contract import Limits
from mxbatch.engine.decode.fault import Kind, Refused

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations whose length takes four bytes, after two that are reserved."""
_INFLATE_STEP = 1 << 20
_MAX_ELEMENTS = 1_000_000  # a second's work; headers of radiographs hold hundreds

IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
_TRANSFER_SYNTAX = 0x00020010


class Header(NamedTuple):
    """What stands before an element's value."""

    tag: int
    length: int
    start: int
    """Where the value begins."""
    vr: bytes = b""
    """Value representation; empty where it is implicit."""


@dataclass(frozen=True, slots=True)
class Value:
    """An element's value.

    `fragments` is None but for encapsulated pixels, whose first item is the offset table.
    """

    data: memoryview
    vr: bytes = b""
    fragments: tuple[memoryview, ...] | None = None


@dataclass(frozen=True, slots=True)
class DataSet:
    """The elements that were asked for, and how their numbers are written."""

    syntax: str
    """UID of the transfer syntax; the plain one that the bytes suggest, where the file names none."""
    order: str
    """`"<"` or `">"`."""
    values: dict[int, Value]


def read_elements(data: bytes, wanted: frozenset[int], last: frozenset[int], limits: Limits) -> DataSet:
    """The `wanted` top-level elements, up to and with the first of `last`. Raises `Refused`.

    What follows the pixels is not looked at: trailing elements and padding of odd tools hurt nobody.
    """
    view = memoryview(data)
    start = 132 if data[128:132] == b"DICM" else 0
    syntax, start = _file_meta(view, start)
    if syntax == DEFLATED:
        view, start = memoryview(_inflate(view[start:], limits)), 0
    if not syntax:
        syntax = _plain_syntax(view, start)
    order = ">" if syntax == BIG_ENDIAN else "<"
    values: dict[int, Value] = {}
    for tag, value in _elements(view, start, order, implicit=_is_implicit(view, start)):
        if tag in wanted:
            values[tag] = value
        if tag in last:
            break
    return DataSet(syntax, order, values)


def _file_meta(view: memoryview, start: int) -> tuple[str, int]:
    """The transfer syntax from group 2, always little endian, and where the data set begins.

    It may be missing.
    """
    syntax, at = "", start
    implicit = _is_implicit(view, start)
    while at + 8 <= len(view) and bytes(view[at : at + 2]) == b"\x02\0":
        header = _header(view, at, "<", implicit=implicit)
        at = _end(view, header)
        if header.tag == _TRANSFER_SYNTAX:
            syntax = bytes(view[header.start : at]).rstrip(b"\0 ").decode("ascii", "replace")
    return syntax, at


def _inflate(packed: memoryview, limits: Limits) -> bytearray:
    """The deflated data set, grown step by step so that a bomb costs no more than the limit."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = bytearray()
    rest: bytes | memoryview = packed
    while not inflater.eof:
        if not (step := inflater.decompress(rest, _INFLATE_STEP)):
            raise Refused(Kind.TRUNCATED, "the deflated data set has no end")
        data += step
        if len(data) > limits.max_inflated_bytes:
            raise Refused(
                Kind.INFLATES_TOO_FAR, f"more than {limits.max_inflated_bytes / 1e6:.0f} MB inflated"
            )
        rest = inflater.unconsumed_tail
    return data


def _is_implicit(view: memoryview, start: int) -> bool:
    """By the first element and not by the transfer syntax, which some writers get wrong."""
    mark = bytes(view[start + 4 : start + 6])
    return not (mark.isalpha() and mark.isupper())


def _plain_syntax(view: memoryview, start: int) -> str:
    if _is_implicit(view, start):
        return IMPLICIT
    # low groups come first: their zero byte is the second in little endian
    return BIG_ENDIAN if view[start] < view[start + 1] else EXPLICIT


def _elements(view: memoryview, at: int, order: str, *, implicit: bool) -> Iterator[tuple[int, Value]]:
    for _ in range(_MAX_ELEMENTS):
        if at + 8 > len(view):
            return
        header = _header(view, at, order, implicit=implicit)
        if header.length != _UNDEFINED:
            at = _end(view, header)
            yield header.tag, Value(view[header.start : at], header.vr)
        elif header.tag == 0x7FE00010:
            fragments, at = _fragments(view, header.start, order)
            yield header.tag, Value(view[header.start : at], header.vr, fragments)
        else:
            at = _skip(view, header.start, order, implicit=implicit)
    raise Refused(Kind.CORRUPT, f"more than {_MAX_ELEMENTS} elements")


def _header(view: memoryview, at: int, order: str, *, implicit: bool) -> Header:
    """Tag and length of the element at `at`.

    In an explicit set, what has no value representation is read as implicit: items always are, and so is what
    some writers put inside sequences.
    """
    try:
        group, number, length = struct.unpack_from(f"{order}HHI", view, at)
        tag = group << 16 | number
        mark = bytes(view[at + 4 : at + 6])
        if implicit or not (mark.isalpha() and mark.isupper()):
            return Header(tag, length, at + 8)
        if mark in _LONG:
            return Header(tag, struct.unpack_from(f"{order}I", view, at + 8)[0], at + 12, mark)
        return Header(tag, struct.unpack_from(f"{order}H", view, at + 6)[0], at + 8, mark)
    except struct.error:
        raise Refused(Kind.TRUNCATED, "the file ends within the head of an element") from None


def _end(view: memoryview, header: Header) -> int:
    """Where the value of a defined length ends."""
    end = header.start + header.length
    if end > len(view):
        raise Refused(
            Kind.TRUNCATED,
            f"element ({header.tag >> 16:04X},{header.tag & 0xFFFF:04X}) has {header.length} bytes, "
            f"the file {len(view) - header.start} more",
        )
    return end


def _skip(view: memoryview, at: int, order: str, *, implicit: bool) -> int:
    """Past the delimiter of a value of undefined length that starts at `at`, through any depth of nesting."""
    depth = 1
    for _ in range(_MAX_ELEMENTS):
        header = _header(view, at, order, implicit=implicit)
        if header.tag in (_ITEM_END, _SEQUENCE_END):
            depth -= 1
            at = header.start
        elif header.length == _UNDEFINED:
            depth += 1
            at = header.start
        else:
            at = _end(view, header)
        if depth == 0:
            return at
    raise Refused(Kind.CORRUPT, f"a sequence of more than {_MAX_ELEMENTS} elements")


def _fragments(view: memoryview, at: int, order: str) -> tuple[tuple[memoryview, ...], int]:
    """The items of encapsulated pixels, up to their delimiter, and the position behind it."""
    found: list[memoryview] = []
    while len(found) < _MAX_ELEMENTS:
        header = _header(view, at, order, implicit=True)
        if header.tag == _SEQUENCE_END:
            return tuple(found), header.start
        if header.tag != _ITEM or header.length == _UNDEFINED:
            raise Refused(Kind.CORRUPT, "the compressed pixels are not a list of items")
        at = _end(view, header)
        found.append(view[header.start : at])
    raise Refused(Kind.CORRUPT, f"more than {_MAX_ELEMENTS} fragments of compressed pixels")
