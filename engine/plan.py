"""Index -> plan: which specimens are to be scored, cut into shards. Pure functions; nothing here reads a pixel.

A shard is an ordered list of whole specimens: the unit of work, of retry and of commit. Because a specimen
never spans two shards, nothing has to be grouped again after scoring, and a part of the output is complete
as soon as its shard is.

A specimen's *work id* names the work, not the animal: a hash over its key, its radiographs as the index saw
them (path, view, size, modification time, checksum) and the model. A later run plans every work id that no
earlier run has committed: new and changed specimens, and all of them under a new model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mxbatch.engine.archive.index import INDEX_SCHEMA, KEY
from mxbatch.engine.collector import collector_paused

METADATA = (
    "pipeline",
    "colony_id",
    "gene_symbol",
    "allele_symbol",
    "zygosity",
    "sex",
    "group",
    "age_weeks",
    "metadata_group",
)
"""The columns that ride along from the index to the calls, unread by the engine."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")

PLAN_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("work_id", pa.string(), nullable=False),
        *INDEX_SCHEMA,
    ]
)


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One image file of a specimen. `code` and `reason` say why it is unusable before it was ever opened."""

    path: str
    view: str | None
    size: int
    mtime_ns: int
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Specimen:
    """One animal at one procedure date. `key` follows `KEY`, `metadata` follows `METADATA`.

    An empty specimen id means a file that could not be placed; it is its own, nameless entry of the plan.
    """

    key: tuple[str, ...]
    metadata: tuple[object, ...]
    work_id: str
    radiographs: tuple[Radiograph, ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of work. `number` gives the part its name."""

    number: int
    specimens: tuple[Specimen, ...]

    @property
    def name(self) -> str:
        return part_name(self.number)


