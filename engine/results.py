"""Reading a run folder back: the newest calls, what is in quarantine now, how the runs stand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.errors import UsageError
from mxbatch.engine.history import radiograph_names, settled_rows
from mxbatch.engine.ledger import QUARANTINE_SCHEMA, Output
from mxbatch.engine.storage import Place


def read_calls(out: Place, *, history: bool = False) -> pa.Table:
    """The calls of a run folder: the newest row per specimen, or with `history` every row ever committed.

    `out` is what was given to `--out`, a path or `s3://BUCKET/PREFIX`.
    Newest is by the number of the run, so a clock that was set back changes nothing. Rows of a run that is
    still going, or was killed, count as soon as their part is committed. Raises UsageError (MX-U005) where
    there is no run folder.
    """
    output = existing_output(out)
    parts = [
        output.calls_part(record.run_id, number)
        for record in output.runs()
        for number in sorted(output.committed(record.run_id))
    ]
    tables = list(output.read_parts(parts))
    if not tables:
        raise UsageError("MX-U005", "no call has been committed yet", path=output.root)
    calls = pa.concat_tables(tables, promote_options="permissive")
    return calls if history else newest(calls)


def newest(calls: pa.Table) -> pa.Table:
    """The last row of each specimen, rows otherwise in their order."""
    numbered = calls.select(KEY).append_column("row", pa.array(np.arange(calls.num_rows)))
    last = numbered.group_by(list(KEY)).aggregate([("row", "max")])["row_max"]
    return calls.take(last.take(pc.sort_indices(last)))


def read_quarantine(out: Place) -> pa.Table:
    """Radiographs that cannot be used as things stand: `QUARANTINE_SCHEMA`, a row per radiograph.

    A radiograph leaves this table when a later run takes it up again and can use it.
    """
    output = existing_output(out)
    current: dict[tuple[str, ...], pa.Table] = {}
    for record in output.runs():
        planned, quarantine = settled_rows(output, record)
        for name in radiograph_names(planned):
            current.pop(name, None)
        for row, name in enumerate(radiograph_names(quarantine)):
            current[name] = quarantine.slice(row, 1)
    return pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *current.values()])


def existing_output(out: Place) -> Output:
    output = Output(out)
    if not output.exists:
        raise UsageError("MX-U005", "there is no run here", path=output.root)
    return output


def run_states(out: Place) -> list[dict[str, Any]]:
    """The runs of a folder as `mxbatch status` shows them: run.json, and how many shards are committed."""
    output = existing_output(out)
    return [
        {**asdict(record), "shards_committed": len(output.committed(record.run_id))}
        for record in output.runs()
    ]
