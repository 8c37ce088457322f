"""One worker process: `python -m mxbatch.engine.dispatch.worker FD`, with a Connection to the run at FD.

It imports what every job needs, which takes longer than all else before its first shard, and waits for its job. Then
it loads the model once, and scores and commits shard after shard. It never outlives the run: a thread listens to the
connection and ends the process as soon as the other side is gone, in the middle of whatever it does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from mxbatch.engine.dispatch.job import (
    HEARTBEAT_S,
    Alive,
    Committed,
    Failed,
    Job,
    Opening,
    Progress,
    Ready,
    Remark,
)
from mxbatch.engine.dispatch.stop import SIGNALS
from mxbatch.engine.errors import EnvironmentFault, MxbatchError

PROGRESS_S = 0.2


def main() -> None:
    for number in SIGNALS:  # they reach the whole group; the run decides what they mean
        signal.signal(number, signal.SIG_IGN)
    line = _Line(Connection(int(sys.argv[1])))
    inbox: SimpleQueue[Any] = SimpleQueue()
    Thread(target=line.listen, args=(inbox,), daemon=True).start()
    try:
        _import_ahead()
        job, log = inbox.get()
        Thread(target=line.beat, daemon=True).start()
        _write_to(log)
        _work(job, line, inbox)
    except MxbatchError as error:
        line.say(Failed(error, traceback.format_exc()))
    except Exception as error:
        what = f"a worker failed: {type(error).__name__}: {error}"
        line.say(Failed(EnvironmentFault("MX-E006", what), traceback.format_exc()))


class _Line:
    """The connection to the run, for several threads."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection, self._lock = connection, Lock()

    def say(self, message: Any) -> None:
        with self._lock:
            self._connection.send(message)

    def listen(self, inbox: SimpleQueue[Any]) -> None:
        try:
            while True:
                inbox.put(self._connection.recv())
        except (EOFError, OSError):
            os._exit(1)

    def beat(self) -> None:
        try:
            while True:
                self.say(Alive())
                time.sleep(HEARTBEAT_S)
        except OSError:
            os._exit(1)


def _import_ahead() -> None:
    """The modules of `_work`; and the one that brings torch, which the scorer would import when it opens a bundle."""
    import mxbatch.engine.ledger
    import mxbatch.engine.offload.worker
    import mxbatch.engine.runtime.bundle_scorer
    import mxbatch.engine.runtime.speeds
    import mxbatch.engine.shard  # noqa: F401


def _write_to(log: Path) -> None:
    """Have stdout and stderr of this process end up in `log`, whoever in it writes."""
    with log.open("ab") as words:
        for number in (1, 2):
            os.dup2(words.fileno(), number)


def _work(job: Job, line: _Line, inbox: SimpleQueue[Any]) -> None:
    from mxbatch.engine.bundle import read_bundle
    from mxbatch.engine.feed import Loader, loader_pool, timed
    from mxbatch.engine.ledger import Output
    from mxbatch.engine.machine import peak_bytes
    from mxbatch.engine.memory import keep_freed_memory
    from mxbatch.engine.offload.worker import WAITING, open_offload
    from mxbatch.engine.runtime.cache import engines_folder
    from mxbatch.engine.runtime.encoder import EngineSpec
    from mxbatch.engine.runtime.scorer import open_scorer, runtime_named
    from mxbatch.engine.runtime.speeds import remember_fitting
    from mxbatch.engine.shard import Engine, Watch, score_shard

    started = time.perf_counter()
    keep_freed_memory()
    output = Output(job.out)
    if not output.has_run(job.run_id):
        where = output.where(output.run_folder(job.run_id))
        raise EnvironmentFault("MX-E013", "the run's folder is not here", path=where)
    bundle = read_bundle(job.bundle)
    runtime = runtime_named(job.runtime)
    engines = job.engines or engines_folder()
    spec = EngineSpec(device=job.device, precision=job.precision, batch=job.batch)
    scorer = open_scorer(
        bundle,
        runtime=job.runtime,
        precision=job.precision,
        device=job.device,
        batch=job.batch,
        threads=job.model_threads,
        engines=engines,
        note=lambda text: line.say(Remark(text)),
    )
    if scorer.batch < job.batch:
        remember_fitting(engines, bundle, runtime, spec, scorer.batch)
    contract = bundle.recipe.input
    offload = open_offload(job.offload, contract, job.limits, job.device)
    pool, turns = loader_pool(job.decode_threads, WAITING if offload else 0)
    loader = Loader(root=job.archive, contract=contract, limits=job.limits, turns=turns, offload=offload)
    line.say(Ready(time.perf_counter() - started, scorer.name))
    with pool:
        engine = Engine(
            bundle=bundle,
            scorer=scorer,
            loader=loader,
            pool=pool,
            run_id=job.run_id,
            decoders=job.decode_threads,
        )
        while True:
            shard, assignment = inbox.get()
            reporter = _Reporter(line)
            watch = Watch(progress=reporter.count, poisoned=assignment.poisoned)
            if assignment.careful:
                watch.opening = lambda path: line.say(Opening(path))
            part = score_shard(shard, engine, watch)
            with timed(part.seconds, "write"):
                output.commit(job.run_id, part.number, part.calls, part.quarantine)
            reporter.flush()
            counts = part.calls.num_rows, part.quarantine.num_rows
            line.say(Committed(part.number, *counts, part.seconds, peak_bytes()))


class _Reporter:
    """Says how far the shard has come, a few times a second at most."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._unsaid, self._said_at = 0, time.monotonic()

    def count(self, radiographs: int) -> None:
        self._unsaid += radiographs
        if time.monotonic() - self._said_at >= PROGRESS_S:
            self.flush()

    def flush(self) -> None:
        self._line.say(Progress(self._unsaid))
        self._unsaid, self._said_at = 0, time.monotonic()


if __name__ == "__main__":
    main()
