"""Which specimens an epoch looks at, how often and in which order: pure functions of the labels and a seed.

Abnormal animals are few and some classes rare. Drawing them more often than they occur makes every step teach
something; calibration, fitted later on specimens as they occur, takes back what this does to probabilities.
"""

# N specimens · K nodes

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def expected_draws(
    labels_NK: NDArray[np.float32], counts_NK: NDArray[np.bool_], balance: float
) -> NDArray[np.float64]:
    """`float64[N]`: how often an epoch expects to draw each specimen; the sum is how many there are to learn from.

    A specimen with no label that counts is never drawn. The others weigh what the rarest of their classes
    does: (N / specimens of the class) ** balance, where "nothing abnormal" is a class, too.
    """
    usable_N = counts_NK.any(axis=1)
    positive_NK = counts_NK & (labels_NK == 1)
    classes = np.column_stack([positive_NK, usable_N & ~positive_NK.any(axis=1)])
    sizes = np.maximum(classes.sum(axis=0), 1)
    weight_N = np.where(classes, (usable_N.sum() / sizes) ** balance, 0.0).max(axis=1)
    total = weight_N.sum()
    draws_N: NDArray[np.float64] = weight_N * (usable_N.sum() / total if total else 0.0)
    return draws_N


def draw(draws_N: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """One epoch: specimens in random order, each floor(draws) or ceil(draws) times.

    Systematic sampling over a random order: every specimen gets its share as nearly as whole numbers allow,
    and where all shares are 1, each comes exactly once.
    """
    total = round(float(draws_N.sum()))
    if not total:
        return np.empty(0, np.int64)
    shuffled = rng.permutation(len(draws_N))
    bounds = np.cumsum(draws_N[shuffled]) / draws_N.sum() * total
    ticks = np.arange(total) + rng.random()
    # rounding may leave the last bound a hair below the last tick: it belongs to the last that has a share
    last = int(np.flatnonzero(draws_N[shuffled]).max())
    chosen = shuffled[np.minimum(np.searchsorted(bounds, ticks, side="right"), last)]
    return rng.permutation(chosen)


def cut(order: NDArray[np.int64], batch: int) -> Sequence[NDArray[np.int64]]:
    """Steps of about `batch`, of nearly equal size: no small rest that would shake the weights at the end."""
    return np.array_split(order, max(1, round(len(order) / batch)))
