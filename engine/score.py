"""`mxbatch score`: finish what was begun, plan what is new, have it done, and show that nothing is lost.

Everything here is order and care; the work itself is in shard.py, the promises about files in ledger.py.
torch is never imported here: workers load the model, and a run with nothing to do needs none.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mxbatch import __version__
from mxbatch.engine.account import settle
from mxbatch.engine.archive.index import Archive
from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.decode.contract import Limits
from mxbatch.engine.dispatch.job import Job, Tally
from mxbatch.engine.dispatch.local import run_workers
from mxbatch.engine.dispatch.supervisor import Supervisor
from mxbatch.engine.errors import Interrupted, UsageError, from_os_error
from mxbatch.engine.ledger import Output, RunRecord
from mxbatch.engine.machine import Crew, choose_crew
from mxbatch.engine.model_store import resolve_model
from mxbatch.engine.plan import Plan, Selection, ShardSizes, make_plan
from mxbatch.engine.progress import Display, silent
from mxbatch.engine.report.report import write_report
from mxbatch.engine.results import work_done


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user can ask of a run beyond archive, output and model."""

    workers: int | None = None
    """Worker processes; None takes one per core, or one per GPU."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    batch: int | None = None
    """Radiographs per call of the encoder; None lets the device decide."""
    since: str | None = None
    limit: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)
    default_view: str | None = None
    max_megapixels: int = 64
    shard_radiographs: int = 256
    """Radiographs per shard at most: what a crash can cost, against how often something is committed."""

    def __post_init__(self) -> None:
        for name in ("workers", "batch", "limit", "max_megapixels", "shard_radiographs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError("MX-U001", f"{name} must be at least 1, got {value}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError("MX-U001", f"device must be auto, cpu or cuda, got {self.device!r}")
        if self.since is not None:
            try:
                datetime.strptime(self.since, "%Y-%m-%d")
            except ValueError:
                raise UsageError("MX-U001", f"since must be YYYY-MM-DD, got {self.since!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one call of `score` did. `runs` holds the records of the runs it finished, a resumed one first."""

    out: Path
    model_id: str
    untrained: bool
    dry_run: bool = False
    planned: dict[str, int]
    """shards, specimens and radiographs that were new or changed."""
    runs: tuple[RunRecord, ...] = ()
    archive: dict[str, Any] | None = None
    """Counts of the archive's index; None when an earlier run was finished and the archive not looked at."""
    notes: tuple[str, ...] = ()

    @property
    def quarantined(self) -> int:
        return sum(record.counts["radiographs_quarantined"] for record in self.runs)

    @property
    def exit_code(self) -> int:
        """0 all done or nothing new, 1 finished with quarantine."""
        return int(self.quarantined > 0)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "out": str(self.out), "exit_code": self.exit_code}


def score(
    archive: Path | str,
    out: Path | str = "mxbatch-out",
    *,
    model: Path | str | None = None,
    dry_run: bool = False,
    display: Display = silent,
    **settings: Any,
) -> Summary:
    """Score an archive: a row of calls per specimen under `out`, bad radiographs in its quarantine.

    `model` is a bundle's folder, or `untrained` for the example whose calls mean nothing; None takes
    `MXBATCH_MODEL` from the environment. `settings` are the fields of `Settings`. A run that was
    interrupted in `out` is finished first; then what is new or changed is planned and scored.
    With `dry_run` nothing is written.

    Raises UsageError, EnvironmentFault or OutputLocked; an error before the first shard leaves no trace.
    """
    try:
        asked = Settings(**settings)
    except TypeError as error:
        raise UsageError("MX-U001", str(error).replace("Settings.__init__()", "score()")) from None
    order = _Order(
        asked=asked,
        crew=choose_crew(asked.device, asked.workers, asked.batch),
        bundle=resolve_model(model),
        output=Output(Path(out).expanduser().absolute()),
        display=display,
    )
    bundle, output = order.bundle, order.output
    root = Path(archive).expanduser().absolute()
    finished: list[RunRecord] = []
    with ExitStack() as stack:
        if output.exists and not dry_run:
            stack.enter_context(output.lock())
            for record in output.runs():
                if record.finished:
                    continue
                if (record.archive, record.model_id) != (str(root), bundle.model_id):
                    of = f"{record.archive} with {record.model_id}"
                    display.note(f"run {record.run_id} of {of} was interrupted and waits for its own command")
                    continue
                record.resumed += 1
                display.note(f"finishing run {record.run_id}, which was interrupted")
                finished.append(_execute(order, record, output.plan(record.run_id)))
            if finished and asked.limit is not None:
                return _summary(order, finished, dry_run, None, None)

        opened = open_for(bundle, root, asked)
        for note in opened.notes:
            display.note(note)
        plan = make_plan(
            opened.index,
            model_id=bundle.model_id,
            done=work_done(output, bundle.model_id),
            selection=Selection(since=asked.since, limit=asked.limit),
            sizes=ShardSizes(most=asked.shard_radiographs, workers=len(order.crew.devices)),
        )
        if plan.radiographs and not dry_run:
            if not output.exists:
                stack.enter_context(output.lock())
            record = RunRecord(
                run_id=output.next_run_id(f"{_now():%Y%m%dT%H%M%SZ}"),
                archive=str(root),
                model_id=bundle.model_id,
                untrained=bundle.untrained,
                since=asked.since,
                limit=asked.limit,
                started_at=_now().isoformat(),
                planned=_planned(plan),
                versions=_versions(),
                host={"name": platform.node(), "cpus": os.cpu_count(), "python": platform.python_version()},
            )
            output.begin(record, plan)
            finished.append(_execute(order, record, plan))
        return _summary(order, finished, dry_run, plan, opened)


