"""The head: vault, snout, zygomatic arches, jaws, teeth and bullae."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mxbatch.trainer.phantom.plan import Plan, Skull
from mxbatch.trainer.phantom.solids import BONE, GAS, TOOTH, Cast, Frame, smooth

F64 = NDArray[np.float64]

# Right half, mm: x from the midline, y from the back of the skull forwards, z upwards. Upper and lower incisors from
# root to tip, then on along their arc, where they grow when nothing wears them down.
_ZYGOMA = ((2.6, 16.4, 0.8), (3.7, 15.6, 0.0), (4.6, 13.2, -1.0), (5.4, 10.6, -1.5), (6.1, 8.4, -1.1), (6.1, 7.3, -0.3),
           (5.2, 6.6, 0.6))  # fmt: skip
_MAXILLA = ((2.9, 9.5, -0.4), (2.6, 12.5, -0.2), (2.2, 15.5, 0.3), (1.6, 18.5, 0.4), (1.1, 21.2, 0.0))
_NASAL = ((1.3, 12.0, 4.0), (1.3, 16.0, 3.6), (1.0, 20.0, 2.9), (0.6, 23.0, 2.1))
_UPPER_INCISOR = ((1.75, 15.2, 0.2), (1.6, 17.0, 1.5), (1.25, 18.9, 1.8), (0.9, 20.6, 1.0), (0.7, 21.5, -0.6),
                  (0.6, 21.4, -2.2), (0.6, 20.4, -3.8), (0.7, 18.6, -4.8), (0.8, 16.6, -4.6))  # fmt: skip
_LOWER_INCISOR = ((3.4, 6.6, -2.6), (2.9, 9.2, -3.9), (2.0, 12.5, -4.6), (1.2, 15.6, -4.4), (0.7, 18.2, -3.4),
                  (0.5, 19.9, -1.6), (0.5, 21.2, 0.6), (0.6, 22.0, 2.7), (0.7, 22.2, 4.8))  # fmt: skip
_MANDIBLE = (
    (0.7, 17.2, -3.9),
    (1.7, 14.2, -4.6),
    (2.7, 10.8, -4.4),
    (3.5, 7.6, -3.4),
    (4.2, 5.6, -1.9),
    (4.7, 4.9, -0.6),
)
_ANGLE = ((3.2, 8.2, -3.9), (4.0, 5.2, -4.2), (4.7, 2.8, -4.0))
_CORONOID = ((3.4, 8.2, -3.0), (3.9, 7.4, -1.2), (4.1, 6.6, 0.3))
_JOINT = np.array([0.0, 4.9, -0.6])
_WORN = 5
"""Points of an incisor up to the tip of a normal one."""
SNOUT_ROOT = 11.0
"""Where the snout begins, mm before the back of the skull."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shaper:
    """Bends and stretches the normal head into this animal's."""

    skull: Skull
    frame: Frame
    side: int

    def cranial(self, points: ArrayLike) -> F64:
        """Points of the vault and upper jaw, right half, as they are in this animal."""
        p = np.array(points, dtype=np.float64)
        s = self.skull
        snout = np.maximum(p[..., 1] - SNOUT_ROOT, 0.0)
        half = s.half[self.side]
        p[..., 1] = np.minimum(p[..., 1], SNOUT_ROOT) * s.vault_length + snout * s.snout
        p[..., 0] *= s.vault_width * half if self.side == 1 else -s.vault_width * half
        p[..., 2] *= 1.0 + 0.3 * (s.vault_height - 1.0)
        turn, drop = np.deg2rad(s.snout_turn), np.deg2rad(s.snout_drop)
        p[..., 0] -= np.tan(turn) * snout
        p[..., 2] -= np.tan(drop) * snout
        return self.frame.at(p)

    def mandibular(self, points: ArrayLike) -> F64:
        """Points of the lower jaw: shortened towards its joint."""
        s = self.skull
        p = _JOINT + (np.array(points, dtype=np.float64) - _JOINT) * np.array(
            [1.0, s.mandible, 0.5 + 0.5 * s.mandible]
        )
        p[..., 1] += _JOINT[1] * (s.vault_length - 1.0)
        p[..., 0] *= s.vault_width if self.side == 1 else -s.vault_width
        return self.frame.at(p)


