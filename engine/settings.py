"""What a user can ask of a run beyond archive, output and model; nonsense is refused here, before anything begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from mxbatch.engine.decode.contract import Limits
from mxbatch.engine.errors import UsageError
from mxbatch.engine.machine import WORKER_BYTES
from mxbatch.engine.runtime.encoder import PRECISIONS
from mxbatch.engine.runtime.scorer import RUNTIMES

DEVICES = ("auto", "cpu", "cuda")
WAYS = ("auto", "cpu", "gpu")
"""Of decoding."""
AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `score`. Raises UsageError (MX-U001)."""

    workers: int | None = None
    """Worker processes; None takes one per core, or one per GPU."""
    worker_memory: float = WORKER_BYTES / 1e9
    """GB that a CPU worker may take: fewer start where there is less, and one that takes more is told of."""
    device: str = "auto"
    """One of `DEVICES`."""
    runtime: str = AUTO
    """A key of `RUNTIMES`; `auto` takes the one that finishes first."""
    precision: str | None = None
    """One of `PRECISIONS`; None lets the runtime decide."""
    batch: int | str | None = None
    """Radiographs per call of the encoder; None lets the device decide, `auto` tries sizes once."""
    decode: str = AUTO
    """One of `WAYS`: `cpu` decodes on the host, `gpu` all that a GPU can there, `auto` divides it as measured."""
    since: str | None = None
    """A day, YYYY-MM-DD: only specimens examined on or after it."""
    limit: int | None = None
    """At most so many specimens."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns of the archive's table, ours -> theirs."""
    views: Mapping[str, str] = field(default_factory=dict)
    """Names of views in it, theirs -> ours or `skip`."""
    default_view: str | None = None
    """The view of radiographs for which nothing tells it."""
    max_megapixels: int = 64
    shard_radiographs: int = 256
    """Radiographs per shard at most: what a crash can cost, against how often something is committed."""
    allow_shrink: bool = False
    """Go on although the archive has lost most of its radiographs since the last run."""
    patience: float = 300.0
    """Seconds. A worker that does not get on for so long hangs: it is ended, and its shard done with care."""
    grace: float = 20.0
    """Seconds for what is in flight when the run is asked to stop."""
    ray: str | None = None
    """None takes worker processes; `local`, `auto` or a cluster's HOST:PORT take Ray actors."""
    cpus_per_worker: int | None = None
    """Cores of a Ray actor: its decoders share them."""
    gpus_per_worker: float | None = None
    """GPUs of a Ray actor; 0.5 puts two on one GPU."""
    allow_insecure_ray: bool = False
    """Connect to a cluster that asks nobody for a token."""

    @property
    def worker_bytes(self) -> int:
        return max(1, round(self.worker_memory * 1e9))

    @property
    def limits(self) -> Limits:
        return Limits(max_pixels=self.max_megapixels * 1_000_000)

    def __post_init__(self) -> None:
        if isinstance(self.batch, str) and self.batch != AUTO:
            raise UsageError("MX-U001", f"batch must be a number or {AUTO}, got {self.batch!r}")
        for name in ("workers", "batch", "limit", "max_megapixels", "shard_radiographs", "cpus_per_worker"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise UsageError("MX-U001", f"{name} must be at least 1, got {value}")
        if not 0 < self.worker_memory < math.inf:
            raise UsageError("MX-U001", f"worker_memory must be some GB, got {self.worker_memory}")
        if not self.patience > 0 or not self.grace >= 0:
            raise UsageError("MX-U001", f"patience {self.patience} and grace {self.grace} are seconds")
        gpus = self.gpus_per_worker
        if gpus is not None and not (0 < gpus <= 1 or (gpus > 0 and gpus.is_integer())):
            raise UsageError(
                "MX-U001", f"gpus_per_worker must be a share of one GPU or a whole number, got {gpus}"
            )
        for name in ("cpus_per_worker", "gpus_per_worker", "allow_insecure_ray"):
            if getattr(self, name) and self.ray is None:
                raise UsageError(
                    "MX-U001", f"{name} is for Ray", fix="--ray auto, --ray local or --ray HOST:PORT"
                )
        if self.device not in DEVICES:
            raise UsageError("MX-U001", f"device must be {', '.join(DEVICES)}, got {self.device!r}")
        for name, value, known in (
            ("runtime", self.runtime, (AUTO, *RUNTIMES)),
            ("precision", self.precision, (None, *PRECISIONS)),
            ("decode", self.decode, WAYS),
        ):
            if value not in known:
                names = ", ".join(filter(None, known))
                raise UsageError("MX-U001", f"{name} must be {names}, got {value!r}")
        if self.since is not None:
            try:
                day = date.fromisoformat(self.since).isoformat()
            except ValueError:
                raise UsageError("MX-U001", f"since must be YYYY-MM-DD, got {self.since!r}") from None
            object.__setattr__(self, "since", day)  # compared as text from here on
