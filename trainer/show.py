"""What the trainer's commands say at their end: lines and tables on stdout, progress on stderr."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mxbatch.engine.show import console, counted, say, show_summary, shown, tabulate
from mxbatch.engine.storage import within

if TYPE_CHECKING:
    from mxbatch.engine.score import Summary
    from mxbatch.trainer.evaluate import Evaluation
    from mxbatch.trainer.phantom.archive import ArchiveSummary
    from mxbatch.trainer.recipes import Entry
    from mxbatch.trainer.train import Trained


@contextmanager
def drawing(total: int) -> Iterator[Callable[[int], None]]:
    """A bar over `total` specimens on stderr; gives what is called after each with its count of radiographs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("drawing"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[radiographs]} radiographs"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, radiographs=0)
        done = 0

        def advance(radiographs: int) -> None:
            nonlocal done
            done += radiographs
            bar.update(task, advance=1, radiographs=done)

        yield advance


def show_archive(summary: ArchiveSummary) -> None:
    say(
        f"{shown(summary.root)}: {counted(summary.radiographs, 'radiograph')} of {summary.specimens} phantoms,"
        f" {summary.abnormal} of them with a finding"
    )
    console.print(tabulate(["centre", "radiographs"], summary.by_centre.items()))
    console.print(tabulate(["view", "radiographs"], summary.by_view.items()))
    console.print(tabulate(["class", "phantoms with it"], summary.by_class.items()))


def show_recipes(entries: Sequence[Entry]) -> None:
    rows = ((e.name, e.recipe.input.size, " ".join(e.recipe.views), e.summary) for e in entries)
    console.print(tabulate(["recipe", "pixels", "views", "what it is"], rows))
    say("Train one: mxbatch train RECIPE --archive ARCHIVE --out BUNDLE")


def show_trained(trained: Trained) -> None:
    known = {level: auc for level, auc in trained.test_auc.items() if not math.isnan(auc)}
    measured = (
        " · ".join(f"L{level} {auc:.3f}" for level, auc in known.items()) or "nothing could be measured"
    )
    say(f"{trained.bundle.model_id}")
    say(f"  bundle    {shown(trained.bundle.path)}")
    say(f"  the way   {shown(trained.run)}")
    say(f"  mean AUC  {measured}, on animal lines that it never saw")
    say(f"Use it: mxbatch score ARCHIVE --model {shown(trained.bundle.path)}")


def show_evaluation(evaluation: Evaluation) -> None:
    for grid in evaluation.grids():
        console.print(grid.rich())
    for warning in evaluation.warnings:
        say(warning)
    say(f"all figures: {shown(evaluation.out)}/report.md, metrics.csv, predictions.parquet")


def show_demo(folder: Path, summary: Summary) -> None:
    show_summary(summary)
    calls = shown(within(summary.out, "calls"))
    say("")
    say("Read the calls:")
    say(f"  pandas  pandas.read_parquet({str(calls)!r})")
    say(f"  DuckDB  SELECT specimen_id, call, p_abnormal FROM '{calls}/*/*.parquet'")
    say(f"  Arrow   mxbatch.read_calls({str(shown(summary.out))!r})   the newest row per specimen")
    say(f"What is truly wrong with whom: {shown(folder / 'archive' / 'truth.csv')}")
    say("Score your own archive: mxbatch score ARCHIVE")
