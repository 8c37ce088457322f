"""The numbers an animal is built from: proportions of a normal adult mouse, in mm and degrees.

A finding changes these numbers before anything is built, so it can only do what geometry allows. Lengths follow an
adult C57BL/6 of about 95 mm from nose to tail base; where they were measured, it was on the dorsoventral
radiographs that docs/phantoms.md shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SIDES = ("left", "right")
REGIONS = ("cervical", "thoracic", "lumbar", "pelvic", "caudal")


@dataclass(kw_only=True, slots=True)
class Rib:
    """One rib, from its vertebra to where bone becomes cartilage."""

    length: float = 1.0
    """Share of the normal length."""
    wave: float = 0.0
    """Height of a wave along the rib, mm."""
    toward_next: float = 0.0
    """0 its own course; 1 it meets the rib behind it over its middle part and is one bone with it there."""


@dataclass(kw_only=True, slots=True)
class Vertebra:
    """One vertebra and the joint with the one behind it."""

    region: str
    length: float
    """Of the body, mm."""
    gap: float
    """The disc behind it, mm."""
    width: float
    """Half the width of the body's ends, mm."""
    height: float
    """Half the dorsoventral height of the body's ends, mm."""
    spinous: float
    """Length of the spinous process, mm."""
    spinous_lean: float = 40.0
    """Degrees by which the spinous process leans backwards."""
    transverse: list[float]
    """Lengths of the left and right transverse process, mm."""
    transverse_lean: list[float]
    """Degrees by which they point forwards; negative is backwards."""
    yaw: float = 0.0
    """Bend to the animal's left of all that lies cranial, degrees, at the joint behind this vertebra."""
    pitch: float = 0.0
    """Bend upwards, likewise; what the normal spine has comes on top."""
    halves: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """Craniocaudal length of the left and right half of the body as a share of the normal: a wedge, or half a body."""
    ventral: float = 1.0
    """Likewise the length of its belly side: a wedge seen from the side."""
    cleft: float = 0.0
    """0 one body; 1 a body in two halves, a butterfly."""
    bridge: float = 0.0
    """0 a free joint behind it; 1 grown together with the next vertebra: no disc, a common body."""
    bridge_arch: float = 0.0
    """The same for the arches and processes."""
    ribs: list[Rib | None] = field(default_factory=lambda: [None, None])


@dataclass(kw_only=True, slots=True)
class Bone:
    """A long bone."""

    length: float
    radius: float
    """Of the middle of the shaft, mm."""
    bow: float = 0.0
    """Height of the arc, as a share of the length."""
    kink: float = 0.0
    """Degrees by which the shaft is bent at a healed fracture."""
    callus: float = 0.0
    """0 none; 1 a callus of two and a half times the shaft's radius."""


@dataclass(kw_only=True, slots=True)
class Digit:
    """One ray: metacarpal or metatarsal, phalanges, claw."""

    bones: list[float]
    """Lengths of the metapodial and the phalanges, mm; the last one is the claw's."""
    radius: float
    spread: float
    """Degrees from the paw's axis, towards the little finger."""
    root: float
    """Place on the wrist or ankle across the paw, mm, towards the little finger."""
    toward_next: float = 0.0
    """0 free; 1 lies against the next digit, and the soft tissue is common."""
    bridged: float = 0.0
    """0 bones free; 1 phalanges are one bone with the next digit's."""


@dataclass(kw_only=True, slots=True)
class Limb:
    """Fore or hind limb of one side."""

    upper: Bone
    lower: Bone
    """Ulna, or tibia."""
    second: Bone
    """Radius, or fibula."""
    digits: list[Digit]
    fused: float = 0.0
    """0 a free elbow or knee; 1 its bones are one, and the joint stands bent."""
    turn: float = 0.0
    """Degrees by which the paw deviates at the wrist or ankle."""
    dislocation: float = 0.0
    """mm by which the head of the humerus or femur has left its socket."""
    calcified: float = 0.0
    """Radius in mm of chalky nodules about the elbow or knee."""


