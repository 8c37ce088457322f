"""How near is `mxbatch score` to what its parts allow? `python -m mxbatch.bench.score ARCHIVE --model BUNDLE`.

Decoding alone and the model alone are measured on all cores, then the whole run, in turn and several times. On
shared cores one radiograph costs the time of both, so nothing that decodes and scores can be faster than

    limit = 1 / (1/decode + 1/model)

A benchmark, not a test: it judges nothing. Start-up (interpreter, torch, golden check) is reported apart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from mxbatch.bench.machine import describe_machine
from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.machine import choose_crew
from mxbatch.engine.model_store import resolve_model
from mxbatch.engine.plan import Radiograph
from mxbatch.engine.score import score


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One stage for one process: `amount` radiographs, or as many batches as hold them."""

    bundle: Path
    root: Path
    paths: tuple[str, ...]
    amount: int
    batch: int
    runtime: str = "eager"
    precision: str = "float32"
    engines: Path | None = None
    """The engine cache; None takes the user's."""


def decode_alone(task: Task, go: Any) -> float:
    """Seconds in which one process reads, hashes and decodes `task.amount` radiographs."""
    from mxbatch.engine.bundle import read_bundle
    from mxbatch.engine.decode.contract import Limits
    from mxbatch.engine.feed import Loader

    loader = Loader(root=task.root, contract=read_bundle(task.bundle).recipe.input, limits=Limits())
    radiographs = [Radiograph(path, "dv", 0, 0) for path in task.paths]
    loader.load(radiographs[0])
    go.wait()
    started = time.perf_counter()
    for radiograph in islice(cycle(radiographs), task.amount):
        loaded = loader.load(radiograph)
        if loaded.error:
            raise loaded.error
    return time.perf_counter() - started


def model_alone(task: Task, go: Any) -> float:
    """Seconds in which one process encodes `task.amount` radiographs, in whole batches."""
    import numpy as np

    from mxbatch.engine.bundle import read_bundle
    from mxbatch.engine.runtime.scorer import open_scorer

    bundle = read_bundle(task.bundle)
    scorer = open_scorer(
        bundle, runtime=task.runtime, precision=task.precision, batch=task.batch, engines=task.engines
    )
    images = np.random.default_rng(0).integers(
        0, 255, (task.batch, *[bundle.recipe.input.size] * 2), np.uint8
    )
    scorer.encode(images)
    go.wait()
    started = time.perf_counter()
    for _ in range(task.amount // task.batch):
        scorer.encode(images)
    return time.perf_counter() - started


STAGES: dict[str, Callable[[Task, Any], float]] = {"decode": decode_alone, "model": model_alone}


def _child(stage: str, task: Task, go: Any, answer: Any) -> None:
    answer.put(STAGES[stage](task, go))


def rate_of(stage: str, task: Task, workers: int) -> float:
    """Radiographs per second of one stage in `workers` processes at once."""
    context = get_context("spawn")
    go, answer = context.Barrier(workers), context.Queue()
    crew = [context.Process(target=_child, args=(stage, task, go, answer)) for _ in range(workers)]
    for process in crew:
        process.start()
    seconds = [answer.get(timeout=600) for _ in crew]
    for process in crew:
        process.join()
    return float(workers * task.amount / max(seconds))


def share_of(amount: int, workers: int, batch: int) -> int:
    """What each of `workers` does of `amount` radiographs: whole batches, and one at least."""
    return max(1, amount // workers // batch) * batch


def distinct_contents(paths: Iterable[Path]) -> int:
    """How many of the files differ in their bytes: benchmark archives are often few radiographs, many times."""
    found = set()
    for path in paths:
        with path.open("rb") as file:
            found.add(hashlib.file_digest(file, "sha256").digest())
    return len(found)


def measure(archive: Path, bundle: Bundle, *, workers: int, rounds: int, amount: int) -> dict[str, Any]:
    """Rates of the stages and of the whole, `rounds` times in turn."""
    index = open_archive(archive).index
    batch = choose_crew("cpu", workers).batch
    task = Task(
        bundle=bundle.path,
        root=archive.absolute(),
        paths=tuple(index.filter(pc.is_null(index["code"]))["path"].to_pylist()),
        amount=share_of(amount, workers, batch),
        batch=batch,
    )
    rates: dict[str, list[float]] = {"decode": [], "model": [], "whole": [], "startup_s": []}
    for _ in range(rounds):
        for stage in STAGES:
            rates[stage].append(rate_of(stage, task, workers))
        with tempfile.TemporaryDirectory() as out:
            record = score(
                archive,
                out,
                model=bundle.path,
                workers=workers,
                device="cpu",
                runtime=task.runtime,
                precision=task.precision,
            ).runs[0]
            rates["whole"].append(float(record.radiographs_per_s or 0))
            rates["startup_s"].append(record.seconds["startup"])
    limits = [1 / (1 / d + 1 / m) for d, m in zip(rates["decode"], rates["model"], strict=True)]
    shares = [whole / limit for whole, limit in zip(rates["whole"], limits, strict=True)]
    return {
        "what": "mxbatch score: decode alone, model alone, the whole; radiographs per second",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "bundle": {
            "id": bundle.model_id,
            "size": bundle.recipe.input.size,
            "runtime": "eager",
            "precision": "float32",
        },
        "archive": {
            "radiographs": index.num_rows,
            "distinct_files": distinct_contents(task.root / path for path in task.paths),
        },
        "workers": workers,
        "batch": batch,
        "rounds": {name: [round(r, 2) for r in values] for name, values in rates.items()},
        **{name: round(statistics.median(values), 2) for name, values in rates.items()},
        "limit": round(statistics.median(limits), 2),
        "share_of_limit": round(statistics.median(shares), 4),
        "stages_s": record.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--model", default="untrained")
    parser.add_argument("--workers", type=int, default=len(choose_crew("cpu").devices))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--amount", type=int, default=320, help="radiographs per stage and round")
    parser.add_argument("--out", type=Path, help="folder for the result file, such as bench/results")
    asked = parser.parse_args()
    bundle = resolve_model(asked.model)
    result = measure(asked.archive, bundle, workers=asked.workers, rounds=asked.rounds, amount=asked.amount)
    for name in ("decode", "model", "limit", "whole"):
        spread = result["rounds"].get(name)
        print(
            f"{name:7} {result[name]:8.1f} radiographs/s"
            + (f"   {min(spread):.1f} to {max(spread):.1f}" if spread else "")
        )
    print(f"share   {result['share_of_limit']:8.1%} of the limit; start-up {result['startup_s']:.1f} s apart")
    if asked.out:
        hardware = f"{platform.machine()}-{asked.workers}cores"
        name = f"{bundle.recipe.backbone.name}_float32_eager_{hardware}_{result['at'][:10]}.json"
        (asked.out / name).write_text(json.dumps(result, indent=2) + "\n")
        print(asked.out / name)


if __name__ == "__main__":
    main()
