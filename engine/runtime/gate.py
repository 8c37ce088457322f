"""The gate before int8 and float8: an engine that moves probabilities too far is not kept, and none is used that did
not pass.

Golden pictures are too few and too clean to judge what few steps do to a model. So its probabilities of radiographs
that it was not calibrated on are laid beside those of plain torch in float32. What passed is written down
beside the engines: `score` uses that engine, and compiles none itself, for it has no calibration set.
"""

# R radiographs · S side · K nodes

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime.cache import entry_path
from mxbatch.engine.runtime.calibration import Sample
from mxbatch.engine.runtime.encoder import EngineSpec, Note, Runtime
from mxbatch.engine.runtime.golden import TOLERANCES
from mxbatch.engine.runtime.scorer import Scorer
from mxbatch.engine.storage import write_atomically


def probabilities(
    scorer: Scorer, pictures: NDArray[np.uint8], views: NDArray[np.int64]
) -> NDArray[np.float32]:
    """`uint8[R, S, S], int64[R] -> float32[R, K]`, each picture a specimen of its own."""
    count = len(pictures)
    padded = np.pad(pictures, ((0, -count % scorer.batch), (0, 0), (0, 0)))
    batches = [scorer.encode(padded[at : at + scorer.batch]) for at in range(0, len(padded), scorer.batch)]
    features_RD = np.concatenate(batches)[:count]
    return scorer.fuse(features_RD[:, None], views[:, None], np.ones((count, 1), np.bool_))


def require_near(bundle: Bundle, scorer: Scorer, reference: Scorer, sample: Sample, note: Note) -> float:
    """The largest difference of any probability of `sample.held_out` between `scorer` and `reference`.

    Raises EnvironmentFault MX-M003 where it is more than the precision is allowed.
    """
    allowed = TOLERANCES[scorer.precision].probabilities
    found, expected = (probabilities(each, sample.held_out, sample.views) for each in (scorer, reference))
    worst = float(np.abs(found - expected).max())
    if not worst <= allowed:  # so that NaN fails, too
        count = len(sample.held_out)
        what = (
            f"{scorer.name} is off by up to {worst:.2g} on {count} held-out radiographs, allowed {allowed:g}"
        )
        raise EnvironmentFault("MX-M003", what, path=bundle.path)
    note(f"{scorer.name} is off by up to {worst:.2g} on {len(sample.held_out)} held-out radiographs")
    return worst


def accept(folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec, difference: float) -> None:
    """Write down that the engine of `spec` passed. Raises EnvironmentFault MX-E004 or MX-E005."""
    path = _path(folder, bundle, runtime, spec)
    content = {"sample": spec.sample, "difference": difference}
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, json.dumps(content).encode())


def accepted(folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec) -> EngineSpec | None:
    """`spec` with the sample whose engine passed last, where that engine is still there; else None."""
    try:
        content = json.loads(_path(folder, bundle, runtime, spec).read_text(encoding="utf-8"))
        known = replace(spec, sample=str(content["sample"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if entry_path(folder, bundle, runtime, known).is_dir() else None


def uncalibrated(bundle: Bundle, runtime: Runtime, spec: EngineSpec, why: str = "") -> EnvironmentFault:
    """What to raise where an engine would have to be calibrated first; `why` goes on with the sentence."""
    command = f"mxbatch compile {bundle.path} --runtime {runtime.name} --precision {spec.precision}"
    size = f" --batch {spec.batch}" if spec.batch else ""
    return EnvironmentFault(
        "MX-M006",
        f"{runtime.name} has no engine in {spec.precision} that was calibrated here{why}",
        path=bundle.path,
        fix=f"make one with `{command}{size} --calibrate ARCHIVE`",
    )


def _path(folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec) -> Path:
    return folder / "passed" / f"{entry_path(folder, bundle, runtime, replace(spec, sample='')).name}.json"
