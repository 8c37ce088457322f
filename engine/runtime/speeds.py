"""What was measured on this machine, remembered beside the engines: `speeds/<name of the engine>.json`.

The name holds all that an engine depends on, so a new driver, library or weight starts with an empty memory. What is
remembered only guides a choice: it may be lost at any time, and is believed as far as it can be read.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime.cache import entry_path
from mxbatch.engine.runtime.encoder import EngineSpec, Runtime
from mxbatch.engine.storage import write_atomically

FASTEST = 0
"""In place of a batch: the trial that looked for the fastest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One runtime, tried: it was built, passed the golden check and was timed; or it failed."""

    runtime: str
    precision: str
    batch: int
    """What it took; less than was asked for where memory is short."""
    rate: float = 0.0
    """Radiographs per second of one worker."""
    build_s: float = 0.0
    failed: str = ""
    """Why, in a line."""

    @property
    def name(self) -> str:
        return f"{self.runtime}-{self.precision}"


def recall(folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec) -> Trial | None:
    """What is remembered of this engine at `folder`, or None."""
    try:
        values = json.loads(_path(folder, bundle, runtime, spec).read_text(encoding="utf-8"))
        return Trial(**values)
    except (OSError, ValueError, TypeError):
        return None


def remember(folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec, trial: Trial) -> None:
    """A cache that cannot be written remembers nothing: whoever needs it has said so already."""
    with suppress(EnvironmentFault):
        write_atomically(_path(folder, bundle, runtime, spec), json.dumps(asdict(trial)).encode())


def remember_failure(
    folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec, error: EnvironmentFault
) -> None:
    """So that not every run compiles and fails again; `mxbatch compile` tries it anew."""
    failed = Trial(runtime=runtime.name, precision=spec.precision, batch=spec.batch, failed=error.what)
    remember(folder, bundle, runtime, spec, failed)


def remember_fitting(folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec, batch: int) -> None:
    """That memory was too short for `spec.batch`, and `batch` did."""
    known = recall(folder, bundle, runtime, spec)
    trial = known or Trial(runtime=runtime.name, precision=spec.precision, batch=batch)
    remember(folder, bundle, runtime, spec, replace(trial, batch=batch))


def _path(folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec) -> Path:
    return folder / "speeds" / f"{entry_path(folder, bundle, runtime, spec).name}.json"
