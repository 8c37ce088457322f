"""Ray, safely: start one of our own, or connect to a cluster that asks for a token; and what room it has.

Whoever reaches an open Ray cluster can run code on it (CVE-2023-48022). Ray has tokens since 2.52, but a client that
brings one is let in by a cluster that wants none, and nothing tells it. So the cluster is asked first, in a process
of its own, whether it would let a stranger in. `ray` is imported inside functions only.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from mxbatch.engine.dispatch.job import Job
from mxbatch.engine.dispatch.launcher import Launcher
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.machine import CPU_BATCH, CUDA_BATCH, Crew, choose_crew, count_gpus
from mxbatch.engine.settings import Settings

LOCAL = "local"
OLDEST = (2, 54)
"""Earlier versions have CVE-2025-62593 or CVE-2026-27482."""
REACH_S, ASK_S = 10.0, 60.0
"""To open a connection to the head, and to hear what it says to a stranger."""
OBJECT_STORE_BYTES = 100_000_000
"""Of a Ray of our own: it holds a bundle at most, never a pixel."""
CLIENT = "ray://"
VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED")
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one actor takes of its machine."""

    cpus: int
    gpus: float
    memory_bytes: int

    def on(self, resources: dict[str, float]) -> int:
        """How many actors fit a machine with these resources, in Ray's words."""
        fits = [resources.get("CPU", 0) // self.cpus]
        if self.memory_bytes:
            fits.append(resources.get("memory", 0) // self.memory_bytes)
        if self.gpus:
            whole = resources.get("GPU", 0) // max(
                1, self.gpus
            )  # a worker is on one GPU, or on several whole ones
            fits.append(whole * max(1, int(1 / self.gpus + 1e-9)))
        return int(min(fits))


def room_for(asked: Settings, machines: Sequence[dict[str, float]]) -> Room:
    """What an actor takes: a GPU and its share of the cores where there are GPUs to use, else a core."""
    with_gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    if asked.device == "cuda" and not with_gpus:
        raise UsageError("MX-U001", "device cuda: the Ray cluster shows no GPU", fix="--device cpu")
    if asked.device == "cpu" or not with_gpus:
        if asked.gpus_per_worker:
            raise UsageError("MX-U001", "gpus_per_worker: there is no GPU to use", fix="leave it out")
        return Room(cpus=asked.cpus_per_worker or 1, gpus=0, memory_bytes=asked.worker_bytes)
    gpus = asked.gpus_per_worker or 1.0
    share = min(machine.get("CPU", 0) / (machine["GPU"] / gpus) for machine in with_gpus)
    return Room(cpus=asked.cpus_per_worker or max(1, int(share)), gpus=gpus, memory_bytes=0)


class RayFleet:
    """Actors of one Ray cluster."""

    def __init__(self, asked: Settings, address: str | None, note: Note) -> None:
        self._asked, self._address, self._note = asked, address, note
        self._connected = False
        if address is None:  # ours, and not started before there is work: it will have this machine
            batch = asked.batch if isinstance(asked.batch, int) else None
            self.crew = choose_crew(asked.device, asked.workers, batch, worker_bytes=asked.worker_bytes)
        else:
            self._connect()
        self.elsewhere = self.crew.devices[0] != "cpu" and not count_gpus()

    def expect_work(self) -> None:
        """Nothing begins early: Ray, where it is ours, and its actors are started for a job."""

    def proven(self, note: Note) -> Crew:
        if not self._connected:
            self._connect()
        return self.crew

    def launch(self, job: Job, log: Path) -> AbstractContextManager[Launcher]:
        from mxbatch.engine.dispatch.ray_actors import launch_actors

        return launch_actors(job, self._room, self.places)

    def places(self) -> int:
        """What `--workers` says, even where machines for it have yet to come; else what fits the machines there are."""
        return self._asked.workers or sum(self._room.on(machine) for machine in _machines())

    def _connect(self) -> None:
        if not _is_initialized():
            _connect(self._address, self._asked.allow_insecure_ray, self._note)
        self._connected = True
        self._room = room_for(self._asked, _machines())
        places = self.places()
        if not places:
            what = f"no machine of the Ray cluster has room for a worker ({self._room.cpus} cores"
            what += (
                f", {self._room.gpus:g} GPUs)" if self._room.gpus else f", {self._asked.worker_memory:g} GB)"
            )
            raise EnvironmentFault(
                "MX-E014", what, fix="add machines, or ask for less: --cpus-per-worker, --worker-memory"
            )
        self.crew = Crew(
            devices=("cuda:0" if self._room.gpus else "cpu",) * places,
            batch=self._batch(),
            model_threads=1,
            decode_threads=self._room.cpus if self._room.gpus or self._room.cpus > 1 else 0,
        )

    def _batch(self) -> int:
        if isinstance(self._asked.batch, int):
            return self._asked.batch
        return CUDA_BATCH if self._room.gpus else CPU_BATCH


@contextmanager
def open_ray_fleet(asked: Settings, where: str, note: Note) -> Iterator[RayFleet]:
    """`where` is `local` or an address. A Ray that the caller had started already is used, and left running."""
    found = tuple(int(part) for part in version("ray").split(".")[:2])
    if found < OLDEST:
        what = f"ray {version('ray')} has known holes; 2.54 is the first without"
        raise EnvironmentFault("MX-E014", what, fix="pip install --upgrade 'ray>=2.54'")
    if where.startswith(CLIENT):
        fix = "run mxbatch on a machine of the cluster, with --ray HOST:PORT of its head"
        raise UsageError("MX-U001", "Ray's client protocol hides lost machines", fix=fix)
    theirs = _is_initialized()
    before = {name: os.environ.get(name) for name in VARIABLES}
    try:
        yield RayFleet(asked, None if where == LOCAL else where, note)
    finally:
        if not theirs and _is_initialized():
            sys.modules["ray"].shutdown()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _is_initialized() -> bool:
    """Without importing ray, which reads its environment when it is imported."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _connect(address: str | None, allow_insecure: bool, note: Note) -> None:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        options |= {
            "address": LOCAL,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    elif lets_strangers_in(address):
        if not allow_insecure:
            raise EnvironmentFault("MX-E015", "it asks for no token", path=address)
        note(f"the Ray cluster at {address} lets everybody in (--allow-insecure-ray)")
        os.environ["RAY_AUTH_MODE"] = "disabled"

    import ray

    read_environment_again()
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises what it likes here, `Exception` itself where it is slow to start
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EnvironmentFault("MX-E014", lines[0], path=address or "a Ray of our own") from error
    if current_thread() is main_thread():  # where Ray has put a handler that exits with a code of its own
        signal.signal(signal.SIGTERM, terminate)


def read_environment_again() -> None:
    """Ray reads mode and token once, when it is imported, which the caller may have done long ago."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def lets_strangers_in(address: str) -> bool:
    """Whether the cluster answers somebody who has no token. Raises EnvironmentFault MX-E014 where nobody answers."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():  # else Ray knows where, or asks a file
        try:
            socket.create_connection((host, int(port)), timeout=REACH_S).close()
        except OSError as error:
            raise EnvironmentFault("MX-E014", f"nobody listens there ({error})", path=address) from None
    stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        asked = subprocess.run(
            command,
            env={**stranger, "RAY_AUTH_MODE": "disabled", "HOME": os.devnull},
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFault("MX-E014", f"no answer for {ASK_S:g} s", path=address) from None
    return asked.returncode == 0


def _machines() -> list[dict[str, float]]:
    import ray
    from ray.exceptions import RayError

    try:
        machines: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    except (RayError, ConnectionError) as error:
        raise EnvironmentFault("MX-E014", f"its head does not answer any more: {error}") from error
    return [machine["Resources"] for machine in machines if machine["Alive"]]


class Glance:
    """The last answer of `look`, asked again only after `every_s`: a question to the cluster costs milliseconds."""

    def __init__(self, look: Callable[[], Any], every_s: float) -> None:
        self._look, self._every_s, self._looked = look, every_s, float("-inf")

    def __call__(self) -> Any:
        if time.monotonic() - self._looked > self._every_s:
            self._value, self._looked = self._look(), time.monotonic()
        return self._value
