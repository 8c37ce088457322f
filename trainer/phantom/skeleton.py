"""The whole animal: its parts put together in the order in which they hang on each other."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from mxbatch.trainer.phantom.cage import cast_cage
from mxbatch.trainer.phantom.girdles import cast_pelvis, cast_shoulder
from mxbatch.trainer.phantom.limbs import FORE, HIND, cast_limb
from mxbatch.trainer.phantom.plan import Plan
from mxbatch.trainer.phantom.pose import Pose
from mxbatch.trainer.phantom.skull import cast_skull
from mxbatch.trainer.phantom.soft_tissue import cast_soft_tissue
from mxbatch.trainer.phantom.solids import Cast, Frame, Solids
from mxbatch.trainer.phantom.spine import Column, axes_of, cast_spine, column

F64 = NDArray[np.float64]


def build(plan: Plan, pose: Pose, rng: np.random.Generator) -> tuple[Solids, dict[str, F64]]:
    """The solids of an animal that lies as `pose` says, and its landmarks, points `[3]` by name."""
    cast = Cast()
    stand = column(plan, pose)
    head = _head(stand, pose)
    cast_soft_tissue(cast, plan, pose, stand, head, rng)
    cast_spine(cast, plan, stand)
    landmarks = cast_skull(cast, plan, head) | cast_cage(cast, plan, stand)
    hips = cast_pelvis(cast, plan, stand)
    for side in (0, 1):
        shoulder = cast_shoulder(cast, plan, pose, stand, side, landmarks["manubrium"])
        landmarks |= cast_limb(cast, plan, plan.fore[side], pose.fore[side], FORE, shoulder, side)
        landmarks |= cast_limb(cast, plan, plan.hind[side], pose.hind[side], HIND, hips[side], side)
    landmarks |= {"tail_base": stand.centre[stand.first["caudal"]], "tail_tip": stand.centre[-1]}
    return _scaled(cast.set(), plan.size), {name: plan.size * point for name, point in landmarks.items()}


def _head(stand: Column, pose: Pose) -> Frame:
    """The skull on the first vertebra: it turns with the neck, but how it nods is the position's affair."""
    neck = stand.frame(0)
    yaw = np.arctan2(-neck.axes[1, 0], neck.axes[1, 1]) + np.deg2rad(pose.head_yaw)
    axes = axes_of(yaw, np.deg2rad(pose.head_pitch))[0]
    return Frame(origin=neck.at([0.0, 0.2, 0.0]) - 0.8 * axes[2], axes=axes)


def _scaled(solids: Solids, factor: float) -> Solids:
    lengths = [f.name for f in fields(solids) if "density" not in f.name and f.name != "joined"]
    return replace(solids, **{name: factor * getattr(solids, name) for name in lengths})
