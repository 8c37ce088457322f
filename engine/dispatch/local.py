"""The embedded launcher: worker processes on this machine, each scoring and committing its own shards.

Workers are started as fresh interpreters rather than forked or spawned by multiprocessing: nothing of the
caller's state leaks in, a script needs no `__main__` guard, and threads settings are theirs from the start.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

from mxbatch.engine.dispatch.job import Gone, Job
from mxbatch.engine.dispatch.launcher import Worker

KILL_S = 5.0
"""A killed process that is not gone by then is stuck in the kernel, behind a dead disk: nothing helps but to go on."""


class WorkerProcess:
    """One worker process, from the side of who started it."""

    def __init__(self, job: Job, log: IO[bytes]) -> None:
        self.connection: Connection[Any, Any]
        self.connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mxbatch.engine.dispatch.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **_environment(job)},
            )
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        Thread(target=self._deliver, daemon=True).start()
        self.send(job)

    def send(self, message: Any) -> None:
        self._outbox.put(message)

    def _deliver(self) -> None:
        """In a thread of its own: a worker that was stopped reads nothing, and the run must not wait for it."""
        with suppress(OSError):  # it is dead: the next receive says so
            while (message := self._outbox.get()) is not None:
                self.connection.send(message)

    def receive(self) -> Sequence[Any]:
        said: list[Any] = []
        try:
            while not said or self.connection.poll():
                said.append(self.connection.recv())
        except (EOFError, OSError):
            said.append(Gone(self._obituary()))
        return said

    def kill(self) -> None:
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_S)
        self._outbox.put(None)
        self.connection.close()

    def _obituary(self) -> str:
        try:
            code = self.process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            return "a worker broke off"
        return f"a worker died ({'signal' if code < 0 else 'exit status'} {abs(code)})"


def _environment(job: Job) -> dict[str, str]:
    """Set before the interpreter starts, when it still counts. (Its `-P` keeps the current folder off the path:
    it may be an archive, and nobody's `timm.py` there is to be run.)

    With an arena of the allocator per decode thread, freed pictures stay with their arenas and a worker's memory
    creeps up by some 7 % over thousands of radiographs; with two it stays flat, and no slower.
    """
    return {"OMP_NUM_THREADS": str(job.model_threads), "MALLOC_ARENA_MAX": "2"}


class LocalLauncher:
    """One place per job; worker `n` is told `jobs[n]`."""

    def __init__(self, jobs: Sequence[Job], log: IO[bytes]) -> None:
        self._jobs, self._log = jobs, log

    def places(self) -> int:
        return len(self._jobs)

    def start(self, place: int) -> WorkerProcess:
        return WorkerProcess(self._jobs[place], self._log)

    def ready(self, workers: Iterable[Worker], timeout_s: float) -> Sequence[Worker]:
        by_connection = {worker.connection: worker for worker in workers if isinstance(worker, WorkerProcess)}
        return [by_connection[connection] for connection in wait(list(by_connection), timeout_s)]  # type: ignore[index]


@contextmanager
def launch_locally(jobs: Sequence[Job], log: Path) -> Iterator[LocalLauncher]:
    """`log` takes what the workers, and the libraries in them, write to stdout and stderr."""
    with log.open("ab") as words:
        yield LocalLauncher(jobs, words)
