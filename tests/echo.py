"""A scorer that echoes grey levels, a bundle without weights, an engine of both: what tests of the hot path need."""

# B radiographs · S side · D features · F specimens · T radiographs per specimen · K nodes

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle, Calibration
from mxbatch.engine.calls import Thresholds
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.feed import Loader
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.scorer import Features, require_batch
from mxbatch.engine.shard import Engine
from mxbatch.engine.taxonomy import Taxonomy, read_taxonomy

TAXONOMY = read_taxonomy()
TINY = Recipe(name="tiny", views=("dv", "lv"), input=InputContract(size=32))


class EchoScorer:
    """A scorer that needs no torch and no weights.

    Features are mean and spread of the grey levels and the means of the four quadrants, all in [0, 1]. A
    specimen's root probability is the mean grey of its radiographs, and every level down loses a fixed
    share of it.
    """

    name = "echo"
    precision = "float32"
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

    def submit(self, images: NDArray[np.uint8]) -> Features:
        features = self.encode(images)
        return lambda: features

    def fuse(
        self, features: NDArray[np.float32], view_ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        grey_FT = np.where(mask, features[..., 0], np.float32(0))
        mean_F = grey_FT.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
        probabilities_FK: NDArray[np.float32] = (mean_F[:, None] * self._share_K).astype(np.float32)
        return probabilities_FK


def echo_bundle(recipe: Recipe = TINY, *, learned_from: str = "radiographs") -> Bundle:
    """What a bundle says, with no folder behind it."""
    return Bundle(
        path=Path("nowhere"),
        model_id="echo",
        recipe=recipe,
        taxonomy=TAXONOMY,
        thresholds=Thresholds.uniform(TAXONOMY),
        calibration=Calibration.identity(TAXONOMY),
        learned_from=learned_from,
        info={},
    )


def echo_engine(
    archive: Path, pool: Executor, *, scorer: EchoScorer | None = None, learned_from: str = "radiographs"
) -> Engine:
    """An engine over the files of `archive`."""
    bundle = echo_bundle(learned_from=learned_from)
    return Engine(
        bundle=bundle,
        scorer=scorer or EchoScorer(TAXONOMY),
        loader=Loader(root=archive, contract=bundle.recipe.input, limits=Limits()),
        pool=pool,
        run_id="00001-now",
    )
