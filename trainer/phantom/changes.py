"""What each finding does to an animal's plan; findings.py says which finding is which.

Every function changes a `Plan` in place before anything is built, by a severity in (0, 1]: at 0.2 subtle, at 1 plain
to see where the structure is large enough. `rng` decides the side and the level, so one animal always has it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mxbatch.trainer.phantom.plan import Plan, Rib, Vertebra


def _sides(rng: Generator, both: float = 0.6) -> Sequence[int]:
    """0 is left: one of the sides, or both of them with probability `both`."""
    one = int(rng.integers(2))
    return (0, 1) if rng.random() < both else (one,)


def _sign(rng: Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _bend(vertebrae: Sequence[Vertebra], axis: str, heading_deg: NDArray[np.float64]) -> None:
    """Bend a run of N vertebrae so that its N + 1 joints take the directions `heading_deg`, caudal last."""
    for vertebra, bend in zip(vertebrae, -np.diff(heading_deg), strict=True):
        setattr(vertebra, axis, getattr(vertebra, axis) + float(bend))


def _bump(count: int, waves: float = 1.0) -> NDArray[np.float64]:
    """Directions along a run that leaves its line and comes back to it: one full sine for one bump."""
    return np.sin(2.0 * np.pi * waves * np.linspace(0.0, 1.0, count + 1))


# ---- skull, jaws and teeth ------------------------------------------------------------------------------------------


def domed_skull(plan: Plan, severity: float, rng: Generator) -> None:
    plan.skull.vault_height *= 1.0 + 0.45 * severity
    plan.skull.vault_width *= 1.0 + 0.12 * severity


def short_skull(plan: Plan, severity: float, rng: Generator) -> None:
    plan.skull.vault_length *= 1.0 - 0.25 * severity
    plan.skull.snout *= 1.0 - 0.15 * severity
    plan.skull.vault_width *= 1.0 + 0.15 * severity


def asymmetric_skull(plan: Plan, severity: float, rng: Generator) -> None:
    side = int(rng.integers(2))
    plan.skull.half[side] *= 1.0 - 0.35 * severity
    plan.skull.snout_turn += (18.0 if side == 0 else -18.0) * severity


def wide_zygoma(plan: Plan, severity: float, rng: Generator) -> None:
    plan.skull.zygoma_bow *= 1.0 + 0.32 * severity


def interrupted_zygoma(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng):
        plan.skull.zygoma[side] *= 0.6 - 0.6 * severity


def short_mandible(plan: Plan, severity: float, rng: Generator) -> None:
    plan.skull.mandible *= 1.0 - 0.4 * severity


def short_maxilla(plan: Plan, severity: float, rng: Generator) -> None:
    plan.skull.snout *= 1.0 - 0.35 * severity


def overgrown_incisors(plan: Plan, severity: float, rng: Generator) -> None:
    for row in (plan.skull.upper_incisor, plan.skull.lower_incisor):
        row[:] = [length * (1.0 + 1.8 * severity) for length in row]


def malocclusion(plan: Plan, severity: float, rng: Generator) -> None:
    plan.skull.incisor_turn += _sign(rng) * 50.0 * severity
    plan.skull.snout_turn += _sign(rng) * 12.0 * severity
    plan.skull.lower_incisor[:] = [length * (1.0 + 0.9 * severity) for length in plan.skull.lower_incisor]


def missing_incisor(plan: Plan, severity: float, rng: Generator) -> None:
    row = plan.skull.upper_incisor if rng.random() < 0.5 else plan.skull.lower_incisor
    for side in _sides(rng, both=0.8):
        row[side] *= 0.6 - 0.6 * severity


# ---- vertebrae ------------------------------------------------------------------------------------------------------


def hemivertebra(plan: Plan, severity: float, rng: Generator) -> None:
    vertebra = plan.region("thoracic")[int(rng.integers(5, 12))]
    side = int(rng.integers(2))
    vertebra.halves[side] *= 1.0 - 0.9 * severity
    bend = 34.0 * severity * (1.0 if side == 0 else -1.0)  # towards the side that is missing
    vertebra.yaw += bend


def wedge_vertebrae(plan: Plan, severity: float, rng: Generator) -> None:
    lumbar = plan.region("lumbar")
    first = int(rng.integers(0, 4))
    for vertebra in lumbar[first : first + 2]:
        vertebra.length *= 1.0 - 0.3 * severity
        vertebra.ventral *= 1.0 - 0.55 * severity
        vertebra.pitch -= 14.0 * severity


def butterfly_vertebra(plan: Plan, severity: float, rng: Generator) -> None:
    """One to three neighbours, cleft in the middle and spread."""
    run = plan.region("thoracic")[8:] + plan.region("lumbar")[:4]
    start = int(rng.integers(7))
    for vertebra in run[start : start + 1 + round(2 * severity)]:
        vertebra.cleft = max(vertebra.cleft, severity)
        vertebra.width *= 1.0 + 0.8 * severity


def transitional_vertebra(plan: Plan, severity: float, rng: Generator) -> None:
    last, sacral = plan.region("lumbar")[-1], plan.region("pelvic")[0]
    for side in _sides(rng, both=0.3):
        last.transverse[side] += severity * (2.2 + sacral.transverse[side] - 1.0)
        last.transverse_lean[side] += severity * (-15.0 - last.transverse_lean[side])
    last.gap *= 1.0 - 0.5 * severity


def extra_lumbar(plan: Plan, severity: float, rng: Generator) -> None:
    last = plan.region("lumbar")[-1]
    plan.spine.insert(plan.spine.index(last), deepcopy(last))
    plan.spine[plan.spine.index(last)].length *= 0.6 + 0.4 * severity


def missing_lumbar(plan: Plan, severity: float, rng: Generator) -> None:
    lumbar = plan.region("lumbar")
    plan.spine.remove(lumbar[int(rng.integers(1, len(lumbar) - 1))])


def spinous_processes(plan: Plan, severity: float, rng: Generator) -> None:
    """Short and bent over a run of thoracic and lumbar vertebrae."""
    back = plan.region("thoracic") + plan.region("lumbar")
    first = int(rng.integers(0, 8))
    for vertebra in back[first : first + 10]:
        vertebra.spinous *= 1.0 - 0.9 * severity
        vertebra.spinous_lean += rng.normal(0, 25) * severity


def transverse_processes(plan: Plan, severity: float, rng: Generator) -> None:
    """Missing or bent at the lumbar vertebrae of one side or both."""
    for side in _sides(rng, both=0.6):
        for vertebra in plan.region("lumbar")[1:]:
            vertebra.transverse[side] *= 1.0 - 0.95 * severity
            vertebra.transverse_lean[side] -= 50.0 * severity


def short_caudal_vertebrae(plan: Plan, severity: float, rng: Generator) -> None:
    caudal = plan.region("caudal")
    first = int(rng.integers(3, 10))
    for vertebra in caudal[first:]:
        vertebra.length *= 1.0 - 0.5 * severity
        vertebra.width *= 1.0 + 0.1 * severity


def kinked_tail(plan: Plan, severity: float, rng: Generator) -> None:
    caudal = plan.region("caudal")
    first = int(rng.integers(5, 16))
    turn = _sign(rng)
    for vertebra, share in zip(caudal[first : first + 3], (0.55, -1.0, 0.45), strict=True):
        vertebra.yaw += 80.0 * severity * turn * share
        vertebra.pitch += 30.0 * severity * turn * share
        vertebra.length *= 1.0 - 0.35 * severity


def fused_block(plan: Plan, severity: float, rng: Generator, *, region: str, first: tuple[int, int]) -> None:
    """Two to five vertebrae are one: discs ossified, bodies shortened, arches bridged."""
    count = 2 + round(3 * severity)
    start = int(rng.integers(*first))
    block = plan.region(region)[start : start + count]
    for vertebra in block:
        vertebra.length *= 1.0 - 0.3 * severity
    for vertebra in block[:-1]:
        vertebra.bridge = vertebra.bridge_arch = max(vertebra.bridge, 0.3 + 0.7 * severity)
        vertebra.gap *= 1.0 - severity


def fused_processes(plan: Plan, severity: float, rng: Generator) -> None:
    run = plan.region("thoracic")[-3:] + plan.region("lumbar")
    start = int(rng.integers(0, 5))
    for vertebra in run[start : start + 2 + round(4 * severity)]:
        vertebra.bridge_arch = max(vertebra.bridge_arch, 0.2 + 0.8 * severity)


def scoliosis(plan: Plan, severity: float, rng: Generator) -> None:
    back = plan.region("thoracic")[2:] + plan.region("lumbar")
    _bend(back, "yaw", _sign(rng) * 36.0 * severity * _bump(len(back)))


def kyphosis(plan: Plan, severity: float, rng: Generator) -> None:
    back = plan.region("thoracic")[1:] + plan.region("lumbar")[:4]
    _bend(back, "pitch", -30.0 * severity * _bump(len(back)))


def lordosis(plan: Plan, severity: float, rng: Generator) -> None:
    back = plan.region("thoracic")[6:] + plan.region("lumbar")
    _bend(back, "pitch", 36.0 * severity * _bump(len(back)))


def s_shaped_spine(plan: Plan, severity: float, rng: Generator) -> None:
    back = plan.region("thoracic") + plan.region("lumbar")
    _bend(back, "yaw", _sign(rng) * 42.0 * severity * _bump(len(back), waves=1.5) * np.hanning(len(back) + 1))


# ---- ribs and girdles -----------------------------------------------------------------------------------------------


def _ribs(plan: Plan, side: int) -> list[Rib]:
    return [rib for vertebra in plan.region("thoracic") if (rib := vertebra.ribs[side]) is not None]


def fused_ribs(plan: Plan, severity: float, rng: Generator) -> None:
    ribs = _ribs(plan, int(rng.integers(2)))
    start = int(rng.integers(2, 9))
    for rib in ribs[start : start + 1 + round(3 * severity)]:
        rib.toward_next = max(rib.toward_next, 0.25 + 0.75 * severity)


def missing_ribs(plan: Plan, severity: float, rng: Generator) -> None:
    """The last pair is not there, and the more severe, the shorter is the one before it."""
    for side in (0, 1):
        carriers = [vertebra for vertebra in plan.spine if vertebra.ribs[side] is not None]
        carriers[-1].ribs[side] = None
        if (last := carriers[-2].ribs[side]) is not None:
            last.length *= 1.0 - 0.8 * severity


def extra_ribs(plan: Plan, severity: float, rng: Generator) -> None:
    """A fourteenth pair, at the first lumbar vertebra."""
    for side in (0, 1):
        plan.region("lumbar")[0].ribs[side] = Rib(length=0.4 + 0.7 * severity)


def wavy_ribs(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng, both=0.7):
        for rib in _ribs(plan, side)[3:]:
            rib.wave += 2.0 * severity * float(rng.uniform(0.7, 1.3))


def narrow_cage(plan: Plan, severity: float, rng: Generator) -> None:
    plan.cage.width *= 1.0 - 0.42 * severity


def flared_cage(plan: Plan, severity: float, rng: Generator) -> None:
    plan.cage.flare += 0.4 * severity


def small_scapula(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng):
        plan.girdles.scapula[side] *= 1.0 - 0.65 * severity


def misshapen_scapula(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng):
        plan.girdles.scapula_width[side] *= 1.0 + 1.4 * severity
        plan.girdles.scapula[side] *= 1.0 - 0.4 * severity


def absent_clavicle(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng):
        plan.girdles.clavicle[side] *= 0.6 - 0.6 * severity


def bent_clavicle(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng):
        plan.girdles.clavicle_bend[side] += 100.0 * severity


def narrow_pelvis(plan: Plan, severity: float, rng: Generator) -> None:
    plan.girdles.pelvis_width *= 1.0 - 0.5 * severity


def short_pelvis(plan: Plan, severity: float, rng: Generator) -> None:
    for part in (plan.girdles.ilium, plan.girdles.ischium):
        part[:] = [share * (1.0 - 0.5 * severity) for share in part]


def asymmetric_pelvis(plan: Plan, severity: float, rng: Generator) -> None:
    side = int(rng.integers(2))
    plan.girdles.ilium[side] *= 1.0 - 0.6 * severity
    plan.girdles.ischium[side] *= 1.0 - 0.4 * severity


# ---- limbs ----------------------------------------------------------------------------------------------------------


def _bones(plan: Plan, limbs: str, part: str, rng: Generator, both: float = 0.5) -> list[Any]:
    return [getattr(getattr(plan, limbs)[side], part) for side in _sides(rng, both)]


def short_bone(plan: Plan, severity: float, rng: Generator, *, limbs: str, parts: tuple[str, ...]) -> None:
    for side in _sides(rng, both=0.7):
        for part in parts:
            bone = getattr(getattr(plan, limbs)[side], part)
            bone.length *= 1.0 - 0.45 * severity
            bone.radius *= 1.0 + 0.15 * severity


def bowed_bone(plan: Plan, severity: float, rng: Generator, *, limbs: str, parts: tuple[str, ...]) -> None:
    for side in _sides(rng, both=0.7):
        for part in parts:
            getattr(getattr(plan, limbs)[side], part).bow += 0.4 * severity


def thick_bone(plan: Plan, severity: float, rng: Generator, *, limbs: str, part: str) -> None:
    for bone in _bones(plan, limbs, part, rng, both=0.7):
        bone.radius *= 1.0 + 1.3 * severity


def healed_fracture(plan: Plan, severity: float, rng: Generator, *, limbs: str, part: str) -> None:
    for bone in _bones(plan, limbs, part, rng, both=0.0):
        bone.kink += _sign(rng) * 50.0 * severity
        bone.callus = max(bone.callus, 0.3 + 0.7 * severity)


def dislocated_hip(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng):
        plan.hind[side].dislocation += 6.0 * severity


def fused_joint(plan: Plan, severity: float, rng: Generator, *, limbs: str) -> None:
    for side in _sides(rng):
        limb = getattr(plan, limbs)[side]
        limb.fused = max(limb.fused, severity)


def deviated_ankle(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng):
        plan.hind[side].turn += 80.0 * severity


def calcified_joint(plan: Plan, severity: float, rng: Generator) -> None:
    for side in _sides(rng):
        plan.hind[side].calcified = max(plan.hind[side].calcified, 0.5 + 1.1 * severity)


def extra_digit(plan: Plan, severity: float, rng: Generator) -> None:
    """Beside the thumb, on one paw: the commonest place in the mouse."""
    limb = (plan.fore if rng.random() < 0.3 else plan.hind)[int(rng.integers(2))]
    extra = deepcopy(limb.digits[0])
    extra.bones = [length * (0.6 + 0.5 * severity) for length in limb.digits[1].bones]
    extra.spread -= 22.0
    extra.root -= 0.35
    limb.digits.insert(0, extra)


def _paws(plan: Plan, rng: Generator) -> list[Any]:
    """The limbs of one girdle, one side or both; or all four."""
    if rng.random() < 0.3:
        return [*plan.fore, *plan.hind]
    limbs = plan.fore if rng.random() < 0.4 else plan.hind
    return [limbs[side] for side in _sides(rng, both=0.7)]


def syndactyly(plan: Plan, severity: float, rng: Generator) -> None:
    start = int(rng.integers(1, 3))
    for limb in _paws(plan, rng):
        for digit in limb.digits[start : start + 1 + round(2 * severity)]:
            digit.toward_next = max(digit.toward_next, 0.4 + 0.6 * severity)
            digit.bridged = max(digit.bridged, severity)


def brachydactyly(plan: Plan, severity: float, rng: Generator) -> None:
    for limb in _paws(plan, rng):
        for digit in limb.digits:
            digit.bones = [
                length * (1.0 - (0.35 if i == 0 else 0.65) * severity) for i, length in enumerate(digit.bones)
            ]


def missing_phalanges(plan: Plan, severity: float, rng: Generator) -> None:
    """The ends of some digits are gone, as after a bite or an amputation."""
    limb = (plan.fore if rng.random() < 0.4 else plan.hind)[int(rng.integers(2))]
    for digit in rng.permutation(len(limb.digits))[: 2 + round(2 * severity)]:
        bones = limb.digits[digit].bones
        limb.digits[digit].bones = bones[: max(1, len(bones) - 1 - round(2 * severity))]


def polysyndactyly(plan: Plan, severity: float, rng: Generator) -> None:
    extra_digit(plan, severity, rng)
    for limb in (*plan.fore, *plan.hind):
        if len(limb.digits) > 5:
            for digit in limb.digits[:2]:
                digit.toward_next, digit.bridged = 0.4 + 0.6 * severity, severity
