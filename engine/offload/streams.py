"""What of a file a GPU's decoder is given: the codestream, and what the file says about it.

All that the header can tell is asked here, on the host and as strictly as engine/decode asks it: the caps, the end
marker, the agreement of data set and codestream. Whatever is doubtful is not for the GPU: the host decodes it, or says
what is wrong with it. So this file refuses nothing and raises nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.dicom import describe, first_frame
from mxbatch.engine.decode.dicom_codecs import JPEG_BASELINE, j2k_shape
from mxbatch.engine.decode.fault import check_extent
from mxbatch.engine.decode.jpeg import Frame, frame_of, has_end, scale_of
from mxbatch.engine.decode.sniff import HEAD_BYTES, sniff

JPEG, JPEG_2000, LOSSLESS = "jpeg", "jpeg 2000", "lossless jpeg"
KINDS = (JPEG, JPEG_2000, LOSSLESS)
"""Kinds of codestream that decoders on GPUs know."""
_BASELINE, _LOSSLESS = 0xC0, 0xC3
_LUMA_SAMPLING = frozenset({0x11, 0x21, 0x12, 0x22, 0x41, 0x14})
"""Across and down, beside chroma of 1 x 1."""
_SYNTAXES = {
    JPEG_BASELINE: JPEG,
    "1.2.840.10008.1.2.4.57": LOSSLESS,
    "1.2.840.10008.1.2.4.70": LOSSLESS,
    "1.2.840.10008.1.2.4.90": JPEG_2000,
    "1.2.840.10008.1.2.4.91": JPEG_2000,
}
"""Transfer syntax of DICOM -> kind of its codestream."""
_J2K_DEPTH = 42
"""From the start of a JPEG 2000 codestream to the byte that holds sign and depth of its first component."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One radiograph for a decoder that gives its luma, `uint8|uint16[height, width]`."""

    kind: str
    """One of `KINDS`."""
    data: bytes
    width: int
    height: int
    deep: bool = False
    """Whether its numbers are `uint16`."""
    scale: int = 1
    """How many times smaller, by side, the host would decode it: means of so many pixels take the place of that."""
    white_is_zero: bool = False

    @property
    def pixels(self) -> int:
        return self.width * self.height


def stream_of(data: bytes, contract: InputContract, limits: Limits) -> Stream | None:
    """The codestream in the file `data`, or None: then the host decodes it."""
    if contract.upright:  # the animal is turned on the host
        return None
    try:
        match sniff(data[:HEAD_BYTES]):
            case "jpeg":
                return _from_jpeg(data, contract, limits)
            case "dicom":
                return _from_dicom(data, contract, limits)
    except Exception:  # whatever it is, the host says it, with its code
        return None
    return None


def _from_jpeg(data: bytes, contract: InputContract, limits: Limits) -> Stream | None:
    frame = frame_of(data)
    check_extent(frame.width, frame.height, max(frame.precision / 8, 1) * frame.components, limits)
    if not has_end(data):
        return None
    if frame.process == _BASELINE and frame.precision == 8 and _is_plain(data, frame):
        return Stream(JPEG, data, frame.width, frame.height, scale=scale_of(frame, contract))
    if frame.process == _LOSSLESS and frame.components == 1 and 8 <= frame.precision <= 16:
        return Stream(LOSSLESS, data, frame.width, frame.height, deep=frame.precision > 8)
    return None


def _is_plain(data: bytes, frame: Frame) -> bool:
    """Grey, or YCbCr as JFIF defines it: in other colours decoders differ about what luma is.

    With chroma in one of the usual sizes; other files the host decodes in another way (jpeg.py).
    """
    if frame.components == 1:
        return True
    head = data[: data.find(b"\xff\xda")]
    opens = struct.pack(">BBHBHHB", 0xFF, _BASELINE, 8 + 3 * 3, frame.precision, frame.height, frame.width, 3)
    at = head.find(opens) + len(opens)
    return (
        frame.components == 3
        and b"JFIF\0" in head
        and b"Adobe" not in head
        and opens in head
        and head[at + 1] in _LUMA_SAMPLING
        and head[at + 4] == head[at + 7] == 0x11
    )


def _from_dicom(data: bytes, contract: InputContract, limits: Limits) -> Stream | None:
    dataset, geometry, tag = describe(data, limits)
    value = dataset.values[tag]
    kind = _SYNTAXES.get(dataset.syntax)
    plain = geometry.samples == 1 and not geometry.signed and geometry.allocated in (8, 16)
    inverted = geometry.photometric == "MONOCHROME1"
    if value.fragments is None or kind is None or not plain:
        return None
    if not inverted and geometry.photometric != "MONOCHROME2":
        return None
    codestream = first_frame(value, geometry.frames, dataset.order)
    if kind == JPEG_2000:
        shape = j2k_shape(codestream)
        start = codestream.find(b"\xff\x4f\xff\x51")
        signed = codestream[start + _J2K_DEPTH] & 0x80
        if shape.samples != 1 or signed or not has_end(codestream) or not 8 <= shape.precision <= 16:
            return None
        stream = Stream(kind, codestream, shape.width, shape.height, deep=shape.precision > 8)
    else:
        found = _from_jpeg(codestream, contract, limits)
        if found is None or found.kind != kind or frame_of(codestream).components != 1:
            return None
        if kind == LOSSLESS and frame_of(codestream).precision != geometry.stored:
            return None  # the host takes the stored bits alone
        stream = found
    if (stream.height, stream.width) != (geometry.rows, geometry.columns):
        return None
    return Stream(
        kind, codestream, stream.width, stream.height, stream.deep, stream.scale, white_is_zero=inverted
    )
