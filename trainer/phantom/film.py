"""From optical depth to the grey levels of a detector: what light, noise and a centre's settings make of a mouse.

    depth ──exp──► transmitted share ──blur──► ──quantum and readout noise──► ──tone──► 12-bit grey, bone bright

The noise is where it is in life, in the transmitted light: thick parts are noisy once their few photons are
stretched into visible greys. Everything is float32 and in place, because an archive is drawn at the speed of this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.errors import UsageError

WHITE = 4095
"""The brightest grey of a 12-bit detector."""
SCALES = ("linear", "log")
_DEEPEST = 5.0
"""Optical depth that a logarithmic scale shows as white."""
_REFERENCE = 1024
"""Longest side of the picture, in pixels, that `Look.blur` and `Look.photons` are meant for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How a machine and its settings render a shot. Raises UsageError (MX-U001) on nonsense."""

    hardness: float = 1.0
    """Factor on all optical depths: the lower, the higher the voltage, which shines through more."""
    photons: float = 20_000.0
    """Per pixel in the open beam; their square root is the quantum noise."""
    readout: float = 0.002
    """Standard deviation of the electronics, as a share of the open beam."""
    blur: float = 0.6
    """Standard deviation of focal spot and detector, in pixels of a picture whose longest side is 1024."""
    heel: float = 0.03
    """How much of the beam is lost from one end of the picture to the other."""
    scale: str = "linear"
    """`linear` shows the share that was absorbed, `log` the optical depth."""
    bend: float = 0.0
    """Middle greys up (positive) or down, by a quarter of this; ends stay."""
    black: float = 0.05
    """Grey of the open beam, 0 to 1."""
    white: float = 0.97
    """Grey where nothing gets through, 0 to 1."""

    def __post_init__(self) -> None:
        rules = {
            f"scale is one of {', '.join(SCALES)}": self.scale in SCALES,
            "hardness and photons are positive": min(self.hardness, self.photons) > 0,
            "readout, blur and heel are not negative": min(self.readout, self.blur, self.heel) >= 0,
            "bend is between -1 and 1": abs(self.bend) <= 1,
            "0 <= black < white <= 1": 0 <= self.black < self.white <= 1,
        }
        if broken := [rule for rule, kept in rules.items() if not kept]:
            raise UsageError("MX-U001", f"a look is impossible: {broken[0]}")


def drifted(look: Look, rng: np.random.Generator, amount: float) -> Look:
    """`look` as it came out this time: exposure, voltage and window vary from shot to shot.

    `amount` is the standard deviation of the logarithm of the exposure; 0 gives `look` itself.
    """
    exposure, voltage, bend, low, high = rng.standard_normal(5) * amount
    black = float(np.clip(look.black * np.exp(low), 0, 0.35))
    return replace(
        look,
        photons=float(look.photons * np.exp(2 * exposure)),
        hardness=float(look.hardness * np.exp(0.3 * voltage)),
        bend=float(np.clip(look.bend + 0.5 * bend, -1, 1)),
        black=black,
        white=float(np.clip(look.white * np.exp(0.3 * high), black + 0.3, 1)),
    )


def expose(
    depth: NDArray[np.float32], look: Look, rng: np.random.Generator, *, noise: float = 1.0
) -> NDArray[np.uint16]:
    """Expose and develop `depth`, optical depths `float32[H, W]`, into 12-bit greys `uint16[H, W]`, bone bright.

    `depth` is used up: it holds nothing useful afterwards. `noise` scales the standard deviation of all noise.
    """
    height, width = depth.shape
    per_reference = max(height, width) / _REFERENCE
    light = np.multiply(depth, -look.hardness, out=depth)
    np.exp(light, out=light)
    if look.heel:
        light *= np.linspace(1, 1 - look.heel, height, dtype=np.float32)[:, None]
    light = soften(light, look.blur * per_reference)
    if noise:
        # A smaller picture of the same animal has larger pixels, which collect more light.
        photons = look.photons / per_reference**2
        deviation = np.multiply(light, 1 / photons)
        deviation += look.readout**2
        np.sqrt(deviation, out=deviation)
        deviation *= noise
        deviation *= rng.standard_normal(depth.shape, dtype=np.float32)
        light += deviation
    return develop(light, look)


def soften(picture: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    """`picture` blurred by a bell of standard deviation `deviation` in pixels; its sum is kept.

    The bell is built of passes of three taps, each of which adds its variance exactly.
    """
    passes = int(np.ceil(2 * deviation**2))  # one pass of three taps reaches a variance of 1/2
    side = np.float32(deviation**2 / (2 * passes)) if passes else np.float32(0)
    for _ in range(passes):
        for lines in (picture, picture.T):
            shed = lines * side
            lines *= 1 - 2 * side
            lines[1:] += shed[:-1]
            lines[:-1] += shed[1:]
            lines[0] += shed[0]
            lines[-1] += shed[-1]
    return picture


def develop(light: NDArray[np.float32], look: Look) -> NDArray[np.uint16]:
    """The transmitted share of the beam as 12-bit greys; `light` is used up."""
    if look.scale == "log":
        np.maximum(light, np.exp(-_DEEPEST), out=light)
        shown = np.log(light, out=light)
        shown *= -1 / _DEEPEST
    else:
        shown = np.subtract(1, light, out=light)
    if look.bend:
        bent = np.subtract(1, shown)
        bent *= shown
        bent *= look.bend
        shown += bent
    shown *= (look.white - look.black) * WHITE
    shown += look.black * WHITE + 0.5
    np.clip(shown, 0, WHITE, out=shown)
    grey: NDArray[Any] = shown.astype(np.uint16)
    return grey
