"""Which file an index row means: a pure function of names.

A table names files in many ways: a path from the root, a bare name, a URL whose last part survived the copy,
a checksum that became the name. Each file answers to its exact keys first (its path; its place in the mirror
plus name). What is left meets by name alone, and only where exactly one file fits. Nothing is ever opened by
a name that came from a table.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import pyarrow as pa

from mxbatch.engine.archive.ebi import Place
from mxbatch.engine.archive.scan import Entry
from mxbatch.engine.archive.table import Records

MISSING, AMBIGUOUS = -1, -2

_HEX_DIGITS = 32
_HEX = re.compile(rf"[0-9a-fA-F]{{{_HEX_DIGITS},128}}")
_DRIVE = re.compile(r"[A-Za-z]:")


class Wanted(NamedTuple):
    """What one row says about where its file is."""

    shown: str
    """For the reader: the path that was looked for, or the cell as it stands."""
    paths: tuple[str, ...] = ()
    """From the root. Any of them will do, the first best."""
    names: tuple[str, ...] = ()
    """File names, or checksums that files were named by, good in any folder that `place` allows."""
    place: Place = Place()
    problem: str | None = None
    """Why no file can be looked for at all."""


def wanted_files(records: Records) -> list[Wanted]:
    """One `Wanted` per row of `records`."""
    base = posixpath.dirname(records.source)
    cells = records.table.select(["file", "full_resolution_file_path", "download_file_path", "checksum"])
    places = _rows(records.table.select(list(Place._fields)))
    place = cache(lambda *values: Place(*(value or "" for value in values)))  # few, and shared by many rows
    return [
        _wanted(base, file, full, url, checksum, place(*values))
        for (file, full, url, checksum), values in zip(_rows(cells), places, strict=True)
    ]


def _rows(table: pa.Table) -> Iterator[tuple[str | None, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _wanted(
    base: str, file: str | None, full: str | None, url: str | None, checksum: str | None, place: Place
) -> Wanted:
    paths, names = [], []
    if file:
        if (path := _relative(file)) is None:
            return Wanted(file, place=place, problem="not a path inside the archive")
        paths.append(path)
        if "/" not in path:
            names.append(path)
    if full:
        paths.append(full)
        names.append(full.rpartition("/")[2])
    if url:
        names.append(url.partition("?")[0].rpartition("/")[2])
    if checksum:
        names.append(checksum)
    names = [name for name in names if name]
    if not paths and not names:
        return Wanted("", place=place, problem="no file name")
    if all(place):
        folder = "/".join(place)
        paths += [f"{folder}/{name}" for name in names]
    if base:
        paths = [*(f"{base}/{path}" for path in paths), *paths]
    return Wanted((paths or names)[0], tuple(paths), tuple(names), place)


def _relative(cell: str) -> str | None:
    """`cell` as a clean path from the root; None where it leads out of it."""
    path = cell.replace("\\", "/")
    if "://" in path:
        path = path.partition("?")[0].rpartition("/")[2]
    if path.startswith("/") or _DRIVE.match(path) or ".." in path.split("/"):
        return None
    path = posixpath.normpath(path)
    return None if path == "." else path


def match(files: Sequence[Entry], places: Sequence[Place | None], rows: Sequence[Wanted]) -> list[int]:
    """For each row the position of its file in `files`, or `MISSING`, or `AMBIGUOUS` where several fit alike.

    `places` runs along `files`. The order of either side does not matter.
    """
    exact = _only(_exact_keys(files, places))
    hits = [_exact_hit(exact, row) for row in rows]
    if any(hit == MISSING and row.names for hit, row in zip(hits, rows, strict=True)):
        claimed = set(hits)
        named = defaultdict(list)
        for i, file in enumerate(files):
            for key in _with_hex_stem(file.name):
                named[key].append(i)
        for k, row in enumerate(rows):
            if hits[k] == MISSING:
                hits[k] = _loose_hit(named, places, claimed, row)
    return hits


def _exact_keys(files: Sequence[Entry], places: Sequence[Place | None]) -> Iterator[tuple[str, int]]:
    for i, (file, place) in enumerate(zip(files, places, strict=True)):
        for folder in (file.folder,) if place is None else {file.folder, "/".join(place)}:
            for name in _with_hex_stem(file.name):
                yield (f"{folder}/{name}" if folder else name), i


def _only(keys: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Key -> the one file that has it, or `AMBIGUOUS`."""
    table: dict[str, int] = {}
    for key, i in keys:
        if table.setdefault(key, i) != i:
            table[key] = AMBIGUOUS
    return table


def _exact_hit(exact: dict[str, int], row: Wanted) -> int:
    best = MISSING
    for path in row.paths:
        hit = exact.get(path, MISSING)
        if hit >= 0:
            return hit
        best = min(best, hit)  # AMBIGUOUS says more
    return best


def _loose_hit(
    named: dict[str, list[int]], places: Sequence[Place | None], claimed: set[int], row: Wanted
) -> int:
    """The one file of that name in a place that does not contradict the row.

    A file in another parameter's folder fits only where no row asks for it by its exact place: then file and
    index disagree about the view, which the caller reports.
    """
    fits = [
        i
        for name in row.names
        for i in named.get(name, ())
        if _agree(row.place[:3], (places[i] or Place())[:3])
    ]
    same = [i for i in fits if _agree(row.place[3:], (places[i] or Place())[3:])]
    pool = set(same or (i for i in fits if i not in claimed))
    return pool.pop() if len(pool) == 1 else AMBIGUOUS if pool else MISSING


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    return all(a == b or not a or not b for a, b in zip(one, other, strict=True))


def _with_hex_stem(name: str) -> tuple[str, ...]:
    """`name`, and its stem where that is a checksum: the mirror names files `<checksum>.<any suffix>`."""
    stem = name.rpartition(".")[0]
    return (name, stem.lower()) if len(stem) >= _HEX_DIGITS and _HEX.fullmatch(stem) else (name,)
