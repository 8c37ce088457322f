"""The lock where no kernel holds one: claims on a shelf, in every order in which two runs can put and list them."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from threading import Event, Semaphore, Thread, current_thread
from typing import Any, cast

import pytest

from mxbatch.engine import claims
from mxbatch.engine.claims import LEASE_S, Claim, hold, machine
from mxbatch.engine.dispatch.stop import Stop
from mxbatch.engine.errors import EnvironmentFault, Interrupted, OutputLocked
from mxbatch.engine.storage import LOCK


class Shelf:
    """A store with a clock that only tests move. `meanwhile` is called before every request."""

    root = "s3://bucket/prefix"

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, datetime]] = {}
        self.now = datetime(2001, 1, 1, tzinfo=UTC)  # not this machine's time
        self.meanwhile: Callable[[], None] = lambda: None

    def write(self, name: str, content: Any) -> None:
        self.meanwhile()
        self.files[name] = (bytes(content), self.now)

    def open(self, name: str) -> Any:
        self.meanwhile()
        if name not in self.files:
            raise FileNotFoundError(name)
        return io.BytesIO(self.files[name][0])

    def times(self, folder: str) -> dict[str, datetime]:
        self.meanwhile()
        return {name.removeprefix(f"{folder}/"): at for name, (_, at) in self.files.items()}

    def remove(self, name: str) -> None:
        self.meanwhile()
        self.files.pop(name, None)

    def put_claim(self, name: str, **words: Any) -> None:
        self.files[f"{LOCK}/{name}"] = (
            json.dumps({"holder": "process 7 on node-3", **words}).encode(),
            self.now,
        )


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims.time, "sleep", lambda seconds: None)


def dead_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_free_output_is_held_and_let_go() -> None:
    shelf = Shelf()
    with hold(shelf, lost=print):
        [(name, (content, _))] = shelf.files.items()
        assert name.startswith(f"{LOCK}/")
        assert json.loads(content)["holder"] == f"process {os.getpid()} on {socket.gethostname()}"
    assert not shelf.files


@pytest.mark.parametrize("name", ["0" * 32, "f" * 32], ids=["sorts first", "sorts last"])
def test_a_live_claim_turns_the_second_away_tells_who_and_leaves_no_claim(name: str) -> None:
    shelf = Shelf()
    shelf.put_claim(name)
    shelf.now += timedelta(seconds=LEASE_S)
    with pytest.raises(OutputLocked, match="held by process 7 on node-3"), hold(shelf, lost=print):
        pass
    assert set(shelf.files) == {f"{LOCK}/{name}"}


def test_a_claim_that_was_not_renewed_for_the_lease_is_taken_over_by_the_clock_of_the_store() -> None:
    shelf = Shelf()
    shelf.put_claim("0" * 32)
    shelf.now += timedelta(seconds=LEASE_S + 1)
    with hold(shelf, lost=print):
        assert f"{LOCK}/{'0' * 32}" not in shelf.files


def test_a_claim_of_a_process_of_this_machine_that_is_gone_is_taken_over_at_once() -> None:
    shelf = Shelf()
    shelf.put_claim("0" * 32, machine=machine(), pid=dead_process())
    with hold(shelf, lost=print):
        assert len(shelf.files) == 1


def test_a_number_that_is_free_here_says_nothing_of_a_process_elsewhere() -> None:
    shelf = Shelf()
    shelf.put_claim("0" * 32, machine="another", pid=dead_process())
    with pytest.raises(OutputLocked), hold(shelf, lost=print):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"machine": 7}', b"\xff"])
def test_a_claim_that_cannot_be_read_counts(content: bytes) -> None:
    shelf = Shelf()
    shelf.files[f"{LOCK}/{'0' * 32}"] = (content, shelf.now)
    with pytest.raises(OutputLocked, match="a run that left no name"), hold(shelf, lost=print):
        pass


class Runner(Thread):
    """Takes the claim in a thread that makes one request each time it is let."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        super().__init__(daemon=True)
        self.claim = Claim(shelf)
        self.claim.name = name
        self.fate = ""
        self._may, self._waits = Semaphore(0), Semaphore(0)
        self.start()
        self._waits.acquire()

    def run(self) -> None:
        try:
            self.claim.take()
            self.fate = "holds"
        except OutputLocked:
            self.fate = "locked"
        self._waits.release()

    def request(self) -> None:
        """Called by the shelf, in this thread."""
        self._waits.release()
        self._may.acquire()

    def step(self) -> None:
        if not self.fate:
            self._may.release()
            self._waits.acquire()


