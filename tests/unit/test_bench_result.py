"""The one form of all results: written, read back, named, shown, put on a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mxbatch.bench.page import render, results_on
from mxbatch.bench.result import FORMAT, Figure, Result, Subject, Table, rates, read_result, write_result
from mxbatch.bench.show import markdown, tables
from mxbatch.engine.errors import UsageError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
OURS = [
    path for path in sorted((ROOT / "bench" / "results").glob("*.json")) if '"format"' in path.read_text()
]


@pytest.fixture
def result() -> Result:
    return Result(
        kind="score",
        what="the whole",
        subject=Subject(
            model="convnext_tiny-mv-0123456789ab",
            architecture="convnext_tiny",
            size=224,
            precision="bfloat16",
            runtime="inductor",
            batch=16,
            workers=2,
        ),
        figures={
            "whole": rates([90.0, 100.0, 95.0]),
            "start-up": Figure(unit="s", rounds=(3.0, 3.5, 4.0)),
        },
        shares={"whole of limit": 0.953},
        stages={"encode": 1.5},
        tables={"corpus": Table(columns=("what", "how much"), rows=(("minutes", 30.0), ("price", None)))},
        not_run={"dali float32": "needs an NVIDIA GPU"},
        machine={"processor": "a processor", "cores": 2},
        at="2026-11-20T10:00:00+00:00",
    )


def test_what_is_written_is_read_back(result: Result, tmp_path: Path) -> None:
    assert read_result(write_result(result, tmp_path / "new" / "folder")) == result


def test_a_file_is_named_by_kind_model_precision_runtime_hardware_and_date(result: Result) -> None:
    assert result.name.startswith("score_convnext_tiny_224_bfloat16_inductor_")
    assert result.name.endswith("2cores_2026-11-20")


def test_what_has_no_model_leaves_its_parts_out_of_the_name(result: Result) -> None:
    assert replace(result, kind="write", subject=Subject()).name.count("_") <= 3  # one may be in `x86_64`


def test_a_second_result_of_a_day_gets_a_number_and_replaces_nothing(result: Result, tmp_path: Path) -> None:
    first, second = (write_result(result, tmp_path) for _ in range(2))
    assert second.name == f"{first.stem}-2.json"
    assert first.exists()


def test_a_file_says_all_that_a_reader_without_a_program_needs(result: Result, tmp_path: Path) -> None:
    values = json.loads(write_result(result, tmp_path).read_text())
    assert values["format"] == FORMAT
    assert {"kind", "what", "at", "command", "revision", "machine", "subject", "data", "not_run"} <= set(
        values
    )
    assert values["figures"]["whole"] == {
        "unit": "radiographs/s",
        "median": 95.0,
        "lowest": 90.0,
        "highest": 100.0,
        "rounds": [90.0, 100.0, 95.0],
    }


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "figures": 3}'])
def test_what_is_no_result_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UsageError, match=r"^MX-U001 .*x\.json"):
        read_result(tmp_path / "x.json")


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="MX-U001"):
        read_result(tmp_path / "none.json")


def test_spread_is_from_the_lowest_to_the_highest_round_over_the_median() -> None:
    assert rates([90.0, 100.0, 110.0]).spread == pytest.approx(0.2)


def test_a_price_adds_the_cost_of_a_million_to_rates_and_to_nothing_else(result: Result) -> None:
    rows = {row[0]: row[-1] for row in tables(result, price_per_hour=0.342)["figures"].rows}
    assert rows == {"whole": 1.0, "start-up": None}


def test_markdown_holds_every_table_with_numbers_to_the_right(result: Result) -> None:
    text = markdown(result)
    assert "| what | how much |\n| --- | ---: |\n| minutes | 30.0 |\n| price | – |\n" in text
    assert "| whole of limit | 95.3% |" in text


def test_a_page_shows_what_its_result_files_say(result: Result, tmp_path: Path) -> None:
    path = write_result(result, tmp_path / "bench" / "results")
    mark = f"<!-- bench/results/{path.name} -->"
    page = f"before\n{mark}\n95 of something else\n<!-- end -->\nafter\n"
    fresh = render(page, tmp_path)
    assert results_on(page) == [f"bench/results/{path.name}"]
    assert fresh.startswith("before\n<!-- ")
    assert fresh.endswith("<!-- end -->\nafter\n")
    assert "something else" not in fresh
    assert markdown(result) in fresh
    assert render(fresh, tmp_path) == fresh


def test_the_tables_of_the_page_of_performance_are_those_of_its_files(request: pytest.FixtureRequest) -> None:
    page = PAGE.read_text("utf-8")
    fresh = render(page, ROOT)
    if request.config.getoption("--renew"):
        PAGE.write_text(fresh, "utf-8")
    assert page == fresh


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_a_kept_result_is_whole_named_as_it_says_and_on_the_page(path: Path) -> None:
    kept = read_result(path)
    assert path.name.startswith(f"{kept.kind}_")
    assert kept.at[:10] in path.name
    assert kept.revision
    assert "/" not in kept.command
    assert f"bench/results/{path.name}" in results_on(PAGE.read_text("utf-8"))
