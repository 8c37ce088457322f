"""The division between host and GPU: both done at the same time, and the same radiographs in every session."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mxbatch.engine.offload.split import LEAST, Load, falls_to_gpu, seconds, shares

RATES = st.floats(1, 1e5)
LOADS = st.lists(
    st.builds(
        Load,
        kind=st.sampled_from(["jpeg", "jpeg 2000", "lossless jpeg", "other"]),
        count=st.integers(0, 10**6).map(float),
        host_per_s=RATES,
        gpu_per_s=st.just(0.0) | RATES,
    ),
    min_size=1,
    unique_by=lambda load: load.kind,
)
BUSY = st.just(0.0) | st.floats(0, 1e4)


@given(LOADS, BUSY)
def test_no_share_is_out_of_range_tiny_or_of_a_kind_that_the_gpu_does_not_take(
    loads: list[Load], busy_s: float
) -> None:
    found = shares(loads, busy_s)
    assert found.keys() == {load.kind for load in loads}
    for load in loads:
        share = found[load.kind]
        assert share == 0 or LEAST <= share <= 1
        assert share == 0 or load.gpu_per_s > 0
    assert shares(loads[::-1], busy_s) == found


@given(LOADS, BUSY)
@example(
    [Load(kind="a", count=312, host_per_s=4), Load(kind="b", count=1985, host_per_s=859, gpu_per_s=2)], 0.0
)
def test_the_host_alone_would_not_end_sooner(loads: list[Load], busy_s: float) -> None:
    alone = max(seconds(loads, {}, busy_s))
    divided = max(seconds(loads, shares(loads, busy_s), busy_s))
    assert divided <= alone * (1 + 1e-9)


@given(LOADS, BUSY)
def test_where_a_kind_is_divided_both_are_done_at_the_same_time(loads: list[Load], busy_s: float) -> None:
    found = shares(loads, busy_s)
    host_s, gpu_s = seconds(loads, found, busy_s)
    taken = [load for load in loads if found[load.kind]]
    parted = [load for load in taken if found[load.kind] < 1]
    assert len(parted) <= 1
    for last in parted:
        a_step = (last.count / last.host_per_s + last.count / last.gpu_per_s) / 1000
        assert abs(host_s - gpu_s) <= a_step + 1e-6 * (host_s + gpu_s)


def test_the_kind_at_which_the_gpu_is_furthest_ahead_goes_there_first() -> None:
    loads = [
        Load(kind="jpeg", count=1000, host_per_s=100, gpu_per_s=100),
        Load(kind="jpeg 2000", count=1000, host_per_s=10, gpu_per_s=1000),
    ]
    assert shares(loads) == {"jpeg 2000": 1.0, "jpeg": 0.45}
    assert seconds(loads, shares(loads)) == pytest.approx((5.5, 5.5))


def test_what_rounding_leaves_divides_no_second_kind() -> None:
    loads = [
        Load(kind="jpeg", count=1, host_per_s=3, gpu_per_s=1),
        Load(kind="jpeg 2000", count=112, host_per_s=1, gpu_per_s=1),
    ]
    assert shares(loads) == {"jpeg": 0.0, "jpeg 2000": 0.501}


def test_a_gpu_that_is_busy_with_the_model_takes_less_or_nothing() -> None:
    loads = [Load(kind="jpeg", count=1000, host_per_s=100, gpu_per_s=100)]
    assert shares(loads) == {"jpeg": 0.5}
    assert shares(loads, 4.0) == {"jpeg": 0.3}
    assert shares(loads, 10.0) == {"jpeg": 0.0}


@given(st.text(max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_takes_what_a_smaller_took_and_more(path: str, one: float, other: float) -> None:
    assert falls_to_gpu(path, min(one, other)) <= falls_to_gpu(path, max(one, other))
    assert falls_to_gpu(path, 1.0)
    assert not falls_to_gpu(path, 0.0)


def test_a_share_of_the_paths_is_about_that_share() -> None:
    paths = [f"MRC Harwell/HRWL_001/{n}.jpg" for n in range(4000)]
    assert sum(falls_to_gpu(path, 0.3) for path in paths) == pytest.approx(1200, rel=0.1)
