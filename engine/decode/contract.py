"""What a model expects of its input, and what this machine is willing to spend on one file.

`InputContract` belongs to the model: it lives in the recipe and is hashed into the model id, so training and
scoring cannot drift apart. `Limits` belongs to the machine and changes no pixel.

The contract, in order (the one place where it is written down; prepare.py carries it out):

1. One grey plane. Colour becomes luma (ITU-R BT.601), alpha is dropped and not blended, palettes are
   resolved. A JPEG may be decoded at 1/2, 1/4 or 1/8 its size: the smallest with a longest side >= R.
2. Reduced, or enlarged, to a longest side of R with antialiasing; the aspect ratio is kept. R is S, unless step 6
   follows, which has use for more pixels.
3. Windowed: the two percentiles of the reduced picture become 0 and 255; outside them is clipped. This takes
   the place of the modality and VOI tables of DICOM, which scanners fill in too many ways to be comparable.
4. Inverted, where the file says that its zero is white (MONOCHROME1, MINISWHITE).
5. Padded with 0, centred, to S x S. Never cropped.
6. Where the model asks for it, instead of 5: the animal turned head up, and the square around it brought to S x S
   (upright.py). What is left out is empty field.

EXIF rotation is not applied: archives hold frames as the camera wrote them, models are trained on the same
frames, and a flag that some exports keep and others lose would turn a copy of a radiograph into another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mxbatch.engine.errors import UsageError

_SIZES = range(16, 4097)
_UPRIGHT_READS = 1.75
"""R over S where the animal is turned: it rarely fills more of the frame's longest side than 1 / 1.75."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputContract:
    """How the bytes of a radiograph become `uint8[S, S]`. Raises `UsageError` (MX-U007) on nonsense."""

    size: int = 224
    """S, in pixels."""
    window: tuple[float, float] = (0.5, 99.5)
    """Percentiles of the reduced picture that become black and white."""
    jpeg_scaled: bool = True
    """Whether JPEG may be decoded at reduced size.

    Twice as fast, and a few grey levels apart: so it is declared.
    """
    upright: bool = False
    """Whether the animal is turned head up and fills the picture."""

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size not in _SIZES:
            raise _bad(f"size must be a whole number from {_SIZES[0]} to {_SIZES[-1]}, got {self.size!r}")
        for switch in ("jpeg_scaled", "upright"):
            if type(getattr(self, switch)) is not bool:
                raise _bad(f"{switch} must be true or false, got {getattr(self, switch)!r}")
        try:
            low, high = (float(percentile) for percentile in self.window)
        except (TypeError, ValueError):
            raise _bad(f"window must be two percentiles, got {self.window!r}") from None
        if not 0 <= low < high <= 100:
            raise _bad(f"window must rise within 0 to 100, got {self.window!r}")
        object.__setattr__(self, "window", (low, high))  # a list from TOML, or whole numbers, hash alike

    @property
    def reads(self) -> int:
        """R, in pixels: the longest side of the picture before it is padded or turned."""
        return round(self.size * _UPRIGHT_READS) if self.upright else self.size

    def as_dict(self) -> dict[str, Any]:
        """Plain values for TOML and for hashing; `from_dict` is the way back."""
        return {
            "size": self.size,
            "window": list(self.window),
            "jpeg_scaled": self.jpeg_scaled,
            "upright": self.upright,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The contract of a recipe's table. Raises `UsageError` (MX-U007) on a key it does not know."""
        if unknown := sorted(set(values) - set(cls.__slots__)):
            raise _bad(f"{', '.join(unknown)}: no such key; known: {', '.join(cls.__slots__)}")
        return cls(**values)


def _bad(what: str) -> UsageError:
    return UsageError("MX-U007", f"[input] {what}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The most that one file may ask of this machine. All are checked before the decoder that would pay."""

    max_pixels: int = 64_000_000
    """Width times height, as the header claims them."""
    max_file_bytes: int = 1 << 30
    max_inflated_bytes: int = 256_000_000
    """What compressed data may grow to: `max_pixels` at four bytes each."""
