"""Shoulder blades and clavicles, and the pelvis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mxbatch.trainer.phantom.plan import Plan
from mxbatch.trainer.phantom.pose import Pose
from mxbatch.trainer.phantom.solids import BONE, MARROW, Cast, smooth
from mxbatch.trainer.phantom.spine import Column

F64 = NDArray[np.float64]

_BLADE_MM = (11.0, 6.0)
"""Length and greatest width of a shoulder blade."""
_HIP = (6.0, -9.0, -2.6)
"""The right socket of the hip, seen from the first sacral vertebra."""
# Courses of the right half, seen from the socket (mm), the radius along each, its share of bone's density, and the
# number of the plan that scales it.
_ILIUM = ((0.0, 0.0, 0.0), (-1.0, 3.0, 0.8), (-1.8, 6.0, 1.7), (-1.7, 8.8, 2.5), (-1.0, 11.5, 3.1))
_ISCHIUM = ((0.0, 0.0, 0.0), (-0.2, -2.8, -0.6), (-0.8, -5.4, -1.6), (-1.6, -8.0, -2.8))
_PUBIS = ((0.0, 0.0, 0.0), (-2.2, -1.0, -2.8), (-4.3, -3.2, -5.2), (-5.2, -5.8, -5.8))
_RAMUS = (_ISCHIUM[-1], (-3.6, -8.2, -4.8), _PUBIS[-1])
_PELVIS = (
    (_ILIUM, (0.7, 0.5, 0.55, 0.6, 0.35), 0.9, "ilium"),
    (_ISCHIUM, (0.65, 0.5, 0.5, 0.35), 0.9, "ischium"),
    (_PUBIS, (0.5, 0.3, 0.3, 0.4), 0.45, "ischium"),
    (_RAMUS, (0.4, 0.3, 0.4), 0.35, "ischium"),
)


def cast_shoulder(cast: Cast, plan: Plan, pose: Pose, stand: Column, side: int, manubrium: F64) -> F64:
    """Draw a shoulder blade and clavicle; gives the socket of the shoulder."""
    girdles, bone = plan.girdles, BONE * plan.bone_density
    mirror = np.array([-1.0 if side == 0 else 1.0, 1.0, 1.0])
    trunk = stand.frame(min(stand.first["thoracic"] + 1, len(plan.spine) - 1))
    # The girdle hangs in muscle: it follows the place of the chest, not every tilt of one vertebra.
    socket: F64 = trunk.origin + mirror * pose.shoulder
    up = mirror * pose.blade
    outward = mirror * np.array([0.55, 0.25, 0.8])
    across = np.cross(outward, up)
    across /= np.linalg.norm(across)
    if across[1] < 0.0:
        across = -across  # towards the head
    length = _BLADE_MM[0] * girdles.scapula[side]
    width = _BLADE_MM[1] * girdles.scapula[side] * girdles.scapula_width[side]
    thin = np.cross(up, across)
    frame = np.stack([across, up, thin])
    cast.ellipsoids(socket + 0.62 * length * up, [0.42 * width, 0.4 * length, 0.1], 0.5 * bone, frame)
    neck, top = socket + 0.12 * length * up, socket + length * up
    front, back = (
        top + 0.45 * width * across - 0.1 * length * up,
        top - 0.5 * width * across - 0.02 * length * up,
    )
    cast.chain([neck, socket + 0.5 * length * up - 0.3 * width * across, back], [0.45, 0.28, 0.2], 0.5 * bone)
    cast.chain(
        [back, top, front, socket + 0.45 * length * up + 0.32 * width * across, neck],
        [0.18, 0.18, 0.18, 0.18, 0.3],
        0.3 * bone,
    )
    spine = 0.5 * thin * (1.0 if thin[2] > 0 else -1.0)
    acromion = socket + 0.8 * thin * np.sign(thin[2] or 1.0) + 0.5 * across - 0.6 * up
    cast.chain(
        [top + 0.1 * spine, socket + 0.5 * length * up + 1.6 * spine, acromion],
        [0.15, 0.24, 0.34],
        0.6 * bone,
    )
    cast.ellipsoids(neck, [0.9, 0.8, 0.8], 0.3 * bone)
    _cast_clavicle(
        cast,
        acromion,
        manubrium + mirror * np.array([0.8, 0.6, 0.3]),
        girdles.clavicle[side],
        girdles.clavicle_bend[side],
        bone,
    )
    return socket


def _cast_clavicle(cast: Cast, outer: F64, inner: F64, share: float, bend_deg: float, density: float) -> None:
    if share < 0.02:
        return
    t = np.linspace(0.0, 1.0, 6)
    length = float(np.linalg.norm(inner - outer))
    height = length * (
        0.08 * np.sin(np.pi * t) + 0.5 * np.tan(np.deg2rad(bend_deg) / 2.0) * (1.0 - np.abs(2.0 * t - 1.0))
    )
    path = outer + share * (t[:, None] * (inner - outer) + height[:, None] * np.array([0.0, 1.0, 0.15]))
    cast.chain(path, [0.36, 0.26, 0.22, 0.22, 0.26, 0.34], density)


def cast_pelvis(cast: Cast, plan: Plan, stand: Column) -> tuple[F64, F64]:
    """Draw the pelvis; gives the left and the right socket of the hip."""
    bone = BONE * plan.bone_density
    sacrum = stand.frame(stand.first["pelvic"])
    hip = np.array(_HIP)
    sockets = []
    for side, sign in enumerate((-1.0, 1.0)):
        spread = np.array([sign * plan.girdles.pelvis_width, 1.0, 1.0])
        for course, radii, share, name in _PELVIS:
            path = sacrum.at((hip + getattr(plan.girdles, name)[side] * np.array(course)) * spread)
            radius = np.interp(np.linspace(0.0, 1.0, 9), np.linspace(0.0, 1.0, len(radii)), radii)
            cast.chain(smooth(path, 9), radius, share * bone, wall=0.24, marrow=share * MARROW)
        socket = sacrum.at(hip * spread)
        cast.shells(socket, [1.2, 1.2, 1.2], 0.45 * bone, wall=0.2, inside=0.0)
        sockets.append(socket)
    return sockets[0], sockets[1]
