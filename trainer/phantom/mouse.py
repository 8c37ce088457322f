"""A mouse: its plan grown into solids, once as it lies prone and once as it lies on its side.

Frame, in mm: x to the animal's right, y cranial, z dorsal; the middle of the first sacral vertebra is the origin.
The two postures differ in the angles of joints only (pose.py): one animal is seen from two directions, and what a
finding shows in a view is what its geometry shows there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mxbatch.trainer.phantom.findings import FINDINGS
from mxbatch.trainer.phantom.plan import Plan, individual
from mxbatch.trainer.phantom.pose import Pose, prone, side
from mxbatch.trainer.phantom.skeleton import build
from mxbatch.trainer.phantom.solids import Solids


@dataclass(frozen=True, kw_only=True, slots=True)
class Posture:
    """The animal as it lies for some of the views."""

    solids: Solids
    landmarks: Mapping[str, NDArray[np.float64]]
    """Points `[3]` by name ("nose", "tail_tip", "left_wrist", ...), by which views are framed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mouse:
    """One animal in both postures."""

    prone: Posture
    side: Posture

    @property
    def solids(self) -> Solids:
        """The prone animal's solids."""
        return self.prone.solids

    @property
    def landmarks(self) -> Mapping[str, NDArray[np.float64]]:
        """The prone animal's landmarks."""
        return self.prone.landmarks


def grow(findings: Mapping[str, float] | None = None, *, sex: str = "female", seed: int) -> Mouse:
    """An animal of its own proportions with the given findings.

    `findings` maps names of `FINDINGS` to a severity in (0, 1]; `seed` decides proportions, the way it lies, and
    where a finding sits (which side, which vertebra), so that one seed with and without a finding is one animal.
    Raises `ValueError` for an unknown finding or sex, and for a severity out of range.
    """
    asked = dict(findings or {})
    if sex not in ("female", "male"):
        raise ValueError(f"sex is 'female' or 'male', got {sex!r}")
    for name, severity in asked.items():
        if name not in FINDINGS:
            raise ValueError(f"unknown finding {name!r}; known: {', '.join(FINDINGS)}")
        if not 0.0 < severity <= 1.0:
            raise ValueError(f"{name}: a severity lies in (0, 1], got {severity}")
    plan = individual(sex, np.random.default_rng((seed, 0)))
    for number, (name, finding) in enumerate(FINDINGS.items()):  # in the table's order, whatever the caller's
        if name in asked:
            finding.change(plan, asked[name], np.random.default_rng((seed, 1, number)))
    return Mouse(
        prone=_lie(plan, prone(np.random.default_rng((seed, 2))), seed),
        side=_lie(plan, side(np.random.default_rng((seed, 3))), seed),
    )


def _lie(plan: Plan, pose: Pose, seed: int) -> Posture:
    solids, landmarks = build(plan, pose, np.random.default_rng((seed, 4)))
    return Posture(solids=solids, landmarks=landmarks)
