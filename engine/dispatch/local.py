"""The embedded launcher: worker processes on this machine, each scoring and committing its own shards.

Workers are started as fresh interpreters rather than forked or spawned by multiprocessing: nothing of the
caller's state leaks in, a script needs no `__main__` guard, and threads settings are theirs from the start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

from mxbatch.engine.dispatch.job import Committed, Failed, Job, Opening, Progress, Ready, Remark, Tally
from mxbatch.engine.dispatch.supervisor import Assignment, Supervisor
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.plan import Plan

FAILED_STARTS = 2
"""A worker that dies before it is ready so many times in a row is not started again."""
REFRESH_S = 0.5


def run_workers(
    plan: Plan,
    supervisor: Supervisor,
    jobs: list[Job],
    tally: Tally,
    log: Path,
    show: Callable[[Tally], None],
    note: Callable[[str], None],
) -> None:
    """Score every shard that `supervisor` has, at most one worker per entry of `jobs`; return when all are committed.

    Workers that die are replaced. Raises EnvironmentFault when the run cannot go on; whatever is raised, no
    worker is left behind.
    """
    with ExitStack() as stack:
        messages = stack.enter_context(log.open("ab"))
        crew = [_Worker(job, messages) for job in jobs[: supervisor.waiting]]
        stack.callback(_kill_all, crew)
        started, failed_starts = time.perf_counter(), 0
        while supervisor.open:
            by_connection = {worker.connection: worker for worker in crew}
            for connection in wait(list(by_connection), REFRESH_S):
                worker = by_connection[connection]  # type: ignore[index]
                message = worker.receive()
                if isinstance(message, Failed):
                    message.error.add_note(message.trace)
                    raise message.error
                if isinstance(message, Remark):
                    note(message.text)
                if isinstance(message, Ready):
                    failed_starts = 0
                    tally.workers_ready += 1
                    tally.startup_s = tally.startup_s or time.perf_counter() - started
                if message is None:
                    tally.deaths += 1
                    failed_starts += not worker.ready
                    if failed_starts >= FAILED_STARTS:
                        words = log if log.stat().st_size else None
                        raise EnvironmentFault(
                            "MX-E006", f"{worker.obituary()} before it was ready", path=words
                        )
                    worker.kill()
                    crew[crew.index(worker)] = _Worker(worker.job, messages)
                    if worker.assignment:
                        tally.radiographs -= worker.uncommitted
                        supervisor.died(worker.assignment.number, worker.opened)
                else:
                    _account(message, worker, supervisor, tally)
            for worker in crew:
                if worker.ready and not worker.assignment and (assignment := supervisor.assign()):
                    worker.send(plan, assignment)
            show(tally)


def _account(message: Any, worker: _Worker, supervisor: Supervisor, tally: Tally) -> None:
    match message:
        case Ready():
            worker.ready = True
        case Opening():
            worker.opened = message.path or None
        case Progress():
            worker.uncommitted += message.radiographs
            tally.radiographs += message.radiographs
        case Committed():
            supervisor.committed(message.number)
            worker.assignment, worker.opened, worker.uncommitted = None, None, 0
            tally.calls += message.calls
            tally.quarantined += message.quarantined
            for stage, seconds in message.seconds.items():
                tally.seconds[stage] += seconds


def _environment(job: Job) -> dict[str, str]:
    """Set before the interpreter starts, when it still counts. (Its `-P` keeps the current folder off the path:
    it may be an archive, and nobody's `timm.py` there is to be run.)

    With an arena of the allocator per decode thread, freed pictures stay with their arenas and a worker's memory
    creeps up by some 7 % over thousands of radiographs; with two it stays flat, and no slower.
    """
    return {"OMP_NUM_THREADS": str(job.model_threads), "MALLOC_ARENA_MAX": "2"}


def _kill_all(crew: list[_Worker]) -> None:
    for worker in crew:
        worker.kill()


class _Worker:
    """One worker process as the run sees it."""

    def __init__(self, job: Job, log: IO[bytes]) -> None:
        self.job = job
        self.ready = False
        self.assignment: Assignment | None = None
        self.opened: str | None = None
        self.uncommitted = 0
        """Radiographs counted for the running shard; they do not count if the worker dies."""
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
        self._tell(job)

    def send(self, plan: Plan, assignment: Assignment) -> None:
        self.assignment = assignment
        self._tell((plan.shard(assignment.number), assignment))

    def _tell(self, message: Any) -> None:
        with suppress(OSError):  # it is dead: the next receive says so
            self.connection.send(message)

    def receive(self) -> Any:
        """The next message, or None when the worker is dead."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def obituary(self) -> str:
        code = self.process.wait()
        return f"a worker died ({'signal' if code < 0 else 'exit status'} {abs(code)})"

    def kill(self) -> None:
        """End it, whatever it does: what it has done is committed, and nothing else of it is worth keeping."""
        self.process.kill()
        self.process.wait()
        self.connection.close()
