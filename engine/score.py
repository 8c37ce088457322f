"""`mxbatch score`: finish what was begun, plan what is new, have it done, and show that nothing is lost.

Everything here is order and care; the work itself is in shard.py, the promises about files in ledger.py.
torch is never imported here: workers load the model, and a run with nothing to do needs none.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from mxbatch.engine.about import versions
from mxbatch.engine.account import settle
from mxbatch.engine.archive.index import Archive
from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.archive.scan import check_root
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.dispatch.fleet import Fleet, open_fleet, untried
from mxbatch.engine.dispatch.job import Job, Tally
from mxbatch.engine.dispatch.pool import Patience, run_workers
from mxbatch.engine.dispatch.stop import Stop
from mxbatch.engine.dispatch.supervisor import Supervisor
from mxbatch.engine.errors import EnvironmentFault, Interrupted, MxbatchError, UsageError, from_os_error
from mxbatch.engine.history import read_history
from mxbatch.engine.ledger import Output, RunRecord
from mxbatch.engine.machine import Crew, over_budget
from mxbatch.engine.model_store import resolve_model
from mxbatch.engine.offload.settle import DecodeWish, require_gpu_decode, settle_offload
from mxbatch.engine.offload.worker import Share
from mxbatch.engine.plan import Plan, Selection, ShardSizes, make_plan
from mxbatch.engine.progress import Display, silent
from mxbatch.engine.report.report import write_report
from mxbatch.engine.runtime.prepare import (
    Prepared,
    Wish,
    disown,
    engine_cache,
    known_rate,
    prepare,
    prepare_again,
    require_possible,
)
from mxbatch.engine.runtime.speeds import FASTEST
from mxbatch.engine.settings import AUTO, Settings
from mxbatch.engine.storage import Place, absolute, is_address, require_path

SHRUNK = 0.1
"""An archive with less than this share of its former radiographs is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one call of `score` did. `runs` holds the records of the runs it finished, a resumed one first."""

    out: Place
    model_id: str
    learned_from: str
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
    out: Place = "mxbatch-out",
    *,
    model: Path | str | None = None,
    dry_run: bool = False,
    display: Display = silent,
    **settings: Any,
) -> Summary:
    """Score an archive: a row of calls per specimen under `out`, bad radiographs in its quarantine.

    `out` is a folder, or `s3://BUCKET/PREFIX` as text. `model` is a bundle's folder, `reference` for the model that
    comes along and learned from phantoms, or `untrained` for an example whose calls mean nothing; None takes
    `MXBATCH_MODEL` from the environment, else the reference. `settings` are the fields of `Settings`. A run that was
    interrupted in `out` is finished first; then what is new or changed is planned and scored. With `dry_run` nothing
    is written.

    Raises UsageError, EnvironmentFault, OutputLocked or Interrupted. A mistake writes nothing, and a run that ends
    before its first shard is committed leaves no record, unless its workers left words in their log.
    """
    try:
        asked = Settings(**settings)
    except TypeError as error:
        raise UsageError("MX-U001", str(error).replace("Settings.__init__()", "score()")) from None
    require_path(archive)
    root, output = absolute(archive), Output(out if is_address(out) else absolute(out))
    stop = Stop()
    with ExitStack() as stack:
        locked = output.exists and not dry_run
        if locked:  # before anything that takes time: who comes second hears so at once
            stack.enter_context(output.lock(stop.ask))
        fleet = stack.enter_context(open_fleet(asked, display.note))
        if not fleet.elsewhere:
            require_possible(asked.runtime, asked.precision, fleet.crew.devices[0])
            require_gpu_decode(asked, fleet.crew.devices[0])
        check_root(root)
        order = _Order(
            asked=asked,
            archive=root,
            output=output,
            fleet=fleet,
            bundle=resolve_model(model),
            display=display,
            stop=stop,
        )
        _require_own_output(order)
        if not dry_run and not output.has_finished(order.bundle.model_id):  # else there may be nothing new
            fleet.expect_work()
        finished = _finish_interrupted(order) if locked else []
        if finished and asked.limit is not None:
            return _summary(order, finished, dry_run, None, None)

        opened = open_for(order.bundle, root, asked)
        for note in opened.notes:
            display.note(note)
        if not locked and not dry_run:  # only now, so that a mistake writes nothing; and before planning
            stack.enter_context(output.lock(stop.ask))
            _require_own_output(order)  # somebody may have been quicker
        _require_no_shrink(order, opened.index["code"].null_count)
        history = read_history(output, max_megapixels=asked.max_megapixels)
        plan = make_plan(
            opened.index,
            model_id=order.bundle.model_id,
            done=history.done,
            troubled=history.troubled,
            selection=Selection(since=asked.since, limit=asked.limit),
            sizes=ShardSizes(
                most=asked.shard_radiographs, workers=len(fleet.crew.devices), batch=fleet.crew.batch
            ),
        )
        if plan.radiographs and not dry_run:
            finished.append(_execute(order, _begin(order, plan, opened), plan))
        return _summary(order, finished, dry_run, plan, opened)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What one call of `score` was asked for, with everything looked up."""

    asked: Settings
    archive: Path
    output: Output
    fleet: Fleet
    bundle: Bundle
    display: Display
    stop: Stop


