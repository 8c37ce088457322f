"""Ribs, their cartilage and the breastbone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mxbatch.trainer.phantom.plan import Plan, Rib
from mxbatch.trainer.phantom.solids import BONE, CARTILAGE, Cast
from mxbatch.trainer.phantom.spine import Column

F64 = NDArray[np.float64]

# By rib, from the first to the last: half width and half depth of the cage (mm), how far the bone goes round
# (degrees from the back), how far its end lies behind its vertebra (mm).
_WIDTH = (3.0, 5.2, 7.2, 8.8, 9.8, 10.2, 9.8)
_DEPTH = (2.6, 4.0, 5.4, 6.5, 7.4, 7.9, 7.6)
_ROUND = (140.0, 138.0, 134.0, 128.0, 120.0, 108.0, 78.0)
_BEHIND = (2.5, 4.5, 6.5, 8.0, 9.0, 9.0, 7.0)
_POINTS = 10
_STERNAL = 7
"""Ribs that reach the breastbone."""
_LEFT_RIGHT = (-1.0, 1.0)


def cast_cage(cast: Cast, plan: Plan, stand: Column) -> dict[str, F64]:
    """Draw the cage; gives the landmarks "manubrium" and "xiphoid"."""
    first = stand.first["thoracic"]
    bone = 0.5 * BONE * plan.bone_density
    breast = _breastbone(plan, stand)
    for side, sign in enumerate(_LEFT_RIGHT):
        carriers = [i for i, vertebra in enumerate(plan.spine) if vertebra.ribs[side] is not None]
        paths = [_course(plan, stand, i, i - first, sign) for i in carriers]
        for number, (index, path) in enumerate(zip(carriers, paths, strict=True)):
            rib = plan.spine[index].ribs[side]
            if rib is None or rib.length < 0.05:
                continue
            if rib.toward_next > 0.0 and number + 1 < len(paths):
                meet = rib.toward_next * np.sin(np.pi * np.linspace(0.1, 0.95, _POINTS))[:, None]
                path = path + np.minimum(1.0, 1.25 * meet) * (paths[number + 1] - path)
            cast.chain(path, np.linspace(0.3, 0.24, _POINTS), bone)
            if number < _STERNAL and rib.length > 0.8:
                meeting = breast[min(number, len(breast) - 1)] + np.array([0.5 * sign, 0.0, 0.0])
                bend = 0.5 * (path[-1] + meeting) + np.array([0.0, -0.8, -0.8])
                cast.chain([path[-1], bend, meeting], 0.3, CARTILAGE + 0.05)
    for front, back in pairwise(breast):
        shorten = 0.16 * (back - front)
        cast.tubes(front + shorten, back - shorten, 0.5, bone, wall=0.2, marrow=0.1)
    return {"manubrium": breast[0], "xiphoid": breast[-1]}


def _course(plan: Plan, stand: Column, index: int, number: int, sign: float) -> F64:
    """The path `[_POINTS, 3]` of the rib at vertebra `index`, the `number`th from the front."""
    side = 0 if sign < 0 else 1
    rib = plan.spine[index].ribs[side] or Rib()
    share = np.clip(number / 12.0, 0.0, 1.0)
    knots = np.linspace(0.0, 1.0, len(_WIDTH))
    width, depth, end, behind = (
        float(np.interp(share, knots, row)) for row in (_WIDTH, _DEPTH, _ROUND, _BEHIND)
    )
    width *= plan.cage.width * (1.0 + plan.cage.flare * max(0.0, 2.0 * share - 0.6))
    depth *= plan.cage.depth
    t = np.linspace(0.0, 1.0, _POINTS)
    angle = np.deg2rad(12.0 + (end - 12.0) * rib.length * t)
    along = rib.length * t
    x = sign * width * np.sin(angle) ** 0.8
    z = 0.8 + depth * (np.cos(angle) - 1.0)
    y = (
        0.3
        + 0.6 * np.sin(np.pi * np.minimum(1.0, 2.0 * along))
        - behind * along**1.7
        + rib.wave * np.sin(3.5 * np.pi * t) * np.sin(np.pi * t) ** 0.5
    )
    return stand.frame(index).at(np.stack([x, y, z], axis=1))


def _breastbone(plan: Plan, stand: Column) -> list[F64]:
    """Where the cartilage of the ribs meets the breastbone, front to back, and its end."""
    first = stand.first["thoracic"]
    front, back = stand.frame(first), stand.frame(min(first + 8, len(plan.spine) - 1))
    depth = plan.cage.depth
    head, tail = front.at([0.0, 0.5, -5.6 * depth]), back.at([0.0, -3.5, -15.0 * depth])
    return [head + t * (tail - head) for t in np.linspace(0.0, 1.0, _STERNAL + 1)]