def cast_skull(cast: Cast, plan: Plan, frame: Frame) -> dict[str, F64]:
    """Draw the bones of the head; gives its landmarks."""
    skull, bone = plan.skull, BONE * plan.bone_density
    for side in (0, 1):
        shape = _Shaper(skull=skull, frame=frame, side=side)
        _cast_half(cast, skull, shape, side, bone)
    _cast_vault(cast, skull, frame, bone)
    left, right = (_Shaper(skull=skull, frame=frame, side=side) for side in (0, 1))
    nose = right.cranial([0.0, 16.0, 1.9])
    cast.shells(
        nose, [2.2, 6.6 * skull.snout, 2.3], 0.45 * bone, wall=0.35, inside=0.06 * bone, frame=frame.axes
    )
    wide = [skull.zygoma_bow, 1.0, 1.0]
    return {
        "nose": 0.5 * (left.cranial([0.5, 24.5, 1.0]) + right.cranial([0.5, 24.5, 1.0])),
        "nape": frame.at([0.0, -3.0, 1.0]),
        "crown": frame.at([0.0, 6.0, 7.5 * skull.vault_height]),
        "chin": 0.5 * (left.mandibular([1.0, 15.0, -6.5]) + right.mandibular([1.0, 15.0, -6.5])),
        "left_cheek": left.cranial(np.array([7.0, 6.0, 0.0]) * wide),
        "right_cheek": right.cranial(np.array([7.0, 6.0, 0.0]) * wide),
    }


def _cast_half(cast: Cast, skull: Skull, shape: _Shaper, side: int, bone: float) -> None:
    bow = np.array([skull.zygoma_bow, 1.0, 1.0])
    anchor = np.linspace(0.0, 1.0, len(_ZYGOMA))[:, None]
    arch = np.array(_ZYGOMA)
    arch += np.sin(np.pi * anchor) ** 0.5 * (arch * bow - arch)
    _cast_zygoma(cast, shape.cranial(arch), skull.zygoma[side], bone)
    cast.chain(shape.cranial(_MAXILLA), [0.6, 0.9, 0.9, 0.7, 0.4], 0.3 * bone)
    cast.chain(shape.cranial(_NASAL), [0.35, 0.4, 0.35, 0.2], 0.4 * bone)
    cast.chain(
        shape.cranial([(1.6, 15.8, 3.2), (2.9, 14.4, 1.4), (3.2, 13.8, -0.4)]), [0.3, 0.5, 0.4], 0.7 * bone
    )
    cast.chain(
        shape.cranial(
            [(4.3, 1.0, 0.5), (5.1, 3.5, 1.5), (4.6, 7.0, 2.2), (2.6, 10.5, 3.4), (1.9, 12.5, 3.8)]
        ),
        [0.35, 0.35, 0.3, 0.3, 0.3],
        0.3 * bone,
    )
    cast.chain(
        shape.cranial([(2.2, 11.0, -0.6), (1.7, 8.5, -0.9), (1.5, 6.5, -1.3), (1.6, 4.8, -1.5)]),
        [0.5, 0.4, 0.35, 0.3],
        0.7 * bone,
    )
    mandible = shape.mandibular(_MANDIBLE)
    cast.chain(mandible, [0.6, 0.9, 1.15, 0.95, 0.55, 0.5], 0.6 * bone)
    cast.chain(shape.mandibular(_ANGLE), [0.6, 0.5, 0.3], 0.5 * bone)
    cast.chain(shape.mandibular(_CORONOID), [0.5, 0.4, 0.2], 0.5 * bone)
    for y, size in ((12.3, 1.0), (10.8, 0.85), (9.6, 0.65)):
        spans = np.array([0.6, 0.72, 0.9]) * size
        cast.ellipsoids(shape.cranial([2.1 + 0.08 * (12 - y), y, -1.5]), spans, 0.7 * TOOTH, shape.frame.axes)
        cast.ellipsoids(
            shape.mandibular([2.2 + 0.08 * (12 - y), y, -2.9]), spans, 0.7 * TOOTH, shape.frame.axes
        )
    turn = np.deg2rad(skull.incisor_turn)
    _cast_incisor(cast, np.array(_UPPER_INCISOR), skull.upper_incisor[side], turn, 0.58, shape.cranial, side)
    _cast_incisor(
        cast, np.array(_LOWER_INCISOR), skull.lower_incisor[side], -turn, 0.45, shape.mandibular, side
    )
    half = skull.half[side] * skull.vault_width
    slant = np.deg2rad(28.0 if side == 1 else -28.0)  # the bullae point inwards in front
    turn_in = np.array(
        [[np.cos(slant), np.sin(slant), 0.0], [-np.sin(slant), np.cos(slant), 0.0], [0.0, 0.0, 1.0]]
    )
    axes = turn_in @ shape.frame.axes
    spans = np.array([1.75, 2.7, 1.8]) * half
    cast.shells(shape.cranial([3.7, 3.0, -1.7]), spans, 0.6 * bone, wall=0.22, inside=GAS, frame=axes)
    inner = [[0.5, 1.1, 0.6], [0.9, 0.6, 0.8]]
    cast.ellipsoids(shape.cranial([[3.3, 3.6, -0.9], [4.0, 2.0, -0.6]]), inner, 0.5 * bone, axes)


