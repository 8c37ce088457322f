"""The lock of an output in an object store, where nothing like `flock` is and pyarrow has no conditional put.

Every run that wants the output puts a claim of its own, `runs/.lock/<random>`, and then lists all claims. It holds
the output when no other live claim is there. Of two that begin at once, at least the one whose claim came second sees
the other, because such stores list what they have answered for: both can withdraw, both cannot hold. The one whose
name sorts first waits a moment for the other to withdraw.

A holder writes its claim anew every `BEAT_S`. One that has not done so for `LEASE_S` is taken for dead and removed,
and so is one whose process on this very machine is gone. All times are the store's: no two machines' clocks are
compared. A holder that was stopped for so long, and wakes up, sees at its next beat that its claim is gone and ends
its run. Until then two runs may write; parts stay whole, since each is put whole and equal work gives equal parts.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

import pyarrow as pa

from mxbatch.engine.errors import EnvironmentFault, Interrupted, OutputLocked
from mxbatch.engine.storage import LOCK

BEAT_S = 15.0
LEASE_S = 90.0
"""Six beats: a store that is away for a minute costs nobody his run."""
TURNS, TURN_S = 4, 0.4
"""How often, and after how long, the first of two that begin at once looks whether the other has withdrawn."""


class Shelf(Protocol):
    """What claims are kept on."""

    root: str

    def write(self, name: str, content: bytes | pa.Buffer) -> None: ...
    def open(self, name: str) -> pa.NativeFile: ...
    def times(self, folder: str) -> dict[str, datetime]: ...
    def remove(self, name: str) -> None: ...


@contextmanager
def hold(shelf: Shelf, lost: Callable[[str], None]) -> Iterator[None]:
    """Hold the output and keep the claim alive. `lost` is called from the thread that does so.

    Raises OutputLocked where a live claim of another is found, and where the run was stopped because its own was lost.
    """
    claim = Claim(shelf)
    claim.take()
    ended = Event()
    beats = Thread(target=claim.beat, args=(ended, lost), daemon=True)
    beats.start()
    try:
        yield
    except Interrupted:
        if claim.lost:
            what = "it was silent and another run took it over"
            raise OutputLocked("MX-L001", what, path=shelf.root) from None
        raise
    finally:
        ended.set()
        beats.join()
        with suppress(EnvironmentFault):  # then it runs out by itself
            claim.withdraw()


class Claim:
    """One run's claim, and how it sees those of others."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.name = uuid.uuid4().hex
        self.lost = False

    def take(self) -> None:
        """Raises OutputLocked, and withdraws, when somebody else holds the output."""
        self._write()
        try:
            for turn in range(TURNS):
                others = self._others()
                if not others:
                    return
                if min(others) < self.name:
                    break
                if turn < TURNS - 1:
                    time.sleep(TURN_S)
            holder = self._holder(min(others, key=lambda name: others[name]))
            fix = f"wait for it, or choose another --out; one that was killed lets go within {LEASE_S:g} s"
            raise OutputLocked("MX-L001", f"held by {holder}", path=self._shelf.root, fix=fix)
        except BaseException:
            with suppress(EnvironmentFault):
                self.withdraw()
            raise

    def withdraw(self) -> None:
        self._shelf.remove(f"{LOCK}/{self.name}")

    def beat(self, ended: Event, lost: Callable[[str], None]) -> None:
        """Until `ended`, or until the claim is gone. A store that does not answer is for the run itself to notice."""
        while not ended.wait(BEAT_S):
            with suppress(EnvironmentFault):
                if self.name not in self._shelf.times(LOCK):
                    self.lost = True
                    lost("another run holds the output")
                    return
                self._write()

    def _write(self) -> None:
        words = {"holder": f"process {os.getpid()} on {socket.gethostname()}", "pid": os.getpid()}
        self._shelf.write(f"{LOCK}/{self.name}", json.dumps({**words, "machine": machine()}).encode())

    def _others(self) -> dict[str, datetime]:
        """Live claims of others and when they were last written; dead ones are removed on the way."""
        claims = self._shelf.times(LOCK)
        if self.name not in claims:
            what = "it does not list what it has just taken, so nothing can be locked in it"
            raise EnvironmentFault("MX-E016", what, path=self._shelf.root)
        now = claims.pop(self.name)
        for name, at in list(claims.items()):
            if (now - at).total_seconds() > LEASE_S or self._died(name):
                del claims[name]
                self._shelf.remove(f"{LOCK}/{name}")
        return claims

    def _died(self, name: str) -> bool:
        """Whether its process was on this machine and is no more. What cannot be read is alive."""
        claim = self._read(name)
        if claim.get("machine") != machine():
            return False
        try:
            os.kill(int(str(claim["pid"])), 0)
        except ProcessLookupError:
            return True
        except (OSError, KeyError, ValueError):
            pass
        return False

    def _holder(self, name: str) -> str:
        return str(self._read(name).get("holder") or "a run that left no name")

    def _read(self, name: str) -> dict[str, object]:
        try:
            found = json.loads(self._shelf.open(f"{LOCK}/{name}").read())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def machine() -> str:
    """Of this boot of this machine, as far as process numbers reach: each container has its own.

    Where it cannot be told, something that equals nothing.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return hashlib.sha256(f"{boot}{os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:16]
    except OSError:
        return uuid.uuid4().hex
