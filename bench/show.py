"""A result for people: tables on stdout, and the same tables as Markdown for docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mxbatch.bench.economy import cost_per_million
from mxbatch.bench.result import RATE, Figure, Result, Table
from mxbatch.engine.show import console, say, shown, tabulate


def show_result(result: Result, path: Path | None, price_per_hour: float | None = None) -> None:
    """Everything that the result says; `path` is where it was written, if it was."""
    subject = result.subject
    how = [f"{subject.runtime}-{subject.precision}"] if subject.runtime else []
    how += [f"{subject.workers} workers"] if subject.workers > 1 else []
    say(f"{result.kind}: {result.what}")
    if subject.model:
        say(" · ".join([subject.model, *how]))
    for title, table in tables(result, price_per_hour).items():
        say("")
        show_table(title, table)
    for name, why in result.not_run.items():
        say(f"{name} not run: {why}")
    if path is not None:
        say(f"result: {shown(path)}")


def show_table(title: str, table: Table) -> None:
    """One table on stdout, under its title; nothing where it has no rows."""
    if table.rows:
        say(title)
        rows = (["–" if cell is None else cell for cell in row] for row in table.rows)
        console.print(tabulate(table.columns, rows))


def tables(result: Result, price_per_hour: float | None = None) -> dict[str, Table]:
    """All that a result says, as tables: its figures, its shares, and its own."""
    found = {"figures": figures_table(result.figures, price_per_hour)}
    if result.shares:
        rows = tuple((name, f"{share:.1%}") for name, share in result.shares.items())
        found["shares"] = Table(columns=("share", "reached"), rows=rows)
    return {**found, **result.tables}


def figures_table(figures: Mapping[str, Figure], price_per_hour: float | None = None) -> Table:
    """A row per figure; with a price, what a million radiographs cost at that rate."""
    columns = ["figure", "median", "unit", "lowest", "highest", "spread"]
    columns += ["per million"] if price_per_hour is not None else []
    return Table(columns=tuple(columns), rows=tuple(_rows(figures, price_per_hour)))


def _rows(figures: Mapping[str, Figure], price_per_hour: float | None) -> Iterator[tuple[Any, ...]]:
    for name, figure in figures.items():
        lowest, highest = min(figure.rounds), max(figure.rounds)
        row = (
            name,
            short(figure.median),
            figure.unit,
            short(lowest),
            short(highest),
            f"{figure.spread:.1%}",
        )
        if price_per_hour is None:
            yield row
        else:
            priced = figure.unit == RATE and figure.median > 0
            yield *row, (round(cost_per_million(figure.median, price_per_hour), 2) if priced else None)


def short(value: float) -> float:
    """As many digits as mean something."""
    return round(value, 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 4)


def markdown(result: Result) -> str:
    """The tables of a result, as docs/performance.md shows them."""
    return "\n".join(f"{_heading(title)}{_grid(table)}" for title, table in tables(result).items())


def _heading(title: str) -> str:
    return f"*{title}*\n\n"


def _grid(table: Table) -> str:
    def line(cells: Any) -> str:
        return f"| {' | '.join('–' if cell is None else str(cell) for cell in cells)} |\n"

    numeric = [
        all(isinstance(row[n], int | float | None) for row in table.rows) for n in range(len(table.columns))
    ]
    return (
        line(table.columns)
        + line("---:" if right else "---" for right in numeric)
        + "".join(line(row) for row in table.rows)
    )
