"""The embedded launcher: worker processes on this machine, each scoring and committing its own shards.

Workers are started as fresh interpreters rather than forked or spawned by multiprocessing: nothing of the
caller's state leaks in, a script needs no `__main__` guard, and threads settings are theirs from the start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from mxbatch.engine.dispatch.job import Gone, Job
from mxbatch.engine.dispatch.launcher import Worker

KILL_S = 5.0
"""A killed process that is not gone by then is stuck in the kernel, behind a dead disk: nothing helps but to go on."""


class WorkerProcess:
    """One worker process, from the side of who started it. Until it is told its job it imports, and waits."""

    def __init__(self, model_threads: int) -> None:
        self.connection: Connection[Any, Any]
        self.connection, theirs = Pipe()
        self._log: Path | None = None
        self._early_words = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        """What it writes before it has a job, and so no log: it may be older than the run's folder."""
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mxbatch.engine.dispatch.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._early_words,
                stderr=self._early_words,
                env={**os.environ, **_environment(model_threads)},
            )
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        Thread(target=self._deliver, daemon=True).start()

    def begin(self, job: Job, log: Path) -> None:
        """Tell it its job. What it, and the libraries in it, write to stdout and stderr goes to `log` from now on."""
        self._log = log
        self.send((job, log))

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
        self._keep_early_words()

    def _keep_early_words(self) -> None:
        with self._early_words as file, suppress(OSError):
            file.seek(0)
            if self._log and (words := file.read()):
                with self._log.open("ab") as log:
                    log.write(words)

    def _obituary(self) -> str:
        try:
            code = self.process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            return "a worker broke off"
        return f"a worker died ({'signal' if code < 0 else 'exit status'} {abs(code)})"


def _environment(model_threads: int) -> dict[str, str]:
    """Set before the interpreter starts, when it still counts. (Its `-P` keeps the current folder off the path:
    it may be an archive, and nobody's `timm.py` there is to be run.)

    With an arena of the allocator per decode thread, freed pictures stay with their arenas and a worker's memory
    creeps up by some 7 % over thousands of radiographs; with two it stays flat, and no slower.
    """
    return {"OMP_NUM_THREADS": str(model_threads), "MALLOC_ARENA_MAX": "2"}


class LocalLauncher:
    """One place per job; worker `n` is told `jobs[n]`. Those that `waiting` holds are taken first."""

    def __init__(self, jobs: Sequence[Job], log: Path, waiting: list[WorkerProcess]) -> None:
        self._jobs, self._log, self._waiting = jobs, log, waiting

    def places(self) -> int:
        return len(self._jobs)

    def start(self, place: int) -> WorkerProcess:
        job = self._jobs[place]
        worker = self._waiting.pop() if self._waiting else WorkerProcess(job.model_threads)
        worker.begin(job, self._log)
        return worker

    def ready(self, workers: Iterable[Worker], timeout_s: float) -> Sequence[Worker]:
        by_connection = {worker.connection: worker for worker in workers if isinstance(worker, WorkerProcess)}
        return [by_connection[connection] for connection in wait(list(by_connection), timeout_s)]  # type: ignore[index]


@contextmanager
def launch_locally(jobs: Sequence[Job], log: Path, waiting: list[WorkerProcess]) -> Iterator[LocalLauncher]:
    """`log` takes what the workers write to stdout and stderr. Raises OSError where it cannot be written."""
    log.touch()
    yield LocalLauncher(jobs, log, waiting)
