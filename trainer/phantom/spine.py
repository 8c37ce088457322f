"""The vertebral column: where every vertebra stands, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mxbatch.trainer.phantom.plan import REGIONS, Plan
from mxbatch.trainer.phantom.pose import Pose
from mxbatch.trainer.phantom.solids import BONE, Cast, Frame

F64 = NDArray[np.float64]

_MIRROR = (-1.0, 1.0)
# The natural curves seen from the side: place along the column (region's number and share of it) and the direction
# of the column there, degrees above the horizontal, looking cranially.
_CURVE = ((0.0, 30.0), (0.3, 48.0), (0.65, 34.0), (0.95, -6.0), (1.1, -26.0), (1.35, -18.0), (1.7, -2.0), (2.0, 7.0),
          (2.5, 7.0), (3.0, 1.0), (4.0, -7.0), (4.3, -8.0), (4.6, 0.0), (5.0, 0.0))  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """Vertebrae as they stand. V of them, cranial first."""

    centre: F64
    """`[V, 3]`"""
    axes: F64
    """`[V, 3, 3]`: rows right, cranial, dorsal."""
    first: dict[str, int]
    """Index of each region's first vertebra."""

    def frame(self, index: int) -> Frame:
        """The frame of one vertebra."""
        return Frame(origin=self.centre[index], axes=self.axes[index])


def column(plan: Plan, pose: Pose) -> Column:
    """Stand the vertebrae on each other: bends are summed from the pelvis, the chord of the back lies along y."""
    spine = plan.spine
    regions = [vertebra.region for vertebra in spine]
    first = {name: regions.index(name) for name in REGIONS}
    place = np.empty(len(spine))
    for number, name in enumerate(REGIONS):
        count = regions.count(name)
        place[first[name] : first[name] + count] = number + (np.arange(count) + 0.5) / count
    sacrum = first["pelvic"]
    trunk = place < 3.0
    tail = np.clip(place - 4.0, 0.0, 1.0)
    along = np.where(tail > 0.0, np.sin(np.pi * tail**0.8), 0.0)
    share = along / along.sum()
    wave = np.where(tail > 0.0, np.sin(2.0 * np.pi * tail), 0.0)
    yaw = np.array([v.yaw for v in spine]) + trunk * pose.spine_yaw / trunk.sum()
    yaw += pose.tail_yaw * share + pose.tail_wave * wave / np.abs(wave).sum() * 2.0
    pitch = np.array([v.pitch for v in spine]) + pose.tail_pitch * share
    natural = pose.spine_curl * np.interp(place, *np.array(_CURVE).T)
    yaw, pitch = (np.deg2rad(_headings(bend, sacrum) + more) for bend, more in ((yaw, 0.0), (pitch, natural)))
    axes = axes_of(yaw, pitch)
    cranial = axes[:, 1]
    length = np.array([v.length for v in spine])[:, None]
    gap = np.array([v.gap for v in spine])[:-1, None]
    step = 0.5 * (length[:-1] + gap) * cranial[:-1] + 0.5 * (length[1:] + gap) * cranial[1:]
    centre = np.concatenate([np.cumsum(step[::-1], axis=0)[::-1], np.zeros((1, 3))])
    centre -= centre[sacrum].copy()
    turn = axes_of(
        np.arctan2(-centre[0, 0], centre[0, 1]), np.arctan2(centre[0, 2], np.hypot(*centre[0, :2]))
    )[0].T
    return Column(centre=centre @ turn, axes=axes @ turn, first=first)


def _headings(bends: F64, origin: int) -> F64:
    """Directions along the column from the bends between vertebrae; that of `origin` is zero."""
    summed = np.cumsum(bends[::-1])[::-1]
    headings: F64 = summed - summed[origin]
    return headings


def axes_of(yaw: F64, pitch: F64) -> F64:
    """Frames `[N, 3, 3]` (rows right, cranial, dorsal) that look by `yaw` to the left and `pitch` up, radians."""
    yaw, pitch = np.broadcast_arrays(np.atleast_1d(yaw), np.atleast_1d(pitch))
    right = np.stack([np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)], axis=1)
    ahead = np.stack([-np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)], axis=1)
    return np.stack([right, ahead, np.cross(right, ahead)], axis=1)


