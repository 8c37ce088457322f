"""A bundle without weights and an engine that echoes grey levels: all that tests of the hot path need."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

from mxbatch.engine.bundle import Bundle, Calibration
from mxbatch.engine.calls import Thresholds
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.feed import Loader
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.scorer import EchoScorer
from mxbatch.engine.shard import Engine
from mxbatch.engine.taxonomy import read_taxonomy

TAXONOMY = read_taxonomy()
TINY = Recipe(name="tiny", views=("dv", "lv"), input=InputContract(size=32))


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
