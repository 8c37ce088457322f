"""What dispatch costs: `python -m mxbatch.bench.ray launchers ARCHIVE` and `python -m mxbatch.bench.ray simulate`.

`launchers` scores one archive with worker processes and with Ray actors, in turn, on equal cores; start-up is apart.
`simulate` plans and dispatches radiographs that do not exist to workers that commit at once: what is left is the
driver's own work per shard, with everything that it does but the wire. It bounds how many workers one driver can feed:

    workers = seconds a worker takes for a shard / seconds the driver takes for it

A benchmark, not a test: it judges nothing.
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mxbatch.bench.machine import describe_machine
from mxbatch.engine.archive.index import INDEX_SCHEMA
from mxbatch.engine.dispatch.job import Committed, Progress, Ready, Tally
from mxbatch.engine.dispatch.launcher import Worker
from mxbatch.engine.dispatch.pool import Patience, run_workers
from mxbatch.engine.dispatch.stop import Stop
from mxbatch.engine.dispatch.supervisor import Supervisor
from mxbatch.engine.plan import ShardSizes, make_plan
from mxbatch.engine.score import score

VIEWS = 3
"""Radiographs of a simulated specimen."""


def rates(archive: Path, model: str, *, workers: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Radiographs per second and seconds to start, for each launcher and number of workers, in turn."""
    kinds: list[tuple[str, dict[str, Any]]] = [("processes", {}), ("ray", {"ray": "local"})]
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for count in workers:
            for name, settings in kinds:
                with tempfile.TemporaryDirectory() as out:
                    same: dict[str, Any] = {
                        "device": "cpu",
                        "runtime": "eager",
                        "precision": "float32",
                        "workers": count,
                    }
                    record = score(archive, out, model=model, **same, **settings).runs[0]
                one = (float(record.radiographs_per_s or 0), record.seconds["startup"])
                measured.setdefault((name, count), []).append(one)
    return [
        {
            "launcher": name,
            "workers": count,
            "radiographs_per_s": round(statistics.median(rate for rate, _ in values), 2),
            "rounds": [rate for rate, _ in values],
            "startup_s": round(statistics.median(startup for _, startup in values), 2),
        }
        for (name, count), values in measured.items()
    ]


def index_of(radiographs: int) -> pa.Table:
    """An index of specimens with `VIEWS` radiographs each, as large as that of a real archive."""
    numbers = np.arange(radiographs)
    specimens = pc.cast(pa.array(numbers // VIEWS), pa.string())
    names = pc.binary_join_element_wise(
        "IMPC_XRY_001/IMPC_XRY_034_001/", pc.cast(pa.array(numbers), pa.string()), ""
    )
    fixed = {"centre": "BCM", "procedure": "IMPC_XRY_001", "date_of_experiment": "2026-01-01"}
    known = {
        **{name: pa.repeat(pa.scalar(value), radiographs) for name, value in fixed.items()},
        "specimen_id": pc.utf8_lpad(specimens, 9, "0"),
        "path": names,
        "view": pa.array(["dv", "lv", "skull_dv"]).take(pa.array(numbers % VIEWS)),
        "size": pa.repeat(pa.scalar(4_200_000, pa.int64()), radiographs),
        "mtime_ns": pa.repeat(pa.scalar(1, pa.int64()), radiographs),
    }
    columns = [
        known[field.name].cast(field.type) if field.name in known else pa.nulls(radiographs, field.type)
        for field in INDEX_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=INDEX_SCHEMA)


class Instant:
    """A worker that commits a shard as soon as it has it. The shard is pickled, as for every real one."""

    def __init__(self) -> None:
        self.said: list[Any] = [Ready(0.0, "none")]

    def send(self, message: Any) -> None:
        pickle.dumps(message)
        shard, _ = message
        radiographs = sum(len(specimen.radiographs) for specimen in shard.specimens)
        self.said += [
            Progress(radiographs),
            Committed(shard.number, len(shard.specimens), 0, {"encode": 1.0}),
        ]

    def receive(self) -> Sequence[Any]:
        said, self.said = self.said, []
        return said

    def kill(self) -> None:
        pass


class Crowd:
    """A launcher of such workers."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def places(self) -> int:
        return self._workers

    def start(self, place: int) -> Instant:
        return Instant()

    def ready(self, workers: Iterable[Worker], timeout_s: float) -> Sequence[Worker]:
        return [worker for worker in workers if isinstance(worker, Instant) and worker.said]


def simulate(radiographs: int, workers: int) -> dict[str, Any]:
    """Seconds and memory of planning and of dispatching; memory is the highest the process has had until then."""
    started = time.perf_counter()
    index = index_of(radiographs)
    indexed = time.perf_counter()
    memory = {"index_mb": _peak_mb()}
    plan = make_plan(index, model_id="none", sizes=ShardSizes(workers=workers))
    planned = time.perf_counter()
    memory["planned_mb"] = _peak_mb()
    tally = Tally(plan.radiographs)
    run_workers(
        plan,
        Supervisor(plan.sizes),
        Crowd(workers),
        tally,
        Path("workers.log"),
        Stop(),
        lambda tally: None,
        lambda text: None,
        Patience(),
    )
    done = time.perf_counter()
    if tally.radiographs != radiographs:
        raise RuntimeError(f"{tally.radiographs} of {radiographs} radiographs were dispatched")
    shards = len(plan.sizes)
    return {
        "radiographs": radiographs,
        "workers": workers,
        "shards": shards,
        "index_s": round(indexed - started, 2),
        "plan_s": round(planned - indexed, 2),
        "dispatch_s": round(done - planned, 2),
        "driver_ms_per_shard": round(1000 * (done - planned) / shards, 3),
        **memory,
        "dispatched_mb": _peak_mb(),
    }


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    launchers = commands.add_parser("launchers")
    launchers.add_argument("archive", type=Path)
    launchers.add_argument("--model", default="untrained")
    launchers.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    launchers.add_argument("--rounds", type=int, default=3)
    simulated = commands.add_parser("simulate")
    simulated.add_argument("--radiographs", type=int, default=10_000_000)
    simulated.add_argument("--workers", type=int, default=1000)
    asked = parser.parse_args()
    if asked.command == "launchers":
        found: Any = rates(asked.archive, asked.model, workers=asked.workers, rounds=asked.rounds)
    else:
        found = simulate(asked.radiographs, asked.workers)
    json.dump({"machine": describe_machine(["ray"]), "found": found}, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
