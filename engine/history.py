"""What earlier runs have settled, as the next plan needs to know it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.ledger import QUARANTINE_SCHEMA, Output, RunRecord

TOO_MANY_PIXELS = r"^MX-D\d03$"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Work ids (plan.py) of the archive's specimens, by how their newest attempt ended."""

    done: frozenset[str] = frozenset()
    """Settled: not to be done again unless something changes."""
    troubled: frozenset[str] = frozenset()
    """Failed for a reason that may have passed: to be tried again, after all that is new."""


def read_history(output: Output, *, max_megapixels: int = 64) -> History:
    """How things stand after all runs of `output`.

    Only the newest work of a specimen counts: a file that went bad and is mended, or a model that is used again,
    is new work although its id has been seen. Trouble is what CODES calls transient, and a radiograph that was
    refused for its size by a run that allowed fewer than `max_megapixels`.
    """
    newest: dict[tuple[str, ...], str] = {}
    troubled: set[str] = set()
    for record in output.runs():
        planned, quarantine = settled_rows(output, record)
        work_ids = planned["work_id"].to_pylist()
        newest.update(zip(_specimens(planned), work_ids, strict=True))
        troubled.difference_update(work_ids)
        passing = pc.field("transient")
        if max_megapixels > record.max_megapixels:
            passing = passing | pc.match_substring_regex(pc.field("code"), TOO_MANY_PIXELS)
        troubled.update(quarantine.filter(passing)["work_id"].to_pylist())
    return History(done=frozenset(newest.values()) - troubled, troubled=frozenset(troubled))


def settled_rows(output: Output, record: RunRecord) -> tuple[pa.Table, pa.Table]:
    """The plan's rows (work id, key, path) whose shards are committed, and the quarantine of these shards."""
    committed = sorted(output.committed(record.run_id))
    beside = output.quarantined(record.run_id)
    plan = output.plan(record.run_id).table.select(["shard", "work_id", *KEY, "path"])
    planned = plan.filter(pc.is_in(plan["shard"], pa.array(committed, pa.int32())))
    parts = (output.quarantine_part(record.run_id, number) for number in committed if number in beside)
    tables = output.read_parts(parts)
    return planned, pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *tables], promote_options="permissive")


def radiograph_names(table: pa.Table) -> list[tuple[str, ...]]:
    """Key and path of each row: a file that an index gives to two specimens is two radiographs."""
    return list(zip(*(table[name].to_pylist() for name in (*KEY, "path")), strict=True))


def _specimens(table: pa.Table) -> list[tuple[str, ...]]:
    """The specimen of each row; a file that belongs to none stands for itself."""
    return [(*key, path if not key[1] else "") for *key, path in radiograph_names(table)]
