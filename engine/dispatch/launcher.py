"""The seam between the run and its workers: what a launcher must be able to do, and nothing else.

A worker is told its job, then shard after shard, and answers with the messages of job.py. Worker processes
(local.py) and Ray actors (ray_actors.py) are two ways to start the same worker (worker.py); the run (pool.py) cannot
tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Worker(Protocol):
    """One worker as the run sees it. It is used up: whatever happens to it, another takes its place."""

    def send(self, message: Any) -> None:
        """Never waits and never raises: that it is dead, the next `receive` says."""

    def receive(self) -> Sequence[Any]:
        """What it has said since, in order; `Gone` comes last. Never waits when `Launcher.ready` named it."""

    def kill(self) -> None:
        """End it, whatever it does: what it has done is committed, and nothing else of it is worth keeping."""


class Launcher(Protocol):
    """Where workers come from."""

    def places(self) -> int:
        """How many workers there is room for now. Machines come and go, so it is asked again and again."""

    def start(self, place: int) -> Worker:
        """A new worker for place 0, 1, ...; it says `Ready` when it has loaded the model."""

    def ready(self, workers: Iterable[Worker], timeout_s: float) -> Sequence[Worker]:
        """Those of `workers` that have something to say; waits for it, `timeout_s` at most."""
