"""Decides about every file and every index row: which line of the index it becomes, with which view, code and
reason.

Folder and table may both speak about one file. Where they agree it is one radiograph, where they do not it is
a conflict, and a specimen that is named anywhere keeps at least one line: what is lost must be seen to be
lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from mxbatch.engine.archive.ebi import Place
from mxbatch.engine.archive.index import KEY
from mxbatch.engine.archive.join import AMBIGUOUS, MISSING, match, wanted_files
from mxbatch.engine.archive.scan import Entry
from mxbatch.engine.archive.table import Records
from mxbatch.engine.archive.views import SKIP, UNKNOWN_VIEW, ViewWords, view_of


class Line(NamedTuple):
    """One row of the index to be."""

    path: str
    place: Place | None
    """What its folders say, or those that it was looked for in."""
    file: int | None
    """Position of its entry; None where the archive holds no such file."""
    row: int | None
    """Position of its index row; None where no row names the file."""
    view: str | None
    code: str | None = None
    reason: str | None = None
    counts: bool = True
    """False for what is no radiograph of anybody: such a line never stands for a specimen."""


class Verdict(NamedTuple):
    """What a radiograph shows, or why that is not known."""

    view: str | None
    code: str | None = None
    reason: str | None = None


Judge = Callable[[str | None, str | None, str | None], Verdict]
"""(the table's word, the table's parameter, the folder's parameter) -> verdict"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    lines: list[Line]
    skipped: int
    """Radiographs whose view is mapped to `skip`."""
    elsewhere: int
    """Index rows of other procedures, or of parameters that are no X-ray images, without a file here."""


def settle(
    files: Sequence[Entry],
    place_of: Callable[[str], Place | None],
    records: Records | None,
    words: ViewWords,
    *,
    layout: str,
    default_view: str | None,
    is_radiograph: Callable[[Entry], bool],
) -> Settled:
    """Lines for all of `files` and all rows of `records`.

    `place_of` tells what a folder says. `is_radiograph` is asked only about files that neither a table nor the
    mirror's layout places.
    """
    judge = cache(lambda word, said, folder: _verdict(words, word, said, folder, default_view))
    rows = _Rows(records) if records is not None else None
    places = [place_of(file.folder) for file in files]
    hits = match(files, places, rows.wanted) if rows else []
    claims: dict[int, list[int]] = defaultdict(list)
    for k, hit in enumerate(hits):
        claims[hit].append(k)
    lost = [k for k, hit in enumerate(hits) if hit < 0]

    found = _missing(rows, lost, hits, place_of, judge) if rows else []
    for i, (file, place) in enumerate(zip(files, places, strict=True)):
        if rows and i in claims:
            found += _claimed(i, file, place, claims[i], rows, judge)
        else:
            found.append(_unnamed(i, file, place, layout, default_view, is_radiograph))
    lines = [line for line in found if line.view != SKIP]
    elsewhere = sum(rows.elsewhere(k) for k in lost) if rows else 0
    return Settled(lines=lines, skipped=len(found) - len(lines), elsewhere=elsewhere)


class _Rows:
    """The cells of the index that decide something, as Python lists."""

    def __init__(self, records: Records) -> None:
        self.source, self.numbers, self.broken = records.source, records.row, records.broken
        self.wanted = wanted_files(records)
        self.word = records.table["view"].to_pylist()
        self.parameter = records.table["parameter"].to_pylist()
        self._keys = list(zip(*(records.table[field].to_pylist() for field in KEY), strict=True))

    def key(self, k: int, place: Place | None) -> tuple[str | None, ...]:
        """The specimen that row `k` names; `place` fills what the row leaves open."""
        centre, specimen, procedure, date = self._keys[k]
        here = place or Place()
        return centre or here.centre, specimen, procedure or here.procedure, date

    def elsewhere(self, k: int) -> bool:
        parameter = self.parameter[k]
        return parameter is not None and self.word[k] is None and view_of(parameter) is None

    def label(self, *rows: int) -> str:
        numbers = [str(self.numbers[k]) for k in rows]
        return f"row{'s' * (len(rows) > 1)} {' and '.join(numbers[:3])} of {self.source}"


def _verdict(
    words: ViewWords, word: str | None, said: str | None, folder: str | None, default: str | None
) -> Verdict:
    """The view that the table's word, the table's parameter and the folder's parameter agree on."""
    told = {}
    if word is not None:
        told["the index's view"] = words.view(word)
        if told["the index's view"] is None:
            return Verdict(
                None, "MX-A106", f"the index gives the view '{word}'; known: {', '.join(words.known)}"
            )
        if told["the index's view"] == SKIP:
            return Verdict(SKIP)
    if said is not None:
        told["the index's parameter"] = view_of(said)
    if folder is not None:
        told["the folder"] = view_of(folder)
    views = {view for view in told.values() if view is not None}
    if len(views) > 1:
        return Verdict(None, "MX-A107", ", ".join(f"{who} says {view}" for who, view in told.items() if view))
    if views:
        return Verdict(views.pop())
    if told:
        return Verdict(None, "MX-A105", f"{said or folder} is no X-ray image parameter")
    return Verdict(default or UNKNOWN_VIEW)


def _missing(
    rows: _Rows,
    lost: Sequence[int],
    hits: Sequence[int],
    place_of: Callable[[str], Place | None],
    judge: Judge,
) -> list[Line]:
    """The lines of index rows without a file, twins apart, and of rows that could not be read."""
    lines = [
        Line("", None, None, None, None, "MX-A109", f"row {number} of {rows.source}: {why}", counts=False)
        for number, why in rows.broken.items()
    ]
    seen = set()
    for k in lost:
        wanted = rows.wanted[k]
        place = place_of(wanted.shown.rpartition("/")[0]) if hits[k] == MISSING else None
        view = judge(rows.word[k], rows.parameter[k], place.parameter if place else None).view
        twin = (wanted.shown, rows.key(k, place), view)
        if rows.elsewhere(k) or twin in seen:
            continue
        seen.add(twin)
        if wanted.problem is not None:
            code, reason = "MX-A109", f"{rows.label(k)}: {wanted.problem}"
        elif hits[k] == AMBIGUOUS:
            code, reason = "MX-A109", f"{rows.label(k)}: fits several files, give its path from the root"
        else:
            code, reason = "MX-A101", f"{rows.label(k)} names it"
        lines.append(Line(wanted.shown, place, None, k, view, code, reason))
    return lines


def _claimed(
    i: int,
    file: Entry,
    place: Place | None,
    rows_of_file: Sequence[int],
    rows: _Rows,
    judge: Judge,
) -> list[Line]:
    """The lines of a file that the index names: one, or one per specimen where several lay claim to it."""
    if len(rows_of_file) == 1:  # nearly always, and 200,000 times in a large archive
        [k] = rows_of_file
        owners, verdict = [k], judge(rows.word[k], rows.parameter[k], place.parameter if place else None)
    else:
        owners, verdict = _of_several(place, rows_of_file, rows, judge)
    view, code, reason = verdict
    if view == SKIP:
        return [Line(file.path, place, i, None, SKIP)]
    if file.code is not None:
        code, reason = file.code, file.reason
    return [Line(file.path, place, i, k, view, code, reason) for k in owners]


def _of_several(
    place: Place | None, rows_of_file: Sequence[int], rows: _Rows, judge: Judge
) -> tuple[list[int], Verdict]:
    """Of the rows that name one file: one for each specimen that they say it is of, and what they make of it."""
    folder = place.parameter if place else None
    verdicts = {k: judge(rows.word[k], rows.parameter[k], folder) for k in rows_of_file}
    verdicts = {k: verdict for k, verdict in verdicts.items() if verdict.view != SKIP}
    if not verdicts:
        return [], Verdict(SKIP)
    owners = list({rows.key(k, place): k for k in reversed(verdicts)}.values())  # one row per specimen
    views = {verdict.view for verdict in verdicts.values()}
    verdict = next(iter(verdicts.values()))
    if len(owners) > 1 or len(views) > 1:
        reason = f"{rows.label(*verdicts)} differ in their {'specimen' if len(owners) > 1 else 'view'}"
        verdict = Verdict(verdict.view if len(views) == 1 else None, "MX-A107", reason)
    return owners, verdict


def _unnamed(
    i: int,
    file: Entry,
    place: Place | None,
    layout: str,
    default_view: str | None,
    is_radiograph: Callable[[Entry], bool],
) -> Line:
    """The line of a file that no index row names."""
    view = view_of(place.parameter) if place else None
    if file.code == "MX-A110":
        code, reason, counts = file.code, file.reason, False
    elif view is not None:
        code, reason, counts = None, None, True
    elif place is not None:
        code, reason, counts = "MX-A105", f"{place.parameter} is no X-ray image parameter", False
    elif layout == "ebi" or not is_radiograph(file):
        reason = (
            "outside centre/pipeline/procedure/parameter"
            if layout == "ebi"
            else "no image, by its name and first bytes"
        )
        code, counts = "MX-A108", False
    elif layout == "table":
        code, reason, counts = "MX-A104", "no row of the index names it", False
    else:
        view, code, reason, counts = default_view or UNKNOWN_VIEW, None, None, True
    if file.code is not None:
        code, reason = file.code, file.reason
    return Line(file.path, place, i, None, view, code, reason, counts)
