"""The mouse: what it has, that findings are true to their names, and that nobody is built of nonsense."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mxbatch.engine.archive.views import VIEWS
from mxbatch.engine.taxonomy import BUILT_IN, Parameter, read_taxonomy
from mxbatch.trainer.phantom.findings import FINDINGS, Finding
from mxbatch.trainer.phantom.mouse import Mouse, grow
from mxbatch.trainer.phantom.plan import Plan, individual
from mxbatch.trainer.phantom.project import Framing, frame, project
from mxbatch.trainer.phantom.solids import Solids

CLASSES = [node for node in read_taxonomy(BUILT_IN).nodes if node.level == 3]
BY_NAME = pytest.mark.parametrize("finding", FINDINGS.values(), ids=FINDINGS)


SEED, SIZE = 5, 160


@lru_cache
def normal_frame(view: str) -> Framing:
    return frame(grow(seed=SEED), view, SIZE, SIZE)


@lru_cache(maxsize=256)
def picture(name: str, severity: float, view: str) -> NDArray[np.float32]:
    """`view` of an animal with one finding, framed as the same animal without it."""
    framing = normal_frame(view)
    mouse = grow({name: severity} if name else {}, seed=SEED)
    return project(
        mouse, view, height=SIZE, width=SIZE, pixels_per_mm=framing.pixels_per_mm, centre_mm=framing.centre_mm
    )


def change(name: str, severity: float, view: str) -> float:
    """Mean difference that a finding makes, as a share of the picture's mean depth."""
    normal = picture("", 0.0, view)
    return float(np.abs(picture(name, severity, view) - normal).mean() / normal.mean())


def plan_with(name: str, severity: float = 1.0, seed: int = 5) -> Plan:
    plan = individual("female", np.random.default_rng(seed))
    FINDINGS[name].change(plan, severity, np.random.default_rng(seed))
    return plan


def count(plan: Plan, region: str) -> int:
    return len(plan.region(region))


def rib_counts(plan: Plan) -> tuple[int, int]:
    left, right = (sum(v.ribs[side] is not None for v in plan.spine) for side in (0, 1))
    return left, right


def same(first: Solids, second: Solids) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in Solids.__slots__)


# ---- the normal animal ----------------------------------------------------------------------------------------------


def test_a_mouse_has_the_bones_of_a_mouse() -> None:
    plan = individual("male", np.random.default_rng(0))
    assert {r: count(plan, r) for r in ("cervical", "thoracic", "lumbar", "pelvic", "caudal")} == {
        "cervical": 7,
        "thoracic": 13,
        "lumbar": 6,
        "pelvic": 4,
        "caudal": 28,
    }
    assert rib_counts(plan) == (13, 13)
    assert sum(len(limb.digits) for limb in (*plan.fore, *plan.hind)) == 20


@pytest.mark.parametrize("seed", range(4))
def test_a_mouse_is_as_long_as_a_mouse(seed: int) -> None:
    at = grow(seed=seed).landmarks
    assert 75.0 < np.linalg.norm(at["nose"] - at["tail_base"]) < 105.0
    assert 20.0 < np.linalg.norm(at["nose"] - at["nape"]) < 32.0
    assert 13.0 < np.linalg.norm(at["right_hip"] - at["right_knee"]) < 18.0


def test_right_is_right_and_the_head_is_in_front_of_the_tail() -> None:
    at = grow(seed=1).landmarks
    for joint in ("shoulder", "wrist", "hip", "toetip"):
        assert at[f"left_{joint}"][0] < 0.0 < at[f"right_{joint}"][0]
    assert at["nose"][1] > at["nape"][1] > at["right_hip"][1] > at["tail_base"][1]
    assert at["crown"][2] > at["chin"][2]


def test_the_same_seed_is_the_same_animal_and_another_seed_another() -> None:
    first = grow({"scoliosis": 0.5}, seed=3)
    assert same(first.solids, grow({"scoliosis": 0.5}, seed=3).solids)
    assert not same(first.solids, grow({"scoliosis": 0.5}, seed=4).solids)


def test_findings_do_not_depend_on_the_order_in_which_they_are_named() -> None:
    names = ("kyphosis", "extra_lumbar_vertebra", "scoliosis")
    assert same(
        grow(dict.fromkeys(names, 0.7), seed=2).solids, grow(dict.fromkeys(names[::-1], 0.7), seed=2).solids
    )


