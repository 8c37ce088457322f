"""How fast a scorer is, and at which batch: measured, never computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from mxbatch.engine.runtime.scorer import Scorer

MEASURE_S = 2.0
GAIN = 1.03
"""A batch has to be so many times as fast as the best before it: less is noise, and small batches waste less."""
PATIENCE = 2
"""Sizes in a row without gain after which larger ones are not tried."""
CPU_BATCHES, CUDA_BATCHES = (1, 2, 4, 8, 16, 32, 64), (16, 32, 64, 128, 256, 512)


def radiographs_per_s(scorer: Scorer, side: int, seconds: float = MEASURE_S) -> float:
    """Radiographs per second of `scorer` alone, from the fastest batch of about `seconds` of them.

    The fastest, because on a shared machine everything else is the neighbours' doing.
    """
    images = np.random.default_rng(0).integers(0, 256, (scorer.batch, side, side), np.uint8)
    scorer.encode(images)
    best, started = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        scorer.encode(images)
        best = min(best, time.perf_counter() - begun)
    return scorer.batch / best


def fastest_batch(rate_at: Callable[[int], tuple[int, float]], sizes: Iterable[int]) -> tuple[int, float]:
    """(batch, radiographs per second) of the fastest of ascending `sizes`.

    `rate_at(size)` returns the batch that it took and its rate: a smaller batch than asked for says that memory
    ends here. Stops where growing has stopped to pay.
    """
    best, patience = (0, 0.0), PATIENCE
    for size in sizes:
        batch, rate = rate_at(size)
        if rate >= best[1] * GAIN:
            best, patience = (batch, rate), PATIENCE
        else:
            patience -= 1
        if batch < size or not patience:
            break
    return best
