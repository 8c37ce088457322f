"""JPEG, as a file and as a frame inside DICOM: luma only, at reduced size where the contract allows it.

simplejpeg in its strict mode takes every warning of libjpeg for an error, so half a file is never scored as a
picture with a grey lower half. The header is read here first: libjpeg would allocate whatever it claims.

Pillow is the second path for files that simplejpeg refuses before it reads any picture data: those whose chroma
is subsampled in a way that TurboJPEG has no name for. It is no way round strictness. What simplejpeg calls damaged
is refused, and Pillow raises where a file ends early; only flips of bits within such an odd file go unnoticed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.fault import Kind, Refused, check_extent
from mxbatch.engine.decode.plane import Plane

_NOT_FRAMES = frozenset({0xC4, 0xC8, 0xCC})  # markers among C0..CF that do not open a frame: DHT, JPG, DAC
_JPEG_LS_FRAME = 0xF7
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RSTn, SOI
_SCAN, _END = 0xDA, 0xD9
_MAX_SCANS = 100  # a progressive file needs about ten; each costs a pass over the whole picture
_ODD_BUT_WHOLE = ("Could not determine subsampling", "Unsupported color conversion")


@dataclass(frozen=True, slots=True)
class Frame:
    """What the frame header (SOF) of a JPEG or JPEG-LS stream claims."""

    process: int
    """The marker's low byte: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, 0xC3 lossless, 0xF7 JPEG-LS."""
    precision: int
    height: int
    width: int
    components: int


def frame_of(data: bytes) -> Frame:
    """Walk the marker segments up to the frame header. Raises `Refused` where there is none."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise Refused(Kind.CORRUPT, "bytes between the segments of the header")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        if marker in (_SCAN, _END):
            raise Refused(Kind.CORRUPT, "picture data without a frame header")
        if (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES) or marker == _JPEG_LS_FRAME:
            if at + 10 > len(data):
                break
            return Frame(marker, *struct.unpack_from(">BHHB", data, at + 4))
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise Refused(Kind.TRUNCATED, "the file ends within its header")


def has_end(data: bytes) -> bool:
    """Whether a JPEG or JPEG 2000 stream ends with its end marker, but for a few bytes of padding."""
    return b"\xff\xd9" in data.rstrip(b"\0")[-4:]


def read_jpeg(data: bytes, contract: InputContract, limits: Limits) -> Plane:
    """Luma of a JPEG: `uint8`, or `uint16` for 12-bit and lossless 16-bit streams."""
    frame = frame_of(data)
    check_extent(frame.width, frame.height, max(frame.precision / 8, 1) * frame.components, limits)
    if frame.process == 0xC2 and data.count(b"\xff\xda") > _MAX_SCANS:
        raise Refused(Kind.CORRUPT, f"a progressive file of more than {_MAX_SCANS} scans")
    if frame.precision > 8:
        return Plane(deep_jpeg(data, frame), frame.width, frame.height)
    factor = scale_of(frame, contract)
    return Plane(
        (_luma(data, -(-frame.height // factor), -(-frame.width // factor)),), frame.width, frame.height
    )


def scale_of(frame: Frame, contract: InputContract) -> int:
    """The largest of 8, 4, 2 and 1 that keeps the longest side at S or more.

    Lossless streams do not scale.
    """
    if not contract.jpeg_scaled or frame.process == 0xC3:
        return 1
    longest = max(frame.width, frame.height)
    return next((factor for factor in (8, 4, 2) if -(-longest // factor) >= contract.reads), 1)


def _luma(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """`uint8[height, width]`: the size is one of those that the inverse DCT can give."""
    import simplejpeg

    try:
        # asked for at least this size, TurboJPEG picks the smallest of its scales: exactly this one
        grey = simplejpeg.decode_jpeg(data, "GRAY", min_height=height, min_width=width)
    except ValueError as error:
        if any(sign in str(error) for sign in _ODD_BUT_WHOLE):
            return _second_path(data)
        raise
    return np.asarray(grey[:, :, 0])


def _second_path(data: bytes) -> NDArray[np.uint8]:
    from PIL.JpegImagePlugin import JpegImageFile

    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # Pillow is content once it has all rows
        raise Refused(Kind.TRUNCATED, "no end marker")
    with JpegImageFile(BytesIO(data)) as picture:
        picture.draft("L", picture.size)
        return np.asarray(picture.convert("L"))


def deep_jpeg(data: bytes, frame: Frame) -> tuple[NDArray[Any], ...]:
    """Channels of a stream that simplejpeg does not take: 12-bit, and lossless of any depth.

    imagecodecs fills up a truncated 12-bit stream without a word, so its end marker is looked for first; its
    lossless decoder `jpegsof3` is the one of three that raises.
    """
    import imagecodecs

    if frame.process == 0xC3:
        pixels = imagecodecs.jpegsof3_decode(data)
    elif not has_end(data):
        raise Refused(Kind.TRUNCATED, "no end marker")
    else:
        pixels = imagecodecs.jpeg8_decode(data)
    return (pixels,) if pixels.ndim == 2 else tuple(pixels[:, :, k] for k in range(pixels.shape[2]))
