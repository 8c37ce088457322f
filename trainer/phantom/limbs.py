"""Long bones, joints, paws and digits of the four limbs, with their flesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mxbatch.trainer.phantom.plan import SIDES, Bone, Digit, Limb, Plan
from mxbatch.trainer.phantom.pose import LimbPose
from mxbatch.trainer.phantom.solids import BONE, MARROW, SOFT, Cast, smooth

F64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """What tells a fore limb from a hind limb."""

    joints: tuple[str, str, str]
    """Names of the landmarks: socket, middle joint, far joint."""
    tip: str
    shaft: tuple[float, ...]
    """Radius along the upper bone as a multiple of its shaft's."""
    lower: tuple[float, ...]
    second: tuple[float, ...]
    second_span: tuple[float, float]
    """Where the second bone starts and ends along the lower one."""
    second_apart: tuple[float, float, float]
    """How far it stands off at its start, middle and end, mm towards the little finger."""
    root: float
    """Length of the carpus or tarsus, mm."""
    heel: float
    """How far the olecranon (fore) or the heel (hind) stands out behind its joint, mm."""
    flesh: tuple[float, float, float, float, float]
    """Radius of the flesh at the socket, along the upper segment, at the middle joint, below it, at the far joint."""


FORE = Build(
    joints=("shoulder", "elbow", "wrist"),
    tip="fingertip",
    shaft=(1.75, 1.5, 1.2, 1.0, 0.9, 1.0, 1.35),
    lower=(1.5, 1.45, 1.2, 1.0, 0.85, 0.7, 0.7),
    second=(1.1, 0.8, 0.75, 0.8, 0.85, 0.95, 1.25),
    second_span=(0.0, 1.0),
    second_apart=(-0.1, -0.75, -0.75),
    root=1.5,
    heel=2.1,
    flesh=(2.2, 3.2, 2.2, 1.9, 1.2),
)
HIND = Build(
    joints=("hip", "knee", "ankle"),
    tip="toetip",
    shaft=(1.3, 1.25, 1.1, 1.0, 1.0, 1.15, 1.6),
    lower=(2.0, 1.6, 1.15, 0.9, 0.8, 0.8, 1.1),
    second=(1.5, 1.0, 0.8, 0.8, 0.8, 0.9, 1.0),
    second_span=(0.04, 0.58),
    second_apart=(1.5, 1.9, 0.3),
    root=3.4,
    heel=2.8,
    flesh=(3.0, 5.0, 3.7, 3.2, 1.3),
)


def cast_limb(
    cast: Cast, plan: Plan, limb: Limb, pose: LimbPose, build: Build, socket: F64, side: int
) -> dict[str, F64]:
    """Draw one limb from its socket on; gives its landmarks by name, such as "left_elbow"."""
    mirror = np.array([-1.0 if side == 0 else 1.0, 1.0, 1.0])
    upper, lower, paw, across = (mirror * v for v in (pose.upper, pose.lower, pose.paw, pose.across))
    bone = BONE * plan.bone_density
    if limb.fused > 0.0:  # a stiff joint stands half bent, whatever the table wants
        lower = _unit((1.0 - 0.5 * limb.fused) * lower + 0.5 * limb.fused * upper)
    turn = np.deg2rad(limb.turn)
    paw, across = (
        _unit(np.cos(turn) * paw + np.sin(turn) * across),
        _unit(np.cos(turn) * across - np.sin(turn) * paw),
    )
    head = socket + limb.dislocation * _unit(mirror * np.array([0.75, 0.65, 0.3]))
    joint = head + limb.upper.length * upper
    bend = _unit(np.cross(np.cross(upper, lower), upper))
    far = joint + limb.lower.length * lower
    fold = _unit(np.cross(np.cross(lower, upper), lower))
    wall = 0.2 + 0.05 * plan.bone_density
    _long_bone(cast, head, joint, limb.upper, build.shaft, -bend, bone, wall)
    _long_bone(cast, joint + 0.5 * lower, far, limb.lower, build.lower, -fold, bone, wall)
    _second_bone(cast, joint, far, limb, build, across, fold, bone)
    _middle_joint(cast, joint, upper, lower, limb, build, bone)
    tip = _paw(cast, limb, build, far, paw, across, bone)
    if build is HIND:
        cast.ellipsoids(head, [0.8, 0.8, 0.8], 0.2 * bone)
        cast.chain([far - build.heel * paw, far + 0.6 * paw], [0.5, 0.8], 0.6 * bone)
    else:
        cast.ellipsoids(head, [1.2, 1.2, 1.1], 0.2 * bone)
        deltoid = head + 0.42 * limb.upper.length * upper
        cast.chain(
            [deltoid + 2.5 * -upper, deltoid - 0.9 * bend, deltoid + 1.2 * upper],
            [0.3, 0.35, 0.25],
            0.7 * bone,
        )
        cast.chain([joint - build.heel * lower, joint + 0.8 * lower], [0.5, 0.75], 0.6 * bone)
    _flesh(cast, socket, joint, far, limb, build, bend, fold)
    places = dict(zip(build.joints, (head, joint, far), strict=True)) | {build.tip: tip}
    return {f"{SIDES[side]}_{name}": place for name, place in places.items()}


