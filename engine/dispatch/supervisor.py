"""Which shard is next, and what the loss of a worker means. A pure state machine: no process, no clock, no disk.

                 assign             commit
    pending ────────────► running ──────────► committed
       ▲                  │  │  ▲
       └──leave, release──┘  │  └──assign── split, poisoned
                             └────die─────►

    pending     waits, to be done in batches
    running     one worker has it
    split       waits, to be done radiograph by radiograph, each announced before it is opened: a worker died on it
    poisoned    waits without the radiographs that took workers with them; they go to quarantine as WORKER_CRASH
    committed   its part is in the ledger

A death (or a hang, which the run ends) while a shard is split strikes the radiograph that was open. One strike may
be chance: somebody killed the worker. Two at one file are not. A worker that *left*, because its machine went away,
blames nobody. Losses that no radiograph explains end the run after a few.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.plan import part_name

STRIKES = 2
UNEXPLAINED_LOSSES = 5


class State(StrEnum):
    """Where a shard stands."""

    PENDING = "pending"
    RUNNING = "running"
    SPLIT = "split"
    POISONED = "poisoned"
    COMMITTED = "committed"


WAITING = frozenset({State.PENDING, State.SPLIT, State.POISONED})
TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.RUNNING}),
    State.SPLIT: frozenset({State.RUNNING}),
    State.POISONED: frozenset({State.RUNNING}),
    State.RUNNING: WAITING | {State.COMMITTED},
    State.COMMITTED: frozenset(),
}
"""From -> to. Whatever is not here is a mistake of the caller's."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One shard for one worker."""

    number: int
    careful: bool
    poisoned: frozenset[str]


@dataclass(slots=True)
class _Case:
    """What is known of one shard."""

    state: State = State.PENDING
    deaths: int = 0
    unexplained: int = 0
    strikes: Counter[str] = field(default_factory=Counter)

    @property
    def poisoned(self) -> frozenset[str]:
        return frozenset(path for path, strikes in self.strikes.items() if strikes >= STRIKES)

    @property
    def resting(self) -> State:
        """The state in which it waits for a worker."""
        if self.poisoned:
            return State.POISONED
        return State.SPLIT if self.deaths else State.PENDING


class Supervisor:
    """Keeps account of every shard of a run until all are committed.

    `sizes` holds the radiographs of each shard. Large ones are handed out first, so that all workers end together.
    """

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self._cases = {number: _Case() for number in sizes}
        self._queue = deque(sorted(sizes, key=lambda number: (-sizes[number], number)))
        self._open = len(self._cases)

    @property
    def open(self) -> int:
        """Shards not committed yet."""
        return self._open

    @property
    def waiting(self) -> int:
        """Shards that no worker has."""
        return len(self._queue)

    def state(self, number: int) -> State:
        return self._cases[number].state

    def assign(self) -> Assignment | None:
        """The next shard, or None when none is waiting (some may still be running)."""
        if not self._queue:
            return None
        number = self._queue.popleft()
        case = self._cases[number]
        self._move(number, State.RUNNING)
        return Assignment(number, careful=case.deaths > 0, poisoned=case.poisoned)

    def committed(self, number: int) -> None:
        self._move(number, State.COMMITTED)
        self._open -= 1

    def released(self, number: int) -> None:
        """The worker that had `number` said why it cannot go on: another may."""
        self._return(number)

    def left(self, number: int) -> None:
        """The worker that had `number` went away with its machine. Raises like `died`, if it goes on so."""
        self._unexplained(number)
        self._return(number)

    def died(self, number: int, opened: str | None) -> None:
        """The worker that had `number` died or hung; `opened` is the path it had announced last, if any.

        Raises EnvironmentFault (MX-E006) when the shard keeps losing workers and no radiograph is to blame.
        """
        case = self._cases[number]
        case.deaths += 1
        if opened:
            case.strikes[opened] += 1
        else:
            self._unexplained(number)
        self._return(number)

    def _unexplained(self, number: int) -> None:
        case = self._cases[number]
        case.unexplained += 1
        if case.unexplained >= UNEXPLAINED_LOSSES:
            raise EnvironmentFault(
                "MX-E006",
                f"{UNEXPLAINED_LOSSES} workers were lost on {part_name(number)} and no radiograph explains it",
                fix="look for the system's out-of-memory killer and at runs/<id>/workers.log, then run again",
            )

    def _return(self, number: int) -> None:
        """It is next: a shard that loses workers shows early whether the run can end."""
        self._move(number, self._cases[number].resting)
        self._queue.appendleft(number)

    def _move(self, number: int, to: State) -> None:
        case = self._cases[number]
        if to not in TRANSITIONS[case.state]:
            raise ValueError(f"{part_name(number)} is {case.state} and cannot become {to}")
        case.state = to
