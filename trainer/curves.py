"""curves.png: the epochs of a training at a glance, loss above, what it is good for below."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mxbatch.engine.storage import write_atomically
from mxbatch.engine.taxonomy import LEVELS
from mxbatch.trainer.history import Row

COLOURS = {"loss": "#334155", "validation_loss": "#d97706", 1: "#0f766e", 2: "#2563eb", 3: "#9333ea"}


def write_curves(run: Path, rows: Sequence[Row]) -> None:
    """Replace `run`/curves.png, whole or not at all."""
    write_atomically(run / "curves.png", draw_curves(rows))


def draw_curves(rows: Sequence[Row]) -> bytes:
    """A PNG: training and validation loss, validation AUC per level, the phases as bands that carry their names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    losses, auc = figure.subplots(2, 1, sharex=True)
    starts = [n for n, row in enumerate(rows) if not n or row["stage"] != rows[n - 1]["stage"]]
    spans = list(pairwise([*starts, len(rows)]))
    line = {"lw": 1.8, "marker": "o", "ms": 3}
    for key, label in (("loss", "training loss"), ("validation_loss", "validation loss")):
        values = _column(rows, key)
        for start, end in spans:  # a phase has its own loss: no line leads from one to the next
            here = None if start else label
            losses.plot(range(start + 1, end + 1), values[start:end], color=COLOURS[key], label=here, **line)
    for level in LEVELS:
        values = _column(rows, f"auc_l{level}")
        auc.plot(range(1, len(rows) + 1), values, color=COLOURS[level], label=f"level {level}", **line)
    losses.set_ylabel("loss")
    losses.set_ylim(bottom=0)
    auc.set_ylabel("validation AUC, mean over classes")
    auc.set_ylim(0.4, 1.01)
    auc.axhline(0.5, color="#94a3b8", lw=0.8, ls=":")
    auc.set_xlabel("epoch")
    auc.xaxis.get_major_locator().set_params(integer=True)

    for number, (start, end) in enumerate(spans):
        for axes in (losses, auc):
            axes.axvspan(start + 0.5, end + 0.5, color="#64748b", alpha=0.10 if number % 2 else 0.0, lw=0)
        losses.annotate(
            rows[start]["stage"],
            ((start + end + 1) / 2, 1.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=9,
            color="#475569",
        )
    for axes in (losses, auc):
        axes.grid(axis="y", color="#e2e8f0", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0.5, len(rows) + 0.5)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="best", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row.get(name, "nan")) for row in rows]
