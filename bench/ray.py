"""What dispatch costs: `python -m mxbatch.bench.ray launchers ARCHIVE` and `python -m mxbatch.bench.ray simulate`.

`launchers` scores one archive with worker processes and with Ray actors, in turn, on equal cores; start-up is apart.
`simulate` plans and dispatches radiographs that do not exist to workers that commit at once: what is left is the
driver's own work per shard, with everything that it does but the wire. It bounds how many workers one driver can feed:

    workers = seconds a worker takes for a shard / seconds the driver takes for it

With `--out bench/results` the result is kept beside the others. A benchmark, not a test: it judges nothing.
"""

from __future__ import annotations

import argparse
import pickle
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
from mxbatch.bench.result import Figure, Result, Subject, Table, write_result
from mxbatch.bench.result import rates as per_second
from mxbatch.bench.show import show_result
from mxbatch.engine.archive.index import INDEX_SCHEMA
from mxbatch.engine.dispatch.job import Committed, Progress, Ready, Tally
from mxbatch.engine.dispatch.launcher import Worker
from mxbatch.engine.dispatch.pool import Patience, run_workers
from mxbatch.engine.dispatch.stop import Stop
from mxbatch.engine.dispatch.supervisor import Supervisor
from mxbatch.engine.errors import MxbatchError
from mxbatch.engine.machine import CPU_BATCH, peak_bytes
from mxbatch.engine.model_store import REFERENCE, resolve_model
from mxbatch.engine.plan import ShardSizes, make_plan
from mxbatch.engine.score import score

VIEWS = 3
"""Radiographs of a simulated specimen."""


PROCESSES, RAY = "processes", "ray"
LAUNCHERS: dict[str, dict[str, Any]] = {PROCESSES: {}, RAY: {"ray": "local"}}
"""What `score` is told for each."""
PLAINLY: dict[str, Any] = {"device": "cpu", "runtime": "eager", "precision": "float32"}
"""Nothing is compiled or chosen, so that nothing but the launcher differs."""


def launchers(archive: Path, model: str, *, workers: Sequence[int], rounds: int) -> Result:
    """Radiographs per second after start-up, and the seconds of that, for each launcher and number of workers."""
    bundle = resolve_model(model)
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {}
    radiographs = 0
    for _ in range(rounds):
        for count in workers:
            for name, settings in LAUNCHERS.items():
                with tempfile.TemporaryDirectory() as out:
                    record = score(archive, out, model=model, workers=count, **PLAINLY, **settings).runs[0]
                radiographs = record.planned["radiographs"]
                one = (float(record.radiographs_per_s or 0), record.seconds["startup"])
                measured.setdefault((name, count), []).append(one)
    figures: dict[str, Figure] = {}
    for (name, count), pairs in measured.items():
        figures[_label(name, count)] = per_second([rate for rate, _ in pairs])
        figures[f"{_label(name, count)}, start-up"] = Figure(unit="s", rounds=tuple(s for _, s in pairs))
    return Result(
        kind="launchers",
        what="one archive by worker processes and by Ray actors, in turn; a rate is that after start-up",
        subject=Subject(
            model=bundle.model_id,
            architecture=bundle.recipe.backbone.name,
            size=bundle.recipe.input.size,
            precision=PLAINLY["precision"],
            runtime=PLAINLY["runtime"],
            workers=max(workers),
        ),
        figures=figures,
        tables={"ray over processes": _ratios(figures, workers)},
        data={"radiographs": radiographs},
        machine=describe_machine(["ray"]),
    )


def _label(launcher: str, workers: int) -> str:
    return f"{launcher}, {workers} worker{'s' if workers > 1 else ''}"


def _ratios(figures: dict[str, Figure], workers: Sequence[int]) -> Table:
    """Taken within each round, and then their median."""
    rows = []
    for count in workers:
        one, other = (figures[_label(name, count)] for name in (PROCESSES, RAY))
        ratio = statistics.median(b / a for a, b in zip(one.rounds, other.rounds, strict=True))
        rows.append((count, round(one.median, 2), round(other.median, 2), round(ratio, 3)))
    columns = ("workers", "processes, radiographs/s", "ray, radiographs/s", "ray over processes")
    return Table(columns=columns, rows=tuple(rows))


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


def simulate(radiographs: int, workers: int) -> Result:
    """Seconds and memory of planning and of dispatching; memory is the highest the process has had until then."""
    started = time.perf_counter()
    index = index_of(radiographs)
    indexed, peak_of_index = time.perf_counter(), _peak_mb()
    plan = make_plan(index, model_id="none", sizes=ShardSizes(workers=workers, batch=CPU_BATCH))
    planned, peak_of_plan = time.perf_counter(), _peak_mb()
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
    seconds = {"index": indexed - started, "plan": planned - indexed, "dispatch": done - planned}
    memory = {"index": peak_of_index, "plan": peak_of_plan, "dispatch": _peak_mb()}
    per_shard = 1000 * seconds["dispatch"] / shards
    return Result(
        kind="simulated",
        what="the driver's own work: radiographs that do not exist, for workers that commit at once",
        subject=Subject(),
        figures={"driver per shard": Figure(unit="ms", rounds=(per_shard,))},
        tables={
            "steps": Table(
                columns=("step", "s", "highest MB until then"),
                rows=tuple((step, round(seconds[step], 2), memory[step]) for step in seconds),
            )
        },
        data={"radiographs": radiographs, "shards": shards, "workers": workers},
    )


def _peak_mb() -> int:
    return peak_bytes() // 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the result file, such as bench/results")
    commands = parser.add_subparsers(dest="command", required=True)
    real = commands.add_parser("launchers")
    real.add_argument("archive", type=Path)
    real.add_argument("--model", default=REFERENCE)
    real.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    real.add_argument("--rounds", type=int, default=3)
    simulated = commands.add_parser("simulate")
    simulated.add_argument("--radiographs", type=int, default=10_000_000)
    simulated.add_argument("--workers", type=int, default=1000)
    asked = parser.parse_args()
    if asked.command == "launchers":
        result = launchers(asked.archive, asked.model, workers=asked.workers, rounds=asked.rounds)
    else:
        result = simulate(asked.radiographs, asked.workers)
    show_result(result, write_result(result, asked.out) if asked.out else None)


if __name__ == "__main__":
    try:
        main()
    except MxbatchError as error:
        sys.exit(f"mxbatch: {error}")
