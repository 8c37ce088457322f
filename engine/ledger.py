"""The run folder, on a file system or in an object store: a part is committed or absent, and nothing in between.

    calls/run=<id>/part-00000.parquet        one row per specimen
    quarantine/run=<id>/part-00000.parquet   one row per radiograph that could not be used
    runs/<id>/plan.parquet  run.json         what was to be done, and what came of it
    report.html                              the same for people, written anew after every run
    runs/.lock                               held by the run that writes

Every file is there whole or not at all (storage.py). A shard's quarantine is in place before its calls, so that the
calls part alone says that the shard is committed; a shard without a single call leaves an empty part for that reason.
Names follow from run and shard, so doing a shard twice replaces a file by its equal.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.plan import Plan, part_name
from mxbatch.engine.storage import Place, open_store, within, write_atomically

QUARANTINE_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in KEY),
        ("path", pa.string()),
        ("view", pa.string()),
        ("code", pa.string()),
        ("name", pa.string()),
        ("reason", pa.string()),
        ("checksum", pa.string()),
        ("size", pa.int64()),
        ("transient", pa.bool_()),
        ("work_id", pa.string()),
        ("model_id", pa.string()),
        ("run_id", pa.string()),
        ("seen_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""`checksum` is the SHA-256 of the bytes that were read, null where none could be."""

RUN_FORMAT = 1


@dataclass(kw_only=True, slots=True)
class RunRecord:
    """`run.json`: one run, begun and (when `state` is `finished`) accounted for. Fields are only ever added."""

    run_id: str
    archive: str
    model_id: str
    learned_from: str
    state: str = "running"
    format: int = RUN_FORMAT
    since: str | None = None
    limit: int | None = None
    max_megapixels: int = 64
    archive_usable: int = 0
    """Radiographs of the whole archive that could be used when the run was planned."""
    started_at: str = ""
    finished_at: str | None = None
    resumed: int = 0
    workers: int = 0
    engine: dict[str, Any] = field(default_factory=dict)
    """runtime, precision, batch, device: how its radiographs are encoded, in every session of the run."""
    decode: dict[str, Any] | None = None
    """Kind of codestream -> share, engine and measured rates of what a GPU decodes of it, in every session of the run;
    empty where the host decodes all, null before it is settled."""
    planned: dict[str, int] = field(default_factory=dict)
    """shards, specimens and radiographs of the plan."""
    counts: dict[str, int] = field(default_factory=dict)
    """calls, specimens_lost, radiographs_used, radiographs_quarantined; from the committed files."""
    by_code: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Work of all workers per stage, in seconds of the threads that did it; `wall` is the clock's."""
    worker_peak_mb: int | None = None
    """The most memory, in MB, that a worker of any session has held."""
    radiographs_per_s: float | None = None
    bottleneck: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.state == "finished"


