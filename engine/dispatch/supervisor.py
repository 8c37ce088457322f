"""Which shard is next, and what a worker's death means. A pure state machine: no process, no clock, no disk.

    pending ──assign──► running ──commit──► committed
       ▲                   │
       └──────died─────────┘   again, with care: radiographs one by one, each announced before it is opened

A death while a shard is done with care strikes the radiograph that was open. Two strikes and it is poisoned:
the shard goes on without it, and it goes to quarantine as WORKER_CRASH. One strike may be chance (somebody
killed the worker); two at one file are not. Deaths that no radiograph explains end the run after a few.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.plan import part_name

STRIKES = 2
UNEXPLAINED_DEATHS = 5


@dataclass(frozen=True, slots=True)
class Assignment:
    """One shard for one worker."""

    number: int
    careful: bool
    poisoned: frozenset[str]


class Supervisor:
    """Keeps account of every shard of a run until all are committed."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._pending = deque(numbers)
        self._running: set[int] = set()
        self._strikes: Counter[str] = Counter()
        self._poisoned: dict[int, frozenset[str]] = {}
        self._suspect: set[int] = set()
        self._unexplained: Counter[int] = Counter()

    @property
    def open(self) -> int:
        """Shards not committed yet."""
        return len(self._pending) + len(self._running)

    @property
    def waiting(self) -> int:
        """Shards that no worker has."""
        return len(self._pending)

    def assign(self) -> Assignment | None:
        """The next shard, or None when none is waiting (some may still be running)."""
        if not self._pending:
            return None
        number = self._pending.popleft()
        self._running.add(number)
        return Assignment(number, number in self._suspect, self._poisoned.get(number, frozenset()))

    def committed(self, number: int) -> None:
        self._running.remove(number)

    def died(self, number: int, opened: str | None) -> None:
        """The worker that had `number` is gone; `opened` is the path it had announced last, if any.

        Raises EnvironmentFault (MX-E006) when the shard keeps killing workers and no radiograph is to blame.
        """
        self._running.remove(number)
        self._suspect.add(number)
        self._pending.appendleft(number)
        if not opened:
            self._unexplained[number] += 1
            if self._unexplained[number] >= UNEXPLAINED_DEATHS:
                raise EnvironmentFault(
                    "MX-E006",
                    f"{UNEXPLAINED_DEATHS} workers died on {part_name(number)} and no radiograph explains it",
                    fix="look for the system's out-of-memory killer and at runs/<id>/workers.log, then run again",
                )
            return
        self._strikes[opened] += 1
        if self._strikes[opened] >= STRIKES:
            self._poisoned[number] = self._poisoned.get(number, frozenset()) | {opened}
