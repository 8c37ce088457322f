"""The two percentiles of the contract's window, without ordering what lies between them.

They are near the ends, and numpy's own function spends its time on the rest: five to eight times as much of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EVERY = 61
"""One grey value of so many is in a sample: a prime, so that it is no column of the picture."""


def tails(grey: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    """`np.percentile(grey, (low, high))`, faster where both are near the ends.

    A sorted sample tells about where a percentile lies, so that only what is beyond it has to be sorted out. The
    sample decides about the time and never about the value. `grey` holds no NaN.
    """
    values = grey.ravel()
    return _percentile(values, low), -_percentile(-values, 100 - high)


def _percentile(values: NDArray[np.float32], percentile: float) -> float:
    """From the lower end of `values`; numbers between two ranks are interpolated."""
    position = percentile / 100 * (values.size - 1)
    rank = min(int(position), values.size - 2) if values.size > 1 else 0
    after = min(rank + 1, values.size - 1)
    sample = np.sort(values[::_EVERY])
    expected = rank / _EVERY
    bound = int(expected + 4 * expected**0.5) + 4  # four standard deviations further than it should be
    below = values[values <= sample[bound]] if bound < len(sample) else values
    if below.size <= after:  # an odd sample
        below = values
    first, second = np.partition(below, (rank, after))[[rank, after]].tolist()
    return float(first + (second - first) * (position - rank))
