"""The run and its workers: keeps every place filled and every worker at work, until all shards are committed.

What a loss means for a shard is the supervisor's to say; where workers come from, the launcher's. Here is the clock:
a worker that says nothing, or does not get on, is ended and counts as dead.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxbatch.engine.dispatch.job import (
    Alive,
    Committed,
    Failed,
    Gone,
    Opening,
    Progress,
    Ready,
    Remark,
    Tally,
)
from mxbatch.engine.dispatch.launcher import Launcher, Worker
from mxbatch.engine.dispatch.stop import Stop
from mxbatch.engine.dispatch.supervisor import Assignment, Supervisor
from mxbatch.engine.errors import EnvironmentFault, MxbatchError
from mxbatch.engine.plan import Plan, part_name

FAILED_STARTS = 2
"""A worker that is lost before it is ready so many times in a row is not started again."""
REFRESH_S = 0.5
START_S = 1800.0
"""For loading the model, and compiling it where it has to be."""
SILENCE_S = 60.0
"""A ready worker that says nothing for so long is no more: its process hangs in native code, or is stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the run waits, in seconds."""

    batch_s: float = 300.0
    """A worker that does not get on for so long hangs."""
    grace_s: float = 20.0
    """For what is in flight, once somebody has asked the run to stop."""


@dataclass(slots=True, kw_only=True, eq=False)
class Seat:
    """One worker at its place, and what it has said. Times are seconds of the monotonic clock."""

    place: int
    worker: Worker
    heard: float
    """Its last word of any kind."""
    moved: float
    """Its last word that its work gets on."""
    ready: bool = False
    assignment: Assignment | None = None
    opened: str | None = None
    uncommitted: int = 0
    """Radiographs counted for the running shard; they do not count if the worker is lost."""

    def overdue(self, now: float, batch_s: float) -> str | None:
        """Why the worker is given up, or None."""
        limits = [("did not get on", now - self.moved, START_S)]
        if self.ready:
            limits = [("said nothing", now - self.heard, SILENCE_S)]
            limits += [("did not get on", now - self.moved, batch_s)] * bool(self.assignment)
        return next((f"{what} for {limit:g} s" for what, for_s, limit in limits if for_s > limit), None)


def run_workers(
    plan: Plan,
    supervisor: Supervisor,
    launcher: Launcher,
    tally: Tally,
    log: Path,
    stop: Stop,
    show: Callable[[Tally], None],
    note: Callable[[str], None],
    patience: Patience,
) -> None:
    """Score every shard that `supervisor` has; return when all are committed.

    Raises EnvironmentFault when the run cannot go on and KeyboardInterrupt when it was asked to stop, after
    what was in flight; whatever is raised, no worker is left behind.
    """
    pool = Pool(plan, supervisor, launcher, tally, log, note, patience)
    until = None
    try:
        while supervisor.open:
            if stop.asked and until is None:
                until = time.monotonic() + patience.grace_s
                note(f"{stop.asked}: finishing what is in flight, for {patience.grace_s:g} s at most")
            if until is not None and (not pool.busy or time.monotonic() > until):
                raise KeyboardInterrupt
            pool.work(hand_out=until is None)
            show(tally)
    finally:
        pool.disband()


class Pool:
    """The workers of a run."""

    def __init__(
        self,
        plan: Plan,
        supervisor: Supervisor,
        launcher: Launcher,
        tally: Tally,
        log: Path,
        note: Callable[[str], None],
        patience: Patience,
    ) -> None:
        self._plan, self._supervisor, self._launcher = plan, supervisor, launcher
        self._tally, self._log, self._note, self._patience = tally, log, note, patience
        self._seats: list[Seat] = []
        self._closed: dict[int, MxbatchError] = {}
        """Places where no worker is started any more, and why."""
        self._failed_starts: Counter[int] = Counter()
        self._began = self._last_seat = time.monotonic()

    @property
    def busy(self) -> bool:
        return any(seat.assignment for seat in self._seats)

    def work(self, *, hand_out: bool) -> None:
        """One round: fill the places, hand out shards (unless the run is to stop), listen, look at the clock."""
        if hand_out:
            self._fill()
            for seat in self._seats:
                if seat.ready and not seat.assignment and (assignment := self._supervisor.assign()):
                    seat.assignment, seat.moved = assignment, time.monotonic()
                    seat.worker.send((self._plan.shard(assignment.number), assignment))
        by_worker = {seat.worker: seat for seat in self._seats}
        for worker in self._launcher.ready(by_worker, REFRESH_S):
            seat = by_worker[worker]
            for message in worker.receive():
                if seat in self._seats:  # not after it has been given up: its last word may be one of several
                    self._hear(seat, message)
        now = time.monotonic()
        for seat in list(
            self._seats
        ):  # after listening: a run that was stopped itself has words to catch up with
            if why := seat.overdue(now, self._patience.batch_s):
                self._lose(seat, Gone(f"a worker {why}"))

    def disband(self) -> None:
        for seat in self._seats:
            seat.worker.kill()
        self._seats.clear()

    def _fill(self) -> None:
        places = self._launcher.places()
        wanted = min(places - len(self._closed), self._supervisor.open)
        taken = {seat.place for seat in self._seats} | set(self._closed)
        free = (place for place in range(places + len(taken)) if place not in taken)
        now = time.monotonic()
        while len(self._seats) < wanted:
            place = next(free)
            self._seats.append(Seat(place=place, worker=self._launcher.start(place), heard=now, moved=now))
        if self._seats:
            self._last_seat = now
            self._tally.workers = max(self._tally.workers, len(self._seats))
        elif self._closed:
            raise list(self._closed.values())[-1]
        elif now - self._last_seat > START_S:
            raise EnvironmentFault("MX-E006", f"for {START_S:g} s no machine has had room for a worker")

    def _hear(self, seat: Seat, message: Any) -> None:
        tally = self._tally
        seat.heard = time.monotonic()
        if not isinstance(message, Alive):
            seat.moved = seat.heard
        match message:
            case Ready():
                seat.ready = True
                self._failed_starts[seat.place] = 0
                tally.workers_ready += 1
                tally.startup_s = tally.startup_s or time.monotonic() - self._began
            case Remark():
                self._note(message.text)
            case Opening():
                seat.opened = message.path or None
            case Progress():
                seat.uncommitted += message.radiographs
                tally.radiographs += message.radiographs
            case Committed():
                self._supervisor.committed(message.number)
                seat.assignment, seat.opened, seat.uncommitted = None, None, 0
                tally.calls += message.calls
                tally.quarantined += message.quarantined
                tally.peak_bytes = max(tally.peak_bytes, message.peak_bytes)
                for stage, seconds in message.seconds.items():
                    tally.seconds[stage] += seconds
            case Failed():
                message.error.add_note(message.trace)
                self._close(seat, message.error)
            case Gone():
                self._lose(seat, message)

    def _lose(self, seat: Seat, gone: Gone) -> None:
        """A worker died, hung, or went away with its machine: the next round fills its place."""
        self._leave(seat)
        self._tally.deaths += 1
        if seat.assignment and gone.blameless:
            self._note(f"{gone.what}: {part_name(seat.assignment.number)} is done again")
            self._supervisor.left(seat.assignment.number)
        elif seat.assignment:
            self._note(
                f"{gone.what} at {seat.opened or part_name(seat.assignment.number)}: done again, with care"
            )
            self._supervisor.died(seat.assignment.number, seat.opened)
        elif not seat.ready:
            self._failed_starts[seat.place] += 1
            if self._failed_starts[seat.place] >= FAILED_STARTS:
                words = self._log if self._log.exists() and self._log.stat().st_size else None
                fault = EnvironmentFault("MX-E006", f"{gone.what} before it was ready", path=words)
                self._shut(seat.place, fault)

    def _close(self, seat: Seat, error: MxbatchError) -> None:
        """A worker said why it cannot go on: its shard goes back, and its place stays empty."""
        self._leave(seat)
        if seat.assignment:
            self._supervisor.released(seat.assignment.number)
        self._shut(seat.place, error)

    def _shut(self, place: int, error: MxbatchError) -> None:
        said = {other.code for other in self._closed.values()}
        self._closed[place] = error
        if self._seats and error.code not in said:
            self._note(f"one worker less: {error}")

    def _leave(self, seat: Seat) -> None:
        seat.worker.kill()
        self._seats.remove(seat)
        self._tally.radiographs -= seat.uncommitted
