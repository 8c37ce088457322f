"""The tables of an evaluation: one shape for the terminal and for report.md, and the papers' numbers in it."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxbatch.engine.taxonomy import LEVELS
from mxbatch.trainer.compare import MULTIVIEW, Difference, column_of, family_of, label_of
from mxbatch.trainer.judge import Judged
from mxbatch.trainer.measure import CONDITIONAL, MARGINAL, MEAN, Figure

if TYPE_CHECKING:
    from rich.table import Table

PAPER = Path(__file__).with_name("paper.toml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table of text. Cells are shown as they are, never as markup."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    dim: frozenset[int] = frozenset()
    """Rows that are not ours."""

    def markdown(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        rows = [
            line([f"*{cell}*" if cell and n in self.dim else cell for cell in row])
            for n, row in enumerate(self.rows)
        ]
        body = "\n".join([line(self.header), line(["---"] * len(self.header)), *rows])
        return f"### {self.title}\n\n{body}\n" + (f"\n{self.note}\n" if self.note else "")

    def rich(self) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            *self.header,
            title=Text(self.title),
            caption=Text(self.note),
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for n, column in enumerate(table.columns):
            column.no_wrap = any("[" in row[n] for row in self.rows)  # names fold, figures do not
        for n, row in enumerate(self.rows):
            table.add_row(*(Text(cell) for cell in row), style="dim italic" if n in self.dim else None)
        return table


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One evaluated model and its figures."""

    judged: Judged
    figures: tuple[Figure, ...]

    def figure(self, level: int, node: str, kind: str, metric: str) -> Figure | None:
        wanted = (level, node, kind, metric)
        return next((f for f in self.figures if (f.level, f.node, f.kind, f.metric) == wanted), None)


def backbone_grid(entries: Sequence[Entry], kind: str, data: str) -> Grid:
    """Backbone x level x views: mean AUC with its interval, the paper's numbers under ours.

    Level 1 has no parent, so both kinds show its marginal AUC. `data` says what ours were measured on.
    """
    columns = list(dict.fromkeys(["DV", "LV", "MV", *(column_of(entry.judged.views) for entry in entries)]))
    rows: list[tuple[str, ...]] = []
    theirs = set()
    for level in LEVELS:
        cells: dict[str, dict[str, str]] = {}
        for entry in entries:
            label, column = label_of(entry.judged), column_of(entry.judged.views)
            if column in cells.get(label, {}):  # the same kind of model twice: seeds, or other training
                label = f"{label}, {entry.judged.bundle.model_id}"
            figure = entry.figure(level, MEAN, MARGINAL if level == 1 else kind, "auc")
            cells.setdefault(label, {})[column] = with_interval(figure)
        rows += [
            (f"L{level}", label, *(row.get(column, "") for column in columns)) for label, row in cells.items()
        ]
        families = {family_of(entry.judged.bundle.recipe.backbone) for entry in entries}
        for row in _papers()["paper"]["results"]:
            if row["level"] == level and row["backbone"] in {*families, "any"}:
                theirs.add(len(rows))
                name = "any backbone" if row["backbone"] == "any" else row["backbone"]
                rows.append(
                    (f"L{level}", f"paper: {name}", *(_number(row.get(column)) for column in columns))
                )
    return Grid(
        title=f"Mean AUC by level and views, {kind}",
        header=("level", "model", *columns),
        rows=tuple(rows),
        dim=frozenset(theirs),
        note=f"Different data: ours are {data}; the paper's are {_papers()['paper']['data']}"
        f" ({_papers()['paper']['citation']}). Brackets: 95 % by bootstrap over animal lines."
        + (
            " Levels 2 and 3 among specimens whose parent class is truly abnormal."
            if kind == CONDITIONAL
            else ""
        ),
    )