def _long_bone(
    cast: Cast,
    start: F64,
    end: F64,
    bone: Bone,
    profile: tuple[float, ...],
    bow: F64,
    density: float,
    wall: float,
) -> None:
    """A shaft with its bow, and with the kink and callus of a healed fracture, with spongy ends."""
    t = np.linspace(0.0, 1.0, len(profile))
    length = float(np.linalg.norm(end - start))
    off = (0.02 + bone.bow) * 4.0 * t * (1.0 - t) + np.tan(np.deg2rad(bone.kink / 2.0)) * np.minimum(
        t, 1.0 - t
    )
    path = start + t[:, None] * (end - start) + length * off[:, None] * bow
    radii = bone.radius * np.array(profile)
    cast.chain(path, radii, density, wall=wall, marrow=MARROW)
    axis = _unit(end - start)
    for place, radius, inward in ((path[0], radii[0], 0.3), (path[-1], radii[-1], -0.3)):
        cast.ellipsoids(place + inward * axis, [1.05 * radius] * 3, 0.12 * density)
    if bone.callus > 0.0:
        size = bone.radius * (1.0 + 1.5 * bone.callus)
        cast.ellipsoids(path[len(path) // 2], [size, 1.2 * size, size], 0.4 * density)


def _second_bone(
    cast: Cast, joint: F64, far: F64, limb: Limb, build: Build, across: F64, fold: F64, density: float
) -> None:
    """Radius beside the ulna, or fibula beside the tibia until it joins it."""
    t = np.linspace(0.0, 1.0, len(build.second))
    reach = limb.second.length / limb.lower.length / (0.8 if build is FORE else 0.57)
    begin, end = build.second_span
    along = np.minimum(1.0, begin + (end - begin) * t * min(1.0, reach * 1.05))
    near, middle, end_apart = build.second_apart  # and a parabola through them
    apart = near * (1 - t) * (1 - 2 * t) + middle * 4 * t * (1 - t) + end_apart * t * (2 * t - 1)
    axis = far - joint
    side = (
        _unit(across - axis * (across @ axis) / (axis @ axis))
        if build is FORE
        else _unit(0.3 * across + fold)
    )
    bow = limb.second.bow if build is FORE else limb.lower.bow
    path = joint + along[:, None] * axis + apart[:, None] * side
    path -= (bow * 4.0 * along * (1.0 - along) * float(np.linalg.norm(axis)))[:, None] * fold
    cast.chain(path, limb.second.radius * np.array(build.second), density, wall=0.18, marrow=MARROW)


def _middle_joint(
    cast: Cast, joint: F64, upper: F64, lower: F64, limb: Limb, build: Build, density: float
) -> None:
    """Elbow or knee: condyles, the kneecap, and what a disease made of them."""
    if build is HIND:
        cap = _unit(upper - lower)
        cast.ellipsoids(joint + 1.5 * cap - 0.6 * upper, [0.5, 0.6, 0.5], 0.8 * density)
        cast.ellipsoids(joint - 0.4 * upper - 0.5 * cap, [1.2, 1.1, 1.2], 0.2 * density)
    if limb.fused > 0.0:
        cast.ellipsoids(joint, [1.2 + 0.7 * limb.fused] * 3, 0.4 * density * limb.fused)
        cast.chain([joint - 2.2 * upper, joint, joint + 2.2 * lower], 0.4 + 0.5 * limb.fused, 0.4 * density)
    if limb.calcified > 0.0:
        around = np.array(
            [[1.9, 0.4, 0.2], [-1.5, 1.2, -0.4], [0.5, -1.9, 0.6], [-0.9, -1.4, -0.8], [1.2, 1.7, 0.0]]
        )
        cast.ellipsoids(joint + around, np.full((5, 3), 0.9 * limb.calcified), density)


def _paw(cast: Cast, limb: Limb, build: Build, far: F64, paw: F64, across: F64, density: float) -> F64:
    """Carpus or tarsus, then the digits; gives the tip of the longest digit."""
    wide = max(abs(digit.root) for digit in limb.digits)
    for row, count in ((0.3, 3), (0.75, 4)):
        shift = np.linspace(-0.8, 0.8, count) * wide
        centres = far + row * build.root * paw + shift[:, None] * across
        size = (
            0.27 * build.root * np.array([0.75, 1.0, 0.75]) if build is HIND else np.array([0.38, 0.38, 0.35])
        )
        cast.ellipsoids(centres, size, 0.5 * density, np.stack([across, paw, np.cross(across, paw)]))
    palm = far + build.root * paw
    rays = [_ray(digit, palm, paw, across) for digit in limb.digits]
    for digit, ray, following in zip(limb.digits, rays, [*rays[1:], None], strict=True):
        if following is not None and digit.toward_next > 0.0:
            shared = min(len(ray), len(following))
            pull = 0.75 * digit.toward_next * np.linspace(0.25, 1.0, shared)[:, None]
            ray[:shared] += pull * (following[:shared] - ray[:shared])
            if digit.bridged > 0.0 and shared > 2:
                middle = (
                    0.5 * (ray[1:shared] + ray[: shared - 1]),
                    0.5 * (following[1:shared] + following[: shared - 1]),
                )
                cast.rods(middle[0][1:], middle[1][1:], 0.1 + digit.radius * digit.bridged, 0.8 * density)
        _bones_of_ray(cast, digit, ray, density)
        cast.chain(ray, np.linspace(0.95, 0.6, len(ray)) * (1.05 if build is HIND else 0.95), SOFT)
    cast.chain([far - 0.5 * paw, palm + 0.5 * paw], [1.3, 1.35], SOFT)
    tips = [ray[-1] for ray in rays]
    return max(tips, key=lambda tip: float((tip - far) @ paw))


def _ray(digit: Digit, palm: F64, paw: F64, across: F64) -> F64:
    """The joints `[K + 1, 3]` of a digit of K bones."""
    spread = np.deg2rad(digit.spread)
    ahead = np.cos(spread) * paw + np.sin(spread) * across
    reach = np.concatenate([[0.0], np.cumsum(digit.bones)])
    joints: F64 = palm + digit.root * across - 0.25 * abs(digit.root) * paw + reach[:, None] * ahead
    return joints


def _bones_of_ray(cast: Cast, digit: Digit, ray: F64, density: float) -> None:
    """Waisted bones with dense ends, the last one a claw if the digit is whole."""
    whole = len(ray) > 3
    bones = ray[:-1] if whole else ray
    start, end = bones[:-1], bones[1:]
    lengths = np.linalg.norm(end - start, axis=1, keepdims=True)
    axis = (end - start) / np.maximum(lengths, 1e-6)
    inset = np.minimum(0.22, 0.2 * lengths)
    first, last, middle = start + inset * axis, end - inset * axis, 0.5 * (start + end)
    thin = 0.72 * digit.radius
    cast.tubes(first, middle, digit.radius, 1.4 * density, wall=0.17, marrow=MARROW, end_radius=thin)
    cast.tubes(
        middle, last, thin, 1.4 * density, wall=0.17, marrow=MARROW, end_radius=digit.radius, joined=1.0
    )
    knobs = np.concatenate([first, last])
    cast.ellipsoids(knobs, np.full((len(knobs), 3), 1.15 * digit.radius), 0.2 * density)
    if whole:
        cast.rods(ray[-2], ray[-1], 0.75 * digit.radius, 0.6 * density, end_radius=0.04)


def _flesh(
    cast: Cast, socket: F64, joint: F64, far: F64, limb: Limb, build: Build, bend: F64, fold: F64
) -> None:
    """Muscle along the bones, bowed where they are."""
    root, thigh, middle, calf, narrow = build.flesh
    arc = -limb.lower.bow * limb.lower.length * fold
    rump = 0.5 * (socket + joint) - limb.upper.bow * limb.upper.length * bend
    belly = joint + 0.35 * (far - joint) + 0.9 * fold + 0.9 * arc
    course = [socket, rump, joint, belly, joint + 0.75 * (far - joint) + 0.75 * arc, far]
    radii = (root, thigh, middle, calf, 0.45 * calf + 0.55 * narrow, narrow)
    along = np.linspace(0.0, len(radii) - 1.0, 13)
    within = SOFT * np.interp(
        np.arange(12), (0, 4), (0.45, 0.85)
    )  # at its root the limb lies in the trunk's flesh
    cast.chain(smooth(course, 13), np.interp(along, np.arange(len(radii)), radii), within)


def _unit(vector: F64) -> F64:
    unit: F64 = vector / max(float(np.linalg.norm(vector)), 1e-9)
    return unit