def _cast_zygoma(cast: Cast, path: F64, share: float, bone: float) -> None:
    """The arch; `share` of it is there, the rest is a gap in its middle."""
    radii = np.array([0.6, 0.5, 0.36, 0.36, 0.42, 0.42, 0.35])
    if share > 0.98:
        cast.chain(smooth(path, 13), np.interp(np.linspace(0, 6, 13), np.arange(7), radii), 0.8 * bone)
        return
    t = np.linspace(0.0, 1.0, len(path))
    for part in ((0.0, 0.1 + 0.42 * share), (0.95 - 0.42 * share, 1.0)):
        where = np.linspace(*part, 5)
        cut = np.stack([np.interp(where, t, path[:, i]) for i in range(3)], axis=1)
        cast.chain(cut, np.interp(where, t, radii) * np.linspace(1.0, 0.8, 5), 0.85 * bone)


def _cast_incisor(
    cast: Cast,
    arc: F64,
    length: float,
    turn: float,
    radius: float,
    place: Callable[[ArrayLike], F64],
    side: int,
) -> None:
    """An incisor along its arc: up to the worn tip at length 1, less or more of it otherwise."""
    if length < 0.05:
        return
    end = min(_WORN * length if length < 1.0 else _WORN + 3.0 * (length - 1.0) / 1.3, len(arc) - 1.0)
    where = np.linspace(0.0, end, 10)
    path = np.stack([np.interp(where, np.arange(len(arc)), arc[:, i]) for i in range(3)], axis=1)
    free = np.clip(where - 2.5, 0.0, None)
    path[:, 0] += (1.0 if side == 1 else -1.0) * np.tan(turn) * 0.8 * free
    cast.chain(place(path), np.linspace(radius, 0.7 * radius, 10), TOOTH)


# Shells of the vault: centre (y, z), semi-axes (mm), share of bone's density. Braincase, its back, forehead.
_VAULT = (
    ((5.2, 4.1), (5.6, 5.8, 4.2), 0.5),
    ((2.4, 3.4), (4.7, 3.0, 3.5), 0.2),
    ((10.8, 4.0), (2.6, 4.4, 2.4), 0.3),
)
_FLOOR = -1.0
"""Height of the base of the skull, from which a vault rises."""


def _cast_vault(cast: Cast, skull: Skull, frame: Frame, bone: float) -> None:
    wide = skull.vault_width * 0.5 * sum(skull.half)
    long, tall = skull.vault_length, skull.vault_height
    lean = 1.6 * (skull.half[1] - skull.half[0])
    for (y, z), spans, share in _VAULT:
        cast.shells(
            frame.at([lean, y * long, _FLOOR + z * tall]),
            np.array(spans) * [wide, long, tall],
            share * bone,
            wall=0.35,
            inside=0.02 * bone,
            frame=frame.axes,
        )
    cast.ellipsoids(frame.at([0.0, 6.0 * long, _FLOOR]), [1.6, 6.0 * long, 0.35], 0.5 * bone, frame.axes)
    angle = np.linspace(0.0, 2.0 * np.pi, 9)
    ring = np.stack([2.4 * np.sin(angle), np.full(9, 0.2), 1.2 + 2.1 * np.cos(angle)], axis=1)
    cast.chain(frame.at(ring), 0.32, 0.8 * bone)
    across = np.linspace(-1.0, 1.0, 9)
    crest = np.stack(
        [4.7 * wide * across, 0.4 + 2.4 * across**2, _FLOOR + tall * (5.6 - 4.0 * across**2)], axis=1
    )
    cast.chain(frame.at(crest), 0.28, 0.7 * bone)
    for y in (5.2, 8.4):  # sutures of the base
        suture = [(-1.6, y * long, -0.8), (0.0, y * long, -0.9), (1.6, y * long, -0.8)]
        cast.chain(frame.at(suture), 0.2, 0.4 * bone)
