"""What a benchmark found, in one form for all of them: so every result can be shown, drawn and compared alike.

    figures   quantities that were measured round by round, most of them rates
    shares    how much of a limit was reached, a number from 0 to 1
    stages    where the time of a run went, in seconds of the threads that worked
    tables    what only one kind of benchmark has to say, rows under named columns

The file is JSON, named kind_model_precision_runtime_hardware_date, and says by itself on what it was measured.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mxbatch.bench.machine import command_line, describe_machine, hardware, revision
from mxbatch.engine.errors import UsageError, from_os_error

FORMAT = 1
RATE = "radiographs/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One quantity, measured once per round."""

    unit: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """From the lowest to the highest round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.median if self.median else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Rounds, and what follows from them for readers without a program."""
        return {
            "unit": self.unit,
            "median": round(self.median, 4),
            "lowest": round(min(self.rounds), 4),
            "highest": round(max(self.rounds), 4),
            "rounds": [round(value, 4) for value in self.rounds],
        }


def rates(rounds: Sequence[float]) -> Figure:
    """Radiographs per second, round by round."""
    return Figure(unit=RATE, rounds=tuple(rounds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns. A cell is text, a number, or None where there is nothing to say."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was measured: the parts of a result's name. A benchmark without a model leaves them empty."""

    model: str = ""
    """The bundle's id."""
    architecture: str = ""
    size: int = 0
    """S, in pixels."""
    precision: str = ""
    runtime: str = ""
    batch: int = 0
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of one benchmark."""

    kind: str
    """The command: decode, model, write, score, scale, peers."""
    what: str
    """What the figures are, in a sentence."""
    subject: Subject
    figures: Mapping[str, Figure]
    shares: Mapping[str, float] = field(default_factory=dict)
    """`a of b` -> from 0 to 1."""
    stages: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    """Title -> table."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What it was measured on: radiographs, distinct files, formats."""
    not_run: Mapping[str, str] = field(default_factory=dict)
    """What could have been measured -> why it was not, with the command that would change it."""
    machine: Mapping[str, Any] = field(default_factory=describe_machine)
    command: str = field(default_factory=command_line)
    revision: str | None = field(default_factory=revision)
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def name(self) -> str:
        """Of its file, without suffix."""
        subject = self.subject
        size = str(subject.size) if subject.size else ""
        parts = (self.kind, subject.architecture, size, subject.precision, subject.runtime)
        return "_".join([*filter(None, parts), hardware(subject.workers), self.at[:10]])

    def as_dict(self) -> dict[str, Any]:
        """The content of the file."""
        figures = {name: figure.as_dict() for name, figure in self.figures.items()}
        return {"format": FORMAT, **asdict(self), "figures": figures}


def write_result(result: Result, folder: Path) -> Path:
    """Write `result` into `folder`; a second one of the same day gets a number. Raises EnvironmentFault."""
    number = 1
    while True:
        path = folder / f"{result.name}{f'-{number}' if number > 1 else ''}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(result.as_dict(), indent=2, ensure_ascii=False) + "\n")
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise from_os_error(error, path) from None


def read_result(path: Path) -> Result:
    """The inverse of `write_result`. Raises UsageError MX-U001 where `path` holds no result of this form."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise UsageError("MX-U001", "a result of another form", path=path, fix="measure it again")
        figures = {
            name: Figure(unit=figure["unit"], rounds=tuple(figure["rounds"]))
            for name, figure in values.pop("figures").items()
        }
        tables = {
            title: Table(columns=tuple(table["columns"]), rows=tuple(tuple(row) for row in table["rows"]))
            for title, table in values.pop("tables").items()
        }
        return Result(
            **{**values, "subject": Subject(**values["subject"])},
            figures=figures,
            tables=tables,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"no result of `mxbatch bench`: {type(error).__name__} {error}"
        raise UsageError("MX-U001", why, path=path, fix="name a JSON file of bench/results") from None
