"""What answers say of a specimen: one row for every parameter of the taxonomy, then the rules for whole trees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mxbatch.engine.taxonomy import Node, Parameter, Taxonomy, read_taxonomy
from mxbatch.trainer.labels import Labels, fill_parents, label
from mxbatch.trainer.scores import SCORES_SCHEMA

TAXONOMY = read_taxonomy()
LEAVES = TAXONOMY.level(3)
NAN = float("nan")
ABNORMAL, YES, NO = ("normal", "abnormal"), ("no", "yes"), ("yes", "no")
Answer = str | float | None

# parameter, the class it judges, its normal and its abnormal answer; None where it judges nothing
EVERY_PARAMETER: list[tuple[int, str, Answer, Answer]] = [
    (1, "skull", *ABNORMAL),
    (2, "skull", *ABNORMAL),
    (3, "jaw_teeth", *ABNORMAL),
    (4, "jaw_teeth", *ABNORMAL),
    (5, "jaw_teeth", *ABNORMAL),
    (6, "girdles", *ABNORMAL),
    (7, "girdles", *ABNORMAL),
    (8, "ribs", 13, 14),
    (9, "ribs", 13, 12),
    (10, "ribs", *ABNORMAL),
    (11, "ribs", "not fused", "fused"),
    (12, "girdles", *ABNORMAL),
    (13, "vertebra_shape", 7, 6),
    (14, "vertebra_shape", 13, 14),
    (15, "vertebra_shape", 6, 5),
    (16, "vertebra_shape", 4, 5),
    (17, "vertebra_shape", None, None),
    (18, "vertebra_shape", *ABNORMAL),
    (19, "vertebra_fusion", *YES),
    (20, "vertebra_shape", *ABNORMAL),
    (21, "long_bones", *ABNORMAL),
    (22, "long_bones", *ABNORMAL),
    (23, "long_bones", *ABNORMAL),
    (24, "long_bones", *ABNORMAL),
    (25, "long_bones", *ABNORMAL),
    (26, "long_bones", *ABNORMAL),
    (27, "joints", *ABNORMAL),
    (28, "digits", 20, 19),
    (29, "digits", "no syndactylism", "Syndactylism"),
    (30, "digits", *YES),
    (31, "digits", *NO),
    (33, "long_bones", None, None),
    (55, "spine_curvature", *ABNORMAL),
    (56, "spine_curvature", *YES),
    (57, "spine_curvature", *YES),
    (58, "spine_curvature", *YES),
    (59, "ribs", *ABNORMAL),
    (60, "vertebra_shape", *YES),
    (61, "vertebra_fusion", *YES),
    (62, "digits", *YES),
    (63, "vertebra_shape", *ABNORMAL),
    (64, "vertebra_shape", *ABNORMAL),
    (65, "vertebra_shape", *ABNORMAL),
    (66, "vertebra_shape", *ABNORMAL),
    (67, "vertebra_shape", *ABNORMAL),
    (68, "ribs", "No", "Yes"),
    (69, "ribs", *ABNORMAL),
    (70, "vertebra_shape", *ABNORMAL),
    (71, "vertebra_shape", *ABNORMAL),
    (72, "vertebra_shape", *ABNORMAL),
    (73, "vertebra_shape", *ABNORMAL),
    (74, "vertebra_shape", *ABNORMAL),
]
NORMAL = {number: normal for number, _, normal, _ in EVERY_PARAMETER if normal is not None}
ONE_EACH = {node: number for number, node, normal, _ in EVERY_PARAMETER if normal is not None}
"""For every class one parameter that judges it."""

Row = tuple[str, str, Answer]
"""Specimen, parameter, answer. A specimen `JAX/7` is of the centre JAX."""


def key(specimen: str) -> tuple[str, ...]:
    centre, _, name = specimen.rpartition("/")
    return centre or "BCM", name, "IMPC_XRY_001", "2015-03-02"


def scores(rows: list[Row]) -> pa.Table:
    keys = [key(specimen) for specimen, _, _ in rows]
    answers = [answer for _, _, answer in rows]
    columns = [
        *([each[i] for each in keys] for i in range(4)),
        [parameter for _, parameter, _ in rows],
        [answer if isinstance(answer, str) else None for answer in answers],
        [None if isinstance(answer, str) or answer is None else float(answer) for answer in answers],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCORES_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCORES_SCHEMA)


def answers(specimen: str, given: dict[int, Answer], pipeline: str = "IMPC") -> list[Row]:
    return [(specimen, f"{pipeline}_XRY_{number:03d}", answer) for number, answer in given.items()]


def labels(rows: list[Row], taxonomy: Taxonomy = TAXONOMY) -> Labels:
    specimens = dict.fromkeys(specimen for specimen, _, _ in rows)
    return label(scores(rows), [key(specimen) for specimen in specimens], taxonomy)


def values(rows: list[Row], specimen: str, taxonomy: Taxonomy = TAXONOMY) -> dict[str, float]:
    found = labels(rows, taxonomy)
    return dict(zip(taxonomy.names, found.values[found.keys.index(key(specimen))].tolist(), strict=True))


def of_a_full_centre(given: dict[int, Answer]) -> dict[str, float]:
    """The labels of a specimen at a centre that judges every class, all others being normal."""
    usual = [row for n in range(4) for row in answers(f"usual-{n}", NORMAL)]
    return values([*usual, *answers("tested", given)], "tested")


def path_of(name: str) -> set[str]:
    nodes = {node.name: node for node in TAXONOMY.nodes}
    path, node = {name}, nodes[name]
    while node.parent is not None:
        path.add(node.parent)
        node = nodes[node.parent]
    return path


def expected(**differing: float) -> dict[str, float]:
    return dict.fromkeys(TAXONOMY.names, 0.0) | differing


def same(found: dict[str, float], wanted: dict[str, float]) -> bool:
    return np.array_equal(list(found.values()), [wanted[name] for name in found], equal_nan=True)


# --- one parameter ---


def test_the_table_below_has_every_parameter_of_the_taxonomy() -> None:
    listed = {(f"IMPC_XRY_{number:03d}", node) for number, node, _, _ in EVERY_PARAMETER}
    assert listed == {(parameter.id, node.name) for node in TAXONOMY.nodes for parameter in node.parameters}


@pytest.mark.parametrize(
    ("number", "node", "normal", "abnormal"), EVERY_PARAMETER, ids=lambda value: str(value)
)
def test_each_parameter_judges_its_class_and_what_is_above_it(
    number: int, node: str, normal: Answer, abnormal: Answer
) -> None:
    others = {other: NORMAL[other] for name, other in ONE_EACH.items() if name != node}
    unknown = expected(**dict.fromkeys(path_of(node), NAN))
    for missing in ("imageOnly", "unobservable", "no data", None):
        assert same(of_a_full_centre(others | {number: missing}), unknown)
    if abnormal is None:  # a length, and a count that says more of tipped tails than of genes
        assert same(of_a_full_centre(others | {number: 17.0}), unknown)
        return
    assert same(of_a_full_centre(others | {number: normal}), expected())
    assert same(of_a_full_centre(others | {number: abnormal}), expected(**dict.fromkeys(path_of(node), 1.0)))


def test_digits_are_intact_when_the_answer_to_031_is_yes() -> None:
    assert values(answers("a", {31: "yes"}), "a")["digits"] == 0
    assert values(answers("a", {31: "no"}), "a")["digits"] == 1


@pytest.mark.parametrize(("ribs", "wanted"), [(13, 0), (12, 1), (14, 1), (0, 1), ("unobservable", NAN)])
def test_any_other_count_than_the_wild_types_is_a_deviation(ribs: Answer, wanted: float) -> None:
    assert values(answers("a", {8: ribs}), "a")["ribs"] == pytest.approx(wanted, nan_ok=True)


@pytest.mark.parametrize("answer", ["Abnormal", "ABNORMAL"])
def test_words_meet_without_regard_to_case(answer: str) -> None:
    assert values(answers("a", {1: answer}), "a")["skull"] == 1


@pytest.mark.parametrize(
    ("number", "answer", "named"),
    [
        (1, "perhaps", "IMPC_XRY_001: 'perhaps' is none of its answers"),
        (1, 3, "IMPC_XRY_001: '3' is none of its answers"),
        (8, "many", "IMPC_XRY_008: 'many' is none of its answers"),
        (32, "a comment", "IMPC_XRY_032: not in the taxonomy"),
        (33, 17.5, "IMPC_XRY_033: a length, which has no fixed bound"),
        (17, 27, "IMPC_XRY_017: marked as not reliable"),
    ],
)
def test_answers_that_judge_nothing_are_counted_by_their_reason(
    number: int, answer: Answer, named: str
) -> None:
    found = labels([*answers("a", {number: answer}), *answers("b", {number: answer})])
    assert dict(found.ignored) == {named: 2}
    assert np.isnan(found.values).all()


def test_one_abnormal_parameter_outweighs_the_normal_and_the_missing_ones_of_its_class() -> None:
    assert values(answers("a", {21: "normal", 22: "abnormal", 23: "imageOnly"}), "a")["long_bones"] == 1
    assert values(answers("a", {21: "normal", 23: "imageOnly"}), "a")["long_bones"] == 0


# --- other pipelines ---


@pytest.mark.parametrize("pipeline", ["CCP", "ALTCCP", "BCMLA", "MGP"])
def test_other_pipelines_share_the_numbers(pipeline: str) -> None:
    given = {31: "no", 27: "normal"}
    assert same(values(answers("a", given, pipeline), "a"), values(answers("a", given), "a"))


def test_the_ageing_screen_numbers_on_its_own_so_its_rows_are_counted_and_not_read() -> None:
    found = labels(answers("a", {31: "no", 1: "abnormal"}, "HAS"))
    assert np.isnan(found.values).all()
    why = "the ageing screen numbers and grades on its own"
    assert dict(found.ignored) == {f"HAS_XRY_031: {why}": 1, f"HAS_XRY_001: {why}": 1}


def test_a_taxonomy_may_give_another_pipelines_parameter_a_meaning_of_its_own() -> None:
    def taxonomy(*ids: str) -> Taxonomy:
        graded = tuple(
            Parameter(id=id, name="skull", normal=("Normal (0)",), abnormal=("Severe (3)",)) for id in ids
        )
        nodes = [
            Node(name="abnormal", level=1, title="any"),
            Node(name="head", level=2, parent="abnormal", title="head"),
            Node(name="skull", level=3, parent="head", title="skull", parameters=graded),
        ]
        return Taxonomy(name="graded", version=1, nodes=tuple(nodes))

    for pipeline in ("HAS", "CCP"):
        rows = answers("a", {1: "Severe (3)"}, pipeline)
        assert values(rows, "a", taxonomy(f"{pipeline}_XRY_001"))["abnormal"] == 1
    assert values(answers("a", {1: "Severe (3)"}, "CCP"), "a", taxonomy("IMPC_XRY_001"))["abnormal"] == 1


# --- two answers to one question ---


@pytest.mark.parametrize("second", ["IMPC", "CCP"])
def test_a_specimen_called_both_normal_and_abnormal_is_named_and_counts_as_not_judged(second: str) -> None:
    found = labels([*answers("a", {27: "normal"}), *answers("a", {27: "abnormal"}, second)])
    assert found.conflicts == ("BCM a IMPC_XRY_001 2015-03-02: IMPC_XRY_027 is both normal and abnormal",)
    assert np.isnan(found.values).all()


def test_the_answers_themselves_are_kept_question_by_question() -> None:
    rows = [*answers("a", {1: "normal", 2: "abnormal", 31: "no"}), *answers("a", {27: "normal"}, "CCP")]
    rows += [*answers("b", {27: "normal"}), *answers("b", {27: "abnormal"})]
    found = labels(rows).answers
    said = {1: (0, NAN), 2: (1, NAN), 31: (1, NAN), 27: (0, NAN)}
    for number, wanted in said.items():
        column = TAXONOMY.questions.index(f"IMPC_XRY_{number:03d}")
        assert np.array_equal(found[:, column], np.array(wanted, np.float32), equal_nan=True), number
    assert np.isnan(found).sum() == found.size - 4


def test_neither_a_length_nor_what_is_not_reliable_is_a_question() -> None:
    assert not {"IMPC_XRY_017", "IMPC_XRY_033"} & set(TAXONOMY.questions)
    assert len(TAXONOMY.questions) == len(NORMAL)


def test_a_conflict_leaves_the_class_to_its_other_parameters() -> None:
    rows = [*answers("a", {1: "normal", 2: "abnormal"}), *answers("a", {1: "abnormal"})]
    assert values(rows, "a")["skull"] == 1
    assert len(labels(rows).conflicts) == 1


@pytest.mark.parametrize("first", ["normal", "imageOnly", None])
def test_saying_the_same_twice_or_nothing_the_first_time_is_no_conflict(first: Answer) -> None:
    found = labels([*answers("a", {27: first}), *answers("a", {27: "normal"})])
    assert found.conflicts == ()
    assert found.values[0, TAXONOMY.names.index("joints")] == 0


def test_specimens_are_told_apart_by_their_whole_key() -> None:
    rows = [*answers("JAX/7", {27: "abnormal"}), *answers("ICS/7", {27: "normal"})]
    assert values(rows, "JAX/7")["joints"] == 1
    assert values(rows, "ICS/7")["joints"] == 0


def test_answers_about_specimens_without_radiographs_are_counted() -> None:
    found = label(scores(answers("gone", {27: "normal"})), [key("here")], TAXONOMY)
    assert dict(found.ignored) == {"about specimens that the archive does not hold": 1}
    assert np.isnan(found.values).all()


def test_no_specimens_have_no_labels() -> None:
    assert label(scores([]), [], TAXONOMY).values.shape == (0, len(TAXONOMY.nodes))


# --- the tree ---


def test_where_a_centre_never_judges_a_class_normal_means_normal_in_all_that_it_examines() -> None:
    core = {number: NORMAL[number] for node, number in ONE_EACH.items() if node != "spine_curvature"}
    rows = [*answers("ICS/1", core), *(row for n in range(3) for row in answers(f"JAX/{n}", NORMAL))]
    rows += answers("JAX/4", core)
    assert same(values(rows, "ICS/1"), expected(spine_curvature=NAN))
    assert same(values(rows, "JAX/4"), expected(spine_curvature=NAN, axial=NAN, abnormal=NAN))


def test_a_stray_answer_does_not_make_a_class_one_that_the_centre_looks_for() -> None:
    core = {number: NORMAL[number] for node, number in ONE_EACH.items() if node != "spine_curvature"}
    rows = [row for n in range(3) for row in answers(f"ICS/{n}", core)]
    rows += answers("ICS/4", core | {56: "no"})
    assert same(values(rows, "ICS/1"), expected(spine_curvature=NAN))
    assert same(values(rows, "ICS/4"), expected())


def test_a_node_above_the_leaves_joins_its_own_parameters_in() -> None:
    own = (Parameter(id="IMPC_XRY_059", name="cage", normal=("normal",), abnormal=("abnormal",)),)
    nodes = [replace(node, parameters=own) if node.name == "axial" else node for node in TAXONOMY.nodes]
    nodes = [replace(node, parameters=()) if node.name == "ribs" else node for node in nodes]
    taxonomy = replace(TAXONOMY, nodes=tuple(nodes))
    assert values(answers("a", {59: "abnormal"}), "a", taxonomy)["axial"] == 1
    found = values(answers("a", {59: "normal", 19: "yes"}), "a", taxonomy)
    assert (found["axial"], found["vertebra_fusion"], found["abnormal"]) == (1, 1, 1)
    assert np.isnan(found["ribs"])


judged = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.just(len(TAXONOMY.nodes))),
    elements=st.sampled_from([0.0, 1.0, NAN]),
)


@given(judged, st.data())
def test_no_tree_is_normal_above_and_abnormal_below(own: NDArray[np.float32], data: st.DataObject) -> None:
    centres = data.draw(st.lists(st.sampled_from(["A", "B"]), min_size=len(own), max_size=len(own)))
    filled = fill_parents(own, centres, TAXONOMY)
    for child, parent in enumerate(TAXONOMY.parents):
        if parent >= 0:
            assert (filled[filled[:, child] == 1, parent] == 1).all()
    assert set(filled[~np.isnan(filled)].tolist()) <= {0.0, 1.0}


@given(judged)
def test_a_parent_is_abnormal_exactly_where_something_at_or_below_it_is(own: NDArray[np.float32]) -> None:
    filled = fill_parents(own, ["A"] * len(own), TAXONOMY)
    assert ((filled[:, 0] == 1) == (own == 1).any(axis=1)).all()


@given(judged)
def test_nothing_is_normal_of_which_nobody_judged_any_part(own: NDArray[np.float32]) -> None:
    unseen = np.isnan(own).all(axis=1)
    assert np.isnan(fill_parents(own, ["A"] * len(own), TAXONOMY)[unseen]).all()
