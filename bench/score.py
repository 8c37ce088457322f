"""How near is a whole run to what its parts allow? `mxbatch bench score FOLDER --model BUNDLE`.

Decoding alone and the model alone are measured, then the whole run, in turn and several times. On shared cores a
radiograph costs the time of both, so nothing that decodes and scores there can be faster than

    limit = 1 / (1/decode + 1/model)

With a GPU the two go on side by side, and the slower of them is the limit. Start-up (interpreter, torch, golden check)
is reported apart. A benchmark, not a test: it judges nothing.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mxbatch.bench.apart import Scored, score_apart
from mxbatch.bench.crew import Task, rate_of, share_of
from mxbatch.bench.data import FOLDER, describe, lay_out
from mxbatch.bench.economy import corpus_table
from mxbatch.bench.result import Figure, Result, Table, rates
from mxbatch.bench.subject import Chosen
from mxbatch.engine.machine import choose_crew

STAGES = ("read", "decode", "wait", "encode", "fuse", "write")
LOADER, MODEL = "loader", "model"
STALLS = "where the time goes"
"""The table of stages."""


def thread_of(stage: str, *, shared: bool) -> str:
    """Whose time a stage is. On `shared` cores the model's thread decodes, too.

    What it does besides is `rest`: Python, and idling at the end.
    """
    return LOADER if stage == "read" or (stage == "decode" and not shared) else MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much is measured."""

    radiographs: int = 320
    """Of the whole run, and of each stage alone."""
    rounds: int = 3


def measure_score(
    sources: Sequence[Path], chosen: Chosen, amounts: Amounts, price_per_hour: float | None = None
) -> Result:
    """The stages alone and the whole, `amounts.rounds` times in turn, on radiographs made of `sources`."""
    with tempfile.TemporaryDirectory(prefix="mxbatch-bench-") as folder:
        archive = lay_out(sources, Path(folder) / "archive", amounts.radiographs)
        rounds = [_round(archive, Path(folder) / str(n), chosen, amounts) for n in range(amounts.rounds)]
    decode, model, scored = zip(*rounds, strict=True)
    limits = [limit(d, m, shared=chosen.device == "cpu") for d, m in zip(decode, model, strict=True)]
    whole = [each.rate for each in scored]
    last: Scored = scored[-1]
    specimens = last.record["planned"]["specimens"] / last.record["planned"]["radiographs"]
    startup_s = [each.record["seconds"]["startup"] for each in scored]
    figures = {
        "decode alone": rates(decode),
        "model alone": rates(model),
        "limit": rates(limits),
        "whole": rates(whole),
        "whole, specimens": Figure(unit="specimens/s", rounds=tuple(rate * specimens for rate in whole)),
        "start-up": Figure(unit="s", rounds=tuple(startup_s)),
        "peak of a worker": Figure(unit="MB", rounds=tuple(each.worker_mb for each in scored)),
        "peak of the run": Figure(unit="MB", rounds=tuple(each.run_mb for each in scored)),
    }
    shared = chosen.device == "cpu"
    divided = stages(last, chosen.workers, shared=shared)
    clock = (last.record["seconds"]["wall"] - last.record["seconds"]["startup"]) * chosen.workers
    return Result(
        kind="score",
        what="decoding alone, the model alone, and `mxbatch score`, in turn; the limit follows from the first two",
        subject=chosen.subject,
        figures=figures,
        shares={
            "whole of limit": statistics.median(w / bound for w, bound in zip(whole, limits, strict=True)),
            "writing of the clock": divided["write"] / clock,
        },
        stages=divided,
        tables={
            STALLS: stall_table(last, chosen.workers, shared=shared),
            "corpus": corpus_table(statistics.median(whole), statistics.median(startup_s), price_per_hour),
        },
        data=describe(sources, amounts.radiographs),
    )


def limit(decode: float, model: float, *, shared: bool) -> float:
    """Radiographs/s that decoding and model allow together: in turn on `shared` cores, else side by side."""
    return 1 / (1 / decode + 1 / model) if shared else min(decode, model)


def _round(archive: Path, out: Path, chosen: Chosen, amounts: Amounts) -> tuple[float, float, Scored]:
    """(decode alone, model alone, the whole)"""
    crew = choose_crew(chosen.device.partition(":")[0], chosen.workers)
    loaders = max(1, crew.decode_threads) * chosen.workers
    task = Task(
        bundle=chosen.bundle.path,
        root=archive,
        paths=tuple(sorted(str(path.relative_to(archive)) for path in (archive / FOLDER).iterdir())),
        amount=max(1, amounts.radiographs // loaders),
        batch=chosen.batch,
        runtime=chosen.runtime,
        precision=chosen.precision,
        device=chosen.device,
    )
    decode = rate_of("decode", task, loaders)
    batches = share_of(amounts.radiographs, chosen.workers, chosen.batch)
    model = rate_of("model", replace(task, amount=batches), chosen.workers)
    return decode, model, score_apart(archive, out, chosen.bundle.path, **settings_of(chosen))


def settings_of(chosen: Chosen, workers: int | None = None) -> dict[str, object]:
    """For `mxbatch.score`: exactly what the stages alone were measured with."""
    return {
        "workers": workers or chosen.workers,
        "device": chosen.device.partition(":")[0],
        "runtime": chosen.runtime,
        "precision": chosen.precision,
        "batch": chosen.batch,
    }


def stages(scored: Scored, workers: int, *, shared: bool) -> dict[str, float]:
    """Seconds per stage over all workers, `rest` among them."""
    seconds = scored.record["seconds"]
    worked = {name: float(seconds.get(name, 0.0)) for name in STAGES}
    clock = (seconds["wall"] - seconds["startup"]) * workers
    rest = clock - sum(s for name, s in worked.items() if thread_of(name, shared=shared) == MODEL)
    return {name: round(value, 4) for name, value in (*worked.items(), ("rest", max(0.0, rest)))}


def stall_table(scored: Scored, workers: int, *, shared: bool) -> Table:
    """A row per stage: whose time, seconds, share of the workers' clock, milliseconds per radiograph."""
    seconds = stages(scored, workers, shared=shared)
    clock = sum(s for name, s in seconds.items() if thread_of(name, shared=shared) == MODEL)
    radiographs = scored.record["planned"]["radiographs"]
    rows = tuple(
        (
            name,
            thread_of(name, shared=shared),
            round(value, 3),
            f"{value / clock:.1%}" if clock else None,
            round(1000 * value / radiographs, 3),
        )
        for name, value in seconds.items()
    )
    return Table(columns=("stage", "thread", "seconds", "of the clock", "ms per radiograph"), rows=rows)
