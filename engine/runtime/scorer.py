"""The seam between the engine and whatever computes: a protocol, and the table of runtimes.

The engine hands over whole batches of one fixed size and gets numbers back; it knows no tensor and no device.
Every runtime is held to the same promise: a specimen's numbers never depend on its neighbours.
"""

# B radiographs, always `batch` of them · S side · D features
# F specimens · T radiographs per specimen · K nodes

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.runtime import eager, inductor, ort, tensorrt
from mxbatch.engine.runtime.calibration import CALIBRATED, Sample
from mxbatch.engine.runtime.encoder import PRECISIONS, EngineSpec, Note, Runtime

Features = Callable[[], NDArray[np.float32]]
"""The promise of a submitted batch: its features, `[B, D]`, waited for when called."""


class Scorer(Protocol):
    """A loaded model on one device. Used from one thread at a time."""

    name: str
    """What is written to the column `runtime`, as `inductor-bfloat16`."""
    precision: str
    """In which the encoder computes; how near its golden numbers have to be."""
    batch: int
    """B: the one number of radiographs that `encode` takes."""
    feature_dim: int
    """D."""

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`[B, S, S] -> [B, D]`, exactly `batch` pictures. A picture gives the same bits in any slot."""
        ...

    def submit(self, images: NDArray[np.uint8]) -> Features:
        """`encode` that need not be waited for; `images` may be overwritten at once. Results keep, in any order."""
        ...

    def fuse(
        self, features: NDArray[np.float32], view_ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """`[F, T, D], [F, T], [F, T] -> [F, K]` path probabilities; any F, any T up to the recipe's."""
        ...


def require_batch(images: NDArray[np.uint8], batch: int) -> None:
    """Refuse what is not `uint8[batch, S, S]`: a caller's mistake, so a ValueError."""
    if images.dtype != np.uint8 or images.ndim != 3 or len(images) != batch:
        raise ValueError(f"encode takes uint8[{batch}, S, S], got {images.dtype}{list(images.shape)}")


RUNTIMES: dict[str, Runtime] = {
    entry.name: entry for entry in (eager.RUNTIME, inductor.RUNTIME, ort.RUNTIME, *tensorrt.RUNTIMES)
}


def runtime_named(name: str) -> Runtime:
    """Raises UsageError MX-U001 for an unknown one."""
    if name not in RUNTIMES:
        raise UsageError("MX-U001", f"there is no runtime {name!r}; known are {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def precision_of(runtime: Runtime, device: str, precision: str | None) -> str:
    """`precision`, or what the runtime would choose on `device`. Raises UsageError MX-U001."""
    possible = (*runtime.precisions(device), *runtime.calibrated)
    if precision is not None and precision not in PRECISIONS:
        raise UsageError("MX-U001", f"there is no precision {precision!r}; known are {', '.join(PRECISIONS)}")
    if precision is not None and precision not in possible:
        what = f"{runtime.name} does not compute in {precision} on this machine's {device}"
        raise UsageError("MX-U001", f"{what}; it can in {', '.join(possible)}")
    return precision or possible[0]


def open_scorer(
    bundle: Bundle,
    *,
    runtime: str = "eager",
    precision: str | None = None,
    device: str = "cpu",
    batch: int = 32,
    threads: int = 1,
    engines: Path | None = None,
    note: Note = lambda text: None,
    sample: Sample | None = None,
) -> Scorer:
    """Load `bundle` into a runtime and show that it computes the bundle's golden numbers here.

    What has to be compiled is, and kept in the engine cache at `engines`, by default the user's. Where the
    device runs out of memory, `batch` is halved until it fits, and `note` is told: see the result's `batch`.
    A precision of `CALIBRATED` is built with `sample` alone; without one, what was built and passed is used.

    Raises UsageError MX-U001 for an unknown runtime or impossible option; EnvironmentFault MX-M003 where the
    golden numbers do not come out or the gate is not passed, MX-M002 where bundle and recipe do not fit
    together, MX-M005 where the compiled encoder cannot be used, MX-M006 where it cannot be made.
    """
    for option, value in (("batch", batch), ("threads", threads)):
        if value < 1:
            raise UsageError("MX-U001", f"{option} is {value}, 1 is the least")
    chosen = runtime_named(runtime)
    chosen_precision = precision_of(chosen, device, precision)
    if why := chosen.usable(device):
        raise EnvironmentFault("MX-M006", f"{runtime}: {why}")

    import torch

    while True:
        spec = EngineSpec(device=device, precision=chosen_precision, batch=batch)
        try:
            if chosen_precision in CALIBRATED:
                return _open_calibrated(bundle, chosen, spec, threads, engines, note, sample)
            return _open(bundle, chosen, spec, threads, engines, note)
        except torch.OutOfMemoryError as error:
            if batch == 1:
                what = f"{runtime} runs out of memory with a single radiograph"
                raise EnvironmentFault("MX-M006", what, path=bundle.path) from error
            note(f"{device} has too little memory for {batch} radiographs at a time: trying {batch // 2}")
            batch //= 2
        torch.cuda.empty_cache()  # only now: while the error is handled, its traceback holds the tensors


def _open(
    bundle: Bundle,
    runtime: Runtime,
    spec: EngineSpec,
    threads: int,
    engines: Path | None,
    note: Note,
    sample: Sample | None = None,
) -> Scorer:
    from mxbatch.engine.runtime.bundle_scorer import BundleScorer, usable_device
    from mxbatch.engine.runtime.cache import engines_folder, load_engine
    from mxbatch.engine.runtime.golden import check_golden, read_golden, too_coarse

    usable_device(spec.device)
    if why := too_coarse(bundle, spec.precision):
        raise EnvironmentFault("MX-M003", why, path=bundle.path)
    folder = engines or engines_folder()
    encoder = load_engine(bundle, runtime, spec, folder=folder, threads=threads, note=note, sample=sample)
    scorer = BundleScorer(bundle, runtime.name, spec, encoder)
    check_golden(scorer, read_golden(bundle.path), bundle.path)
    return scorer


def _open_calibrated(
    bundle: Bundle,
    runtime: Runtime,
    spec: EngineSpec,
    threads: int,
    engines: Path | None,
    note: Note,
    sample: Sample | None,
) -> Scorer:
    """`_open` for an engine that has to have passed the gate: now, with `sample`, or before."""
    from mxbatch.engine.runtime.cache import discard, engines_folder, entry_path
    from mxbatch.engine.runtime.gate import accept, accepted, require_near, uncalibrated

    folder = engines or engines_folder()
    if sample is None:
        known = accepted(folder, bundle, runtime, spec)
        if known is None:
            raise uncalibrated(bundle, runtime, spec)
        try:
            return _open(bundle, runtime, known, threads, engines, note)
        except EnvironmentFault as error:
            if error.code != "MX-M005":
                raise
            raise uncalibrated(bundle, runtime, spec, f" any more: {error.what}") from error
    spec = replace(spec, sample=sample.digest)
    try:
        scorer = _open(bundle, runtime, spec, threads, engines, note, sample)
        reference = open_scorer(bundle, device=spec.device, precision="float32", batch=spec.batch)
        difference = require_near(bundle, scorer, reference, sample, note)
    except EnvironmentFault:
        discard(entry_path(folder, bundle, runtime, spec), note)
        raise
    accept(folder, bundle, runtime, spec, difference)
    return scorer
