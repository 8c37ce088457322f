"""One stage alone, in as many processes at once as a run has workers: what each part could do without the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mxbatch.engine.memory import keep_freed_memory
from mxbatch.engine.plan import Radiograph

PEAK_SIDE = 1024
"""Of the square matrices whose products measure what the processor can do."""
PEAK_FLOPS = 2 * PEAK_SIDE**3
"""Of one such product."""


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
    device: str = "cpu"


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
        bundle,
        runtime=task.runtime,
        precision=task.precision,
        device=task.device,
        batch=task.batch,
        engines=task.engines,
    )
    images = np.random.default_rng(0).integers(
        0, 255, (task.batch, *[bundle.recipe.input.size] * 2), np.uint8
    )
    scorer.encode(images)
    go.wait()
    started = time.perf_counter()
    submitted = [scorer.submit(images) for _ in range(task.amount // task.batch)]
    for features in submitted:
        features()
    return time.perf_counter() - started


def peak_alone(task: Task, go: Any) -> float:
    """Seconds in which one process multiplies `task.amount` pairs of matrices of side `PEAK_SIDE`."""
    import torch

    from mxbatch.engine.runtime.layers import PRECISIONS

    torch.set_num_threads(1)
    side = torch.rand(PEAK_SIDE, PEAK_SIDE, device=task.device).to(PRECISIONS[task.precision])
    (side @ side).sum().item()
    go.wait()
    started = time.perf_counter()
    for _ in range(task.amount):
        product = side @ side
    product.sum().item()  # waits for a GPU
    return time.perf_counter() - started


STAGES: dict[str, Callable[[Task, Any], float]] = {
    "decode": decode_alone,
    "model": model_alone,
    "peak": peak_alone,
}


def _child(stage: str, task: Task, go: Any, answer: Any) -> None:
    keep_freed_memory()  # as a worker does
    try:
        answer.put(STAGES[stage](task, go))
    except Exception as error:  # the border of the process: it is raised again on the other side
        go.abort()
        answer.put(error)


def rate_of(stage: str, task: Task, workers: int) -> float:
    """Radiographs per second of one stage (of `peak`: products) in `workers` processes at once.

    Raises what a process raises.
    """
    context = get_context("spawn")
    go, answer = context.Barrier(workers), context.Queue()
    crew = [context.Process(target=_child, args=(stage, task, go, answer)) for _ in range(workers)]
    for process in crew:
        process.start()
    answers = [answer.get(timeout=600) for _ in crew]
    for process in crew:
        process.join()
    failed = [each for each in answers if isinstance(each, BaseException)]
    for error in sorted(failed, key=lambda error: type(error).__name__ == "BrokenBarrierError"):
        raise error
    return float(workers * task.amount / max(answers))


def share_of(amount: int, workers: int, batch: int) -> int:
    """What each of `workers` does of `amount` radiographs: whole batches, and one at least."""
    return max(1, amount // workers // batch) * batch