class Output:
    """What is at the place given to `--out`. Files have names, with slashes, relative to it."""

    def __init__(self, root: Place) -> None:
        self.store = open_store(root)
        self.root = self.store.root

    @property
    def exists(self) -> bool:
        return bool(self.store.names("runs"))

    def where(self, name: str) -> Place:
        """The file as a user finds it."""
        return within(self.root, name)

    def run_folder(self, run_id: str) -> str:
        return f"runs/{run_id}"

    def calls_folder(self, run_id: str) -> str:
        return f"calls/run={run_id}"

    def quarantine_folder(self, run_id: str) -> str:
        return f"quarantine/run={run_id}"

    def calls_part(self, run_id: str, number: int) -> str:
        return f"{self.calls_folder(run_id)}/{part_name(number)}.parquet"

    def quarantine_part(self, run_id: str, number: int) -> str:
        return f"{self.quarantine_folder(run_id)}/{part_name(number)}.parquet"

    def worker_log(self, run_id: str) -> Path:
        """What workers and the libraries in them said; removed at the end of a run that has nothing in it."""
        return self.store.log_file(self.worker_log_name(run_id))

    @staticmethod
    def worker_log_name(run_id: str) -> str:
        return f"runs/{run_id}/workers.log"

    @contextmanager
    def lock(self, lost: Callable[[str], None] = lambda why: None) -> Iterator[None]:
        """Hold the output against other runs; `lost` is told when that ends too early (claims.py).

        Raises OutputLocked at once when another run holds it.
        """
        with self.store.lock(lost):
            for run_id in self._run_ids():  # of a run that a crash caught before its record was written
                if not self.has_run(run_id):
                    self.discard(run_id)
            yield

    def has_run(self, run_id: str) -> bool:
        return self.store.exists(f"{self.run_folder(run_id)}/run.json")

    def runs(self) -> list[RunRecord]:
        """Every run, oldest first: by its number, never by the clock."""
        return [record for run_id in self._run_ids() if (record := self._record(run_id))]

    def has_finished(self, model_id: str) -> bool:
        """Whether a run with this model has finished here. Mostly the newest record says so, and no other is read."""
        records = map(self._record, reversed(self._run_ids()))
        return any(record and record.finished and record.model_id == model_id for record in records)

    def next_run_id(self, stamp: str) -> str:
        """A new id that sorts after every other, also when the clock was set back: `00007-20261120T105021Z`."""
        names = [name for name in self._run_ids() if name[0].isdigit()]
        names += [name.removeprefix("run=") for name in self.store.names("calls") if name.startswith("run=")]
        return f"{1 + max((_number(name) for name in names), default=0):05d}-{stamp}"

    def begin(self, record: RunRecord, plan: Plan) -> None:
        """Write plan and record. The record comes last: a run without one never began."""
        self.store.write(f"{self.run_folder(record.run_id)}/plan.parquet", parquet(plan.table))
        self.write_record(record)

    def write_record(self, record: RunRecord) -> None:
        text = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
        self.store.write(f"{self.run_folder(record.run_id)}/run.json", text.encode())

    def plan(self, run_id: str) -> Plan:
        name = f"{self.run_folder(run_id)}/plan.parquet"
        try:
            table = pq.read_table(self.store.open(name), partitioning=None, page_checksum_verification=True)
            return Plan(table)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise EnvironmentFault("MX-E008", str(error), path=self.where(name)) from None

    def discard(self, run_id: str) -> None:
        """Take back a run that never committed anything."""
        self.store.remove_folder(self.run_folder(run_id))

    def commit(self, run_id: str, number: int, calls: pa.Table, quarantine: pa.Table) -> None:
        """Make the results of one shard visible, all or none."""
        beside = self.quarantine_part(run_id, number)
        if quarantine.num_rows:
            self.store.write(beside, parquet(quarantine))
        else:
            self.store.remove(beside)
        self.store.write(self.calls_part(run_id, number), parquet(calls))

    def committed(self, run_id: str) -> set[int]:
        """Numbers of the shards whose results are in place."""
        return self._parts(self.calls_folder(run_id))

    def quarantined(self, run_id: str) -> set[int]:
        """Numbers of the shards that have a quarantine, whether they are committed or not yet."""
        return self._parts(self.quarantine_folder(run_id))

    def read_part(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A committed file, its page checksums verified. Raises EnvironmentFault (MX-E009)."""
        names = None if columns is None else list(columns)
        try:
            return pq.read_table(
                self.store.open(name), partitioning=None, columns=names, page_checksum_verification=True
            )
        except (OSError, pa.ArrowException) as error:
            raise EnvironmentFault("MX-E009", str(error), path=self.where(name)) from None

    def read_parts(self, names: Iterable[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Each of them in turn; from a store that is far away, those that come next are on their way meanwhile."""
        at_once = self.store.readers
        if at_once == 1:
            yield from (self.read_part(name, columns) for name in names)
            return
        with ThreadPoolExecutor(at_once) as readers:
            coming: deque[Future[pa.Table]] = deque()
            for name in names:
                coming.append(readers.submit(self.read_part, name, columns))
                if len(coming) > at_once:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def _parts(self, folder: str) -> set[int]:
        names = self.store.names(folder)
        return {_number(name) for name in names if name.startswith("part-") and name.endswith(".parquet")}

    def _run_ids(self) -> list[str]:
        """Folders of runs, oldest first; some may have no record."""
        names = self.store.names("runs")
        ids = [name.removesuffix("/") for name in names if name.endswith("/") and not name.startswith(".")]
        return sorted(ids, key=lambda run_id: (_number(run_id), run_id))

    def _record(self, run_id: str) -> RunRecord | None:
        name = f"{self.run_folder(run_id)}/run.json"
        known = {entry.name for entry in fields(RunRecord)}
        try:
            values = json.loads(self.store.open(name).read())
            return RunRecord(**{key: value for key, value in values.items() if key in known})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise EnvironmentFault("MX-E008", str(error), path=self.where(name)) from None


def parquet(table: pa.Table) -> pa.Buffer:
    """The bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def write_parquet(path: Path, table: pa.Table) -> None:
    write_atomically(path, parquet(table))


def _number(name: str) -> int:
    """The first number in a run's or a part's name."""
    match = re.search(r"\d+", name)
    return int(match.group()) if match else 0
