"""How the animal lies: the angles of its joints on the table, by the two standard positions.

IMPReSS asks for a prone animal with limbs spread and the tail to the left, and for one on its side with left and
right limbs over each other. Both are angles only; no position changes a bone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class LimbPose:
    """Directions of a limb's segments, as if it were the right one (the left is mirrored): unit vectors `[3]`."""

    upper: F64
    lower: F64
    paw: F64
    across: F64
    """From the paw's thumb side to its little finger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """Angles in degrees; yaw is to the animal's left, pitch upwards."""

    spine_yaw: float
    """Bend of the whole back, cranial against pelvis."""
    spine_curl: float
    """How far the natural curves of the back are drawn out: 1 is the animal at rest."""
    head_yaw: float
    head_pitch: float
    tail_yaw: float
    """Total bend of the tail to the left."""
    tail_wave: float
    """Bend to one side in its first half and back in its second."""
    tail_pitch: float
    flat: float
    """Width of the trunk over its depth, as it lies on the table."""
    shoulder: F64
    """The right shoulder seen from the second thoracic vertebra, mm."""
    blade: F64
    """Where the right shoulder blade points from there; its length is 1."""
    fore: tuple[LimbPose, LimbPose]
    """Left, right."""
    hind: tuple[LimbPose, LimbPose]


# Mean directions (right, cranial, dorsal) of a right limb, and by how many degrees they vary.
_PRONE_FORE = ((0.52, -0.80, -0.25), (0.60, 0.78, -0.08), (0.62, 0.78, 0.0))
_PRONE_HIND = ((0.70, 0.60, -0.38), (0.12, -0.98, -0.05), (0.95, 0.25, 0.0))
_SIDE_FORE = ((0.10, -0.55, -0.83), (0.05, 0.72, -0.70), (0.05, 0.80, -0.60))
_SIDE_HIND = ((0.12, 0.62, -0.78), (0.0, -0.86, -0.52), (0.0, 0.15, -0.98))


def prone(rng: np.random.Generator) -> Pose:
    """Limbs spread, tail to the left: the dorsoventral views."""
    return Pose(
        spine_yaw=float(rng.normal(0, 4)),
        spine_curl=float(rng.uniform(0.6, 1.0)),
        head_yaw=float(rng.normal(0, 4)),
        head_pitch=float(rng.normal(-10, 4)),
        tail_yaw=float(rng.normal(200, 18)),
        tail_wave=float(rng.normal(20, 12)),
        tail_pitch=0.0,
        flat=1.35,
        shoulder=np.array([8.2, 3.0, -6.5]),
        blade=_unit(np.array([-0.45, -0.8, 0.55])),
        fore=_limbs(rng, _PRONE_FORE, flat=True),
        hind=_limbs(rng, _PRONE_HIND, flat=True),
    )


def side(rng: np.random.Generator) -> Pose:
    """Lying on the side, limbs drawn to the belly: the lateral views."""
    return Pose(
        spine_yaw=float(rng.normal(0, 3)),
        spine_curl=float(rng.uniform(1.0, 1.5)),
        head_yaw=float(rng.normal(0, 4)),
        head_pitch=float(rng.normal(-28, 6)),
        tail_yaw=float(rng.normal(0, 8)),
        tail_wave=0.0,
        tail_pitch=float(rng.normal(-190, 18)),
        flat=0.8,
        shoulder=np.array([5.5, 2.0, -10.5]),
        blade=_unit(np.array([-0.2, -0.6, 0.8])),
        fore=_limbs(rng, _SIDE_FORE, flat=False),
        hind=_limbs(rng, _SIDE_HIND, flat=False),
    )


def _limbs(
    rng: np.random.Generator, directions: tuple[tuple[float, float, float], ...], *, flat: bool
) -> tuple[LimbPose, LimbPose]:
    return _limb(rng, directions, flat=flat), _limb(rng, directions, flat=flat)


def _limb(
    rng: np.random.Generator, directions: tuple[tuple[float, float, float], ...], *, flat: bool
) -> LimbPose:
    # In the plane of the table: the whole limb swings, and each segment a little more on its own.
    angles = rng.normal(0, 8) + rng.normal(0, 6, 3)
    upper, lower, paw = (_swing(np.array(d), a, flat=flat) for d, a in zip(directions, angles, strict=True))
    normal = np.array([0.0, 0.0, 1.0]) if flat else _unit(np.array([-0.75, 0.3, 0.6]))
    return LimbPose(upper=upper, lower=lower, paw=paw, across=_unit(np.cross(paw, normal)))


def _swing(direction: F64, degrees: float, *, flat: bool) -> F64:
    """`direction` turned in the plane of the table: right-cranial when prone, dorsal-cranial on the side."""
    turned = _unit(direction)
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    i = 0 if flat else 2
    turned[[i, 1]] = c * turned[i] - s * turned[1], s * turned[i] + c * turned[1]
    return turned


def _unit(vector: F64) -> F64:
    unit: F64 = vector / np.linalg.norm(vector)
    return unit