def open_for(bundle: Bundle, root: Path, asked: Settings) -> Archive:
    """The archive with the views that the model knows. A view's name that nobody knows stops the run."""
    opened = open_archive(
        root,
        columns=asked.columns,
        views=asked.views,
        default_view=asked.default_view,
        extra_views=bundle.recipe.views,
    )
    unknown = opened.index.filter(pc.equal(opened.index["code"], "MX-A106"))
    if unknown.num_rows:
        reason = unknown["reason"][0].as_py()
        raise UsageError("MX-U002", f"{reason} ({unknown.num_rows} in all)", path=opened.index_file)
    return opened


def _finish_interrupted(order: _Order) -> list[RunRecord]:
    """Finish what an earlier session with this model began. What another model began is only mentioned."""
    finished = []
    for record in order.output.runs():
        if record.finished:
            continue
        if record.model_id != order.bundle.model_id:
            of = f"{record.run_id} with {record.model_id}"
            order.display.note(f"run {of} was interrupted and waits for its own command")
            continue
        order.display.note(f"finishing run {record.run_id}, which was interrupted")
        record.resumed += 1
        order.output.write_record(record)
        finished.append(_execute(order, record, order.output.plan(record.run_id)))
    return finished


def _require_own_output(order: _Order) -> None:
    """An output belongs to one archive: the keys of two could collide."""
    others = {record.archive for record in order.output.runs()} - {str(order.archive)}
    if others:
        raise UsageError("MX-U008", f"it holds runs of {min(others)}", path=order.output.root)


def _require_no_shrink(order: _Order, usable: int) -> None:
    """An archive that lost most of its files is a mount that failed."""
    runs = reversed(order.output.runs())
    before = next((record.archive_usable for record in runs if record.archive_usable), 0)
    if usable < before * SHRUNK and not order.asked.allow_shrink:
        what = f"{usable} radiographs can be used, {before} could when it was last planned"
        raise EnvironmentFault("MX-E010", what, path=order.archive)


def _begin(order: _Order, plan: Plan, opened: Archive) -> RunRecord:
    record = RunRecord(
        run_id=order.output.next_run_id(f"{_now():%Y%m%dT%H%M%SZ}"),
        archive=str(order.archive),
        model_id=order.bundle.model_id,
        learned_from=order.bundle.learned_from,
        since=order.asked.since,
        limit=order.asked.limit,
        max_megapixels=order.asked.max_megapixels,
        archive_usable=opened.index["code"].null_count,
        started_at=_now().isoformat(),
        planned=_planned(plan),
        versions=versions(),
        host={"name": platform.node(), "cpus": os.cpu_count(), "python": platform.python_version()},
    )
    order.output.begin(record, plan)
    return record


def _execute(order: _Order, record: RunRecord, plan: Plan) -> RunRecord:
    """Score what is left of a run, settle its account and close its record."""
    try:
        tally, wall_s = _run(order, record, plan)
    except MxbatchError:
        log = order.output.worker_log(record.run_id)
        if not order.output.committed(record.run_id) and not (log.exists() and log.stat().st_size):
            order.output.discard(record.run_id)
        raise
    account = settle(order.output, record.run_id, plan)
    work_s = wall_s - tally.startup_s
    record.counts, record.by_code = dict(account.counts), dict(sorted(account.by_code.items()))
    record.workers = tally.workers
    record.seconds = {stage: round(s, 3) for stage, s in tally.seconds.items()}
    record.seconds |= {"wall": round(wall_s, 3), "startup": round(tally.startup_s, 3)}
    record.worker_peak_mb = max(record.worker_peak_mb or 0, round(tally.peak_bytes / 1e6)) or None
    if why := over_budget(order.fleet.crew, tally.peak_bytes, order.asked.worker_bytes):
        order.display.note(why)
    record.radiographs_per_s = round((tally.radiographs - tally.earlier) / work_s, 1) if work_s > 0 else None
    record.bottleneck = tally.bottleneck
    record.state, record.finished_at = "finished", _now().isoformat()
    order.output.write_record(record)
    return record


