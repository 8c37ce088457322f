"""Runs `score` in forked children and ends them at a chosen step: no `finally` runs, as when the power fails.

A step is any moment at which Python is about to change something under the output: every open for writing, rename,
unlink and mkdir there is announced by an audit event, so no step can be forgotten. Workers are in the driver's own
process, with a scorer that needs no torch: a run takes a fraction of a second.

    PYTHONPATH=tests python crash_driver.py ARCHIVE BUNDLE SCRATCH every|random|full SEED PART OF  →  JSON, a run a line

PART of OF does its share of the steps, or of the random runs: as many drivers as there are cores run side by side.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from echo import EchoScorer

import mxbatch.engine.report.report  # noqa: F401  # what the children need, imported once
from mxbatch.engine import score as score_module
from mxbatch.engine.archive.index import KEY
from mxbatch.engine.bundle import read_bundle
from mxbatch.engine.dispatch.job import Committed, Job, Progress, Ready
from mxbatch.engine.errors import MxbatchError
from mxbatch.engine.feed import Loader
from mxbatch.engine.ledger import Output
from mxbatch.engine.machine import Crew
from mxbatch.engine.results import read_calls
from mxbatch.engine.shard import Engine, score_shard

CRASHED = 77
RUNS, STEPS = 100, 10_000
"""Random runs; and more steps than a run has, so that the last one is found by trying."""
CHANGES = {"os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0}
"""Audit event -> which of its arguments is the path."""
SETTINGS: dict[str, Any] = {"runtime": "eager", "precision": "float32", "shard_radiographs": 2}


class InlineWorker:
    """A worker without a process: it scores when it is sent a shard."""

    def __init__(self, job: Job) -> None:
        self._job, self._bundle = job, read_bundle(job.bundle)
        self._said: list[Any] = [Ready(0.0, "echo")]

    def send(self, message: Any) -> None:
        shard, _ = message
        contract, limits = self._bundle.recipe.input, self._job.limits
        loader = Loader(root=self._job.archive, contract=contract, limits=limits)
        with ThreadPoolExecutor(1) as pool:
            scorer = EchoScorer(self._bundle.taxonomy)
            engine = Engine(
                bundle=self._bundle, scorer=scorer, loader=loader, pool=pool, run_id=self._job.run_id
            )
            part = score_shard(shard, engine)
        Output(self._job.out).commit(self._job.run_id, part.number, part.calls, part.quarantine)
        done = Committed(part.number, part.calls.num_rows, part.quarantine.num_rows, part.seconds)
        self._said += [Progress(part.radiographs), done]

    def receive(self) -> Sequence[Any]:
        said, self._said = self._said, []
        return said

    def kill(self) -> None:
        pass


class InlineFleet:
    """One such worker."""

    elsewhere = False
    crew = Crew(devices=("cpu",), batch=4, model_threads=1, decode_threads=1)

    def expect_work(self) -> None:
        pass

    def proven(self, note: Any) -> Crew:
        return self.crew

    @contextmanager
    def launch(self, job: Job, log: Path) -> Iterator[Any]:
        self._job = job
        yield self

    def places(self) -> int:
        return 1

    def start(self, place: int) -> InlineWorker:
        return InlineWorker(self._job)

    def ready(self, workers: Iterable[Any], timeout_s: float) -> Sequence[Any]:
        return list(workers)


@contextmanager
def inline_fleet(*_: Any) -> Iterator[InlineFleet]:
    yield InlineFleet()


def step_of(event: str, arguments: tuple[Any, ...], out: str) -> str | None:
    """What is about to change under `out`, or None."""
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        path = arguments[0]
    elif event in CHANGES:
        path = arguments[CHANGES[event]]
    else:
        return None
    path = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    return f"{event} {os.path.relpath(path, out)}" if str(path).startswith(out) else None


def run(archive: Path, bundle: Path, out: Path, ends_at: int | None, *, full: bool = False) -> dict[str, Any]:
    """One `score` in a child that ends at the `ends_at`-th step, or meets a full disk there."""
    theirs, ours = os.pipe()
    if pid := os.fork():
        os.close(ours)
        with os.fdopen(theirs) as pipe:
            words = pipe.read().splitlines()
        return {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "words": words}
    os.close(theirs)
    steps = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        step = step_of(event, arguments, str(out))
        if step is None:
            return
        steps += 1
        if steps == ends_at:
            os.write(ours, f"{step}\n".encode())
            if not full:
                os._exit(CRASHED)
            if event not in ("os.remove", "os.rmdir"):  # removing takes no room
                raise OSError(28, "No space left on device")

    sys.addaudithook(count)
    code = 70
    try:
        code = score_module.score(archive, out, model=bundle, **SETTINGS).exit_code
    except MxbatchError as error:
        os.write(ours, f"{error}\n".encode())
        code = error.exit_code
    finally:
        os._exit(code)


def digest(out: Path) -> str:
    """Of every row ever committed, without what no two runs share. In a child: no thread survives a fork."""
    theirs, ours = os.pipe()
    if pid := os.fork():
        os.close(ours)
        with os.fdopen(theirs) as pipe:
            found = pipe.read()
        os.waitpid(pid, 0)
        return found
    try:
        table = read_calls(out, history=True).drop_columns(["run_id", "scored_at"])
        rows = table.sort_by([(name, "ascending") for name in KEY]).to_pylist()
        os.write(ours, hashlib.sha256(repr(rows).encode()).hexdigest().encode())
    finally:
        os._exit(0)


def every(
    archive: Path, bundle: Path, scratch: Path, share: range, *, full: bool
) -> Iterator[dict[str, Any]]:
    """Every step of `share` once: the run ends there, and the same command is given again."""
    for step in share:
        out = scratch / f"step-{step}"
        first = run(archive, bundle, out, step, full=full)
        if not first["words"]:
            return
        second = run(archive, bundle, out, None)
        yield {"step": step, "first": first, "second": second, "rows": digest(out)}


def at_random(
    archive: Path, bundle: Path, scratch: Path, share: range, seed: int
) -> Iterator[dict[str, Any]]:
    """Runs, each ended again and again at random steps until it comes through; half of it in 2001."""
    real = score_module._now
    for number in share:
        chance = random.Random(f"{seed} {number}")
        out = scratch / f"run-{number}"
        crashes = 0
        while True:
            back = chance.random() < 0.5
            score_module._now = (lambda: datetime(2001, 1, 1, tzinfo=UTC)) if back else real
            ended = run(archive, bundle, out, chance.randint(1, 60))
            if ended["code"] != CRASHED:
                break
            crashes += 1
        yield {"crashes": crashes, "second": ended, "rows": digest(out)}


def main() -> None:
    archive, bundle, scratch = (Path(argument) for argument in sys.argv[1:4])
    kind, (seed, part, of) = sys.argv[4], map(int, sys.argv[5:8])
    score_module.open_fleet = inline_fleet  # type: ignore[assignment]
    os.fsync = lambda fd: None  # type: ignore[assignment]  # what the kernel has taken outlives a process
    undisturbed = run(archive, bundle, scratch / "undisturbed", None)
    first = {"second": undisturbed, "rows": digest(scratch / "undisturbed")}
    if kind == "random":
        disturbed = at_random(archive, bundle, scratch, range(part, RUNS, of), seed)
    else:
        disturbed = every(archive, bundle, scratch, range(1 + part, STEPS, of), full=kind == "full")
    for report in chain([first], disturbed):
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
