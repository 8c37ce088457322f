"""The pool: whatever its workers do, every shard is committed once, or the run ends with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.archive.index import INDEX_SCHEMA
from mxbatch.engine.dispatch import pool
from mxbatch.engine.dispatch.job import Alive, Committed, Failed, Gone, Opening, Progress, Ready, Tally
from mxbatch.engine.dispatch.pool import FAILED_STARTS, SILENCE_S, START_S, Patience, Seat, run_workers
from mxbatch.engine.dispatch.stop import Stop
from mxbatch.engine.dispatch.supervisor import Assignment, Supervisor
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.plan import Plan, ShardSizes, make_plan

Show = Callable[[Tally], None]
FATES = ("commits", "dies", "leaves", "hangs")


def plan_of(shards: int) -> Plan:
    """One mouse with one radiograph per shard."""
    fixed = {
        "centre": "BCM",
        "procedure": "",
        "date_of_experiment": "",
        "view": "dv",
        "size": 1,
        "mtime_ns": 1,
    }
    rows = [{**fixed, "specimen_id": f"m{n:03d}", "path": f"{n}.jpg"} for n in range(shards)]
    index = pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
    return make_plan(index, model_id="m", sizes=ShardSizes(most=1, least=1))


class ScriptedWorker:
    """Says at once what its script wants said about the shard that it is sent."""

    def __init__(self, script: Script, first_words: Sequence[Any]) -> None:
        self._script, self.killed = script, False
        self.said = list(first_words)
        self.later: list[Any] = []

    def send(self, message: Any) -> None:
        shard, assignment = message
        self._script.sent.append(shard.number)
        path = shard.specimens[0].radiographs[0].path
        fate = "commits" if path in assignment.poisoned else next(self._script.fates)
        opened = [Opening(path)] if assignment.careful else []
        words = {
            "commits": [*opened, Progress(1), Opening(""), Committed(shard.number, 1, 0, {"encode": 1.0})],
            "dies": [*opened, Progress(1), Gone("a worker died (signal 11)")],
            "leaves": [Gone("a machine went away", blameless=True)],
            "hangs": opened,
            "gives up": [Failed(EnvironmentFault("MX-E001", "unmounted")), Gone("its end")],
        }
        self.said += words.get(fate, [])
        self.later += words["commits"] if fate == "commits late" else []

    def receive(self) -> Sequence[Any]:
        said, self.said = self.said, []
        return said

    def kill(self) -> None:
        self.killed = True


class Script:
    """A launcher of such workers. After the last fate all commit; after the last start all become ready."""

    def __init__(
        self, fates: Iterable[str] = (), *, places: int = 1, starts: Iterable[Sequence[Any]] = ()
    ) -> None:
        self.fates: Iterator[str] = chain(fates, repeat("commits"))
        self._starts: Iterator[Sequence[Any]] = chain(starts, repeat([Ready(0.0, "echo")]))
        self.room = places
        self.sent: list[int] = []
        self.workers: list[ScriptedWorker] = []

    def places(self) -> int:
        return self.room

    def start(self, place: int) -> ScriptedWorker:
        self.workers.append(ScriptedWorker(self, next(self._starts)))
        return self.workers[-1]

    def ready(self, workers: Iterable[Any], timeout_s: float) -> Sequence[Any]:
        speaking = [worker for worker in self.workers if worker.said]
        for worker in self.workers:
            worker.said, worker.later = worker.said + worker.later, []
        return [worker for worker in speaking if worker in workers]


Told = tuple[Tally, list[str]]


def run(
    script: Script, shards: int, *, stop: Stop | None = None, show: Show | None = None, **patience: float
) -> Told:
    """Patience is 0 seconds, so that a worker that has nothing to say hangs at once."""
    tally, notes = Tally(shards), []
    plan = plan_of(shards)
    try:
        run_workers(
            plan,
            Supervisor(plan.sizes),
            script,
            tally,
            Path("/nonexistent/workers.log"),
            stop or Stop(),
            show or (lambda tally: None),
            notes.append,
            Patience(**{"batch_s": 0.0, "grace_s": 9.0, **patience}),
        )
    finally:
        assert all(worker.killed for worker in script.workers), "a worker was left behind"
    return tally, notes


def test_every_shard_is_sent_once_and_counted() -> None:
    script = Script(places=3)
    tally, notes = run(script, 5)
    assert sorted(script.sent) == [0, 1, 2, 3, 4]
    assert (tally.radiographs, tally.calls, tally.workers, tally.deaths) == (5, 5, 3, 0)
    assert notes == []


@given(st.lists(st.sampled_from(FATES), max_size=20), st.integers(1, 6), st.integers(1, 4))
def test_whatever_the_workers_do_every_shard_is_committed_once_or_the_run_says_why(
    fates: list[str], shards: int, places: int
) -> None:
    fault = None
    try:
        tally, _ = run(Script(fates, places=places), shards)
    except EnvironmentFault as error:
        fault = error
    if fault is not None:
        assert "no radiograph explains it" in fault.what
        return
    assert (tally.calls, tally.radiographs) == (shards, shards)


@pytest.mark.parametrize("fate", ["dies", "hangs"])
def test_a_radiograph_that_ends_two_workers_is_not_opened_by_a_third(fate: str) -> None:
    script = Script([fate] * 3)
    tally, notes = run(script, 1)
    assert script.sent == [0, 0, 0, 0]
    assert (tally.deaths, tally.radiographs) == (3, 1)
    assert ["part-00000" in note for note in notes] == [True, False, False]
    assert "0.jpg" in notes[1]


def test_a_machine_that_goes_away_strikes_no_radiograph() -> None:
    script = Script(["leaves"] * 3)
    tally, notes = run(script, 1)
    assert (script.sent, tally.deaths) == ([0, 0, 0, 0], 3)
    assert notes == ["a machine went away: part-00000 is done again"] * 3


def test_a_place_whose_worker_dies_twice_before_it_is_ready_stays_empty_and_the_others_go_on() -> None:
    stillborn = [Gone("a worker died (exit status 127)")]
    script = Script(places=2, starts=[stillborn, [Ready(0.0, "echo")], stillborn])
    tally, notes = run(script, 4)
    assert len(script.workers) == 1 + FAILED_STARTS
    assert tally.calls == 4
    assert "one worker less: MX-E006 a worker died (exit status 127) before it was ready" in notes[0]


def test_when_no_place_is_left_the_run_ends_with_the_workers_own_reason() -> None:
    with pytest.raises(EnvironmentFault, match="MX-E001 unmounted"):
        run(Script(["gives up"] * 2, places=2), 4)
    with pytest.raises(EnvironmentFault, match=r"MX-E006 .* before it was ready"):
        run(Script(places=2, starts=[[Gone("a worker died")]] * 4), 4)


def test_what_one_worker_gives_up_another_takes() -> None:
    script = Script(["gives up"], places=2)
    tally, notes = run(script, 3)
    assert tally.calls == 3
    assert len(notes) == 1


def test_workers_join_while_the_run_goes() -> None:
    script = Script(places=1)

    def joined(tally: Tally) -> None:
        script.room = 4

    tally, _ = run(script, 9, show=joined)
    assert tally.workers == 4


def test_a_stopped_run_lets_the_workers_finish_and_hands_out_nothing_more() -> None:
    script, stop, committed = Script(["commits late"] * 9, places=2), Stop(), []

    def stop_it(tally: Tally) -> None:
        stop.asked = "SIGUSR1" * bool(script.sent)
        committed.append(tally.calls)

    with pytest.raises(KeyboardInterrupt):
        run(script, 9, stop=stop, show=stop_it, batch_s=1e9)
    assert (len(script.sent), committed[0], committed[-1]) == (2, 0, 2)


def test_a_stopped_run_waits_no_longer_than_its_grace() -> None:
    stop = Stop()

    def stop_it(tally: Tally) -> None:
        stop.asked = "SIGTERM"

    with pytest.raises(KeyboardInterrupt):
        run(Script(["hangs"] * 9), 1, stop=stop, show=stop_it, batch_s=1e9, grace_s=0.0)


def seat(**known: Any) -> Seat:
    return Seat(**{"place": 0, "worker": None, "heard": 100.0, "moved": 100.0, **known})


def test_a_worker_is_overdue_by_what_it_has_said() -> None:
    busy = Assignment(0, careful=False, poisoned=frozenset())
    loading, idle, working = seat(), seat(ready=True), seat(ready=True, assignment=busy, heard=390.0)
    assert loading.overdue(100 + START_S, 300) is None
    assert loading.overdue(101 + START_S, 300) == "did not get on for 1800 s"
    assert idle.overdue(100 + SILENCE_S, 300) is None
    assert idle.overdue(101 + SILENCE_S, 300) == "said nothing for 60 s"
    assert working.overdue(400, 300) is None
    assert working.overdue(401, 300) == "did not get on for 300 s"


def test_a_heartbeat_shows_that_a_worker_lives_and_not_that_it_gets_on() -> None:
    keeper = pool.Pool(
        plan_of(1), Supervisor({0: 1}), Script(), Tally(1), Path("log"), lambda text: None, Patience()
    )
    one = seat(ready=True)
    keeper._hear(one, Alive())
    assert (one.heard > 100, one.moved) == (True, 100.0)
    keeper._hear(one, Progress(0))
    assert one.moved > 100
