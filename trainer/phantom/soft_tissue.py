"""What is not bone: trunk, head, tail, ears, lungs, and a belly with some gas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mxbatch.trainer.phantom.plan import Plan
from mxbatch.trainer.phantom.pose import Pose
from mxbatch.trainer.phantom.skull import SNOUT_ROOT
from mxbatch.trainer.phantom.solids import FAT, GAS, SOFT, Cast, Frame
from mxbatch.trainer.phantom.spine import Column

F64 = NDArray[np.float64]

# Along the trunk: region, share of it, radius (mm), how far the back's flesh stands above the vertebra (mm).
_TRUNK = (("cervical", 0.4, 6.8, 5.0), ("thoracic", 0.05, 7.6, 5.0), ("thoracic", 0.4, 10.2, 4.8),
          ("thoracic", 0.85, 13.2, 4.2), ("lumbar", 0.35, 14.6, 4.0), ("lumbar", 0.95, 14.0, 4.2),
          ("pelvic", 0.7, 11.0, 4.4), ("caudal", 0.07, 9.0, 4.2), ("caudal", 0.15, 3.6, 3.0))  # fmt: skip
# Along the head, in the skull's frame: y, z, radius (mm).
_HEAD = ((25.3, 1.2, 1.1), (24.2, 0.9, 1.5), (22.0, 0.2, 3.5), (19.5, -0.6, 4.3), (16.5, -0.4, 4.4), (13.0, 0.2, 5.4),
         (9.0, 0.6, 6.7), (5.0, 0.3, 7.1), (0.0, -1.8, 7.0))  # fmt: skip


def cast_soft_tissue(
    cast: Cast, plan: Plan, pose: Pose, stand: Column, head: Frame, rng: np.random.Generator
) -> None:
    """Draw the flesh of head, trunk and tail; limbs have their own."""
    _cast_axis(cast, plan, pose, stand, head)
    for sign in (-1.0, 1.0):
        _cast_ear(cast, head, sign)
        cast.ellipsoids(head.at([5.0 * sign, 12.0, 2.6]), [1.6, 1.6, 1.6], 0.8 * SOFT)
    _cast_organs(cast, plan, pose, stand, rng)


def _station(plan: Plan, stand: Column, region: str, share: float) -> Frame:
    first = stand.first[region]
    return stand.frame(first + round(share * (len(plan.region(region)) - 1)))


def _cast_axis(cast: Cast, plan: Plan, pose: Pose, stand: Column, head: Frame) -> None:
    """One chain from the nose to the tip of the tail, so that nothing is counted twice where parts meet."""
    face, face_radii = _face(plan)
    trunk, girths = _trunk(plan, pose, stand)
    tail = stand.centre[stand.first["caudal"] + round(0.2 * len(plan.region("caudal"))) :]
    thin = np.interp(np.linspace(0.0, 1.0, len(tail)), (0.0, 0.4, 0.8, 1.0), (2.3, 1.8, 1.1, 0.7))
    path = np.concatenate([head.at(face), trunk, tail, [tail[-1] + 1.2 * (tail[-1] - tail[-2])]])
    # A trunk that lies flat is wider than deep; a round one of less density has the same depths from above.
    density = np.full(len(path) - 1, 1.1 * SOFT)
    density[len(face) : len(face) + len(trunk) - 1] /= max(1.0, pose.flat)
    cast.chain(path, np.concatenate([face_radii, girths, thin, [0.4]]), density)
    belly = 0.5 * (trunk[4] + trunk[5])
    cast.ellipsoids(belly, [0.95 * girths[5], 20.0, 0.8 * girths[5] / pose.flat], 0.12 * SOFT)
    if plan.sex == "male":
        testes = _station(plan, stand, "caudal", 0.0).at([[-3.2, 0.5, -6.5], [3.2, 0.5, -6.5]])
        cast.ellipsoids(testes, [2.6, 3.6, 2.6], 0.6 * SOFT)


def _face(plan: Plan) -> tuple[F64, F64]:
    """Points `[K, 3]` and radii `[K]` along the head, in the skull's frame: the flesh follows the bones beneath."""
    skull = plan.skull
    y, z, radius = np.array(_HEAD).T
    snout = np.maximum(y - SNOUT_ROOT, 0.0)
    vault = np.interp(y, (0.0, 3.0, 10.0, 14.0), (0.3, 1.0, 1.0, 0.0))
    rise = 4.0 * (skull.vault_height - 1.0) * vault
    breadth = 3.0 * max(skull.zygoma_bow - 1.0, skull.vault_width - 1.0, 0.0) * vault
    along = np.minimum(y, SNOUT_ROOT) * skull.vault_length + snout * skull.snout
    aside = -np.tan(np.deg2rad(skull.snout_turn)) * snout
    return np.stack([aside, along, z + rise], axis=1), radius + np.maximum(rise, 0.0) + breadth


