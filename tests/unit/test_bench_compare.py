"""Two results side by side: what became faster, what only seems so, and what else is different."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mxbatch.bench.compare import ABSENT, WITHIN_NOISE, compare, facts
from mxbatch.bench.result import Figure, Result, Subject, rates
from mxbatch.engine.errors import UsageError

MACHINE = {"processor": "a processor", "cores": 2, "versions": {"torch": "2.14.1"}}


def result(**figures: Figure) -> Result:
    return Result(
        kind="score",
        what="",
        subject=Subject(model="m", batch=16),
        figures=figures,
        shares={"whole of limit": 0.9},
        machine=MACHINE,
        command="mxbatch bench score x",
        revision="0123456789ab",
    )


def test_a_ratio_is_of_medians_b_over_a() -> None:
    found = compare(result(whole=rates([10, 11, 12])), result(whole=rates([20, 22, 24])))
    assert found["figures"].rows == (("whole", "radiographs/s", 11, 22, 2.0, ""),)


def test_a_ratio_within_the_spread_of_the_rounds_is_marked() -> None:
    found = compare(result(whole=rates([10, 11, 12])), result(whole=rates([11.5, 12.5, 13])))
    assert found["figures"].rows[0][-1] == WITHIN_NOISE


def test_a_figure_that_only_one_has_is_shown_without_a_ratio() -> None:
    found = compare(result(old=rates([1])), result(new=rates([2])))
    assert found["figures"].rows == (
        ("old", "radiographs/s", 1, None, None, ABSENT),
        ("new", "radiographs/s", None, 2, None, ABSENT),
    )


def test_what_else_differs_is_named_down_to_the_version() -> None:
    other = replace(
        result(), machine={**MACHINE, "versions": {"torch": "2.15.0"}}, subject=Subject(model="m", batch=32)
    )
    assert compare(result(), other)["what else differs"].rows == (
        ("machine.versions.torch", "2.14.1", "2.15.0"),
        ("batch", 16, 32),
    )


def test_a_result_differs_from_itself_in_nothing() -> None:
    assert compare(result(), result())["what else differs"].rows == ()
    assert "machine.cores" in facts(result())


def test_results_of_different_kinds_are_not_compared() -> None:
    with pytest.raises(UsageError, match=r"bench score.*bench peers"):
        compare(result(), replace(result(), kind="peers"))
