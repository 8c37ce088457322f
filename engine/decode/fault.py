"""How a reader refuses: it names a kind, and the border in radiograph.py adds the family of formats.

A reader cannot raise the finished `RadiographError`, because it does not know whom it serves: the same JPEG
reader takes files (MX-D1..) and frames inside DICOM (MX-D5..).
"""

from __future__ import annotations

from enum import StrEnum

from mxbatch.engine.decode.contract import Limits


class Kind(StrEnum):
    """The last two digits of an `MX-D` code."""

    TRUNCATED = "01"
    CORRUPT = "02"
    TOO_MANY_PIXELS = "03"
    INFLATES_TOO_FAR = "04"
    UNSUPPORTED = "05"
    NO_PIXELS = "06"
    BLANK = "07"


class Refused(Exception):
    """A reader will not, or cannot, give the picture. Never leaves engine/decode."""

    def __init__(self, kind: Kind, what: str) -> None:
        super().__init__(what)
        self.kind = kind


def check_extent(width: int, height: int, bytes_per_pixel: float, limits: Limits) -> None:
    """Refuse a picture by its header alone, before memory is asked for.

    `bytes_per_pixel` is what the decoder will hold: samples times their width.
    """
    if width <= 0 or height <= 0:
        raise Refused(Kind.CORRUPT, f"the header claims {width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise Refused(
            Kind.TOO_MANY_PIXELS,
            f"the header claims {width} x {height} pixels, {width * height / 1e6:.1f} megapixels of at most "
            f"{limits.max_pixels / 1e6:.1f}",
        )
    if width * height * bytes_per_pixel > limits.max_inflated_bytes:
        raise Refused(
            Kind.INFLATES_TOO_FAR,
            f"{width} x {height} pixels of {bytes_per_pixel:g} bytes need more than "
            f"{limits.max_inflated_bytes / 1e6:.0f} MB",
        )


def kind_of(error: Exception) -> Kind:
    """The kind behind a decoder library's own exception: all say "truncated" in some words, little else.

    Not to be asked about a `MemoryError`, which says something of the machine and nothing of the file.
    """
    if isinstance(error, Refused):
        return error.kind
    if isinstance(error, NotImplementedError):
        return Kind.UNSUPPORTED
    text = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in text or "premature end" in text:
        return Kind.TRUNCATED
    return Kind.CORRUPT


def reason_of(error: Exception) -> str:
    """What to tell the user: the library's words, except where it only stumbled over nonsense."""
    if isinstance(error, TypeError | LookupError | AttributeError):
        return f"its structure makes no sense to the decoder ({type(error).__name__})"
    return str(error).strip().rstrip(".") or type(error).__name__
