"""Ray actors: the same worker processes, on many machines.

An actor scores nothing itself. It is a host on some machine that starts the worker process every launcher starts
(local.py), hands it what the run sends, and passes on what it says. So a radiograph that kills its decoder kills a
process beside the actor: the actor lives to tell which one was open, where Ray alone would only report a lost actor.
And an actor that is lost itself means that its machine went away, which no radiograph can be blamed for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxbatch import __version__
from mxbatch.engine.dispatch.job import Alive, Gone, Job, Opening, Progress
from mxbatch.engine.dispatch.launcher import Launcher, Worker
from mxbatch.engine.dispatch.local import WorkerProcess
from mxbatch.engine.dispatch.sent_bundle import pack, unpacked
from mxbatch.engine.storage import open_store

if TYPE_CHECKING:
    from mxbatch.engine.dispatch.ray_fleet import Room

POLL_S = 1.0
"""How long an actor collects words that can wait: with 1,000 workers the run hears 1,000 answers a second at most."""
CAN_WAIT = (Alive, Opening, Progress)
LOOK_S = 5.0
"""How often the cluster is asked what machines it has."""


class Host:
    """The actor: one worker process on its machine. It imports nothing that computes: that process starts at once."""

    def __init__(self, job: Job, log_name: str, bundle: list[Any], driver_version: str) -> None:
        """`bundle` holds an object reference, in a list so that Ray does not fetch it unasked."""
        if __version__ != driver_version:
            raise RuntimeError(f"mxbatch {__version__} is installed there, {driver_version} runs here")
        log = open_store(job.out).log_file(log_name)
        job = replace(job, bundle=unpacked(job.bundle, bundle[0]))
        self._process = WorkerProcess(job.model_threads)
        self._process.begin(job, log if log.parent.is_dir() else Path("/dev/null"))

    def send(self, message: Any) -> None:
        self._process.send(message)

    def listen(self) -> Sequence[Any]:
        """What the process has said: at once when it matters, else within `POLL_S`."""
        said: list[Any] = []
        until = time.monotonic() + POLL_S
        while (left := until - time.monotonic()) > 0:
            if self._process.connection.poll(left):
                said += self._process.receive()
                if not isinstance(said[-1], CAN_WAIT):
                    break
        return said

    def end(self) -> None:
        self._process.kill()


class Actor:
    """A `Host`, from the side of the run."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.said = host.listen.remote()

    def send(self, message: Any) -> None:
        self._host.send.remote(message)

    def receive(self) -> Sequence[Any]:
        import ray
        from ray.exceptions import RayError

        try:
            said: Sequence[Any] = ray.get(self.said)
        except RayError as error:
            reasons = [line for line in str(error).strip().splitlines() if line.strip()]
            return [Gone(f"a Ray actor was lost ({reasons[-1].strip()[:200]})", blameless=True)]
        if not (said and isinstance(said[-1], Gone)):
            self.said = self._host.listen.remote()
        return said

    def kill(self) -> None:
        """The process first: one that hangs in native code does not notice that its actor is gone."""
        import ray

        ending = self._host.end.remote()
        with suppress(Exception):  # it is lost already, or never was
            ray.wait([ending], timeout=0.5)
        ray.kill(self._host)


class RayLauncher:
    """As many actors as there is room for, spread over the machines."""

    def __init__(self, job: Job, room: Room, places: Callable[[], int]) -> None:
        import ray

        from mxbatch.engine.ledger import Output

        self._log_name = Output.worker_log_name(job.run_id)
        self._job, self.places = replace(job, engines=None), places
        self._bundle = ray.put(pack(job.bundle))
        self._kind = ray.remote(Host).options(
            num_cpus=room.cpus,
            num_gpus=room.gpus,
            memory=room.memory_bytes or None,
            max_concurrency=3,  # send, listen and end side by side
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )

    def start(self, place: int) -> Actor:
        return Actor(self._kind.remote(self._job, self._log_name, [self._bundle], __version__))

    def ready(self, workers: Iterable[Worker], timeout_s: float) -> Sequence[Worker]:
        import ray

        by_answer = {worker.said: worker for worker in workers if isinstance(worker, Actor)}
        if not by_answer:
            time.sleep(timeout_s)
            return []
        ray.wait(list(by_answer), timeout=timeout_s)
        answered, _ = ray.wait(list(by_answer), num_returns=len(by_answer), timeout=0)
        return [by_answer[answer] for answer in answered]


@contextmanager
def launch_actors(job: Job, room: Room, places: Callable[[], int]) -> Iterator[Launcher]:
    from mxbatch.engine.dispatch.ray_fleet import Glance

    yield RayLauncher(job, room, Glance(places, LOOK_S))
