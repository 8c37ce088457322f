"""The run folder: where a part is committed or absent, and nothing in between.

    calls/run=<id>/part-00000.parquet        one row per specimen
    quarantine/run=<id>/part-00000.parquet   one row per radiograph that could not be used
    runs/<id>/plan.parquet  run.json         what was to be done, and what came of it
    report.html                              the same for people, written anew after every run
    runs/.lock                               held by the run that writes

Every file is written under a temporary name, fsynced, renamed, and its folder fsynced. A shard's quarantine is
in place before its calls, so that the calls part alone says that the shard is committed; a shard without a
single call leaves an empty part for that reason. Names follow from run and shard, so doing a shard twice
replaces a file by its equal.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.errors import EnvironmentFault, OutputLocked, from_os_error
from mxbatch.engine.plan import Plan, part_name

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
    planned: dict[str, int] = field(default_factory=dict)
    """shards, specimens and radiographs of the plan."""
    counts: dict[str, int] = field(default_factory=dict)
    """calls, specimens_lost, radiographs_used, radiographs_quarantined; from the committed files."""
    by_code: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Work of all workers per stage, in seconds of the threads that did it; `wall` is the clock's."""
    radiographs_per_s: float | None = None
    bottleneck: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.state == "finished"


class Output:
    """The folder given to `--out`."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.runs_folder = self.root / "runs"

    @property
    def exists(self) -> bool:
        return self.runs_folder.is_dir()

    def run_folder(self, run_id: str) -> Path:
        return self.runs_folder / run_id

    def worker_log(self, run_id: str) -> Path:
        """What workers and the libraries in them said; removed at the end of a run that has nothing in it."""
        return self.run_folder(run_id) / "workers.log"

    def calls_folder(self, run_id: str) -> Path:
        return self.root / "calls" / f"run={run_id}"

    def quarantine_folder(self, run_id: str) -> Path:
        return self.root / "quarantine" / f"run={run_id}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the output. The kernel lets go of it with the process, however that ends.

        Raises OutputLocked at once when another run holds it.
        """
        path = self.runs_folder / ".lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("a+")
        except OSError as error:
            raise from_os_error(error, path) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.seek(0)
                holder = handle.read().strip() or "a run that left no name"
                raise OutputLocked("MX-L001", f"held by {holder}", path=self.root) from None
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}")
            handle.flush()
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what a crash left: temporary files, and run folders that never got their record."""
        for pattern in (".*.tmp", "*/*/.*.tmp"):
            for path in self.root.glob(pattern):
                path.unlink(missing_ok=True)
        for folder in self.runs_folder.iterdir():
            if folder.is_dir() and not (folder / "run.json").exists():
                shutil.rmtree(folder)

    def runs(self) -> list[RunRecord]:
        """Every run, oldest first: by its number, never by the clock."""
        if not self.exists:
            return []
        return [_read_record(path) for path in sorted(self.runs_folder.glob("*/run.json"), key=_run_order)]

    def next_run_id(self, stamp: str) -> str:
        """A new id that sorts after every other, also when the clock was set back: `00007-20261120T105021Z`."""
        names = [path.name for path in self.runs_folder.glob("[0-9]*")]
        names += [path.name.removeprefix("run=") for path in (self.root / "calls").glob("run=*")]
        return f"{1 + max((_number(name) for name in names), default=0):05d}-{stamp}"

    def begin(self, record: RunRecord, plan: Plan) -> None:
        """Write plan and record. The record comes last: a run without one never began."""
        folder = self.run_folder(record.run_id)
        write_parquet(folder / "plan.parquet", plan.table)
        self.write_record(record)

    def write_record(self, record: RunRecord) -> None:
        text = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.run_folder(record.run_id) / "run.json", text.encode())

    def plan(self, run_id: str) -> Plan:
        path = self.run_folder(run_id) / "plan.parquet"
        try:
            return Plan(pq.read_table(path, partitioning=None, page_checksum_verification=True))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise EnvironmentFault("MX-E008", str(error), path=path) from None

    def discard(self, run_id: str) -> None:
        """Take back a run that never committed anything."""
        shutil.rmtree(self.run_folder(run_id), ignore_errors=True)

    def commit(self, run_id: str, number: int, calls: pa.Table, quarantine: pa.Table) -> None:
        """Make the results of one shard visible, all or none."""
        name = f"{part_name(number)}.parquet"
        beside = self.quarantine_folder(run_id) / name
        if quarantine.num_rows:
            write_parquet(beside, quarantine)
        else:
            beside.unlink(missing_ok=True)
        write_parquet(self.calls_folder(run_id) / name, calls)

    def committed(self, run_id: str) -> set[int]:
        """Numbers of the shards whose results are in place."""
        return {_number(path.name) for path in self.calls_folder(run_id).glob("part-*.parquet")}

    def calls_part(self, run_id: str, number: int) -> Path:
        return self.calls_folder(run_id) / f"{part_name(number)}.parquet"

    def quarantine_part(self, run_id: str, number: int) -> Path:
        return self.quarantine_folder(run_id) / f"{part_name(number)}.parquet"


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A committed file, its page checksums verified. Raises EnvironmentFault (MX-E009)."""
    names = None if columns is None else list(columns)
    try:
        return pq.read_table(path, partitioning=None, columns=names, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise EnvironmentFault("MX-E009", str(error), path=path) from None


def write_parquet(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_atomically(path, sink.getvalue())


def write_atomically(path: Path, content: bytes | pa.Buffer) -> None:
    """`path` holds all of `content` or what it held before, whatever happens meanwhile.

    Raises EnvironmentFault (disk full, no permission) and leaves no temporary file behind.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise from_os_error(error, path) from None


def _read_record(path: Path) -> RunRecord:
    known = {entry.name for entry in fields(RunRecord)}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return RunRecord(**{name: value for name, value in values.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EnvironmentFault("MX-E008", str(error), path=path) from None


def _number(name: str) -> int:
    """The first number in a run's or a part's name."""
    match = re.search(r"\d+", name)
    return int(match.group()) if match else 0


def _run_order(path: Path) -> tuple[int, str]:
    return _number(path.parent.name), path.parent.name
