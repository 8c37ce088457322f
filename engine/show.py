"""Results for people, on stdout. Data is printed as text, never as markup."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mxbatch.engine.errors import one_line
from mxbatch.engine.provenance import LEARNED_FROM
from mxbatch.engine.storage import Place, within

if TYPE_CHECKING:
    import pyarrow as pa

    from mxbatch.engine.archive.index import Archive
    from mxbatch.engine.doctor import Finding
    from mxbatch.engine.ledger import RunRecord
    from mxbatch.engine.recall import Recalled
    from mxbatch.engine.score import Summary


console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def show_summary(summary: Summary) -> None:
    if summary.dry_run:
        planned = summary.planned
        say(
            f"would score {counted(planned['specimens'], 'specimen')}, {counted(planned['radiographs'], 'radiograph')}"
            f" in {counted(planned['shards'], 'shard')} with {summary.model_id}; nothing was written"
        )
        return
    if not summary.runs:
        say(f"nothing new: every specimen has been scored with {summary.model_id}")
        return
    for record in summary.runs:
        _show_record(record)
    say(f"  calls       {shown(within(summary.out, 'calls'))}")
    say(f"  report      {shown(within(summary.out, 'report.html'))}")
    if summary.quarantined:
        say(f"  quarantine  mxbatch quarantine {shown(summary.out)}")
    _warn(LEARNED_FROM[summary.learned_from].warning, indent="  ")


def _warn(warning: str, indent: str = "") -> None:
    if warning:
        console.print(Text(f"{indent}{warning}", style="bold yellow"))


def _show_record(record: RunRecord) -> None:
    counts, seconds = record.counts, record.seconds
    lost = (
        f", {counted(counts['specimens_lost'], 'specimen')} wholly in quarantine"
        if counts["specimens_lost"]
        else ""
    )
    say(f"run {record.run_id} with {record.model_id}")
    say(f"  specimens   {counts['calls']} called{lost}")
    say(f"  radiographs {counts['radiographs_used']} used, {counts['radiographs_quarantined']} in quarantine")
    rate = (
        f"{record.radiographs_per_s} radiographs/s, mostly {record.bottleneck}"
        if record.bottleneck
        else "no work left"
    )
    say(f"  speed       {rate}; {seconds['wall']:.1f} s, of which {seconds['startup']:.1f} s to start")


def show_index(archive: Archive) -> None:
    counts = archive.counts()
    beside = f", index {archive.index_file.name}" if archive.index_file else ", no index"
    say(
        f"{counts['radiographs']} radiographs of {counts['specimens']} specimens, {counts['usable']} usable"
        f" ({archive.layout} layout{beside})"
    )
    for title in ("centre", "view", "format"):
        console.print(tabulate([title, "radiographs"], counts[f"by_{title}"].items()))
    if counts["by_code"]:
        reasons = dict(
            zip(archive.index["code"].to_pylist(), archive.index["reason"].to_pylist(), strict=True)
        )
        rows = ((code, number, reasons[code]) for code, number in counts["by_code"].items())
        console.print(tabulate(["code", "radiographs", "for example"], rows))


def show_runs(states: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            state["run_id"],
            state["state"]
            if state["state"] == "finished"
            else f"{state['shards_committed']} of {state['planned']['shards']} shards",
            state["counts"].get("calls", "–"),
            state["counts"].get("radiographs_quarantined", "–"),
            state["radiographs_per_s"] or "–",
            state["bottleneck"] or "–",
            state["model_id"],
        )
        for state in states
    ]
    console.print(tabulate(["run", "state", "calls", "refused", "per s", "mostly", "model"], rows))
    if any(state["state"] != "finished" for state in states):
        say("An unfinished run goes on when the same `mxbatch score` command is given again.")
    for origin in LEARNED_FROM:
        if any(state["learned_from"] == origin for state in states):
            _warn(LEARNED_FROM[origin].warning)


def show_recalled(recalled: Recalled) -> None:
    say(f"{shown(recalled.to)}: {counted(recalled.table.num_rows, 'specimen')} by {recalled.model_id}")
    console.print(tabulate(["was", "is", "specimens"], ((*pair, n) for pair, n in recalled.calls.items())))
    say(f"{counted(recalled.findings_changed, 'specimen')} with the same call and other findings")


def show_quarantine(table: pa.Table) -> None:
    if not table.num_rows:
        say("nothing is in quarantine")
        return
    rows = table.select(["code", "name", "path", "reason"]).to_pylist()
    console.print(tabulate(["code", "name", "radiograph", "reason"], (row.values() for row in rows)))
    codes = Counter(row["code"] for row in rows)
    say(f"{counted(len(rows), 'radiograph')}; `mxbatch explain {codes.most_common(1)[0][0]}` says what to do")


def show_info(facts: Mapping[str, Any]) -> None:
    say(f"mxbatch {facts['version']}")
    say(f"views    {' '.join(facts['views'])}")
    for number, (name, holds) in enumerate(facts["formats"].items()):
        say(f"{'formats ' if number == 0 else '        '} {name}: {holds}")
    say(f"taxonomy {facts['taxonomy']['name']} {facts['taxonomy']['version']}")
    for node in facts["taxonomy"]["nodes"]:
        say(f"  {'  ' * (node['level'] - 1)}{node['name']}: {node['title']} {' '.join(['', *node['mp']])}")
    console.print(tabulate(["flag", "meaning"], facts["flags"].items()))


def show_compiled(made: Mapping[str, Any]) -> None:
    say(f"{made['model_id']} with {made['runtime']} in {made['precision']} on {made['device']}")
    if made["radiographs_per_s"]:
        say(f"  speed   {made['radiographs_per_s']} radiographs/s per worker, {made['batch']} at a time")
    if made["engine"]:
        say(f"  engine  {made['engine']}")


def show_findings(findings: Iterable[Finding]) -> None:
    rows = ((finding.mark, finding.name, finding.what, finding.fix) for finding in findings)
    console.print(tabulate(["", "part", "found", "to do"], rows))


def tabulate(titles: Sequence[str], rows: Iterable[Iterable[Any]]) -> Table:
    """Rows as text, numbers to the right; cells are shown as they are, never as markup."""
    table = Table(*titles, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    numeric: set[int] = set()
    for row in rows:
        cells = list(row)
        numeric |= {n for n, cell in enumerate(cells) if isinstance(cell, int | float)}
        table.add_row(*(Text(one_line(str(cell)) or "–") for cell in cells))
    for n in numeric:
        table.columns[n].justify = "right"
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].no_wrap = True
    return table


def say(line: str) -> None:
    """One line on stdout."""
    console.print(Text(one_line(line)))


def shown(place: Place) -> Place:
    """The place as a user would type it here."""
    here = Path.cwd()
    return place.relative_to(here) if isinstance(place, Path) and place.is_relative_to(here) else place


def counted(number: int, noun: str) -> str:
    """`1 shard`, `2 shards`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
