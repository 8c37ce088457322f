"""One shot: how the animal lies, where the camera looks, what else is in the beam, how it is exposed.

`Nuisance` holds everything that has nothing to do with the skeleton, as shares and spreads; `Nuisance.none()` is the
tidy archive that no centre has.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.errors import UsageError
from mxbatch.trainer.phantom.centres import Centre
from mxbatch.trainer.phantom.film import drifted, expose
from mxbatch.trainer.phantom.mouse import Mouse
from mxbatch.trainer.phantom.project import frame, project
from mxbatch.trainer.phantom.props import add_collimator, add_letter, add_plate_edge, add_rod

_MARGIN, _MARGIN_SPREAD = 0.04, 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Nuisance:
    """What goes otherwise than planned. Raises UsageError (MX-U001) for a share outside 0 to 1.

    All but the four spreads are probabilities, per animal and view or per shot.
    """

    missing_view: float = 0.02
    """A view that the centre does take was not taken, or lost. An animal keeps at least one view."""
    wrong_view: float = 0.005
    """The file shows another view than the parameter that it lies under."""
    free_orientation: float = 0.05
    """The animal lies in any direction."""
    mirrored: float = 0.03
    """The animal lies on its back, or on its other side."""
    cropped: float = 0.04
    """Something of it is outside the picture."""
    plate_edge: float = 0.03
    collimator: float = 0.02
    letter: float = 0.03
    scatter: float = 1.0
    """Factor on each centre's scatter of directions."""
    tilt_deg: float = 4.0
    """Standard deviation of the roll about the animal's long axis."""
    exposure: float = 0.15
    """Standard deviation of the logarithm of the exposure."""
    noise: float = 1.0
    """Factor on the noise of each centre's detector."""

    def __post_init__(self) -> None:
        for name in _SPREADS:
            if not getattr(self, name) >= 0:  # NaN neither
                raise UsageError("MX-U001", f"nuisance: {name} is not negative, got {getattr(self, name):g}")
        for name in {field.name for field in fields(self)} - set(_SPREADS):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(
                    "MX-U001", f"nuisance: {name} is a share from 0 to 1, got {getattr(self, name):g}"
                )

    @classmethod
    def none(cls) -> Self:
        """Nothing goes wrong, and there is no noise."""
        return cls(**{field.name: 0.0 for field in fields(cls)})


_SPREADS = ("scatter", "tilt_deg", "exposure", "noise")


def shoot(
    mouse: Mouse,
    view: str,
    centre: Centre,
    rng: np.random.Generator,
    nuisance: Nuisance,
    size: int | None = None,
) -> NDArray[np.uint16]:
    """A radiograph of `mouse` as `centre` takes it: 12-bit greys `uint16[H, W]`, bone bright.

    The longest side has `size` pixels, or as many as the centre's frame. `rng` decides all that varies from shot to
    shot.
    """
    height, width = centre.frame_at(size)
    turn = float(rng.choice(centre.turns)) + nuisance.scatter * centre.scatter * float(rng.standard_normal())
    if rng.random() < nuisance.free_orientation:
        turn = float(rng.uniform(0, 360))
    tilt = nuisance.tilt_deg * float(rng.standard_normal())
    flip = bool(rng.random() < nuisance.mirrored)
    margin = _MARGIN + _MARGIN_SPREAD * float(rng.random())
    framing = frame(mouse, view, height, width, margin, rotation_deg=turn, tilt_deg=tilt, flip=flip)
    centre_mm, scale = framing.centre_mm, framing.pixels_per_mm
    if rng.random() < nuisance.cropped:
        scale *= float(rng.uniform(1.1, 1.3))
        centre_mm = centre_mm + rng.uniform(-0.1, 0.1, 3) * max(height, width) / scale
    depth = project(
        mouse,
        view,
        height=height,
        width=width,
        pixels_per_mm=scale,
        centre_mm=centre_mm,
        rotation_deg=turn,
        tilt_deg=tilt,
        flip=flip,
    )
    if rng.random() < centre.rod:
        add_rod(depth, rng, scale)
    if rng.random() < nuisance.letter:
        add_letter(depth, rng, scale)
    if rng.random() < nuisance.plate_edge:
        add_plate_edge(depth, rng)
    if rng.random() < nuisance.collimator:
        add_collimator(depth, rng)
    return expose(depth, drifted(centre.look, rng, nuisance.exposure), rng, noise=nuisance.noise)
