"""DICOM: the first frame of whatever the data set holds, native or compressed.

Everything that the header claims is checked against `Limits`, against the number of bytes that are there and
against the codestream's own header, before pixels are touched. Modality and VOI tables are left to the
percentile window (contract.py). Sign and unused high bits are not: they would tear the grey scale apart.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.dicom_codecs import CODECS, JPEG_BASELINE, RLE, decode_rle
from mxbatch.engine.decode.dicom_elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    DataSet,
    Value,
    read_elements,
)
from mxbatch.engine.decode.fault import Kind, Refused, check_extent
from mxbatch.engine.decode.jpeg import read_jpeg
from mxbatch.engine.decode.plane import LUMA, Plane, channels_of

_PHOTOMETRIC = 0x00280004
_FRAMES = 0x00280008
_NUMBERS = {  # elements of one unsigned 16-bit number, with the value to take where they are missing
    "samples": (0x00280002, 1),
    "planar": (0x00280006, 0),
    "rows": (0x00280010, 0),
    "columns": (0x00280011, 0),
    "allocated": (0x00280100, 0),
    "stored": (0x00280101, 0),
    "signed": (0x00280103, 0),
}
_PALETTE = ((0x00281101, 0x00281201), (0x00281102, 0x00281202), (0x00281103, 0x00281203))
"""Descriptor and data of the red, green and blue lookup table."""
_PIXELS = {0x7FE00010: "u", 0x7FE00008: "f4", 0x7FE00009: "f8"}
"""Pixel Data, Float Pixel Data and Double Float Pixel Data, with the type of their numbers."""
_WANTED = frozenset(
    {_PHOTOMETRIC, _FRAMES, *_PIXELS}
    | {tag for tag, _ in _NUMBERS.values()}
    | {tag for pair in _PALETTE for tag in pair}
)
_STORED_AS_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""The marker by which a JPEG says that its components are not transformed."""
_NATIVE = frozenset({IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED})


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the data set says of its pixels."""

    photometric: str
    frames: int
    samples: int
    planar: int
    rows: int
    columns: int
    allocated: int
    stored: int
    signed: int

    @classmethod
    def of(cls, dataset: DataSet) -> Self:
        """Read it from the elements. Raises `Refused` where a picture cannot be meant."""
        numbers = {name: _number(dataset, tag, default) for name, (tag, default) in _NUMBERS.items()}
        photometric = _text(dataset, _PHOTOMETRIC) or "MONOCHROME2"
        frames = re.match(r"\d+", _text(dataset, _FRAMES))
        return cls(photometric, max(1, int(frames[0]) if frames else 1), **numbers)

    def check(self, limits: Limits) -> None:
        """Refuse what this reader has no answer for, and more pixels than allowed."""
        check_extent(self.columns, self.rows, max(self.allocated / 8, 1) * self.samples, limits)
        if self.samples not in (1, 3):
            raise Refused(Kind.UNSUPPORTED, f"{self.samples} samples per pixel")
        if self.allocated not in (1, 8, 16, 32, 64):
            raise Refused(Kind.UNSUPPORTED, f"{self.allocated} bits allocated")
        if self.allocated == 1 and self.samples != 1:
            raise Refused(Kind.UNSUPPORTED, "colour of one bit per sample")


def describe(data: bytes, limits: Limits) -> tuple[DataSet, Geometry, int]:
    """The data set, what it says of its pixels, and the tag under which they are; all that a header can tell."""
    dataset = read_elements(data, _WANTED, frozenset(_PIXELS), limits)
    tag = next((tag for tag in _PIXELS if tag in dataset.values), None)
    geometry = Geometry.of(dataset)
    if tag is None:
        if geometry.rows and geometry.columns:
            raise Refused(Kind.TRUNCATED, "the header describes an image, but no pixels follow")
        raise Refused(Kind.NO_PIXELS, "it holds no pixel data (a plan, a report, a directory)")
    geometry.check(limits)
    return dataset, geometry, tag


def read_dicom(data: bytes, contract: InputContract, limits: Limits) -> Plane:
    """Grey or colour of the first frame, MONOCHROME1 not yet inverted."""
    dataset, geometry, tag = describe(data, limits)
    value = dataset.values[tag]
    if value.fragments is None:
        return _native(value, dataset, geometry, _PIXELS[tag])
    if dataset.syntax in _NATIVE:
        raise Refused(Kind.CORRUPT, "compressed pixels under an uncompressed transfer syntax")
    stream = first_frame(value, geometry.frames, dataset.order)
    if dataset.syntax == JPEG_BASELINE:
        return _baseline(stream, geometry, contract, limits)
    return _compressed(stream, dataset, geometry)


def _native(value: Value, dataset: DataSet, geometry: Geometry, kind: str) -> Plane:
    """Pixels as they are, in the data set's byte order. `kind` is "u", or "f4" or "f8" for floating point."""
    if dataset.syntax not in _NATIVE:
        raise Refused(Kind.CORRUPT, f"uncompressed pixels under transfer syntax {dataset.syntax!r}")
    rows, columns, samples = geometry.rows, geometry.columns, geometry.samples
    if geometry.allocated == 1:
        packed = np.frombuffer(_take(value.data, -(-rows * columns // 8)), np.uint8)
        bits = np.unpackbits(packed, count=rows * columns, bitorder="little")
        return _plane(bits.reshape(1, rows, columns), dataset, geometry, 1)
    dtype = np.dtype(dataset.order + (kind if kind != "u" else f"u{geometry.allocated // 8}"))
    data: memoryview | bytes = value.data
    if value.vr == b"OW" and dataset.order == ">" and dtype.itemsize == 1:
        data = np.frombuffer(value.data[: len(value.data) // 2 * 2], "<u2").astype(">u2").tobytes()
    if geometry.photometric == "YBR_FULL_422":  # two pixels share their colour: Y Y Cb Cr
        pairs = np.frombuffer(_take(data, 2 * rows * columns * dtype.itemsize), dtype).reshape(-1, 4)
        return _plane(pairs[:, :2].reshape(1, rows, columns), dataset, geometry, geometry.stored)
    numbers = np.frombuffer(_take(data, rows * columns * samples * dtype.itemsize), dtype)
    if geometry.planar:
        numbers = numbers.reshape(samples, rows, columns)
    else:
        numbers = np.moveaxis(numbers.reshape(rows, columns, samples), -1, 0)
    return _plane(numbers, dataset, geometry, geometry.stored)


def _take(data: memoryview | bytes, size: int) -> memoryview | bytes:
    if len(data) < size:
        raise Refused(Kind.TRUNCATED, f"{len(data)} bytes of pixels, the header needs {size}")
    return data[:size]


def first_frame(value: Value, frames: int, order: str) -> bytes:
    """The codestream of the first frame, joined from its fragments."""
    table, *fragments = value.fragments or (memoryview(b""),)
    if not fragments:
        raise Refused(Kind.NO_PIXELS, "an empty list of compressed frames")
    if frames == 1 or len(fragments) == 1:
        return b"".join(fragments)
    if len(fragments) == frames:
        return bytes(fragments[0])
    # where the second frame starts, counted from the first item, in bytes that include the heads of items
    stop = struct.unpack_from(f"{order}I", table, 4)[0] if len(table) >= 8 else None
    taken: list[memoryview] = []
    position = 0
    for fragment in fragments:
        taken.append(fragment)
        position += 8 + len(fragment)
        if position == stop or (stop is None and b"\xff\xd9" in bytes(fragment[-10:])):
            break
    return b"".join(taken)


def _baseline(stream: bytes, geometry: Geometry, contract: InputContract, limits: Limits) -> Plane:
    """The JPEG of files, at reduced size where the contract allows: the same reader as for a .jpg."""
    head = stream[: stream.find(b"\xff\xda")]
    if geometry.photometric == "RGB" and b"JFIF\0" not in head and b"\xff\xee\0\x0eAdobe" not in head:
        stream = stream[:2] + _STORED_AS_RGB + stream[2:]  # else a decoder takes three components for YCbCr
    plane = read_jpeg(stream, contract, limits)
    if (plane.height, plane.width) != (geometry.rows, geometry.columns):
        raise _contradiction(plane.height, plane.width, geometry)
    return Plane(plane.channels, plane.width, plane.height, geometry.photometric == "MONOCHROME1")


def _compressed(stream: bytes, dataset: DataSet, geometry: Geometry) -> Plane:
    if dataset.syntax == RLE:
        if geometry.allocated < 8:
            raise Refused(Kind.UNSUPPORTED, "run-length pixels of less than 8 bits")
        numbers = decode_rle(stream, geometry.rows, geometry.columns, geometry.samples, geometry.allocated)
        return _plane(numbers, dataset, geometry, geometry.stored)
    codec = CODECS.get(dataset.syntax)
    if codec is None:
        raise Refused(Kind.UNSUPPORTED, f"transfer syntax {dataset.syntax}")
    shape = codec.shape(stream)
    if shape[:3] != (geometry.rows, geometry.columns, geometry.samples):
        raise _contradiction(shape.height, shape.width, geometry)
    pixels = codec.decode(stream).reshape(geometry.rows, geometry.columns, geometry.samples)
    stored = shape.precision if codec.own_precision else geometry.stored
    return _plane(np.moveaxis(pixels, -1, 0), dataset, geometry, stored)


def _contradiction(height: int, width: int, geometry: Geometry) -> Refused:
    return Refused(
        Kind.CORRUPT,
        f"the data set claims {geometry.columns} x {geometry.rows} pixels of {geometry.samples} samples, "
        f"its codestream {width} x {height}",
    )


def _plane(samples: NDArray[Any], dataset: DataSet, geometry: Geometry, stored: int) -> Plane:
    """Samples `[samples, H, W]` -> grey, by photometric interpretation."""
    if samples.dtype.kind in "iu":
        samples = significant(samples, stored, signed=bool(geometry.signed))
    if geometry.photometric == "PALETTE COLOR":
        samples = _palette_luma(dataset, geometry)[_index(samples[0], dataset)][None]
    elif geometry.photometric.startswith("YBR_") and geometry.photometric not in ("YBR_ICT", "YBR_RCT"):
        samples = samples[:1]  # luma is the first; ICT and RCT are undone by the codec, and are RGB here
    return Plane(
        channels_of(list(samples)), geometry.columns, geometry.rows, geometry.photometric == "MONOCHROME1"
    )


def significant(samples: NDArray[Any], stored: int, *, signed: bool) -> NDArray[Any]:
    """Unsigned numbers in the order of the `stored` low bits, which alone mean something.

    The others may hold an overlay or a copy of the sign. Signed numbers become offset binary.
    """
    width = 8 * samples.dtype.itemsize
    unsigned = samples.dtype.newbyteorder("=").str.replace("i", "u")
    if samples.dtype.kind == "i":
        samples = samples.astype(unsigned)
    if 0 < stored < width:
        samples = samples & np.dtype(unsigned).type((1 << stored) - 1)
    else:
        stored = width
    return samples ^ np.dtype(unsigned).type(1 << (stored - 1)) if signed else samples


def _palette_luma(dataset: DataSet, geometry: Geometry) -> NDArray[np.float32]:
    """Luma of every entry of the palette, `float32[entries]`."""
    luma = np.zeros(1, np.float32)
    for weight, (descriptor, table) in zip(LUMA, _PALETTE, strict=True):
        if table not in dataset.values or descriptor not in dataset.values:
            raise Refused(Kind.UNSUPPORTED, "a palette in segments, or none")
        entries, _ = _descriptor(dataset, descriptor)
        data = dataset.values[table].data
        width = 2 if len(data) >= 2 * entries else 1  # 8-bit entries may be packed, or each in its own word
        levels = np.frombuffer(_take(data, width * entries), f"{dataset.order}u{width}")
        luma = luma + np.float32(weight) * levels.astype(np.float32)
    return luma


def _index(values: NDArray[Any], dataset: DataSet) -> NDArray[np.intp]:
    """Which entry each pixel means; those outside the palette take its ends."""
    entries, first = _descriptor(dataset, _PALETTE[0][0])
    return np.clip(values.astype(np.intp) - first, 0, entries - 1)


def _descriptor(dataset: DataSet, tag: int) -> tuple[int, int]:
    """Number of entries, where 0 stands for 65,536, and the first value that is mapped."""
    entries, first = struct.unpack_from(f"{dataset.order}HH", _take(dataset.values[tag].data, 6))
    return entries or 65536, first


def _number(dataset: DataSet, tag: int, default: int) -> int:
    value = dataset.values.get(tag)
    if value is None or len(value.data) < 2:
        return default
    return int(struct.unpack_from(f"{dataset.order}H", value.data)[0])


def _text(dataset: DataSet, tag: int) -> str:
    value = dataset.values.get(tag)
    return "" if value is None else bytes(value.data).decode("ascii", "replace").strip("\0 ")
