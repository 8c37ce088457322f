"""How a run shows where it is: a bar on a terminal, one line per 30 seconds elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from mxbatch.engine.dispatch.job import Tally
from mxbatch.engine.errors import one_line

LINE_S = 30.0


class Display(Protocol):
    """What a run says while it works."""

    def note(self, text: str) -> None:
        """One remark that a user should read."""

    def watching(self, run_id: str, tally: Tally) -> AbstractContextManager[None]:
        """Around the scoring of one run."""

    def show(self, tally: Tally) -> None:
        """Called about twice a second."""


class Silent:
    """For the Python interface."""

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def watching(self, run_id: str, tally: Tally) -> Iterator[None]:
        yield

    def show(self, tally: Tally) -> None:
        pass


class Lines(Silent):
    """For logs: one line per `LINE_S` seconds and one at the end."""

    def note(self, text: str) -> None:
        sys.stderr.write(f"mxbatch: {one_line(text)}\n")

    @contextmanager
    def watching(self, run_id: str, tally: Tally) -> Iterator[None]:
        self._started = self._said = time.monotonic()
        yield
        self.note(f"{run_id} {describe(tally, time.monotonic() - self._started)}")

    def show(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._said >= LINE_S:
            self._said = now
            self.note(describe(tally, now - self._started))


class Bar(Silent):
    """For people at a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar: Any = None

    def note(self, text: str) -> None:
        self._console.print(f"[dim]mxbatch:[/] {_plain(text)}", highlight=False)

    @contextmanager
    def watching(self, run_id: str, tally: Tally) -> Iterator[None]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[rest]}"),
        )
        self._started = time.monotonic()
        with Progress(*columns, console=self._console) as self._bar:
            self._task = self._bar.add_task("loading", total=tally.radiographs_total, rate="", rest="")
            try:
                yield
            finally:
                self.show(tally)

    def show(self, tally: Tally) -> None:
        if not tally.workers_ready:
            return
        rate = rate_of(tally, time.monotonic() - self._started)
        quarantined = f"[yellow]{tally.quarantined} in quarantine[/] · " if tally.quarantined else ""
        self._bar.update(
            self._task,
            completed=tally.radiographs,
            description="scoring",
            rate=f"{rate:.1f}/s" if rate else "",
            rest=quarantined + (f"mostly {tally.bottleneck}" if tally.bottleneck else ""),
        )


def rate_of(tally: Tally, elapsed_s: float) -> float:
    """Radiographs per second since the first worker was ready, 0.0 while that cannot be told."""
    working = elapsed_s - tally.startup_s
    return (tally.radiographs - tally.earlier) / working if working > 0 else 0.0


def describe(tally: Tally, elapsed_s: float) -> str:
    """One line: how far, how fast, how long still, what is bad, what it waits for."""
    rate = rate_of(tally, elapsed_s)
    left = tally.radiographs_total - tally.radiographs
    parts = [f"{tally.radiographs} of {tally.radiographs_total} radiographs"]
    if rate:
        parts.append(f"{rate:.1f}/s")
    if rate and left:
        parts.append(f"{duration(left / rate)} left")
    parts.append(f"{tally.quarantined} in quarantine")
    if tally.bottleneck:
        parts.append(f"mostly {tally.bottleneck}")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _plain(text: str) -> str:
    """Data on a terminal: no control characters, no markup."""
    from rich.markup import escape

    return escape(one_line(text))


silent: Display = Silent()


def display_for(stream: Any = None) -> Display:
    """A bar where somebody looks on, lines where a log is kept."""
    return Bar() if (stream or sys.stderr).isatty() else Lines()
