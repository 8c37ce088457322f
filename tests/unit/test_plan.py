"""The plan: every specimen in exactly one shard, and work is planned again when it changed and only then."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.archive.index import INDEX_SCHEMA, ORDER
from mxbatch.engine.plan import PLAN_SCHEMA, Plan, Selection, ShardSizes, make_plan


def index_of(rows: list[dict[str, Any]]) -> pa.Table:
    filled = [
        {
            "centre": "BCM",
            "procedure": "IMPC_XRY_001",
            "date_of_experiment": "",
            "size": 10,
            "mtime_ns": 5,
            **row,
        }
        for row in rows
    ]
    table = pa.Table.from_pylist(filled, schema=INDEX_SCHEMA)
    return table.sort_by([(name, "ascending") for name in ORDER])


def mouse(name: str, views: str = "dv lv", **more: Any) -> list[dict[str, Any]]:
    return [
        {"specimen_id": name, "view": view, "path": f"{name}-{view}.jpg", **more} for view in views.split()
    ]


def planned_specimens(plan: Plan) -> list[str]:
    return [one.key[1] for number in plan.sizes for one in plan.shard(number).specimens]


@given(st.integers(1, 3000), st.integers(1, 16), st.sampled_from([1, 16, 128]))
def test_shards_shrink_towards_the_end_so_that_no_worker_is_left_with_a_big_one(
    radiographs: int, workers: int, batch: int
) -> None:
    sizes, left, given_out = ShardSizes(workers=workers, batch=batch), radiographs, []
    while left > 0:
        given_out.append(min(left, sizes.next(left)))
        left -= given_out[-1]
    assert given_out == sorted(given_out, reverse=True)
    assert given_out[-1] <= max(sizes.least, batch, radiographs // workers)
    assert max(given_out) <= sizes.most
    assert all(
        size % batch == 0 for size in given_out[:-1]
    )  # only the end of the archive leaves a batch half full


def test_what_a_crash_may_cost_comes_before_whole_batches() -> None:
    assert ShardSizes(most=100, batch=128).next(5000) == 100
    assert ShardSizes(most=100, batch=16).next(5000) == 96


counts = st.lists(st.integers(1, 9), min_size=0, max_size=40)


@given(counts, st.integers(1, 12))
def test_every_specimen_is_whole_in_one_shard_and_no_shard_is_fuller_than_asked(
    radiographs: list[int], size: int
) -> None:
    index = index_of(
        [
            {"specimen_id": f"m{n:03d}", "view": "dv", "path": f"{n}-{k}.jpg"}
            for n, many in enumerate(radiographs)
            for k in range(many)
        ]
    )
    plan = make_plan(index, model_id="m", sizes=ShardSizes(most=size, least=size))
    assert sorted(planned_specimens(plan)) == [f"m{n:03d}" for n in range(len(radiographs))]
    assert plan.radiographs == sum(radiographs) == sum(plan.sizes.values())
    for number, filled in plan.sizes.items():
        assert filled <= size or len(plan.shard(number).specimens) == 1


@given(counts)
def test_a_plan_read_back_from_its_table_is_the_same_plan(radiographs: list[int]) -> None:
    index = index_of(
        [{"specimen_id": f"m{n}", "view": "dv", "path": f"{n}.jpg"} for n in range(len(radiographs))]
    )
    plan = make_plan(index, model_id="m", sizes=ShardSizes(most=3))
    assert plan.table.schema == PLAN_SCHEMA
    again = Plan(plan.table)
    assert [again.shard(n) for n in again.sizes] == [plan.shard(n) for n in plan.sizes]


def work_ids(index: pa.Table, model_id: str = "m") -> set[str]:
    return set(make_plan(index, model_id=model_id).table["work_id"].to_pylist())


def test_what_is_done_is_not_planned_again() -> None:
    index = index_of([*mouse("a"), *mouse("b")])
    assert make_plan(index, model_id="m", done=work_ids(index)).radiographs == 0


def test_touching_one_file_plans_its_specimen_alone() -> None:
    before = index_of([*mouse("a"), *mouse("b")])
    touched = index_of([*mouse("a"), *mouse("b", "dv"), *mouse("b", "lv", mtime_ns=6)])
    assert planned_specimens(make_plan(touched, model_id="m", done=work_ids(before))) == ["b"]


def test_a_new_view_a_new_size_or_a_new_model_is_new_work() -> None:
    before = index_of(mouse("a"))
    done = work_ids(before)
    for changed in (mouse("a", "dv lv forepaw"), mouse("a", size=11), mouse("a", checksum="ff")):
        assert make_plan(index_of(changed), model_id="m", done=done).radiographs
    assert make_plan(before, model_id="another", done=done).radiographs


def test_metadata_alone_is_no_reason_to_score_again() -> None:
    done = work_ids(index_of(mouse("a", sex="male")))
    assert not make_plan(index_of(mouse("a", sex="female")), model_id="m", done=done).radiographs


def test_files_that_belong_to_no_specimen_are_each_their_own_work() -> None:
    stray = [{"specimen_id": "", "path": f"{n}.txt", "code": "MX-A108", "reason": "stray"} for n in range(3)]
    plan = make_plan(index_of(stray), model_id="m")
    assert (plan.specimens, plan.radiographs) == (0, 3)
    assert [len(one.radiographs) for one in plan.shard(0).specimens] == [1, 1, 1]


def test_limit_counts_specimens_that_are_not_done() -> None:
    index = index_of([*mouse("a"), *mouse("b"), *mouse("c")])
    done = work_ids(index_of(mouse("a")))
    assert planned_specimens(make_plan(index, model_id="m", done=done, selection=Selection(limit=1))) == ["b"]


def test_what_failed_for_a_passing_reason_comes_after_all_that_is_new() -> None:
    index = index_of([*mouse("a"), *mouse("b")])
    troubled = work_ids(index_of(mouse("a")))
    plan = make_plan(index, model_id="m", troubled=troubled, selection=Selection(limit=1))
    assert planned_specimens(plan) == ["b"]


def test_files_that_belong_to_no_specimen_do_not_use_up_the_limit() -> None:
    stray = [{"specimen_id": "", "path": "0.txt", "code": "MX-A108", "reason": "stray"}]
    plan = make_plan(index_of([*stray, *mouse("a"), *mouse("b")]), model_id="m", selection=Selection(limit=1))
    assert planned_specimens(plan) == ["", "a"]


def test_since_takes_a_file_from_beyond_the_calendar_and_a_date_in_another_style() -> None:
    index = index_of([*mouse("odd", date_of_experiment="03/04/2024"), *mouse("far", mtime_ns=2**63 - 1)])
    assert planned_specimens(make_plan(index, model_id="m", selection=Selection(since="2020-01-01"))) == [
        "far"
    ]


def test_since_goes_by_the_day_of_examination_and_without_one_by_the_newest_file() -> None:
    day_ns = 86_400 * 10**9
    index = index_of(
        [
            *mouse("old", date_of_experiment="2026-01-31"),
            *mouse("new", date_of_experiment="2026-02-01"),
            *mouse("old-file", mtime_ns=day_ns),
            *mouse("new-file", mtime_ns=21_000 * day_ns),
        ]
    )
    plan = make_plan(index, model_id="m", selection=Selection(since="2026-02-01"))
    assert sorted(planned_specimens(plan)) == ["new", "new-file"]