@pytest.mark.parametrize(
    ("findings", "sex", "reason"),
    [({"gills": 0.5}, "female", "unknown finding 'gills'"), ({"scoliosis": 0.0}, "female", "severity"),
     ({"scoliosis": 1.5}, "female", "severity"), ({}, "queen", "sex")],
)  # fmt: skip
def test_an_animal_that_cannot_be_is_refused(findings: Mapping[str, float], sex: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        grow(findings, sex=sex, seed=0)


# ---- the table of findings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", CLASSES, ids=lambda node: node.name)
def test_every_class_has_at_least_three_findings(node: object) -> None:
    assert sum(finding.node == node.name for finding in FINDINGS.values()) >= 3  # type: ignore[attr-defined]


@BY_NAME
def test_the_answers_of_a_finding_make_its_class_abnormal(finding: Finding) -> None:
    (node,) = (node for node in CLASSES if node.name == finding.node)
    known = {parameter.id: parameter for parameter in node.parameters}
    assert finding.parameters
    for number, answer in finding.parameters.items():
        assert is_abnormal(known[number], answer), (number, answer)


def is_abnormal(parameter: Parameter, answer: str | int) -> bool:
    if parameter.kind == "count":
        return isinstance(answer, int) and answer != 0 and parameter.reliable
    return answer in parameter.abnormal


GROWTH = {"missing_lumbar_vertebra": 1.0, "short_caudal_vertebrae": 1.05}
"""A bone is there or not, and a tail that ends elsewhere is elsewhere; everything else grows by a tenth at least."""


@BY_NAME
def test_a_finding_shows_in_its_first_view_and_more_so_when_severe(finding: Finding) -> None:
    assert set(finding.views) <= set(VIEWS)
    view = finding.views[0]
    brightest = np.abs(picture(finding.name, 1.0, view) - picture("", 0.0, view)).max()
    assert brightest > 0.1  # of optical depth: a tenth more or less light
    plain, subtle = change(finding.name, 1.0, view), change(finding.name, 0.3, view)
    assert plain >= GROWTH.get(finding.name, 1.1) * subtle


@pytest.mark.parametrize(
    ("name", "telling", "other"),
    [
        ("scoliosis", "dv", "lv"),
        ("s_shaped_spine", "dv", "lv"),
        ("kyphosis", "lv", "dv"),
        ("lordosis", "lv", "dv"),
    ],
)
def test_a_curvature_shows_in_the_view_across_it(name: str, telling: str, other: str) -> None:
    """While it is mild: a back that is bent far is shorter in every view."""
    assert change(name, 0.25, telling) > 2.0 * change(name, 0.25, other)


@pytest.mark.parametrize(
    ("name", "axis", "other"), [("scoliosis", 0, 2), ("kyphosis", 2, 0), ("lordosis", 2, 0)]
)
def test_a_curvature_bends_the_back_in_its_own_plane(name: str, axis: int, other: int) -> None:
    bent = np.array([[v.yaw, 0.0, v.pitch] for v in plan_with(name).spine])
    straight = np.array([[v.yaw, 0.0, v.pitch] for v in individual("female", np.random.default_rng(5)).spine])
    bends = np.abs(bent - straight).sum(axis=0)
    assert bends[axis] > 40.0
    assert bends[other] == 0.0


@pytest.mark.parametrize(
    ("name", "region", "delta"),
    [("extra_lumbar_vertebra", "lumbar", 1), ("missing_lumbar_vertebra", "lumbar", -1)],
)
def test_a_count_that_a_scorer_writes_is_the_count_that_is_drawn(name: str, region: str, delta: int) -> None:
    assert count(plan_with(name), region) == 6 + delta
    assert list(FINDINGS[name].parameters.values()) == [delta]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing_ribs", (12, 12)),
        ("extra_ribs", (14, 14)),
    ],
)
@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_ribs_are_as_many_as_the_finding_says(name: str, expected: tuple[int, int], severity: float) -> None:
    assert rib_counts(plan_with(name, severity)) == expected


def test_an_extra_digit_is_one_more_and_syndactyly_none() -> None:
    def digits(plan: Plan) -> int:
        return sum(len(limb.digits) for limb in (*plan.fore, *plan.hind))

    assert digits(plan_with("extra_digit")) == 21
    assert digits(plan_with("polysyndactyly")) == 21
    assert digits(plan_with("syndactyly")) == 20


@settings(max_examples=25, deadline=None)
@given(
    findings=st.dictionaries(st.sampled_from(sorted(FINDINGS)), st.floats(0.01, 1.0), max_size=8),
    sex=st.sampled_from(["female", "male"]),
    view=st.sampled_from(VIEWS),
    seed=st.integers(0, 2**31),
)
def test_any_combination_of_findings_can_be_drawn(
    findings: dict[str, float], sex: str, view: str, seed: int
) -> None:
    mouse: Mouse = grow(findings, sex=sex, seed=seed)
    framing = frame(mouse, view, 48, 64)
    depth = project(
        mouse, view, height=48, width=64, pixels_per_mm=framing.pixels_per_mm, centre_mm=framing.centre_mm
    )
    assert np.isfinite(depth).all()
    assert 0.5 < depth.max() < 30.0


def test_all_findings_at_once_can_be_drawn() -> None:
    depth = project(grow(dict.fromkeys(FINDINGS, 1.0), seed=0), "dv", height=64, width=64, pixels_per_mm=0.6)
    assert np.isfinite(depth).all()