def _run(order: _Order, record: RunRecord, plan: Plan) -> tuple[Tally, float]:
    """Have the shards scored that are not committed: (tally, wall seconds).

    A runtime that `auto` chose and that fails in the workers is left out, and the next best is taken.
    """
    started = time.perf_counter()
    crew = order.fleet.proven(order.display.note)
    try:
        with engine_cache(order.display.note) as engines:
            while True:
                left = _left(order.output, record, plan)
                wish = _wish(order, crew, sum(left.values()))
                prepared = _prepared(order, record, wish, engines)
                _settle_decoding(order, record, plan, crew, known_rate(order.bundle, prepared, wish, engines))
                job = _job(order, record, crew, prepared, engines)
                try:
                    return _with_workers(order, record, plan, job), time.perf_counter() - started
                except EnvironmentFault as error:
                    if not disown(order.bundle, prepared, wish, engines, error):
                        raise
                    record.engine = {}
    except KeyboardInterrupt:
        done = len(order.output.committed(record.run_id))
        what = f"{done} of {len(plan.sizes)} shards of run {record.run_id} are committed"
        raise Interrupted("MX-I001", what) from None


def _left(output: Output, record: RunRecord, plan: Plan) -> dict[int, int]:
    """Shards that are not committed, and how many radiographs each has."""
    committed = output.committed(record.run_id)
    return {number: size for number, size in plan.sizes.items() if number not in committed}


def _wish(order: _Order, crew: Crew, radiographs: int) -> Wish:
    return Wish(
        runtime=order.asked.runtime,
        precision=order.asked.precision,
        device=crew.devices[0],
        batch=FASTEST if order.asked.batch == AUTO else crew.batch,
        radiographs=radiographs,
        workers=len(crew.devices),
    )


def _prepared(order: _Order, record: RunRecord, wish: Wish, engines: Path) -> Prepared:
    """How the radiographs of this run are encoded; its record says so from now on."""
    note = order.display.note
    if order.fleet.elsewhere:
        prepared = Prepared(**record.engine) if record.engine else untried(wish, note)
    elif record.engine:
        prepared = prepare_again(order.bundle, Prepared(**record.engine), wish, engines, note)
    else:
        prepared = prepare(order.bundle, wish, engines, note)
    record.engine = asdict(prepared)
    order.output.write_record(record)
    return prepared


def _settle_decoding(order: _Order, record: RunRecord, plan: Plan, crew: Crew, model_per_s: float) -> None:
    """What a GPU decodes of this run; its record says so from now on."""
    elsewhere = order.fleet.elsewhere
    wish = DecodeWish(order.asked, order.archive, plan, order.bundle, crew, elsewhere, model_per_s)
    settle_offload(wish, record, order.display.note)
    order.output.write_record(record)


def _with_workers(order: _Order, record: RunRecord, plan: Plan, job: Job) -> Tally:
    left = _left(order.output, record, plan)
    tally = Tally(plan.radiographs)
    tally.radiographs = tally.earlier = plan.radiographs - sum(left.values())
    log, display = order.output.worker_log(record.run_id), order.display
    patience = Patience(batch_s=order.asked.patience, grace_s=order.asked.grace)
    try:
        with (
            display.watching(record.run_id, tally),
            order.fleet.launch(job, log) as launcher,
            order.stop.listening(),
        ):
            run_workers(
                plan, Supervisor(left), launcher, tally, log, order.stop, display.show, display.note, patience
            )
        if log.exists() and not log.stat().st_size:
            log.unlink()
    except OSError as error:
        raise from_os_error(error, log) from None
    return tally


def _job(order: _Order, record: RunRecord, crew: Crew, prepared: Prepared, engines: Path) -> Job:
    return Job(
        run_id=record.run_id,
        archive=Path(record.archive),
        out=order.output.store.address,
        bundle=order.bundle.path,
        device=crew.devices[0],
        runtime=prepared.runtime,
        precision=prepared.precision,
        batch=prepared.batch,
        engines=engines,
        model_threads=crew.model_threads,
        decode_threads=crew.decode_threads,
        limits=order.asked.limits,
        offload={kind: Share(**share) for kind, share in (record.decode or {}).items()},
    )


def _summary(
    order: _Order, finished: Collection[RunRecord], dry_run: bool, plan: Plan | None, opened: Archive | None
) -> Summary:
    if finished:
        write_report(order.output, order.bundle.taxonomy)
    return Summary(
        out=order.output.root,
        model_id=order.bundle.model_id,
        learned_from=order.bundle.learned_from,
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


def _now() -> datetime:
    return datetime.now(UTC)