def cast_spine(cast: Cast, plan: Plan, stand: Column) -> None:
    """Bodies, discs, arches and processes of all vertebrae; V of them are worked on at once."""
    bone = BONE * plan.bone_density
    spine = plan.spine

    def of(name: str) -> F64:
        return np.array([getattr(vertebra, name) for vertebra in spine], dtype=np.float64)

    def at(x: F64 | float, y: F64 | float, z: F64 | float) -> F64:
        local = np.stack(np.broadcast_arrays(x, y, z, length)[:3], axis=1)
        points: F64 = stand.centre + np.einsum("vi,vij->vj", local, stand.axes)
        return points

    def rods(start: F64, end: F64, radius: F64 | float, density: F64 | float, tip: float = 1.0) -> None:
        there = np.linalg.norm(end - start, axis=1) > 0.1
        radius, density = (np.broadcast_to(v, len(spine))[there] for v in (radius, density))
        cast.rods(start[there], end[there], radius, density, end_radius=radius * tip)

    length, width, height, gap = of("length"), of("width"), of("height"), of("gap")
    caudal = np.array([vertebra.region == "caudal" for vertebra in spine])
    arched = np.clip(of("spinous") / 0.7, 0.0, 1.0)  # the arch dwindles along the tail
    roof = 0.6 * height + 1.2 * width
    halves, cleft = of("halves"), of("cleft")
    waist = np.where(caudal, 0.7, 0.8)
    for side, sign in enumerate(_MIRROR):
        half = halves[:, side]
        reach, apart = half * length / 2.0, sign * (0.4 + 0.45 * cleft) * width
        thick = np.minimum(np.where(caudal, 0.6, 0.55) * width, 0.45 * length) * (1.0 - 0.25 * cleft)
        for end in _MIRROR:
            rods(
                at(apart, end * np.maximum(reach - 0.9 * thick, 0.1 * reach), 0.0),
                at(waist * apart, 0.0, 0.0),
                thick,
                np.where(caudal, 0.6, 0.42) * bone * half,
                0.75,
            )
            _plates(cast, stand, plan, sign, end, bone * half)
        top = 0.15 * sign * width
        rods(
            at(0.8 * sign * width, 0.1 * length, 0.5 * height),
            at(top, -0.15 * length, roof),
            0.24,
            bone * arched,
        )
        lift = 0.55 * height + 0.6 * width
        facet = 0.75 * sign * width
        rods(
            at(facet, 0.5 * length + 0.6 * gap, lift),
            at(facet, -0.5 * length - 0.6 * gap, lift + 0.2),
            0.3,
            0.6 * bone * arched,
            0.7,
        )
        process, lean = of("transverse")[:, side], np.deg2rad(of("transverse_lean")[:, side])
        root = at(0.7 * sign * width, 0.15 * length, 0.0)
        tip = at(
            sign * (0.7 * width + process * np.cos(lean)),
            0.15 * length + process * np.sin(lean),
            -0.25 * process,
        )
        rods(root, tip, 0.3 * np.minimum(1.0, width), 0.8 * bone, 0.7)
        _bridges(cast, plan, at(0.45 * sign * width, 0.0, 0.0), 0.45 * width, 0.35 * bone, "bridge")
        _bridges(cast, plan, at(facet, 0.0, lift), np.full_like(width, 0.4), 0.7 * bone, "bridge_arch")
    lean, spinous = np.deg2rad(of("spinous_lean")), of("spinous")
    tip = at(0.0, -0.15 * length - spinous * np.sin(lean), roof + spinous * np.cos(lean))
    rods(at(0.0, -0.15 * length, roof), tip, 0.26, 0.9 * bone * arched)
    _bridges(
        cast, plan, 0.4 * at(0.0, 0.0, roof) + 0.6 * tip, np.full_like(width, 0.3), 0.8 * bone, "bridge_arch"
    )
    _cast_wings(cast, stand, plan, 0.12 * bone)


def _plates(cast: Cast, stand: Column, plan: Plan, sign: float, end: float, density: F64) -> None:
    """The dense end of one half of each body: a sheared disc, tilted as the wedge has it."""
    length, width, height = (
        np.array([getattr(v, name) for v in plan.spine]) for name in ("length", "width", "height")
    )
    left, right = np.array([v.halves for v in plan.spine]).T
    ventral = np.array([v.ventral for v in plan.spine])
    cleft = np.array([v.cleft for v in plan.spine])
    half, slope = (left if sign < 0 else right), end * length * (right - left) / 4.0
    zero = np.zeros_like(length)
    across = np.stack([0.62 * width * (1.0 - 0.3 * cleft), 0.5 * slope, zero], axis=1)
    along = np.stack([zero, np.minimum(0.22, 0.1 * length), zero], axis=1)
    up = np.stack([zero, end * length * (1.0 - ventral) / 4.0, height], axis=1)
    middle = np.stack(
        [
            sign * (0.4 + 0.45 * cleft) * width,
            end * (0.5 * length * half * (0.5 + 0.5 * ventral) - 0.15),
            zero,
        ],
        axis=1,
    )
    axes = np.einsum("vki,vij->vkj", np.stack([across, along, up], axis=1), stand.axes)
    cast.sheared(stand.centre + np.einsum("vi,vij->vj", middle, stand.axes), axes, 0.3 * density)


def _bridges(cast: Cast, plan: Plan, points: F64, radius: F64, density: float, name: str) -> None:
    """Bone from each vertebra to the next, as far as the two are one."""
    amount = np.array([getattr(vertebra, name) for vertebra in plan.spine[:-1]])
    grown = amount > 0.0
    cast.rods(points[:-1][grown], points[1:][grown], (radius[:-1] * np.sqrt(amount))[grown], density)


def _cast_wings(cast: Cast, stand: Column, plan: Plan, density: float) -> None:
    """The sacrum's wings: what its transverse processes have grown into."""
    pelvic = range(stand.first["pelvic"], stand.first["caudal"])
    for side, sign in enumerate(_MIRROR):
        tips = [
            stand.frame(i).at(
                [sign * (0.5 * plan.spine[i].width + plan.spine[i].transverse[side]), 0.0, -0.3]
            )
            for i in pelvic
        ]
        cast.chain(tips, [0.55, 0.5, 0.45, 0.35][: len(tips)], density)