def part_name(number: int) -> str:
    return f"part-{number:05d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which of the archive's specimens a run is asked for."""

    since: str | None = None
    """ISO date: specimens examined on or after it; where no date is known, the newest file's date decides."""
    limit: int | None = None
    """At most so many specimens, in the order of the index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSizes:
    """How many radiographs a shard holds: `most`, and fewer towards the end, so that all workers end together.

    While much is left, a shard is a fraction of it (guided self-scheduling: Polychronopoulos and Kuck, IEEE Trans.
    Computers C-36, 1987), capped by what a crash may cost. It is filled to whole batches of the encoder, where it can
    be: the last one is padded, and each shard has a last one.
    """

    most: int = 256
    least: int = 32
    workers: int = 1
    batch: int = 1
    """Radiographs that the encoder takes at a time."""

    def next(self, left: int) -> int:
        """The size of the next shard when `left` radiographs are not in any yet."""
        share = min(self.most, max(self.least, self.batch, left // (2 * self.workers)))
        return share - share % self.batch or share


@collector_paused()
def make_plan(
    index: pa.Table,
    *,
    model_id: str,
    done: Collection[str] = (),
    troubled: Collection[str] = (),
    selection: Selection | None = None,
    sizes: ShardSizes | None = None,
) -> Plan:
    """The plan of one run over what `done` and `selection` leave of the index.

    `done` and `troubled` hold work ids: what need not be done again, and what comes after all that is new. A shard
    takes whole specimens until it is full; a specimen with more radiographs than that is a shard of its own.
    """
    selection, sizes = selection or Selection(), sizes or ShardSizes()
    new = [work for work in _works(index, model_id, selection.since) if work.id not in done]
    new.sort(key=lambda work: work.id in troubled)
    works = _first(new, selection.limit)
    left = sum(len(work.rows) for work in works)
    shards: list[int] = []
    number, filled, size = 0, 0, sizes.next(left)
    for work in works:
        if filled and filled + len(work.rows) > size:
            number, filled, size = number + 1, 0, sizes.next(left)
        shards += [number] * len(work.rows)
        filled += len(work.rows)
        left -= len(work.rows)
    take = [row for work in works for row in work.rows]
    work_ids = [work.id for work in works for _ in work.rows]
    columns = [pa.array(shards, pa.int32()), pa.array(work_ids, pa.string())]
    columns += index.take(pa.array(take, pa.int64())).columns
    return Plan(pa.Table.from_arrays(columns, schema=PLAN_SCHEMA))


@dataclass(frozen=True, slots=True)
class _Work:
    """A specimen, or a file that belongs to none, as rows of the index."""

    id: str
    named: bool
    rows: range


def _first(works: Sequence[_Work], limit: int | None) -> list[_Work]:
    """The works up to the `limit`-th specimen. Files that belong to none do not count."""
    taken: list[_Work] = []
    specimens = 0
    for work in works:
        if work.named and specimens == limit:
            break
        specimens += work.named
        taken.append(work)
    return taken


def _works(index: pa.Table, model_id: str, since: str | None) -> Iterator[_Work]:
    """The specimens that `since` lets through, in the order of the index."""
    paths, *others = (
        index[name].to_pylist() for name in ("path", "view", "size", "mtime_ns", "checksum", "code")
    )
    keys = zip(*(pc.fill_null(index[name], "").to_pylist() for name in KEY), strict=True)
    # A file that belongs to no specimen is never merged with its like: its path tells it apart.
    owners = ((key, None if key[1] else path) for key, path in zip(keys, paths, strict=True))
    end = 0
    for (key, _), group in groupby(zip(owners, zip(paths, *others, strict=True), strict=True), itemgetter(0)):
        radiographs = [radiograph for _, radiograph in group]
        start, end = end, end + len(radiographs)
        if since and _day(key, radiographs) < since:
            continue
        yield _Work(work_id_of(key, radiographs, model_id), bool(key[1]), range(start, end))


def _day(key: Sequence[str], radiographs: Sequence[tuple[Any, ...]]) -> str:
    """The day of examination as the index has it; where that is no date, the day of the newest file."""
    if _DATE.fullmatch(key[3]):
        return key[3]
    newest_s = max(mtime_ns or 0 for _, _, _, mtime_ns, *_ in radiographs) / 1e9
    try:
        return datetime.fromtimestamp(newest_s, UTC).date().isoformat()
    except (OverflowError, ValueError):  # a file from beyond the calendar is surely new
        return date.max.isoformat()


def work_id_of(key: Sequence[str], radiographs: Sequence[tuple[object, ...]], model_id: str) -> str:
    """32 hex digits that change when the specimen, one of its files or the model does."""
    parts = (model_id, *key, *sorted(map(repr, radiographs)))
    return hashlib.blake2b("".join(f"{part}\0" for part in parts).encode(), digest_size=16).hexdigest()


class Plan:
    """What one run has to do: `PLAN_SCHEMA`, a row per radiograph, sorted by shard; and its shards by number."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        numbers = table["shard"].to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        ends = np.append(starts[1:], len(numbers))
        self._rows = {int(numbers[a]): (int(a), int(b - a)) for a, b in zip(starts, ends, strict=False)}

    @property
    def sizes(self) -> dict[int, int]:
        """Radiographs of each shard, by number."""
        return {number: count for number, (_, count) in self._rows.items()}

    @property
    def radiographs(self) -> int:
        return int(self.table.num_rows)

    @property
    def specimens(self) -> int:
        """Files that belong to nobody are planned, so that the quarantine names them, but they are no specimens."""
        named = self.table.filter(pc.not_equal(self.table["specimen_id"], ""))
        return int(pc.count_distinct(named["work_id"]).as_py())

    def shard(self, number: int) -> Shard:
        """One shard, as the worker that scores it wants it."""
        rows = self.table.slice(*self._rows[number]).to_pylist()
        groups = (list(group) for _, group in groupby(rows, lambda row: row["work_id"]))
        return Shard(number, tuple(_specimen(members) for members in groups))


def _specimen(rows: list[dict[str, Any]]) -> Specimen:
    return Specimen(
        key=tuple(rows[0][name] or "" for name in KEY),
        metadata=tuple(rows[0][name] for name in METADATA),
        work_id=rows[0]["work_id"],
        radiographs=tuple(
            Radiograph(row["path"], row["view"], row["size"], row["mtime_ns"], row["code"], row["reason"])
            for row in rows
        ),
    )