@dataclass(kw_only=True, slots=True)
class Skull:
    """Measures of the head as shares of the normal, unless a unit is named."""

    vault_length: float = 1.0
    vault_height: float = 1.0
    vault_width: float = 1.0
    snout: float = 1.0
    """Length of nose, premaxilla and maxilla."""
    snout_turn: float = 0.0
    """Degrees by which the snout deviates to the left."""
    snout_drop: float = 0.0
    """Degrees by which it is bent downwards."""
    zygoma_bow: float = 1.0
    """How far the zygomatic arches stand out."""
    zygoma: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """How much of the left and right arch there is."""
    mandible: float = 1.0
    half: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """Size of the left and right half of the vault."""
    upper_incisor: list[float] = field(default_factory=lambda: [1.0, 1.0])
    lower_incisor: list[float] = field(default_factory=lambda: [1.0, 1.0])
    incisor_turn: float = 0.0
    """Degrees by which upper and lower incisors part sideways."""


@dataclass(kw_only=True, slots=True)
class Cage:
    """The rib cage as a whole."""

    width: float = 1.0
    flare: float = 0.0
    """Share by which the last ribs stand out further than they should; negative draws them in."""
    depth: float = 1.0


@dataclass(kw_only=True, slots=True)
class Girdles:
    """Shoulder blades, clavicles and pelvis; shares of the normal by side, left first."""

    scapula: list[float] = field(default_factory=lambda: [1.0, 1.0])
    scapula_width: list[float] = field(default_factory=lambda: [1.0, 1.0])
    clavicle: list[float] = field(default_factory=lambda: [1.0, 1.0])
    clavicle_bend: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Degrees at its middle."""
    ilium: list[float] = field(default_factory=lambda: [1.0, 1.0])
    ischium: list[float] = field(default_factory=lambda: [1.0, 1.0])
    pelvis_width: float = 1.0


@dataclass(kw_only=True, slots=True)
class Plan:
    """All of an animal. Made afresh by `individual`, then changed in place by findings."""

    size: float
    """Scale of the whole animal."""
    fat: float
    """Girth of the trunk as a share of the normal."""
    bone_density: float
    sex: str
    spine: list[Vertebra]
    skull: Skull
    cage: Cage
    girdles: Girdles
    fore: list[Limb]
    """Left, right."""
    hind: list[Limb]

    def region(self, name: str) -> list[Vertebra]:
        """The vertebrae of one of `REGIONS`, cranial first."""
        return [vertebra for vertebra in self.spine if vertebra.region == name]


# region: number of vertebrae, then from its first to its last one: body length, disc, half width, half height, spinous
# process, transverse process (mm).
_SPINE: dict[str, tuple[int, dict[str, tuple[float, ...]]]] = {
    "cervical": (7, {"length": (1.1, 1.05), "gap": (0.2, 0.2), "width": (1.9, 1.6), "height": (0.55, 0.55),
                     "spinous": (0.8, 0.7), "transverse": (0.9, 0.7)}),
    "thoracic": (13, {"length": (1.2, 2.05), "gap": (0.2, 0.32), "width": (0.9, 1.15), "height": (0.6, 0.8),
                      "spinous": (1.5, 1.5), "transverse": (0.9, 0.6)}),
    "lumbar": (6, {"length": (2.3, 2.95), "gap": (0.36, 0.42), "width": (1.25, 1.5), "height": (0.9, 1.05),
                   "spinous": (1.6, 1.4), "transverse": (1.2, 2.0)}),
    "pelvic": (4, {"length": (2.8, 2.5), "gap": (0.12, 0.2), "width": (1.45, 1.2), "height": (1.0, 0.9),
                   "spinous": (1.1, 0.9), "transverse": (1.3, 1.2)}),
    "caudal": (28, {"length": (2.5, 3.2, 3.9, 4.0, 3.8, 3.3, 2.6, 1.9, 1.0),
                    "gap": (0.35, 0.45, 0.45, 0.45, 0.4, 0.4, 0.35, 0.3, 0.25),
                    "width": (1.15, 1.2, 1.2, 1.1, 0.85, 0.7, 0.55, 0.42, 0.3),
                    "height": (0.9, 0.95, 1.0, 0.95, 0.8, 0.65, 0.5, 0.4, 0.3),
                    "spinous": (0.7, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
                    "transverse": (1.5, 1.2, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)}),
}  # fmt: skip

_FORE_DIGITS = (([1.0, 0.55, 0.4], 0.23, -38.0, -0.85), ([2.3, 1.35, 0.9, 0.9], 0.26, -14.0, -0.5),
                ([2.7, 1.5, 1.0, 0.95], 0.27, -3.0, -0.1), ([2.6, 1.45, 0.95, 0.9], 0.27, 8.0, 0.35),
                ([1.9, 1.15, 0.7, 0.85], 0.26, 24.0, 0.75))  # fmt: skip
_HIND_DIGITS = (([4.0, 1.5, 1.0], 0.27, -16.0, -0.9), ([6.4, 2.1, 1.3, 1.1], 0.3, -7.0, -0.5),
                ([6.9, 2.3, 1.4, 1.1], 0.32, -1.0, -0.05), ([6.6, 2.2, 1.35, 1.1], 0.31, 5.0, 0.4),
                ([5.2, 1.7, 1.1, 1.0], 0.28, 13.0, 0.85))  # fmt: skip


def individual(sex: str, rng: np.random.Generator) -> Plan:
    """A normal animal of `sex` with proportions of its own."""

    def about(value: float, spread: float = 0.03) -> float:
        return float(value * np.exp(spread * np.clip(rng.standard_normal(), -2.5, 2.5)))

    male = sex == "male"
    return Plan(
        size=about(1.02 if male else 0.98, 0.02),
        fat=about(1.05 if male else 0.95, 0.07),
        bone_density=about(1.0, 0.06),
        sex=sex,
        spine=_spine(rng),
        skull=Skull(
            vault_length=about(1.0, 0.015),
            vault_height=about(1.0, 0.02),
            vault_width=about(1.0, 0.015),
            snout=about(1.0, 0.02),
            zygoma_bow=about(1.0, 0.03),
            mandible=about(1.0, 0.015),
        ),
        cage=Cage(width=about(1.0), depth=about(1.0), flare=float(0.03 * rng.standard_normal())),
        girdles=Girdles(pelvis_width=about(1.0 if male else 1.04)),
        fore=_limbs(rng, (11.2, 0.62), (13.2, 0.4), (10.6, 0.4), _FORE_DIGITS),
        hind=_limbs(rng, (15.2, 0.78), (17.6, 0.62), (10.0, 0.26), _HIND_DIGITS),
    )


def _spine(rng: np.random.Generator) -> list[Vertebra]:
    spine: list[Vertebra] = []
    for region, (count, table) in _SPINE.items():
        along = np.linspace(0.0, 1.0, count)
        at = {name: np.interp(along, np.linspace(0.0, 1.0, len(row)), row) for name, row in table.items()}
        jitter = np.exp(0.02 * rng.standard_normal((count, 4)))
        for i in range(count):
            lean = {"lumbar": 35.0, "caudal": -20.0}.get(region, 0.0)
            spine.append(
                Vertebra(
                    region=region,
                    length=float(at["length"][i] * jitter[i, 0]),
                    gap=float(at["gap"][i] * jitter[i, 1]),
                    width=float(at["width"][i] * jitter[i, 2]),
                    height=float(at["height"][i]),
                    spinous=float(at["spinous"][i] * jitter[i, 3]),
                    transverse=[float(at["transverse"][i])] * 2,
                    transverse_lean=[lean, lean],
                    yaw=float(0.5 * rng.standard_normal()) if region != "caudal" else 0.0,
                    pitch=float(0.3 * rng.standard_normal()) if region != "caudal" else 0.0,
                    ribs=[Rib(), Rib()] if region == "thoracic" else [None, None],
                )
            )
    return spine


def _limbs(
    rng: np.random.Generator,
    upper: tuple[float, float],
    lower: tuple[float, float],
    second: tuple[float, float],
    digits: tuple[tuple[list[float], float, float, float], ...],
) -> list[Limb]:
    scale = np.exp(0.02 * rng.standard_normal(4))

    def bone(measures: tuple[float, float], factor: float) -> Bone:
        return Bone(length=float(measures[0] * factor), radius=measures[1])

    return [
        Limb(
            upper=bone(upper, scale[0]),
            lower=bone(lower, scale[1]),
            second=bone(second, scale[1]),
            digits=[
                Digit(bones=[float(b * scale[2]) for b in bones], radius=radius, spread=spread, root=root)
                for bones, radius, spread, root in digits
            ],
        )
        for _ in SIDES
    ]
