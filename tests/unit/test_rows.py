"""From what became of a specimen's radiographs to its row: which take part, every flag, and who has no row.

Nothing is read or decoded: the name of a radiograph stands for its bytes, up to the dash.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from echo import TAXONOMY, echo_bundle

from mxbatch.engine.errors import RadiographError
from mxbatch.engine.feed import Loaded
from mxbatch.engine.flags import FLAGS
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.plan import METADATA, Radiograph, Specimen
from mxbatch.engine.provenance import LEARNED_FROM
from mxbatch.engine.rows import Outcome, Token, calls_table, quarantine_table

RECIPE = Recipe(name="rows", views=("tail", "snout", "belly", "forepaw", "lv", "dv"), max_radiographs=3)
BROKEN = RadiographError("MX-D101", "the file ends early")


def shot(name: str, view: str | None, code: str | None = None) -> Radiograph:
    return Radiograph(name, view, size=9, mtime_ns=0, code=code, reason=code and "the index says so")


def load(radiograph: Radiograph) -> Loaded:
    checksum = radiograph.path.partition("-")[0]
    return Loaded(checksum=checksum, error=BROKEN if checksum == "broken" else None)


def outcome_of(*radiographs: Radiograph, mouse: str = "m") -> Outcome:
    specimen = Specimen(("BCM", mouse, "XRY", ""), (None,) * len(METADATA), f"work {mouse}", radiographs)
    outcome = Outcome(specimen, RECIPE)
    for row, radiograph in enumerate(outcome.to_load()):
        outcome.accept(radiograph, load(radiograph), row)
    return outcome


def calls(*outcomes: Outcome, learned_from: str = "radiographs") -> list[dict[str, Any]]:
    """The rows of `outcomes`; the n-th that has tokens gets the probability 1/2, 1/4, 1/8 ... at every node."""
    bundle = echo_bundle(RECIPE, learned_from=learned_from)
    scored = sum(bool(outcome.tokens) for outcome in outcomes)
    probabilities = np.repeat(
        0.5 ** np.arange(1, scored + 1, dtype=np.float32)[:, None], len(TAXONOMY.nodes), 1
    )
    return calls_table(outcomes, probabilities, bundle, "echo", "run").to_pylist()


# --- flags

GOOD = shot("a", "dv")
RAISES = {
    "duplicate_radiograph": [GOOD, shot("a-again", "dv")],
    "radiograph_quarantined": [GOOD, shot("broken", "lv")],
    "radiographs_left_out": [GOOD, shot("b", "dv"), shot("c", "dv"), shot("d", "dv")],
    "untrained_model": [GOOD],
    "phantom_model": [GOOD],
    "view_not_in_model": [GOOD, shot("b", "skull_dv")],
    "view_unknown": [GOOD, shot("b", "unknown")],
}


ORIGIN = {origin.flag: name for name, origin in LEARNED_FROM.items()}


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_is_raised_by_its_own_case_and_no_other_with_it(flag: str) -> None:
    (row,) = calls(outcome_of(*RAISES[flag]), learned_from=ORIGIN.get(flag, "radiographs"))
    assert row["flags"] == [flag]


def test_a_specimen_with_nothing_odd_has_no_flags() -> None:
    (row,) = calls(outcome_of(GOOD, shot("b", "lv"), shot("c", "dv")))
    assert row["flags"] == []


def test_flags_are_sorted_and_stand_once_each() -> None:
    odd = [shot("broken", "lv"), shot("broken-2", "lv"), shot("a-2", "dv"), shot("b", None), GOOD]
    (row,) = calls(outcome_of(*odd), learned_from="nothing")
    assert row["flags"] == [
        "duplicate_radiograph",
        "radiograph_quarantined",
        "untrained_model",
        "view_unknown",
    ]


def test_a_radiograph_that_the_index_refuses_is_flagged_like_one_that_the_decoder_refuses() -> None:
    (row,) = calls(outcome_of(GOOD, shot("b", "lv", "MX-A101")))
    assert row["flags"] == ["radiograph_quarantined"]


# --- which radiographs take part


def test_the_same_bytes_count_once_for_a_view_but_may_show_two_views() -> None:
    outcome = outcome_of(shot("a", "dv"), shot("a-2", "dv"), shot("a-3", "lv"))
    assert outcome.tokens == [Token("dv", 0), Token("lv", 2)]


def test_a_view_that_the_model_does_not_know_is_not_even_opened() -> None:
    strange, unsaid = shot("b", "skull_dv"), shot("c", None)
    outcome = Outcome(Specimen(("", "m", "", ""), (), "w", (GOOD, strange, unsaid)), RECIPE)
    assert list(outcome.to_load()) == [GOOD, unsaid]
    assert outcome.refused == []


@pytest.mark.parametrize("view", [None, "unknown"])
def test_a_radiograph_whose_view_nobody_says_takes_part(view: str | None) -> None:
    assert outcome_of(shot("a", view)).tokens == [Token("unknown", 0)]


@pytest.mark.parametrize(
    ("views", "kept"),
    [
        ("dv dv dv lv", [0, 1, 3]),
        ("dv dv lv forepaw", [0, 2, 3]),
        ("dv lv dv lv", [0, 1, 2]),
        ("dv lv forepaw dv", [0, 1, 2]),
        ("dv dv dv lv forepaw", [0, 3, 4]),
        ("dv lv forepaw tail", [0, 1, 2]),
        ("dv lv forepaw", [0, 1, 2]),
    ],
)
def test_where_the_model_takes_fewer_the_last_repeat_goes_before_any_view_does(
    views: str, kept: list[int]
) -> None:
    outcome = outcome_of(*(shot(f"{n}", view) for n, view in enumerate(views.split())))
    assert [token.row for token in outcome.tokens] == kept
    assert outcome.flags == ({"radiographs_left_out"} if len(views.split()) > len(kept) else set())


@pytest.mark.parametrize(
    ("shown", "used"),
    [
        ("tail forepaw lv", "lv forepaw tail"),
        ("belly snout tail", "tail snout belly"),
        ("unknown belly tail", "tail belly unknown"),
        ("unknown snout lv", "lv snout unknown"),
        ("dv dv", "dv"),
    ],
)
def test_used_views_stand_once_each_in_the_order_of_impc_with_the_models_own_after_them(
    shown: str, used: str
) -> None:
    (row,) = calls(outcome_of(*(shot(f"{n}", view) for n, view in enumerate(shown.split()))))
    assert row["views_used"] == used.split()


def test_missing_views_are_those_of_the_model_in_its_own_order() -> None:
    (row,) = calls(outcome_of(shot("a", "lv"), shot("b", "skull_dv"), shot("broken", "dv")))
    assert row["views_missing"] == ["tail", "snout", "belly", "forepaw", "dv"]


# --- who has a row

PROBABILITIES = [f"p_{name}" for name in TAXONOMY.names]


def test_a_specimen_of_views_that_the_model_does_not_know_is_unscored_and_not_lost() -> None:
    outcomes = [
        outcome_of(shot("a", "dv"), mouse="first"),
        outcome_of(shot("b", "skull_dv"), shot("c", "hind_leg"), mouse="strange"),
        outcome_of(shot("d", "dv"), mouse="last"),
    ]
    first, strange, last = calls(*outcomes)
    assert (strange["call"], strange["views_used"]) == ("unscored", [])
    assert strange["flags"] == ["view_not_in_model"]
    assert {strange[name] for name in PROBABILITIES} == {None}
    assert {first[name] for name in PROBABILITIES} == {0.5}  # each its own numbers, none its neighbour's
    assert {last[name] for name in PROBABILITIES} == {0.25}
    assert quarantine_table(outcomes, "m", "run").num_rows == 0


def test_one_usable_radiograph_of_a_strange_view_beside_a_refused_one_keeps_the_row() -> None:
    (row,) = calls(outcome_of(shot("a", "skull_dv"), shot("broken", "dv")))
    assert row["call"] == "unscored"
    assert row["flags"] == ["radiograph_quarantined", "view_not_in_model"]


def test_a_specimen_that_is_refused_as_a_whole_has_no_row_but_stands_in_the_quarantine() -> None:
    lost = outcome_of(shot("broken", "dv"), shot("b", "lv", "MX-A101"), mouse="lost")
    kept = outcome_of(shot("a", "dv"), mouse="kept")
    (row,) = calls(lost, kept)
    assert (row["specimen_id"], row["p_abnormal"]) == ("kept", 0.5)
    rows = quarantine_table([lost, kept], "m", "run").to_pylist()
    columns = ("specimen_id", "path", "view", "code", "name", "reason", "checksum", "work_id")
    assert {tuple(row[column] for column in columns) for row in rows} == {
        ("lost", "b", "lv", "MX-A101", "FILE_MISSING", "the index says so", None, "work lost"),
        ("lost", "broken", "dv", "MX-D101", "JPEG_TRUNCATED", "the file ends early", "broken", "work lost"),
    }
