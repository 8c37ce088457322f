"""`score_shard(shard) -> Part`: the whole hot path, from files to rows, under every launcher.

Radiographs of all specimens of the shard share the encoder's batches; their features are then put together
per specimen. Batches never reach beyond the shard, so what is in them follows from the plan alone.

    S side of the picture · D features · T tokens (radiographs) of a specimen
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import RadiographError
from mxbatch.engine.feed import AHEAD_BYTES, Fetched, Loaded, Loader, load_ahead, timed
from mxbatch.engine.plan import Radiograph, Shard
from mxbatch.engine.rows import Outcome, calls_table, quarantine_table
from mxbatch.engine.runtime.scorer import Features, Scorer

STAGES = ("read", "decode", "decode_gpu", "wait", "encode", "fuse", "write")
"""Read is the loader threads' time, decode theirs or the model thread's (`Engine.decoders`), decode_gpu a GPU's
decoder's, the others the model thread's; wait is nobody's work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one shard became; nothing of it is visible before the ledger commits it."""

    number: int
    calls: pa.Table
    quarantine: pa.Table
    radiographs: int
    """Radiographs of the shard, usable or not."""
    seconds: defaultdict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a worker holds on to from shard to shard: the loaded model and the way to the archive."""

    bundle: Bundle
    scorer: Scorer
    loader: Loader
    pool: Executor
    run_id: str
    decoders: int = 1
    """Threads of the pool that decode; 0 where the model's own thread does, between batches."""


@dataclass(slots=True)
class Watch:
    """How a supervisor follows a shard, and how it asks for care after a worker died on it."""

    progress: Callable[[int], None] = lambda radiographs: None
    """Called with the number of radiographs gone through since the last call."""
    opening: Callable[[str], None] | None = None
    """When given, radiographs are loaded one by one, each announced by its path before it is opened."""
    poisoned: frozenset[str] = field(default_factory=frozenset)
    """Paths that have killed workers and are not to be opened again."""


def score_shard(shard: Shard, engine: Engine, watch: Watch | None = None) -> Part:
    """Score every specimen of the shard. Bad radiographs become rows of `quarantine`, never exceptions.

    Raises EnvironmentFault when the archive or the model gives out as a whole.
    """
    watch = watch or Watch()
    seconds: defaultdict[str, float] = defaultdict(float)
    outcomes = [Outcome(specimen, engine.bundle.recipe) for specimen in shard.specimens]
    wanted = [(outcome, radiograph) for outcome in outcomes for radiograph in outcome.to_load()]
    refused = sum(len(outcome.specimen.radiographs) for outcome in outcomes) - len(wanted)
    watch.progress(refused)

    features_RD = np.zeros((len(wanted), engine.scorer.feature_dim), np.float32)
    batch_BSS = np.zeros((engine.scorer.batch, *[engine.bundle.recipe.input.size] * 2), np.uint8)
    rows: list[int] = []
    submitted: list[tuple[list[int], Features]] = []

    def encode() -> None:
        with timed(seconds, "encode"):
            submitted.append((rows.copy(), engine.scorer.submit(batch_BSS)))
        rows.clear()

    loaded = _timed_iter(_load(engine, watch, [radiograph for _, radiograph in wanted]), seconds)
    for row, ((outcome, radiograph), item) in enumerate(zip(wanted, loaded, strict=True)):
        one = engine.loader.decode(item) if isinstance(item, Fetched) else item
        seconds["read"] += one.read_s
        seconds["decode"] += one.decode_s
        if one.gpu_s:
            seconds["decode_gpu"] += one.gpu_s
        if outcome.accept(radiograph, one, row) and one.image is not None:
            batch_BSS[len(rows)] = one.image
            rows.append(row)
            if len(rows) == len(batch_BSS):
                encode()
        watch.progress(1)
    if rows:
        encode()
    with timed(seconds, "encode"):  # only now: a GPU computes while this thread fills the next batch
        for encoded, features in submitted:
            features_RD[encoded] = features()[: len(encoded)]

    with timed(seconds, "fuse"):
        probabilities = _fuse(outcomes, features_RD, engine)
    with timed(seconds, "write"):
        calls = calls_table(outcomes, probabilities, engine.bundle, engine.scorer.name, engine.run_id)
        quarantine = quarantine_table(outcomes, engine.bundle.model_id, engine.run_id)
    return Part(
        number=shard.number,
        calls=calls,
        quarantine=quarantine,
        radiographs=len(wanted) + refused,
        seconds=seconds,
    )


def _load(engine: Engine, watch: Watch, radiographs: Sequence[Radiograph]) -> Iterator[Loaded | Fetched]:
    """Decoded radiographs; or their bytes, where the model's thread decodes."""
    if watch.opening is not None:
        return _with_care(engine, watch, watch.opening, radiographs)
    step = engine.loader.load if engine.decoders else engine.loader.fetch

    def load(radiograph: Radiograph) -> Loaded | Fetched:
        return _POISON if radiograph.path in watch.poisoned else step(radiograph)

    held = None if engine.decoders else AHEAD_BYTES
    return load_ahead(load, radiographs, engine.pool, ahead=2 * engine.scorer.batch, ahead_bytes=held)


def _with_care(
    engine: Engine, watch: Watch, opening: Callable[[str], None], radiographs: Sequence[Radiograph]
) -> Iterator[Loaded]:
    for radiograph in radiographs:
        opening(radiograph.path)
        loaded = _POISON if radiograph.path in watch.poisoned else engine.loader.load(radiograph)
        opening("")  # what dies from here on is the model's doing
        yield loaded


_POISON = Loaded(error=RadiographError("MX-D090", "two workers died on it"))


def _fuse(
    outcomes: Sequence[Outcome], features_RD: NDArray[np.float32], engine: Engine
) -> NDArray[np.float32]:
    """Path probabilities, `float32[scored specimens, K]`, in the order of `outcomes`."""
    recipe = engine.bundle.recipe
    scored = [outcome for outcome in outcomes if outcome.tokens]
    shape_NT = (len(scored), recipe.max_radiographs)
    features_NTD = np.zeros((*shape_NT, features_RD.shape[1]), np.float32)
    views_NT, mask_NT = np.zeros(shape_NT, np.int64), np.zeros(shape_NT, np.bool_)
    for n, outcome in enumerate(scored):
        for t, token in enumerate(outcome.tokens):
            features_NTD[n, t] = features_RD[token.row]
            views_NT[n, t] = recipe.view_index(token.view)
            mask_NT[n, t] = True
    return engine.scorer.fuse(features_NTD, views_NT, mask_NT)


def _timed_iter(
    items: Iterator[Loaded | Fetched], seconds: defaultdict[str, float]
) -> Iterator[Loaded | Fetched]:
    while True:
        with timed(seconds, "wait"):
            item = next(items, None)
        if item is None:
            return
        yield item
