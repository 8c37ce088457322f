"""Speeds are measured, and the search for a batch ends where growing stops to pay."""

from __future__ import annotations

import pytest
from echo import EchoScorer

from mxbatch.engine.runtime.measure import CPU_BATCHES, CUDA_BATCHES, fastest_batch, radiographs_per_s
from mxbatch.engine.taxonomy import read_taxonomy


@pytest.mark.parametrize(
    ("rates", "best", "tried"),
    [
        ([10, 20, 30, 40], 8, [1, 2, 4, 8]),
        ([10, 20, 20.1, 20.2, 99], 2, [1, 2, 4, 8]),
        ([10, 20, 19, 30, 29, 28], 8, [1, 2, 4, 8, 16, 32]),
        ([10], 1, [1]),
    ],
)
def test_the_search_stops_after_two_sizes_without_gain(
    rates: list[float], best: int, tried: list[int]
) -> None:
    sizes = (1, 2, 4, 8, 16, 32)[: len(rates)]
    seen = []

    def rate_at(size: int) -> tuple[int, float]:
        seen.append(size)
        return size, rates[sizes.index(size)]

    assert fastest_batch(rate_at, sizes) == (best, rates[sizes.index(best)])
    assert seen == tried


def test_the_search_ends_where_memory_does() -> None:
    assert fastest_batch(lambda size: (min(size, 4), float(min(size, 4))), (1, 2, 4, 8, 16)) == (4, 4.0)


@pytest.mark.parametrize("sizes", [CPU_BATCHES, CUDA_BATCHES])
def test_sizes_grow(sizes: tuple[int, ...]) -> None:
    assert list(sizes) == sorted(set(sizes))


def test_a_rate_is_radiographs_and_not_batches() -> None:
    clock = iter(range(1000))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mxbatch.engine.runtime.measure.time.perf_counter", lambda: next(clock))
        assert radiographs_per_s(EchoScorer(read_taxonomy(), batch=4), 8, seconds=10) == 4
