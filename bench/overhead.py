"""What does a run cost that is neither decoding nor model? `mxbatch bench overhead --model BUNDLE`.

Two things are measured, each in a process of its own, several times in turn:

    per radiograph   the hot path (`score_shard` and the commit) over files of a few hundred bytes, with a decoder that
                     has its picture ready and a model that answers at once: processor time of all threads, so Python,
                     system calls and what is passed between threads
    to begin         `mxbatch score` over an archive of links, from the start of the process until its first worker is
                     ready: imports, index, plan, its file, the worker. By the clock, and in processor time, which a
                     busy neighbour changes less. The worker starts beside the index: by the clock its step is what
                     the run still waits for when all else is done, in processor time all that it has had

What decoder and model take is not in the first, so it says what could be gained if all else cost nothing. The
share of Parquet in a whole run is in the stall table of `mxbatch bench score`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mxbatch.bench.apart import peak_mb
from mxbatch.bench.data import lay_out
from mxbatch.bench.result import Figure, Result, Table
from mxbatch.bench.score import settings_of
from mxbatch.bench.subject import Chosen
from mxbatch.engine.errors import EnvironmentFault, Interrupted

RUN_ID = "00001-bench"
SIDES = range(24, 40, 2)
"""Of the pictures in the files, in pixels: several, because a file has only so many names on some disks."""
WHOLE = "per radiograph"
FIRST = "to the first shard"
PROCESSOR = ", processor"
STEPS = {
    "open_for": "index",
    "read_history": "history",
    "make_plan": "plan",
    "_begin": "plan's file",
    "_prepared": "runtime",
}
"""Functions of engine/score.py -> the step that they are."""


def measure_overhead(chosen: Chosen, *, radiographs: int, archive: int, rounds: int) -> Result:
    """`radiographs` through the hot path, and the way to the first shard of `archive` links, `rounds` times in turn.

    Raises EnvironmentFault MX-E006 with a process's last words where it fails.
    """
    hot: dict[str, list[float]] = defaultdict(list)
    begin: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="mxbatch-bench-") as folder:
        home = Path(folder)
        sources = [_tiny(home / f"{side}.jpg", side) for side in SIDES]
        small = lay_out(sources, home / "small", radiographs)
        large = lay_out(sources, home / "large", archive)
        for number in range(rounds):
            common = {"model": str(chosen.bundle.path)}
            per = _apart("hot", archive=str(small), out=str(home / f"hot-{number}"), **common)
            way = _apart(
                "begin",
                archive=str(large),
                out=str(home / f"begin-{number}"),
                **common,
                **settings_of(chosen),
            )
            for name, value in per.items():
                hot[name].append(value)
            for name, value in way.items():
                begin[name].append(value)
    memory = begin.pop("memory")
    figures = {f"{name}, ms": _figure("ms", values) for name, values in hot.items()}
    figures |= {f"{name}, s": _figure("s", values) for name, values in begin.items()}
    figures["peak of the run"] = _figure("MB", memory)
    return Result(
        kind="overhead",
        what="the hot path without decoder and model, in processor time; and the way to the first shard",
        subject=chosen.subject,
        figures=figures,
        tables={
            "per radiograph": Table(
                columns=("step", "ms"),
                rows=tuple((name, round(_figure("", values).median, 4)) for name, values in hot.items()),
            ),
            f"to the first shard of {archive:,}": Table(
                columns=("step", "s", "s of a processor"),
                rows=tuple(
                    (name, *(round(_figure("", begin[key]).median, 2) for key in (name, name + PROCESSOR)))
                    for name in begin
                    if not name.endswith(PROCESSOR)
                ),
            ),
        },
        data={"radiographs": radiographs, "archive": archive},
    )


def _figure(unit: str, rounds: list[float]) -> Figure:
    return Figure(unit=unit, rounds=tuple(rounds))


def _tiny(path: Path, side: int) -> Path:
    from PIL import Image

    Image.linear_gradient("L").resize((side, side)).save(path)
    return path


def _apart(step: str, **order: Any) -> dict[str, float]:
    """One measurement in a fresh process, which is told when it was started."""
    words = json.dumps({**order, "step": step, "born": time.monotonic()})
    command = [sys.executable, "-P", "-m", "mxbatch.bench.overhead", words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EnvironmentFault("MX-E006", f"the measurement failed: {last}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def hot(archive: str, out: str, model: str, born: float) -> dict[str, float]:
    """Milliseconds of processor time per radiograph: the whole, and of it rows and files of the parts."""
    import numpy as np

    from mxbatch.engine import feed
    from mxbatch.engine.archive.open import open_archive
    from mxbatch.engine.decode.contract import Limits
    from mxbatch.engine.decode.radiograph import Decoded
    from mxbatch.engine.ledger import Output
    from mxbatch.engine.machine import CPU_BATCH
    from mxbatch.engine.model_store import resolve_model
    from mxbatch.engine.plan import make_plan
    from mxbatch.engine.shard import Engine, score_shard

    bundle, root = resolve_model(model), Path(archive)
    plan = make_plan(open_archive(root).index, model_id=bundle.model_id)
    side = bundle.recipe.input.size
    picture = Decoded(np.zeros((side, side), np.uint8), "jpeg", side, side)
    pool, turns = feed.loader_pool(0)
    loader = feed.Loader(root=root, contract=bundle.recipe.input, limits=Limits(), turns=turns)
    scorer = _Instant(CPU_BATCH, len(bundle.taxonomy.nodes))
    engine = Engine(bundle=bundle, scorer=scorer, loader=loader, pool=pool, run_id=RUN_ID, decoders=0)
    output = Output(Path(out))

    def ready(*_: Any) -> Decoded:  # no Mock: it would keep every call
        return picture

    with pool, mock.patch.object(feed, "decode", ready):
        score_shard(plan.shard(0), engine)  # imports, first use of memory
        writing = 0.0
        started = time.process_time()
        for number in plan.sizes:
            part = score_shard(plan.shard(number), engine)
            scored = time.process_time()
            output.commit(RUN_ID, number, part.calls, part.quarantine)
            writing += time.process_time() - scored
        whole = time.process_time() - started
    return {name: 1000 * s / plan.radiographs for name, s in ((WHOLE, whole), ("of it, Parquet", writing))}


class _Instant:
    """A `Scorer` whose answers are there before the question."""

    name, precision, feature_dim = "instant-float32", "float32", 256

    def __init__(self, batch: int, nodes: int) -> None:
        import numpy as np

        self.batch = batch
        self._features_BD = np.zeros((batch, self.feature_dim), np.float32)
        self._probabilities_K = np.full(nodes, 0.5, np.float32)

    def encode(self, images: Any) -> Any:
        return self._features_BD

    def submit(self, images: Any) -> Callable[[], Any]:
        return lambda: self._features_BD

    def fuse(self, features: Any, view_ids: Any, mask: Any) -> Any:
        return self._probabilities_K[None].repeat(len(features), axis=0)


def begin(born: float, **order: Any) -> dict[str, float]:
    """Seconds until the first worker is ready, step by step, by the clock and of a processor; and the peak in MB."""
    from mxbatch.engine import score as engine

    clock, processor = {"imports": time.monotonic() - born}, {"imports": time.process_time()}
    display = _UntilReady()
    try:
        with _timed(engine, clock, processor):
            engine.score(display=display, **order)
    except Interrupted:
        pass
    clock["first worker"] = display.startup_s
    processor["first worker"] = display.worker_s
    whole_s, own_s = display.ready_at - born, time.process_time()
    found: dict[str, float] = {}
    for name in ("imports", *STEPS.values(), "first worker"):
        found |= {name: clock[name], name + PROCESSOR: processor[name]}
    steps_s, processor_s = sum(clock.values()), sum(processor.values())
    own_s += processor["first worker"]
    found |= {"rest": whole_s - steps_s, "rest" + PROCESSOR: own_s - processor_s}
    return {**found, FIRST: whole_s, FIRST + PROCESSOR: own_s, "memory": peak_mb("self")}


@contextmanager
def _timed(module: Any, clock: dict[str, float], processor: dict[str, float]) -> Iterator[None]:
    """Whatever `STEPS` names in `module` leaves its seconds in `clock` and `processor`."""

    def clocked(work: Callable[..., Any], step: str) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            started, began = time.monotonic(), time.process_time()
            try:
                return work(*args, **options)
            finally:
                clock[step] = time.monotonic() - started
                processor[step] = time.process_time() - began

        return timed

    with ExitStack() as stack:
        for name, step in STEPS.items():
            stack.enter_context(mock.patch.object(module, name, clocked(getattr(module, name), step)))
        yield


class _UntilReady:
    """A `Display` that ends the run as Ctrl-C would, as soon as a worker is ready."""

    startup_s = ready_at = worker_s = 0.0

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def watching(self, run_id: str, tally: Any) -> Iterator[None]:
        yield

    def show(self, tally: Any) -> None:
        if tally.workers_ready:
            self.startup_s, self.ready_at = tally.startup_s, time.monotonic()
            self.worker_s = _busiest_child_s()
            raise KeyboardInterrupt


def _busiest_child_s() -> float:
    """Processor time of the child process that has had most: of workers, the one that is ready first."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    after_name = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children]
    return max(int(fields[11]) + int(fields[12]) for fields in after_name) / os.sysconf("SC_CLK_TCK")


def main(words: str) -> None:
    order = json.loads(words)
    steps: dict[str, Callable[..., dict[str, float]]] = {"hot": hot, "begin": begin}
    found = steps[order.pop("step")](**order)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