def _trunk(plan: Plan, pose: Pose, stand: Column) -> tuple[F64, F64]:
    """Points `[K, 3]` and radii `[K]` along the trunk, hung under the spine."""
    wide = np.sqrt(pose.flat)
    points, girths = [], []
    for region, share, radius, above in _TRUNK:
        girth = radius * plan.fat * wide
        depth = girth / max(1.0, pose.flat)
        points.append(_station(plan, stand, region, share).at([0.0, 0.0, above - depth]))
        girths.append(girth)
    return np.stack(points), np.array(girths)


def _cast_ear(cast: Cast, head: Frame, sign: float) -> None:
    out, up = np.array([0.8 * sign, -0.35, 0.5]), np.array([0.1 * sign, 0.75, 0.4])
    out, up = out / np.linalg.norm(out), up / np.linalg.norm(up)
    face = np.cross(out, up)
    frame = np.stack([out, up, face]) @ head.axes
    centre = head.at(np.array([6.3 * sign, -0.2, 3.8]) + 4.6 * out)
    cast.ellipsoids(centre, [5.6, 4.0, 0.45], 0.9 * SOFT, frame)
    around = np.linspace(-2.4, 2.4, 17)
    rim = centre + (5.3 * np.cos(around)[:, None] * frame[0] + 3.8 * np.sin(around)[:, None] * frame[1])
    cast.chain(rim, 0.35, 0.5 * SOFT)
    cast.chain(head.at([[5.2 * sign, 1.5, 1.5], [6.8 * sign, 0.2, 3.4]]), [1.8, 1.2], GAS * 0.8)


def _cast_organs(cast: Cast, plan: Plan, pose: Pose, stand: Column, rng: np.random.Generator) -> None:
    """Lungs, and gas and crumbs in stomach and gut, which lie elsewhere in every animal."""
    chest = _station(plan, stand, "thoracic", 0.5)
    wide = plan.cage.width
    for sign, scale in ((-1.0, 0.9), (1.0, 1.0)):
        lung = scale * np.array([3.6 * wide, 8.0, 4.6])
        cast.ellipsoids(chest.at([4.0 * sign * wide, -1.0, -5.0]), lung, 0.45 * GAS, chest.axes)
    cast.ellipsoids(chest.at([-0.8, -1.0, -8.5]), [4.0, 5.0, 4.0], 0.25 * SOFT, chest.axes)
    belly, girth = _station(plan, stand, "lumbar", 0.4), 11.0 * plan.fat
    middle, room = np.array([0.0, -1.0, 5.0 - girth]), np.array([0.75 * girth, 13.0, 0.35 * girth])
    count = int(rng.integers(7, 14))
    size = rng.uniform(0.9, 2.6, (count, 1)) * rng.uniform(0.7, 1.5, (count, 3))
    filling = rng.choice([0.8 * GAS, 0.5 * GAS, FAT], count)
    cast.ellipsoids(belly.at(middle + room * rng.uniform(-1.0, 1.0, (count, 3))), size, filling, belly.axes)
    crumbs = middle + room * rng.uniform(-1.0, 1.0, (4, 3))
    cast.ellipsoids(belly.at(crumbs), rng.uniform(0.15, 0.3, (4, 3)), 0.5)
