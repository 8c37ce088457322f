"""Pictures of an evaluation: ROC, precision and recall, reliability. A row per model, a panel per level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mxbatch.engine.taxonomy import LEVELS
from mxbatch.trainer.compare import column_of, label_of
from mxbatch.trainer.measure import MARGINAL, Question, questions
from mxbatch.trainer.metrics import reliability
from mxbatch.trainer.results_table import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID = "#222222", "#dddddd"
COLOURS = (
    "#3b6fb6", "#d1773a", "#4f9d69", "#b5485d", "#7a68a6",
    "#8c6d4f", "#c66fa8", "#6d7d8b", "#a3a13c", "#45a5b5",
)  # fmt: skip
"""Told apart by most eyes, also in print; the order of a level's classes."""
TITLES = {1: "Level 1: abnormal or not", 2: "Level 2: regions", 3: "Level 3: classes"}


def draw(entries: Sequence[Entry], folder: Path, data: str) -> None:
    """Write roc.png, pr.png and reliability.png. All marginal: every specimen with a label counts."""
    _page(entries, folder / "roc.png", f"ROC, on {data}", _roc, ("false positive rate", "sensitivity"))
    _page(entries, folder / "pr.png", f"Precision and recall, on {data}", _pr, ("recall", "precision"))
    _page(
        entries,
        folder / "reliability.png",
        f"Reliability, on {data}",
        _reliability,
        ("predicted probability", "share that is abnormal"),
    )


Curve = Callable[["Axes", Entry, Question, str], None]


def _page(
    entries: Sequence[Entry], path: Path, title: str, curve: Curve, axes_names: tuple[str, str]
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    spaced = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)

    figure = Figure(figsize=(16.5, 4.1 * len(entries) + 0.6), dpi=110, layout=spaced, facecolor="white")
    FigureCanvasAgg(figure)  # never pyplot: it keeps state and may look for a screen
    figure.suptitle(title, fontsize=15, color=INK, x=0.005, ha="left", weight="bold")
    rows = figure.subfigures(len(entries), 1, squeeze=False)[:, 0]
    for entry, row in zip(entries, rows, strict=True):
        judged = entry.judged
        name = f"{label_of(judged)}, {column_of(judged.views)} · {judged.bundle.model_id}"
        row.suptitle(
            f"{name} · {len(judged.keys)} specimens", fontsize=10, color="#666666", x=0.005, ha="left"
        )
        asked = [
            question
            for question in questions(judged.p_NK, judged.labels_NK, judged.bundle.taxonomy)
            if question.kind == MARGINAL
        ]
        for level, axes in zip(LEVELS, row.subplots(1, len(LEVELS)), strict=True):
            _frame(axes, axes_names)
            if curve is not _pr:
                axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=(0, (2, 3)))
            axes.set_title(TITLES[level], fontsize=11, loc="left", color=INK)
            for number, question in enumerate(q for q in asked if q.level == level):
                if len(question.true_n):
                    curve(axes, entry, question, COLOURS[number % len(COLOURS)])
            if axes.get_legend_handles_labels()[0]:
                beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}
                axes.legend(fontsize=8, labelcolor=INK, handlelength=1.3, **beside)
    figure.savefig(path, metadata={"Software": None})


def _frame(axes: Axes, names: tuple[str, str]) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    axes.set_xlabel(names[0], fontsize=9, color=INK)
    axes.set_ylabel(names[1], fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _roc(axes: Axes, entry: Entry, question: Question, colour: str) -> None:
    from sklearn.metrics import roc_curve

    if not 0 < question.true_n.sum() < len(question.true_n):
        return
    fall_out, sensitivity, _ = roc_curve(question.true_n, question.score_n)
    axes.plot(fall_out, sensitivity, color=colour, linewidth=1.6, label=_named(entry, question, "auc", "AUC"))


def _pr(axes: Axes, entry: Entry, question: Question, colour: str) -> None:
    from sklearn.metrics import precision_recall_curve

    if not question.true_n.any():
        return
    precision, recall, _ = precision_recall_curve(question.true_n, question.score_n)
    axes.axhline(question.true_n.mean(), color=colour, linewidth=0.6, linestyle=(0, (2, 3)))
    label = _named(entry, question, "average_precision", "AP")
    axes.plot(recall, precision, color=colour, linewidth=1.6, drawstyle="steps-post", label=label)


def _reliability(axes: Axes, entry: Entry, question: Question, colour: str) -> None:
    predicted, observed, _ = reliability(question.score_n, question.true_n)
    label = _named(entry, question, "ece", "ECE")
    axes.plot(
        predicted, observed, color=colour, linewidth=1.2, marker="o", markersize=3.5, alpha=0.9, label=label
    )


def _named(entry: Entry, question: Question, metric: str, short: str) -> str:
    figure = entry.figure(question.level, question.name, MARGINAL, metric)
    value = np.nan if figure is None else figure.value
    return f"{question.name}  {short} {value:.2f} ({int(question.true_n.sum())})"