def difference_grid(differences: Sequence[Difference]) -> Grid:
    """A row per pair of models and kind, a column per level; the papers' own differences under them."""
    found: dict[tuple[str, str, str, str], dict[int, Difference]] = {}
    for one in differences:
        found.setdefault((one.what, one.family, one.model, one.kind), {})[one.level] = one
    rows, theirs = [], set()
    for (what, family, model, kind), levels in found.items():
        cells = [signed(levels[level]) if level in levels else "" for level in LEVELS]
        rows.append((what, model, kind, *cells, str(max(one.specimens for one in levels.values()))))
        papers = [_papers_difference(what, family, level) for level in LEVELS]
        if kind == CONDITIONAL and any(papers):
            theirs.add(len(rows))
            rows.append((what, f"paper: {family}", "", *papers, ""))
    return Grid(
        title="Paired differences of mean AUC",
        header=("difference", "model", "kind", *(f"L{level}" for level in LEVELS), "specimens"),
        rows=tuple(rows),
        dim=frozenset(theirs),
        note="On the specimens that both models can judge, the same animal lines drawn for both; the papers' are on"
        " other data and have no interval. The best single view is picked on these specimens, which favours it.",
    )


def node_grid(entry: Entry) -> Grid:
    """Per class: how well specimens are ranked."""
    rows = []
    for level, node in _places(entry):
        marginal = [entry.figure(level, node, MARGINAL, metric) for metric in ("auc", "average_precision")]
        conditional = [
            entry.figure(level, node, CONDITIONAL, metric) for metric in ("auc", "average_precision")
        ]
        of = marginal[0]
        rows.append(
            (
                f"L{level}",
                f"mean of {of.nodes}" if of and node == MEAN else node,
                "" if of is None or node == MEAN else f"{of.positives} of {of.specimens}",
                *(with_interval(figure) for figure in (*marginal, *conditional)),
            )
        )
    return Grid(
        title="Ranking",
        header=(
            "level",
            "class",
            "abnormal",
            "AUC",
            "average precision",
            "AUC among abnormal",
            "AP among abnormal",
        ),
        rows=tuple(rows),
    )


CALL_METRICS = ("sensitivity", "specificity", "ppv", "npv", "f1", "review_share", "missed", "ece")


def call_grid(entry: Entry) -> Grid:
    """Per class: what the calls at the bundle's thresholds are worth, and how honest the probabilities are."""
    rows = [
        (
            f"L{level}",
            "mean" if node == MEAN else node,
            *(with_interval(entry.figure(level, node, MARGINAL, metric), 2) for metric in CALL_METRICS),
        )
        for level, node in _places(entry)
    ]
    return Grid(
        title="Calls at the bundle's thresholds",
        header=("level", "class", *(metric.replace("_", " ") for metric in CALL_METRICS)),
        rows=tuple(rows),
        note="sensitivity to f1: of the specimens that are not under review. missed: abnormal specimens called"
        " normal, of all abnormal ones. ece: calibration error over 15 bins of equal mass.",
    )


def with_interval(figure: Figure | None, digits: int = 3) -> str:
    """`0.871 [0.840, 0.900]`; what has no value says why."""
    if figure is None:
        return ""
    if math.isnan(figure.value):
        return f"n/a, {figure.positives} positive" if figure.node != MEAN else "n/a"
    low, high = figure.interval
    bounds = "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{figure.value:.{digits}f}{bounds}"


def signed(difference: Difference) -> str:
    """`+0.084 [+0.034, +0.137] over LV`."""
    if math.isnan(difference.value):
        return "n/a"
    bounds = "" if math.isnan(difference.low) else f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return f"{difference.value:+.3f}{bounds}" + (f" over {difference.over}" if difference.over else "")


def _places(entry: Entry) -> list[tuple[int, str]]:
    """Every class of the tree, the mean after each level of several."""
    taxonomy = entry.judged.bundle.taxonomy
    places = []
    for level in LEVELS:
        nodes = taxonomy.level(level)
        places += [(level, node.name) for node in nodes]
        places += [(level, MEAN)] if len(nodes) > 1 else []
    return places


def _papers_difference(what: str, family: str, level: int) -> str:
    """The same difference between numbers that the papers print, where they do."""
    for row in _papers()["paper" if what == MULTIVIEW else "predecessor"]["results"]:
        if (row["level"], row["backbone"]) == (level, family):
            gain = (
                row["MV"] - max(row["DV"], row["LV"])
                if what == MULTIVIEW
                else row["hierarchical"] - row["direct"]
            )
            return f"{gain:+.2f}"
    return ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


@cache
def _papers() -> Mapping[str, Any]:
    return tomllib.loads(PAPER.read_text(encoding="utf-8"))
