"""Does it scale? `mxbatch bench scale FOLDER`: more workers, and archives of other sizes.

Workers: the same archive with 1, 2, 4 ... workers up to one per core; efficiency is the rate over that of one worker,
per worker. Memory: archives of growing size, made of links, scored by one worker each; the peak of a worker is to stay
where it is, and the run itself grows by its index.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mxbatch.bench.apart import score_apart
from mxbatch.bench.data import describe, lay_out
from mxbatch.bench.result import Figure, Result, Table, rates
from mxbatch.bench.score import settings_of
from mxbatch.bench.subject import Chosen


def measure_scale(
    sources: Sequence[Path], chosen: Chosen, *, radiographs: int, rounds: int, archives: Sequence[int]
) -> Result:
    """Rates for growing numbers of workers, in turn; peaks of memory for `archives`, each a number of radiographs."""
    counts = worker_counts(chosen.workers)
    speed: dict[int, list[float]] = {count: [] for count in counts}
    peaks = []
    with tempfile.TemporaryDirectory(prefix="mxbatch-bench-") as folder:
        home = Path(folder)
        archive = lay_out(sources, home / "archive", radiographs)
        for number in range(rounds):
            for count in counts:
                scored = score_apart(
                    archive, home / f"{number}-{count}", chosen.bundle.path, **settings_of(chosen, count)
                )
                speed[count].append(scored.rate)
        for amount in sorted(archives):
            links = lay_out(sources, home / f"links-{amount}", amount)
            peaks.append(
                score_apart(links, home / f"out-{amount}", chosen.bundle.path, **settings_of(chosen, 1))
            )
    figures = {f"{count} workers": rates(values) for count, values in speed.items()}
    one = figures[f"{counts[0]} workers"].median
    scaling = tuple(
        (
            count,
            round(figures[f"{count} workers"].median, 2),
            round(figures[f"{count} workers"].median / one, 2),
        )
        for count in counts
    )
    smallest = peaks[0].worker_mb if peaks else 0.0
    memory = tuple(
        (
            amount,
            round(scored.worker_mb),
            round(scored.worker_mb / smallest, 3) if smallest else None,
            round(scored.run_mb),
            round(scored.around_s, 2),
            round(scored.rate, 1),
        )
        for amount, scored in zip(sorted(archives), peaks, strict=True)
    )
    shares = {
        f"{count} workers of {count} times one": figures[f"{count} workers"].median / one / count
        for count in counts[1:]
    }
    columns = (
        "radiographs",
        "worker MB",
        "times the first",
        "run MB",
        "s to plan and account",
        "radiographs/s",
    )
    return Result(
        kind="scale",
        what="`mxbatch score` with growing numbers of workers, and one worker's memory over archives of links",
        subject=chosen.subject,
        figures={
            **figures,
            "largest worker": Figure(unit="MB", rounds=tuple(scored.worker_mb for scored in peaks) or (0.0,)),
        },
        shares=shares,
        tables={
            "workers": Table(columns=("workers", "radiographs/s", "times one worker"), rows=scaling),
            "memory": Table(columns=columns, rows=memory),
        },
        data=describe(sources, radiographs),
    )


def worker_counts(most: int) -> list[int]:
    """1, 2, 4 and so on, and `most` itself."""
    return sorted({*(2**n for n in range(most.bit_length()) if 2**n <= most), most})
