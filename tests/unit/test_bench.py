"""The arithmetic of the benchmarks; what they measure is nobody's to judge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mxbatch.bench.apart import Scored
from mxbatch.bench.crew import share_of
from mxbatch.bench.economy import CORPUS_RADIOGRAPHS, corpus_table, cost_per_million
from mxbatch.bench.machine import command_line, revision
from mxbatch.bench.scale import worker_counts
from mxbatch.bench.score import limit, stages, stall_table

SCORED = Scored(
    record={
        "planned": {"radiographs": 100, "specimens": 30, "shards": 1},
        "seconds": {
            "wall": 13.0,
            "startup": 3.0,
            "read": 1.0,
            "decode": 7.0,
            "wait": 2.0,
            "encode": 14.0,
            "fuse": 0.5,
            "write": 0.5,
        },
    },
    around_s=1.0,
    run_mb=100.0,
    worker_mb=800.0,
)
"""A run of two workers that worked for ten seconds each."""


@pytest.mark.parametrize(
    ("amount", "workers", "share"), [(320, 2, 160), (320, 3, 96), (320, 16, 32), (320, 64, 32), (1, 1, 32)]
)
def test_each_worker_does_whole_batches_and_one_at_least(amount: int, workers: int, share: int) -> None:
    assert share_of(amount, workers, 32) == share


def test_on_shared_cores_the_times_of_decoding_and_model_add_up() -> None:
    assert limit(300, 150, shared=True) == pytest.approx(100)


def test_with_a_gpu_the_slower_of_the_two_is_the_limit() -> None:
    assert limit(3000, 12000, shared=False) == 3000


def test_the_rate_of_a_run_leaves_its_start_up_out() -> None:
    assert SCORED.rate == pytest.approx(10)


def test_model_threads_and_rest_add_up_to_the_clock_of_all_workers() -> None:
    seconds = stages(SCORED, workers=2, shared=False)
    assert seconds["rest"] == pytest.approx(3.0)
    assert sum(seconds[name] for name in ("wait", "encode", "fuse", "write", "rest")) == pytest.approx(20.0)


def test_the_stall_table_has_a_row_per_stage_with_its_share_and_its_milliseconds() -> None:
    rows = {row[0]: row[1:] for row in stall_table(SCORED, workers=2, shared=False).rows}
    assert list(rows) == ["read", "decode", "wait", "encode", "fuse", "write", "rest"]
    assert rows["encode"] == ("model", 14.0, "70.0%", 140.0)
    assert rows["decode"] == ("loader", 7.0, "35.0%", 70.0)


def test_on_shared_cores_decoding_is_the_model_threads_time() -> None:
    seconds = {**SCORED.record["seconds"], "encode": 10.0, "wait": 0.5}
    one_thread = replace(SCORED, record={**SCORED.record, "seconds": seconds})
    rows = {row[0]: row[1:] for row in stall_table(one_thread, workers=2, shared=True).rows}
    assert rows["read"][0] == "loader"
    assert rows["decode"] == ("model", 7.0, "35.0%", 70.0)
    assert sum(row[1] for name, row in rows.items() if name != "read") == pytest.approx(20.0)


def test_a_million_radiographs_at_a_hundred_per_second_take_2778_hours_of_the_price() -> None:
    assert cost_per_million(100, 0.36) == pytest.approx(1.0)


def test_the_corpus_takes_its_rate_and_one_start_up() -> None:
    rows = dict(corpus_table(100, startup_s=60, price_per_hour=1.2).rows)
    minutes = (CORPUS_RADIOGRAPHS / 100 + 60) / 60
    assert rows["minutes"] == round(minutes, 1)
    assert rows["price of the corpus"] == round(minutes / 60 * 1.2, 4)


def test_no_price_is_made_up() -> None:
    assert not [name for name, _ in corpus_table(100, 0, None).rows if "price" in name]


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])]
)
def test_workers_double_up_to_one_per_core(most: int, counts: list[int]) -> None:
    assert worker_counts(most) == counts


def test_a_command_is_kept_without_the_place_of_its_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["/usr/bin/mxbatch", "bench", "score", "/home/somebody/x rays", "--rounds", "2"]
    )
    assert command_line() == "mxbatch bench score 'x rays' --rounds 2"


def test_a_result_names_its_commit_or_none() -> None:
    found = revision()
    assert found is None or len(found.rstrip("+")) == 12
