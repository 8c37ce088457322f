"""What can be wrong with a phantom: every finding, its class, and the IMPReSS answers that it do.

A finding acts on the numbers an animal is built from (changes.py), never on a picture, so it shows in a view exactly
as its geometry does. IMPReSS asks for more than is drawn here; what is drawn has an unambiguous answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from numpy.random import Generator

from mxbatch.trainer.phantom import changes as do
from mxbatch.trainer.phantom.plan import Plan

Change = Callable[[Plan, float, Generator], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One abnormality."""

    name: str
    node: str
    """The L3 node of engine/impc_xry.toml that it belongs to."""
    parameters: Mapping[str, str | int]
    """IMPC parameter id -> what a scorer writes: an answer, or for counts by how much the number differs."""
    views: tuple[str, ...]
    """Where it shows best."""
    change: Change
    """Changes the plan in place, by severity in (0, 1]; the generator decides where it sits."""


_DV, _LV, _DV_LV, _LV_DV = ("dv",), ("lv",), ("dv", "lv"), ("lv", "dv")
_HEAD, _HEAD_DV, _HEAD_LV = ("dv", "skull_dv", "skull_lv"), ("dv", "skull_dv"), ("lv", "skull_lv")
_FORE, _HIND, _PAWS = ("dv", "forepaw"), ("dv", "hind_leg"), ("dv", "forepaw", "hind_leg")
_UPPER, _PAIR = ("upper",), ("lower", "second")
_FOREARM: dict[str, str | int] = {"022": "abnormal", "023": "abnormal"}
_SHANK: dict[str, str | int] = {"025": "abnormal", "026": "abnormal"}

