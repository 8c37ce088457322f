"""What travels between the run and its workers: descriptions and counts, never pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mxbatch.engine.decode.contract import Limits
from mxbatch.engine.errors import MxbatchError

if TYPE_CHECKING:  # it computes, and a Ray actor starts its process before it imports anything that does
    from mxbatch.engine.offload.worker import Share

HEARTBEAT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that a worker needs to know before its first shard. Told once."""

    run_id: str
    archive: Path
    out: str
    """The address of the output's storage."""
    bundle: Path
    device: str
    """`cpu` or `cuda:<n>`."""
    runtime: str
    precision: str
    batch: int
    engines: Path | None
    """The engine cache of this run; None takes that of the machine the worker is on."""
    model_threads: int
    decode_threads: int
    limits: Limits
    offload: Mapping[str, Share] = field(default_factory=dict)
    """Kind of codestream -> what of it a GPU decodes; the host decodes the rest."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has loaded the model and passed the golden check."""

    seconds: float
    runtime: str


@dataclass(frozen=True, slots=True)
class Alive:
    """The worker's process runs; said every `HEARTBEAT_S` seconds, from when it has its job on."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that the user should read."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """So many radiographs of the running shard have been gone through since the last word."""

    radiographs: int


@dataclass(frozen=True, slots=True)
class Opening:
    """The radiograph that is opened next, said only while a shard is done with care. Empty: none is open."""

    path: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A shard is in the ledger."""

    number: int
    calls: int
    quarantined: int
    seconds: Mapping[str, float]
    peak_bytes: int = 0
    """The most memory that the worker has held so far."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker cannot go on: the model, the archive or the disk of its machine is at fault."""

    error: MxbatchError
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """Said in the worker's place, by whoever saw it end."""

    what: str
    blameless: bool = False
    """True where its machine went away with it: that says nothing about the shard."""


@dataclass(slots=True)
class Tally:
    """How far a run has come; what a progress display shows."""

    radiographs_total: int
    radiographs: int = 0
    """Gone through, in earlier sessions too."""
    earlier: int = 0
    """Of these, in earlier sessions."""
    quarantined: int = 0
    calls: int = 0
    workers: int = 0
    """At work at once, at most so far."""
    workers_ready: int = 0
    startup_s: float = 0.0
    """From when there were shards to hand out until the first worker was ready for one."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    deaths: int = 0
    peak_bytes: int = 0
    """Of the worker that has held most memory."""

    @property
    def bottleneck(self) -> str | None:
        """The stage that took most work so far."""
        work = {stage: s for stage, s in self.seconds.items() if stage != "wait"}
        return max(work, key=lambda stage: work[stage]) if work else None
