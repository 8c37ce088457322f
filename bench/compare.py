"""Two results side by side: `mxbatch bench compare A B`. Ratios are B over A, of medians.

A ratio that lies within what the rounds of either result differ among themselves says nothing, and is marked so. Two
runs on a shared machine are two different machines: rounds of one run compare better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mxbatch.bench.result import Figure, Result, Table
from mxbatch.engine.errors import UsageError

WITHIN_NOISE = "within the spread"
ABSENT = "in one only"


def compare(first: Result, second: Result) -> dict[str, Table]:
    """Figures and shares of both with their ratios, and what else differs between the two results.

    Raises UsageError MX-U001 for results of different kinds.
    """
    if first.kind != second.kind:
        what = f"one is a result of `bench {first.kind}`, the other of `bench {second.kind}`"
        raise UsageError("MX-U001", what, fix="compare results of one kind")
    names = [*first.figures, *(name for name in second.figures if name not in first.figures)]
    figures = tuple(_figure_row(name, first.figures.get(name), second.figures.get(name)) for name in names)
    shares = tuple(
        (name, f"{first.shares[name]:.1%}", f"{second.shares[name]:.1%}")
        for name in first.shares
        if name in second.shares
    )
    before, after = facts(first), facts(second)
    differ = tuple(
        (name, before.get(name), after.get(name))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    )
    return {
        "figures": Table(columns=("figure", "unit", "A", "B", "B over A", ""), rows=figures),
        "shares": Table(columns=("share", "A", "B"), rows=shares),
        "what else differs": Table(columns=("fact", "A", "B"), rows=differ),
    }


def _figure_row(name: str, a: Figure | None, b: Figure | None) -> tuple[Any, ...]:
    if a is None or b is None:
        found = a or b
        return (
            name,
            found.unit if found else None,
            *(round(figure.median, 2) if figure else None for figure in (a, b)),
            None,
            ABSENT,
        )
    ratio = b.median / a.median if a.median else None
    overlap = max(min(a.rounds), min(b.rounds)) <= min(max(a.rounds), max(b.rounds))
    return (
        name,
        a.unit,
        round(a.median, 2),
        round(b.median, 2),
        None if ratio is None else round(ratio, 3),
        WITHIN_NOISE if overlap else "",
    )


def facts(result: Result) -> dict[str, Any]:
    """What a result was measured on and with, flat: `machine.versions.torch` -> its version."""
    parts = {
        "revision": result.revision,
        "command": result.command,
        "machine": result.machine,
        "data": result.data,
        **{name: getattr(result.subject, name) for name in type(result.subject).__slots__},
    }
    return dict(_flat("", parts))


def _flat(prefix: str, value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, inner in value.items():
        flat += (
            _flat(f"{prefix}{name}.", inner) if isinstance(inner, Mapping) else [(f"{prefix}{name}", inner)]
        )
    return flat