# Class -> name, change, answers by the number of the parameter (counts: the difference), views, the best first.
_ROWS: dict[str, list[tuple[str, Change, dict[str, str | int], tuple[str, ...]]]] = {
    "skull": [
        ("domed_skull", do.domed_skull, {"001": "abnormal"}, _HEAD_LV),
        ("short_skull", do.short_skull, {"001": "abnormal"}, _HEAD),
        ("asymmetric_skull", do.asymmetric_skull, {"001": "abnormal"}, _HEAD_DV),
        ("wide_zygoma", do.wide_zygoma, {"002": "abnormal"}, _HEAD_DV),
        ("interrupted_zygoma", do.interrupted_zygoma, {"002": "abnormal"}, _HEAD_DV),
    ],
    "jaw_teeth": [
        ("short_mandible", do.short_mandible, {"004": "abnormal"}, _HEAD_LV),
        ("short_maxilla", do.short_maxilla, {"003": "abnormal"}, _HEAD),
        ("overgrown_incisors", do.overgrown_incisors, {"005": "abnormal"}, _HEAD_LV),
        ("malocclusion", do.malocclusion, {"003": "abnormal", "005": "abnormal"}, ("skull_dv", "skull_lv")),
        ("missing_incisor", do.missing_incisor, {"005": "abnormal"}, ("skull_lv", "skull_dv")),
    ],
    "vertebra_shape": [
        ("hemivertebra", do.hemivertebra, {"018": "abnormal", "071": "abnormal"}, _DV),
        ("wedge_vertebrae", do.wedge_vertebrae, {"018": "abnormal", "072": "abnormal"}, _LV),
        ("butterfly_vertebra", do.butterfly_vertebra, {"018": "abnormal"}, _DV),
        ("transitional_vertebra", do.transitional_vertebra, {"060": "yes"}, _DV),
        ("extra_lumbar_vertebra", do.extra_lumbar, {"015": 1}, _DV_LV),
        ("missing_lumbar_vertebra", do.missing_lumbar, {"015": -1}, _DV_LV),
        ("short_spinous_processes", do.spinous_processes, {"020": "abnormal", "064": "abnormal"}, _LV),
        ("bent_transverse_processes", do.transverse_processes, {"020": "abnormal", "065": "abnormal"}, _DV),
        ("short_caudal_vertebrae", do.short_caudal_vertebrae, {"018": "abnormal", "074": "abnormal"}, _DV_LV),
        ("kinked_tail", do.kinked_tail, {"018": "abnormal", "074": "abnormal"}, _DV_LV),
    ],
    "vertebra_fusion": [
        ("fused_cervical_vertebrae", partial(do.fused_block, region="cervical", first=(1, 4)), {"019": "yes"}, _LV_DV),
        ("fused_thoracic_vertebrae", partial(do.fused_block, region="thoracic", first=(4, 10)), {"019": "yes"}, _DV_LV),
        ("fused_lumbar_vertebrae", partial(do.fused_block, region="lumbar", first=(0, 3)), {"019": "yes"}, _DV_LV),
        ("fused_caudal_vertebrae", partial(do.fused_block, region="caudal", first=(3, 14)), {"019": "yes"}, _DV_LV),
        ("fused_processes", do.fused_processes, {"061": "yes"}, _LV_DV),
    ],
    "spine_curvature": [
        ("scoliosis", do.scoliosis, {"055": "abnormal", "056": "yes"}, _DV),
        ("kyphosis", do.kyphosis, {"055": "abnormal", "057": "yes"}, _LV),
        ("lordosis", do.lordosis, {"055": "abnormal", "058": "yes"}, _LV),
        ("s_shaped_spine", do.s_shaped_spine, {"055": "abnormal", "056": "yes"}, _DV),
    ],
    "ribs": [
        ("fused_ribs", do.fused_ribs, {"011": "fused"}, _DV_LV),
        ("missing_ribs", do.missing_ribs, {"008": -1, "009": -1}, _DV),
        ("extra_ribs", do.extra_ribs, {"008": 1, "009": 1}, _DV),
        ("wavy_ribs", do.wavy_ribs, {"010": "abnormal"}, _DV_LV),
        ("narrow_rib_cage", do.narrow_cage, {"059": "abnormal"}, _DV),
        ("flared_rib_cage", do.flared_cage, {"059": "abnormal"}, _DV),
    ],
    "girdles": [
        ("small_scapula", do.small_scapula, {"006": "abnormal"}, _DV_LV),
        ("misshapen_scapula", do.misshapen_scapula, {"006": "abnormal"}, _DV_LV),
        ("absent_clavicle", do.absent_clavicle, {"007": "abnormal"}, _DV),
        ("bent_clavicle", do.bent_clavicle, {"007": "abnormal"}, _DV),
        ("narrow_pelvis", do.narrow_pelvis, {"012": "abnormal"}, _DV),
        ("short_pelvis", do.short_pelvis, {"012": "abnormal"}, _DV_LV),
        ("asymmetric_pelvis", do.asymmetric_pelvis, {"012": "abnormal"}, _DV),
    ],
    "long_bones": [
        ("short_humerus", partial(do.short_bone, limbs="fore", parts=_UPPER), {"021": "abnormal"}, _DV),
        ("short_forearm", partial(do.short_bone, limbs="fore", parts=_PAIR), _FOREARM, _FORE),
        ("bowed_forearm", partial(do.bowed_bone, limbs="fore", parts=_PAIR), _FOREARM, _FORE),
        ("short_femur", partial(do.short_bone, limbs="hind", parts=_UPPER), {"024": "abnormal"}, _HIND),
        ("bowed_femur", partial(do.bowed_bone, limbs="hind", parts=_UPPER), {"024": "abnormal"}, _HIND),
        ("short_tibia", partial(do.short_bone, limbs="hind", parts=_PAIR), _SHANK, _HIND),
        ("bowed_tibia", partial(do.bowed_bone, limbs="hind", parts=_PAIR), _SHANK, _HIND),
        ("thick_tibia", partial(do.thick_bone, limbs="hind", part="lower"), {"025": "abnormal"}, _HIND),
        ("healed_femur_fracture", partial(do.healed_fracture, limbs="hind", part="upper"), {"024": "abnormal"}, _HIND),
        ("healed_tibia_fracture", partial(do.healed_fracture, limbs="hind", part="lower"), {"025": "abnormal"}, _HIND),
    ],
    "joints": [
        ("dislocated_hip", do.dislocated_hip, {"027": "abnormal"}, _HIND),
        ("fused_knee", partial(do.fused_joint, limbs="hind"), {"027": "abnormal"}, _HIND),
        ("fused_elbow", partial(do.fused_joint, limbs="fore"), {"027": "abnormal"}, _FORE),
        ("deviated_ankle", do.deviated_ankle, {"027": "abnormal"}, _HIND),
        ("calcified_knee", do.calcified_joint, {"027": "abnormal"}, _HIND),
    ],
    "digits": [
        ("extra_digit", do.extra_digit, {"028": 1}, _PAWS),
        ("syndactyly", do.syndactyly, {"029": "Syndactylism"}, _PAWS),
        ("brachydactyly", do.brachydactyly, {"030": "yes"}, _PAWS),
        ("missing_phalanges", do.missing_phalanges, {"031": "no"}, _PAWS),
        ("polysyndactyly", do.polysyndactyly, {"028": 1, "062": "yes"}, _PAWS),
    ],
}  # fmt: skip

FINDINGS: dict[str, Finding] = {
    name: Finding(
        name=name,
        node=node,
        parameters={f"IMPC_XRY_{number}": answer for number, answer in answers.items()},
        views=views,
        change=change,
    )
    for node, rows in _ROWS.items()
    for name, change, answers, views in rows
}
"""Every finding by name, in the order in which they are applied."""
