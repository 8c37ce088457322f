"""Who works for a run: this machine's worker processes, or Ray actors on this machine or many.

A fleet is chosen before anything is written, so that an impossible wish costs nothing; its workers are started when
there is work for them. One may be there before: importing torch takes a worker longer than all else that it does
before its first shard, and can be done while the run still reads the archive and plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from os import environ
from pathlib import Path
from typing import Protocol

from mxbatch.engine.dispatch.job import Job
from mxbatch.engine.dispatch.launcher import Launcher
from mxbatch.engine.dispatch.local import WorkerProcess, launch_locally
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.machine import CUDA_BATCH, Crew, choose_crew, count_gpus, proven
from mxbatch.engine.runtime.prepare import Prepared, Wish
from mxbatch.engine.settings import AUTO, Settings

Note = Callable[[str], None]


class Fleet(Protocol):
    """The workers that a run may have."""

    crew: Crew
    """How many they are and what each is told. Ray's cluster may grow and shrink after that."""
    elsewhere: bool
    """True where they have GPUs and this machine has none, so that nothing can be tried here."""

    def expect_work(self) -> None:
        """There will be a job, as far as anybody can tell: what can be done before it is known may begin."""

    def proven(self, note: Note) -> Crew:
        """`crew`, once it is known to work; may change it, and says so."""

    def launch(self, job: Job, log: Path) -> AbstractContextManager[Launcher]:
        """Workers for `job`; each gets a device of its own."""


class LocalFleet:
    """Worker processes on this machine."""

    elsewhere = False

    def __init__(self, asked: Settings) -> None:
        self._device, self._worker_bytes = asked.device, asked.worker_bytes
        batch = asked.batch if isinstance(asked.batch, int) else None
        self.crew = choose_crew(asked.device, asked.workers, batch, worker_bytes=asked.worker_bytes)
        self._waiting: list[WorkerProcess] = []

    def expect_work(self) -> None:
        """One worker starts: it makes the first shard wait less, and leaves a core to who reads and plans."""
        if not self._waiting:
            with suppress(OSError):  # no room for a process: the run says so when it needs one
                self._waiting.append(WorkerProcess(self.crew.model_threads))

    def close(self) -> None:
        while self._waiting:
            self._waiting.pop().kill()

    def proven(self, note: Note) -> Crew:
        self.crew = proven(self.crew, self._device, note, worker_bytes=self._worker_bytes)
        return self.crew

    def launch(self, job: Job, log: Path) -> AbstractContextManager[Launcher]:
        jobs = [replace(job, device=device) for device in self.crew.devices]
        return launch_locally(jobs, log, self._waiting)


@contextmanager
def open_fleet(asked: Settings, note: Note) -> Iterator[Fleet]:
    """The fleet that was asked for. A cluster is connected to at once, a Ray of our own started when it is needed.

    Raises UsageError MX-U001; EnvironmentFault MX-E014 where Ray cannot be used, MX-E015 where it is unsafe.
    """
    where = _ray_wanted(asked, note)
    if where is None:
        with closing(LocalFleet(asked)) as local:
            yield local
        return
    if find_spec("ray") is None:
        raise EnvironmentFault("MX-E014", "ray is not installed", fix="pip install 'mxbatch[ray]'")
    from mxbatch.engine.dispatch.ray_fleet import open_ray_fleet

    with open_ray_fleet(asked, where, note) as fleet:
        yield fleet


def untried(wish: Wish, note: Note) -> Prepared:
    """What workers with GPUs are to compute with when this machine has none to try it on: plain torch, or as named."""
    named = wish.runtime != AUTO
    prepared = Prepared(
        runtime=wish.runtime if named else "eager",
        precision=wish.precision or "float32",
        batch=wish.batch or CUDA_BATCH,
        device="cuda",
    )
    if not named:
        note(f"no GPU here to try runtimes on: {prepared.name}; --runtime and --precision name another")
    return prepared


def _ray_wanted(asked: Settings, note: Note) -> str | None:
    """`local`, a cluster's address, or None for worker processes."""
    if asked.ray != AUTO:
        return asked.ray
    if address := environ.get("RAY_ADDRESS"):
        note(f"RAY_ADDRESS is set: scoring on the Ray cluster at {address}")
        return address
    if asked.device != "cpu" and count_gpus() > 1:
        if find_spec("ray") is not None:
            return "local"
        note("several GPUs, but ray is not installed: scoring with worker processes")
        return None
    note("no RAY_ADDRESS and at most one GPU: scoring with worker processes")
    return None
