"""How training shows where it is: a bar on a terminal, one line per epoch elsewhere. Always on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from mxbatch.engine.errors import one_line
from mxbatch.trainer.history import UNITS


class Display(Protocol):
    """What training says while it works."""

    def note(self, text: str) -> None:
        """One remark that a user should read."""

    def training(self, name: str, steps: int, done: int) -> AbstractContextManager[None]:
        """Around the training of the recipe `name`; `done` of its `steps` were done before."""

    def step(self, phase: str, epoch: int, epochs: int, loss: float) -> None:
        """After each step: the running epoch, from 1, and the step's loss."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """After each epoch: its row of metrics.csv."""


class Silent:
    """For the Python interface."""

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def training(self, name: str, steps: int, done: int) -> Iterator[None]:
        yield

    def step(self, phase: str, epoch: int, epochs: int, loss: float) -> None:
        pass

    def epoch(self, row: Mapping[str, Any]) -> None:
        pass


class Lines(Silent):
    """For logs: one line per epoch."""

    def note(self, text: str) -> None:
        sys.stderr.write(f"mxbatch: {one_line(text)}\n")

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.note(describe(row))


class Bar(Silent):
    """For people at a terminal: a bar over all steps, and each epoch's line above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar: Any = None

    def note(self, text: str) -> None:
        from rich.markup import escape

        self._console.print(f"[dim]mxbatch:[/] {escape(one_line(text))}", highlight=False)

    @contextmanager
    def training(self, name: str, steps: int, done: int) -> Iterator[None]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[rest]}"),
        )
        with Progress(*columns, console=self._console) as self._bar:
            self._task = self._bar.add_task(name, total=steps, completed=done, rest="")
            yield

    def step(self, phase: str, epoch: int, epochs: int, loss: float) -> None:
        self._bar.update(
            self._task, advance=1, description=phase, rest=f"epoch {epoch} of {epochs} · loss {loss:.3f}"
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.note(describe(row))


def describe(row: Mapping[str, Any]) -> str:
    """An epoch in one line: what it cost, what it taught, how fast it went."""
    parts = [f"{row['stage']} epoch {row['epoch']}", f"loss {row['loss']:.3f}"]
    if "validation_loss" in row:
        parts.append(f"validation {row['validation_loss']:.3f}")
    auc = [f"L{level} {value:.3f}" for level in (1, 2, 3) if (value := row.get(f"auc_l{level}")) is not None]
    if auc:
        parts.append("AUC " + " ".join(auc))
    parts += [f"{row[f'{unit}_per_s']:.0f} {unit}/s" for unit in UNITS if f"{unit}_per_s" in row]
    return " · ".join([*parts, f"{row['seconds']:.0f} s"])


silent: Display = Silent()


def display_for(stream: Any = None) -> Display:
    """A bar where somebody looks on, lines where a log is kept."""
    return Bar() if (stream or sys.stderr).isatty() else Lines()
