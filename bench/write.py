"""How long does it take to commit a shard? `mxbatch bench write --model BUNDLE`.

A shard's outcomes become tables, tables become Parquet, and the ledger makes them durable: temporary name, fsync,
rename, fsync of the folder. The limit is the last step alone, the same bytes through the same doors; it is the disk's
business. What is above it is Python and Arrow.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np

from mxbatch.bench.data import lay_out
from mxbatch.bench.result import Figure, Result, Subject, Table, rates
from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.feed import Loaded
from mxbatch.engine.ledger import Output
from mxbatch.engine.plan import Shard, ShardSizes, make_plan
from mxbatch.engine.rows import Outcome, calls_table, quarantine_table
from mxbatch.engine.storage import write_atomically

RUN_ID = "00001-bench"


def measure_write(sources: Sequence[Path], bundle: Bundle, *, rounds: int, radiographs: int) -> Result:
    """Commit a shard of `radiographs`, `rounds` times: rows, files and limit apart."""
    rows_s, files_s, bare_s = [], [], []
    with tempfile.TemporaryDirectory(prefix="mxbatch-bench-") as folder:
        index = open_archive(lay_out(sources, Path(folder) / "archive", radiographs)).index
        sizes = ShardSizes(most=radiographs, least=radiographs)
        shard = make_plan(index, model_id=bundle.model_id, sizes=sizes).shard(0)
        output = Output(Path(folder) / "out")
        for number in range(rounds):
            started = time.perf_counter()
            outcomes = _outcomes(shard, bundle)
            scored = np.random.default_rng(number).random(
                (len(outcomes), len(bundle.taxonomy.nodes)), np.float32
            )
            calls = calls_table(outcomes, scored, bundle, "bench-float32", RUN_ID)
            quarantine = quarantine_table(outcomes, bundle.model_id, RUN_ID)
            made = time.perf_counter()
            output.commit(RUN_ID, number, calls, quarantine)
            committed = time.perf_counter()
            content = output.store.open(output.calls_part(RUN_ID, number)).read()
            begun = time.perf_counter()
            write_atomically(Path(folder) / "bare" / f"{number}", content)
            bare_s.append(time.perf_counter() - begun)
            rows_s.append(made - started)
            files_s.append(committed - made)
        bytes_per_row = len(content) / calls.num_rows
    whole_s = [rows + files for rows, files in zip(rows_s, files_s, strict=True)]
    return Result(
        kind="write",
        what="a shard's outcomes to a committed part; the limit is the same bytes, written as durably",
        subject=Subject(model=bundle.model_id, architecture=bundle.recipe.backbone.name),
        figures={
            "written": rates([radiographs / seconds for seconds in whole_s]),
            "limit": rates([radiographs / seconds for seconds in bare_s]),
            "rows": Figure(unit="ms", rounds=tuple(1000 * seconds for seconds in rows_s)),
            "files": Figure(unit="ms", rounds=tuple(1000 * seconds for seconds in files_s)),
        },
        shares={"written of limit": statistics.median(b / w for b, w in zip(bare_s, whole_s, strict=True))},
        tables={
            "a shard": Table(
                columns=("radiographs", "rows", "bytes per row", "ms per radiograph"),
                rows=(
                    (
                        radiographs,
                        calls.num_rows,
                        round(bytes_per_row),
                        round(1000 * statistics.median(whole_s) / radiographs, 4),
                    ),
                ),
            )
        },
    )


def _outcomes(shard: Shard, bundle: Bundle) -> list[Outcome]:
    """As if every radiograph had been loaded."""
    outcomes = [Outcome(specimen, bundle.recipe) for specimen in shard.specimens]
    rows = count()
    for outcome in outcomes:
        for radiograph in outcome.to_load():
            row = next(rows)
            outcome.accept(radiograph, Loaded(checksum=f"{row:064x}"), row)
    return outcomes