def race(order: Sequence[int]) -> list[str]:
    """What becomes of two that begin at once and make their requests in this order, and then in turns."""
    shelf = Shelf()
    shelf.meanwhile = lambda: cast(Runner, current_thread()).request()
    runners = [Runner(shelf, name * 32) for name in "0f"]
    for n in order:
        runners[n].step()
    while not all(runner.fate for runner in runners):
        for runner in runners:
            runner.step()
    return [runner.fate for runner in runners]


@pytest.mark.parametrize("order", sorted(set(permutations([0, 0, 0, 1, 1, 1]))), ids=str)
def test_of_two_that_begin_at_once_one_holds_and_the_other_is_locked_out(order: tuple[int, ...]) -> None:
    assert sorted(race(order)) == ["holds", "locked"]


def test_one_that_is_slow_to_withdraw_costs_the_other_a_try_but_two_never_hold() -> None:
    """The first by name asks again and again while the second has not come to its withdrawal."""
    assert race([0, 1, 1, *[0] * 20]) == ["locked", "locked"]


def beats(shelf: Shelf, number: int, lost: list[str]) -> Claim:
    """A claim that was taken and has beaten `number` times, or until it was lost."""
    claim = Claim(shelf)
    claim.take()

    class Soon(Event):
        left = number

        def wait(self, timeout: float | None = None) -> bool:
            shelf.now += timedelta(seconds=claims.BEAT_S)
            self.left -= 1
            return self.left < 0

    claim.beat(Soon(), lost.append)
    return claim


def test_a_beat_renews_the_claim() -> None:
    shelf, lost = Shelf(), []
    claim = beats(shelf, 20, lost)
    assert shelf.files[f"{LOCK}/{claim.name}"][1] >= shelf.now - timedelta(seconds=2 * claims.BEAT_S)
    assert not lost


def test_a_store_that_is_away_for_some_beats_costs_nothing() -> None:
    shelf, lost, requests = Shelf(), [], []

    def away() -> None:
        requests.append(shelf.now)
        if 3 < len(requests) < 8:
            raise EnvironmentFault("MX-E016", "PutObject failed: NETWORK_CONNECTION")

    shelf.meanwhile = away
    claim = beats(shelf, 10, lost)
    assert f"{LOCK}/{claim.name}" in shelf.files
    assert not lost


def test_a_claim_that_somebody_took_over_is_not_put_again_and_the_run_is_told() -> None:
    shelf, lost = Shelf(), []

    def taken() -> None:
        if shelf.now > datetime(2001, 1, 1, 0, 1, tzinfo=UTC):
            shelf.files.clear()

    shelf.meanwhile = taken
    claim = beats(shelf, 10, lost)
    assert claim.lost
    assert lost == ["another run holds the output"]
    assert not shelf.files


def test_a_run_that_was_stopped_because_its_claim_is_gone_ends_with_4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.01)
    shelf, stop, told = Shelf(), Stop(), Event()

    def lost(why: str) -> None:
        stop.ask(why)
        told.set()

    def run() -> None:
        with hold(shelf, lost):
            shelf.files.clear()
            assert told.wait(60)
            raise Interrupted("MX-I001", "2 of 3 shards are committed")

    with pytest.raises(OutputLocked, match="another run took it over"):
        run()
    assert stop.asked == "another run holds the output"


def test_an_interrupted_run_that_held_to_its_end_stays_interrupted() -> None:
    with pytest.raises(Interrupted), hold(Shelf(), lost=print):
        raise Interrupted("MX-I001", "2 of 3 shards are committed")


def test_a_store_that_does_not_list_what_it_has_taken_is_refused() -> None:
    class Late(Shelf):
        def times(self, folder: str) -> dict[str, datetime]:
            return {}

    with pytest.raises(EnvironmentFault, match="nothing can be locked"), hold(Late(), lost=print):
        pass