def open_for(bundle: Bundle, root: Path, asked: Settings) -> Archive:
    """The archive with the views that the model knows. A view's name that nobody knows stops the run."""
    opened = open_archive(
        root,
        columns=asked.columns,
        views=asked.views,
        default_view=asked.default_view,
        extra_views=bundle.recipe.views,
    )
    unknown = opened.index.filter([code == "MX-A106" for code in opened.index["code"].to_pylist()])
    if unknown.num_rows:
        reason = unknown["reason"][0].as_py()
        raise UsageError("MX-U002", f"{reason} ({unknown.num_rows} in all)", path=opened.index_file)
    return opened


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What one call of `score` was asked for, with everything looked up."""

    asked: Settings
    crew: Crew
    bundle: Bundle
    output: Output
    display: Display


def _execute(order: _Order, record: RunRecord, plan: Plan) -> RunRecord:
    """Score what is left of a run, then settle its account and close its record."""
    output = order.output
    started = time.perf_counter()
    committed = output.committed(record.run_id)
    left = [number for number in plan.sizes if number not in committed]
    jobs = _jobs(order, record)
    tally = Tally(plan.radiographs)
    tally.radiographs = tally.earlier = sum(
        plan.sizes[number] for number in committed if number in plan.sizes
    )
    log = output.run_folder(record.run_id) / "workers.log"
    try:
        with order.display.watching(record.run_id, tally):
            run_workers(plan, Supervisor(left), jobs, tally, log, order.display.show)
    except OSError as error:
        raise from_os_error(error, log) from None
    except KeyboardInterrupt:
        done = len(output.committed(record.run_id))
        what = f"{done} of {len(plan.sizes)} shards of run {record.run_id} are committed"
        raise Interrupted("MX-I001", what) from None
    account = settle(output, record.run_id, plan)
    wall = time.perf_counter() - started
    work = wall - tally.startup_s
    record.counts, record.by_code = dict(account.counts), dict(sorted(account.by_code.items()))
    record.workers = min(len(jobs), max(1, len(left)))
    record.seconds = {stage: round(s, 3) for stage, s in tally.seconds.items()}
    record.seconds |= {"wall": round(wall, 3), "startup": round(tally.startup_s, 3)}
    record.radiographs_per_s = round((tally.radiographs - tally.earlier) / work, 1) if work > 0 else None
    record.bottleneck = tally.bottleneck
    record.state, record.finished_at = "finished", _now().isoformat()
    output.write_record(record)
    if log.exists() and not log.stat().st_size:
        log.unlink()
    return record


def _jobs(order: _Order, record: RunRecord) -> list[Job]:
    return [
        Job(
            run_id=record.run_id,
            archive=Path(record.archive),
            out=order.output.root,
            bundle=order.bundle.path,
            device=device,
            batch=order.crew.batch,
            model_threads=order.crew.model_threads,
            decode_threads=order.crew.decode_threads,
            limits=Limits(max_pixels=order.asked.max_megapixels * 1_000_000),
        )
        for device in order.crew.devices
    ]


def _summary(
    order: _Order, finished: Collection[RunRecord], dry_run: bool, plan: Plan | None, opened: Archive | None
) -> Summary:
    if finished:
        write_report(order.output, order.bundle.taxonomy)
    return Summary(
        out=order.output.root,
        model_id=order.bundle.model_id,
        untrained=order.bundle.untrained,
        dry_run=dry_run,
        planned=_planned(plan),
        runs=tuple(finished),
        archive=opened.counts() if opened else None,
        notes=opened.notes if opened else (),
    )


def _planned(plan: Plan | None) -> dict[str, int]:
    if plan is None:
        return {"shards": 0, "specimens": 0, "radiographs": 0}
    return {"shards": len(plan.sizes), "specimens": plan.specimens, "radiographs": plan.radiographs}


def _versions() -> dict[str, str]:
    """Read from the installed packages' metadata, which costs no import."""
    names = ("torch", "timm", "numpy", "pyarrow", "simplejpeg", "pillow", "pydicom")
    return {"mxbatch": __version__, **{name: version(name) for name in names}}


def _now() -> datetime:
    return datetime.now(UTC)
