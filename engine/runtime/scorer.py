"""The seam between the engine and whatever computes: a protocol, a fake, and the table of runtimes.

The engine hands over whole batches of one fixed size and gets numbers back; it knows no tensor and no device.
Every runtime is held to the same promise: a specimen's numbers never depend on its neighbours.
"""

# B radiographs, always `batch` of them · S side · D features
# F specimens · T radiographs per specimen · K nodes

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import Taxonomy


class Scorer(Protocol):
    """A loaded model on one device. Used from one thread at a time."""

    name: str
    """What is written to the column `runtime`."""
    batch: int
    """B: the one number of radiographs that `encode` takes."""
    feature_dim: int
    """D."""

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`[B, S, S] -> [B, D]`, exactly `batch` pictures. A picture gives the same bits in any slot."""
        ...

    def fuse(
        self, features: NDArray[np.float32], view_ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """`[F, T, D], [F, T], [F, T] -> [F, K]` path probabilities; any F, any T up to the recipe's."""
        ...


class EchoScorer:
    """A scorer that needs no torch and no bundle: tests of the engine run on it.

    Features are mean and spread of the grey levels and the means of the four quadrants, all in [0, 1]. A
    specimen's root probability is the mean grey of its radiographs, and every level down loses a fixed
    share of it.
    """

    name = "echo"
    feature_dim = 6

    def __init__(self, taxonomy: Taxonomy, *, batch: int = 4) -> None:
        self.batch = batch
        self._share_K = np.array([0.9 ** (node.level - 1) for node in taxonomy.nodes], dtype=np.float32)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_batch(images, self.batch)
        half = images.shape[1] // 2
        halves = (slice(half), slice(half, None))
        quadrants = [images[:, rows, columns] for rows in halves for columns in halves]
        statistics = [
            images.mean((1, 2)),
            images.std((1, 2)),
            *(quadrant.mean((1, 2)) for quadrant in quadrants),
        ]
        return (np.stack(statistics, axis=1) / 255).astype(np.float32)

    def fuse(
        self, features: NDArray[np.float32], view_ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        grey_FT = np.where(mask, features[..., 0], np.float32(0))
        mean_F = grey_FT.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
        probabilities_FK: NDArray[np.float32] = (mean_F[:, None] * self._share_K).astype(np.float32)
        return probabilities_FK


def require_batch(images: NDArray[np.uint8], batch: int) -> None:
    """Refuse what is not `uint8[batch, S, S]`: a caller's mistake, so a ValueError."""
    if images.dtype != np.uint8 or images.ndim != 3 or len(images) != batch:
        raise ValueError(f"encode takes uint8[{batch}, S, S], got {images.dtype}{list(images.shape)}")


def _eager(bundle: Bundle, device: str, batch: int, threads: int) -> Scorer:
    from mxbatch.engine.runtime.eager import EagerScorer

    return EagerScorer(bundle, device=device, batch=batch, threads=threads)


RUNTIMES: dict[str, Callable[[Bundle, str, int, int], Scorer]] = {"eager": _eager}


def open_scorer(
    bundle: Bundle, *, runtime: str = "eager", device: str = "cpu", batch: int = 32, threads: int = 1
) -> Scorer:
    """Load `bundle` into a runtime and show that it computes the bundle's golden numbers here.

    Raises UsageError MX-U001 for an unknown runtime or impossible option, EnvironmentFault MX-M003 where
    the golden numbers do not come out, MX-M002 where bundle and recipe do not fit together.
    """
    if runtime not in RUNTIMES:
        raise UsageError("MX-U001", f"there is no runtime {runtime!r}; known are {', '.join(RUNTIMES)}")
    for option, value in (("batch", batch), ("threads", threads)):
        if value < 1:
            raise UsageError("MX-U001", f"{option} is {value}, 1 is the least")

    from mxbatch.engine.runtime.golden import check_golden, read_golden

    scorer = RUNTIMES[runtime](bundle, device, batch, threads)
    check_golden(scorer, read_golden(bundle.path), bundle.path)
    return scorer
