"""What the report says, counted: pure functions from the tables of a run folder to numbers and few rows.

Arrow counts the rows, however many they are; Python sees a few of each kind.
"""

# N specimens

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.errors import CODES
from mxbatch.engine.flags import FLAGS
from mxbatch.engine.ledger import RunRecord
from mxbatch.engine.provenance import LEARNED_FROM
from mxbatch.engine.taxonomy import Node, Taxonomy, read_taxonomy

BINS = 20
TOP = 25
EXAMPLES = 3
RUNS = 30
"""Runs shown, the newest first: a centre that scores every night has hundreds."""

CALLS = ("abnormal", "review", "normal", "unscored")
"""In the order in which somebody wants to know."""
NOT_STAGES = ("wall", "startup")
TOP_COLUMNS = (
    *("centre", "specimen_id", "date_of_experiment", "gene_symbol", "zygosity", "sex"),
    *("l2_calls", "l3_calls", "views_used", "flags"),
)

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A piece of a stacked bar; `start` and `share` are fractions of the whole."""

    name: str
    amount: float
    start: float
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What came of one node of the taxonomy. `share` is None where no specimen was judged."""

    name: str
    title: str
    level: int
    judged: int
    abnormal: int
    review: int
    bins: tuple[int, ...]
    """Specimens by probability: `BINS` equal steps from 0 to 1."""

    @property
    def share(self) -> float | None:
        return _share(self.abnormal, self.judged)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Everything the page says. Rows are what their section of template.html shows, in its order."""

    specimens: int
    by_call: Mapping[str, int]
    calls: Sequence[Segment]
    warnings: Sequence[str]
    """What the models have learned from, where that is not radiographs."""
    lost: int
    """Specimens without any call: all of their radiographs are in quarantine."""
    quarantined: int
    """Radiographs in quarantine now."""
    nodes: Sequence[Judged]
    centres: Sequence[Row]
    top: Sequence[Row]
    codes: Sequence[Row]
    flags: Sequence[Row]
    runs: Sequence[RunRecord]
    """The newest first, `RUNS` at most."""
    earlier_runs: int
    stages: Sequence[Segment]
    """Work of the newest run, in seconds."""


def report_facts(
    calls: pa.Table, quarantine: pa.Table, runs: Sequence[RunRecord], taxonomy: Taxonomy | None = None
) -> Facts:
    """Count what the page shows.

    `calls` has a row per specimen (`calls_schema` of any taxonomy), `quarantine` is `QUARANTINE_SCHEMA`, and
    `runs` are the oldest first. `taxonomy` names the tree that the nodes stand in; None takes the built-in one.
    """
    calls, quarantine = (
        calls.combine_chunks(),
        quarantine.combine_chunks(),
    )  # a chunk per row is ten times slower
    called = _counts(calls["call"])
    by_call = {name: called.get(name, 0) for name in CALLS}
    flags = _list_counts(calls, "flags")
    return Facts(
        specimens=calls.num_rows,
        by_call=by_call,
        calls=_segments(by_call.items()),
        warnings=_warnings(flags, calls.num_rows, runs),
        lost=_lost(calls, quarantine),
        quarantined=quarantine.num_rows,
        nodes=_nodes(calls, taxonomy or read_taxonomy()),
        centres=_centres(calls, quarantine),
        top=_top(calls),
        codes=_codes(quarantine),
        flags=[
            {"name": name, "meaning": FLAGS.get(name), "specimens": flags[name]}
            for name in (*FLAGS, *sorted(flags.keys() - FLAGS.keys()))
            if name in flags
        ],
        runs=runs[: -RUNS - 1 : -1],
        earlier_runs=max(0, len(runs) - RUNS),
        stages=_segments(
            (stage, seconds)
            for stage, seconds in (runs[-1].seconds if runs else {}).items()
            if stage not in NOT_STAGES
        ),
    )


def _nodes(calls: pa.Table, taxonomy: Taxonomy) -> list[Judged]:
    names = [name.removeprefix("p_") for name in calls.column_names if name.startswith("p_")]
    abnormal = _list_counts(calls, "l2_calls") | _list_counts(calls, "l3_calls")
    root = pc.and_(pc.equal(calls["call"], "abnormal"), pc.is_valid(calls[f"p_{names[0]}"]))
    abnormal[names[0]] = pc.sum(root).as_py() or 0
    review = _list_counts(calls, "review")
    rows = []
    for name, level, title in _tree(names, taxonomy):
        p_N = calls[f"p_{name}"].drop_null().to_numpy()
        rows.append(
            Judged(
                name=name,
                title=title,
                level=level,
                judged=len(p_N),
                abnormal=abnormal.get(name, 0),
                review=review.get(name, 0),
                bins=tuple(np.histogram(p_N, bins=BINS, range=(0, 1))[0].tolist()),
            )
        )
    return rows


def _tree(names: Sequence[str], taxonomy: Taxonomy) -> list[tuple[str, int, str]]:
    """(name, level, title) of every node, parents above their children.

    Calls do not say which node is whose child. Where they are not of this taxonomy, the nodes are a list under the
    first one: a guessed tree would be worse than none.
    """

    def below(node: Node) -> list[tuple[str, int, str]]:
        children = (below(child) for child in taxonomy.nodes if child.parent == node.name)
        return [(node.name, node.level, node.title), *(row for rows in children for row in rows)]

    if set(taxonomy.names) == set(names):
        return below(taxonomy.nodes[0])
    return [(name, 2 if number else 1, "") for number, name in enumerate(names)]


def _centres(calls: pa.Table, quarantine: pa.Table) -> list[Row]:
    """Shares are of the specimens that were scored."""
    by_centre: dict[str, dict[str, int]] = {}
    for row in calls.group_by(["centre", "call"]).aggregate([([], "count_all")]).to_pylist():
        by_centre.setdefault(row["centre"], {})[row["call"]] = row["count_all"]
    quarantined = _counts(quarantine["centre"])
    rows = []
    for centre in by_centre.keys() | quarantined.keys():
        number = by_centre.get(centre, {})
        scored = sum(number.values()) - number.get("unscored", 0)
        rows.append(
            {
                "name": centre or "(not given)",
                "specimens": sum(number.values()),
                **{name: _share(number.get(name, 0), scored) for name in ("abnormal", "review")},
                "quarantined": quarantined.get(centre, 0),
            }
        )
    return sorted(rows, key=lambda row: (-row["specimens"], row["name"]))


def _top(calls: pa.Table) -> list[Row]:
    """The most abnormal specimens; equal ones by their key, so that the page does not depend on chance."""
    root = next(name for name in calls.column_names if name.startswith("p_"))
    scored = calls.filter(pc.field(root).is_valid())
    order = [(root, "descending"), *((name, "ascending") for name in KEY)]
    first = scored.take(pc.sort_indices(scored, sort_keys=order)[:TOP])
    rows: list[Row] = first.select(TOP_COLUMNS).append_column("p", first[root]).to_pylist()
    return rows


def _codes(quarantine: pa.Table) -> list[Row]:
    rows = []
    for code, number in sorted(_counts(quarantine["code"]).items(), key=lambda item: (-item[1], item[0])):
        same = quarantine.filter(pc.field("code") == code)
        known = CODES.get(code)
        rows.append(
            {
                "code": code,
                "name": known.name if known else same["name"][0].as_py(),
                "meaning": known.meaning if known else "a code of another version of mxbatch",
                "fix": known.fix if known else None,
                "radiographs": number,
                "examples": same["path"].take(pc.sort_indices(same["path"])[:EXAMPLES]).to_pylist(),
            }
        )
    return rows


def _warnings(flags: Mapping[str, int], specimens: int, runs: Sequence[RunRecord]) -> list[str]:
    """One sentence for each origin of a model that people must know of, with a count where it holds for some."""
    said = []
    for name, origin in LEARNED_FROM.items():
        count = flags.get(origin.flag or "", 0)
        if not origin.warning or not (count or (runs and runs[-1].learned_from == name)):
            continue
        some = f"{count} of {specimens} specimens: " if 0 < count < specimens else ""
        said.append(f"{some}{origin.warning}")
    return said


def _lost(calls: pa.Table, quarantine: pa.Table) -> int:
    """Specimens in quarantine and not among the calls. A file without a specimen is none."""
    specimens = quarantine.filter(pc.field("specimen_id") != "").group_by(list(KEY)).aggregate([])
    return int(specimens.join(calls.select(KEY), keys=list(KEY), join_type="left anti").num_rows)


def _segments(amounts: Iterable[tuple[str, float]]) -> list[Segment]:
    given = [(name, amount) for name, amount in amounts if amount > 0]
    whole = sum(amount for _, amount in given)
    segments, start = [], 0.0
    for name, amount in given:
        segments.append(Segment(name=name, amount=amount, start=start, share=amount / whole))
        start += amount / whole
    return segments


def _list_counts(calls: pa.Table, column: str) -> dict[str, int]:
    return _counts(pc.list_flatten(calls[column]))


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    counted: Mapping[str, Any] = {row["values"]: row["counts"] for row in pc.value_counts(values).to_pylist()}
    return {value: number for value, number in counted.items() if value is not None}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
