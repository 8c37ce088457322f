"""A picture of a result: where the time of a run went, or its figures with their spread. Needs matplotlib."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mxbatch.bench.result import RATE, Result
from mxbatch.bench.score import LOADER, MODEL, STALLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID = "#222222", "#dddddd"
COLOURS = {
    "read": "#6d7d8b",
    "decode": "#3b6fb6",
    "wait": "#dddddd",
    "encode": "#d1773a",
    "fuse": "#4f9d69",
    "write": "#7a68a6",
    "rest": "#b5485d",
}
WIDE = 30
"""Rates that lie so far apart are drawn on a logarithmic scale."""
NEEDS = "pip install 'mxbatch[train]'"


def drawable() -> bool:
    """Whether a picture can be drawn here."""
    return find_spec("matplotlib") is not None


def draw(result: Result, path: Path) -> None:
    """Write the picture of `result` to `path`, a PNG."""
    from matplotlib.figure import Figure

    rows = 2 if result.stages else sum(figure.unit == RATE for figure in result.figures.values())
    page = Figure(figsize=(8, 1.4 + 0.4 * rows), layout="constrained", facecolor="white")
    axes = page.subplots()
    _stalls(axes, result) if result.stages else _bars(axes, result)
    axes.set_title(result.name, fontsize=8, color=INK, loc="left")
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    page.savefig(path, dpi=120, metadata={"Software": None})


def _stalls(axes: Axes, result: Result) -> None:
    """A bar for the workers' clock, divided by stage; above it what the loader threads did meanwhile."""
    threads = {str(row[0]): row[1] for row in result.tables[STALLS].rows}
    lanes = (MODEL, LOADER)
    named = set()
    for row, lane in enumerate(lanes):
        left = 0.0
        for stage, seconds in result.stages.items():
            if threads[stage] != lane:
                continue
            axes.barh(
                row,
                seconds,
                left=left,
                color=COLOURS[stage],
                label=None if stage in named else stage,
                height=0.6,
            )
            named.add(stage)
            left += seconds
    axes.set_yticks(range(len(lanes)), [f"{lane} threads" for lane in lanes])
    axes.set_xlabel("seconds, all workers", fontsize=8, color=INK)
    axes.legend(ncols=len(COLOURS), frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.1))


def _bars(axes: Axes, result: Result) -> None:
    """A bar per rate: its median, with a line from the lowest round to the highest."""
    shown = {name: figure for name, figure in result.figures.items() if figure.unit == RATE}
    for row, figure in enumerate(reversed(shown.values())):
        axes.barh(row, figure.median, color=COLOURS["decode"], height=0.6)
        axes.plot([min(figure.rounds), max(figure.rounds)], [row, row], color=INK, linewidth=1.2)
    medians = [figure.median for figure in shown.values() if figure.median > 0]
    if medians and max(medians) > WIDE * min(medians):
        axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), list(reversed(shown)))
    axes.set_xlabel(RATE, fontsize=8, color=INK)
