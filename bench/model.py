"""How fast is the encoder alone, and what share of the processor does it use? `mxbatch bench model --model BUNDLE`.

Every worker is a process of one thread, as in a run. The roof is measured, not looked up: products of large matrices
in the same precision, in as many processes at once. Operations are counted from the network itself (two per
multiply-add), so a share says how much of the arithmetic that this machine can do goes into the model. The roof is the
fastest round of its own: on a shared machine a slower one is the neighbours' doing.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from mxbatch.bench.crew import PEAK_FLOPS, Task, rate_of, share_of
from mxbatch.bench.result import Figure, Result, Table, rates
from mxbatch.bench.subject import Chosen
from mxbatch.engine.bundle import Bundle, load_model

PRODUCTS = 60
"""Matrix products of the roof, per process and round."""


def measure_model(chosen: Chosen, *, rounds: int, radiographs: int) -> Result:
    """Radiographs/s of all workers, and operations/s beside those of matrix products, in turn."""
    task = Task(
        bundle=chosen.bundle.path,
        root=Path(),
        paths=(),
        amount=share_of(radiographs, chosen.workers, chosen.batch),
        batch=chosen.batch,
        runtime=chosen.runtime,
        precision=chosen.precision,
        device=chosen.device,
    )
    roof_task = Task(
        bundle=chosen.bundle.path,
        root=Path(),
        paths=(),
        amount=PRODUCTS,
        batch=1,
        precision=chosen.precision,
        device=chosen.device,
    )
    speed, roof = [], []
    for _ in range(rounds):
        speed.append(rate_of("model", task, chosen.workers))
        roof.append(rate_of("peak", roof_task, chosen.workers) * PEAK_FLOPS / 1e9)
    work = operations(chosen.bundle) / 1e9
    reached = [rate * work for rate in speed]
    return Result(
        kind="model",
        what="the encoder alone, one single-threaded process per worker; the roof is products of matrices",
        subject=chosen.subject,
        figures={
            "model alone": rates(speed),
            "reached": Figure(unit="GFLOP/s", rounds=tuple(reached)),
            "roof": Figure(unit="GFLOP/s", rounds=tuple(roof)),
        },
        shares={"reached of roof": statistics.median(reached) / max(roof)},
        tables={
            "per radiograph": Table(
                columns=("GFLOP", "ms of one worker", "ms at the roof"),
                rows=(
                    (
                        round(work, 3),
                        round(1000 * chosen.workers / statistics.median(speed), 3),
                        round(1000 * chosen.workers * work / max(roof), 3),
                    ),
                ),
            )
        },
    )


def operations(bundle: Bundle) -> int:
    """Floating-point operations of the encoder for one radiograph: convolutions and matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    size = bundle.recipe.input.size
    encoder = load_model(bundle).encoder
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder(torch.zeros(1, 1, size, size, dtype=torch.uint8))
    return int(counter.get_total_flops())
