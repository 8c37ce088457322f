"""Build a runtime's engine, show that its numbers are right, and time it.

`mxbatch compile` calls it directly. `mxbatch score` never imports torch in its own process, so it has it done in
another: `python -m mxbatch.engine.runtime.compile FD`, with a Connection at FD (prepare.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mxbatch.engine.bundle import Bundle, read_bundle
from mxbatch.engine.errors import EnvironmentFault, MxbatchError
from mxbatch.engine.memory import keep_freed_memory
from mxbatch.engine.runtime.calibration import Sample, read_sample
from mxbatch.engine.runtime.encoder import EngineSpec, Note
from mxbatch.engine.runtime.scorer import open_scorer, runtime_named
from mxbatch.engine.runtime.speeds import FASTEST, Trial, remember, remember_failure

LASTING = ("MX-M003", "MX-M006")
"""Faults that will be the same tomorrow: remembered, so that not every run compiles in vain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is to be tried."""

    bundle: Path
    runtime: str
    spec: EngineSpec
    """Its batch may be `speeds.FASTEST`: then sizes are tried."""
    engines: Path
    threads: int = 1
    calibrate: Path | None = None
    """The archive to calibrate on, for a precision of `CALIBRATED`."""


def try_engine(order: Order, note: Note) -> Trial:
    """Build what is not built, check it, time it, remember what came out.

    Raises UsageError or EnvironmentFault as `open_scorer` does; lasting faults are remembered, too.
    """
    bundle = read_bundle(order.bundle)
    runtime, spec = runtime_named(order.runtime), order.spec
    sample = read_sample(bundle, order.calibrate, note) if order.calibrate else None

    def at(batch: int) -> Trial:
        return _at(bundle, order, batch, note, sample)

    try:
        trial = _fastest(at, spec.device) if spec.batch == FASTEST else at(spec.batch)
    except EnvironmentFault as error:
        if error.code in LASTING:
            remember_failure(order.engines, bundle, runtime, spec, error)
        raise
    remember(order.engines, bundle, runtime, spec, trial)
    return trial


def _at(bundle: Bundle, order: Order, batch: int, note: Note, sample: Sample | None) -> Trial:
    from mxbatch.engine.runtime.measure import radiographs_per_s

    started = time.perf_counter()
    scorer = open_scorer(
        bundle,
        runtime=order.runtime,
        precision=order.spec.precision,
        device=order.spec.device,
        batch=batch,
        threads=order.threads,
        engines=order.engines,
        note=note,
        sample=sample,
    )
    build_s = time.perf_counter() - started
    rate = radiographs_per_s(scorer, bundle.recipe.input.size)
    note(f"{scorer.name}: {rate:.3g} radiographs/s, {scorer.batch} at a time")
    return Trial(
        runtime=order.runtime,
        precision=order.spec.precision,
        batch=scorer.batch,
        rate=round(rate, 2),
        build_s=round(build_s, 1),
    )


def _fastest(at: Callable[[int], Trial], device: str) -> Trial:
    from mxbatch.engine.runtime.measure import CPU_BATCHES, CUDA_BATCHES, fastest_batch

    trials: dict[int, Trial] = {}

    def rate_at(size: int) -> tuple[int, float]:
        trial = at(size)
        trials[trial.batch] = trial
        return trial.batch, trial.rate

    batch, _ = fastest_batch(rate_at, CPU_BATCHES if device == "cpu" else CUDA_BATCHES)
    return trials[batch]


def main() -> None:
    """Try the orders that come, until the other side hangs up: text is a remark, a Trial or an error the answer."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    keep_freed_memory()  # as the workers do that it is timed for
    while True:
        try:
            order: Order = connection.recv()
        except EOFError:
            return
        try:
            connection.send(try_engine(order, connection.send))
        except MxbatchError as error:
            connection.send(error)
        except Exception as error:
            what = f"{order.runtime} cannot be tried: {type(error).__name__}: {error}"
            connection.send(EnvironmentFault("MX-M006", what))


if __name__ == "__main__":
    main()
