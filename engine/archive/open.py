"""Opens an archive: a folder of files becomes an index, with no options for the layouts that centres use.

The road: settings -> scan -> locate the table -> read it -> settle file by file -> build the Arrow table.
Reading is here and in `scan` and `table`; the rest are functions of names.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from mxbatch.engine.archive.build import build
from mxbatch.engine.archive.ebi import of_another_procedure, place_of
from mxbatch.engine.archive.index import Archive
from mxbatch.engine.archive.locate import is_table, locate_index
from mxbatch.engine.archive.scan import Entry, check_root, looks_like_image, scan
from mxbatch.engine.archive.settings import FILE_NAME, read_settings
from mxbatch.engine.archive.settle import Line, Settled, settle
from mxbatch.engine.archive.table import Records, read_records
from mxbatch.engine.archive.views import SKIP, UNKNOWN_VIEW, ViewWords
from mxbatch.engine.collector import collector_paused
from mxbatch.engine.decode.sniff import HEAD_BYTES
from mxbatch.engine.decode.sniff import sniff as format_of
from mxbatch.engine.errors import EnvironmentFault, UsageError, one_line

_NONE: Mapping[str, str] = MappingProxyType({})
_NO_RADIOGRAPH = ("MX-A101", "MX-A108", "MX-A109", "MX-A110")
"""Codes of lines behind which no file stands that was meant as a radiograph."""


@collector_paused()
def open_archive(
    root: Path | str,
    *,
    columns: Mapping[str, str] = _NONE,
    views: Mapping[str, str] = _NONE,
    default_view: str | None = None,
    extra_views: Collection[str] = (),
    sniff: bool = False,
) -> Archive:
    """Read the folder `root` into an index.

    `columns` (ours -> theirs) and `views` (theirs -> ours, or `skip`) explain a table's words and overrule
    the archive's `mxbatch.toml`. `default_view` is for radiographs whose view nobody states. `extra_views`
    are what the model knows beyond `VIEWS`. `sniff` fills `format` from each file's first bytes.

    A bad file or row is a row with a code. Raises `UsageError` (MX-U002 impossible view, MX-U003 unusable table
    or mapping) and `EnvironmentFault` (MX-E001 no such folder, MX-E002 no radiograph in it, MX-E003 not to be
    listed).
    """
    root = Path(os.path.abspath(root))
    check_root(root)
    settings = read_settings(root, columns, views)
    words = ViewWords(settings.views, extra_views)
    _check_default(default_view, words)

    found = scan(root, leave_out=of_another_procedure)
    located = locate_index(root, found.entries, settings)
    records = read_records(root / located.path, located.path, settings.columns) if located.path else None
    if records is None and (settings.columns or settings.views):
        raise UsageError("MX-U003", "there is no table whose columns or views could be mapped", path=root)

    files = [
        file for file in found.entries if file.path not in (located.path, FILE_NAME) and not is_table(file)
    ]
    place = cache(lambda folder: place_of(folder, root.parts[1:]))
    layout = "ebi" if any(place(file.folder) for file in files) else "plain" if records is None else "table"
    settled = settle(
        files,
        place,
        records,
        words,
        layout=layout,
        default_view=default_view,
        is_radiograph=lambda file: _is_radiograph(root, file),
    )
    _refuse_empty(root, settled)
    formats = [_format_of_line(root, files, line) if sniff else None for line in settled.lines]
    index = build(settled.lines, files, records, formats)
    notes = (*located.notes, *_remarks(settled, records, layout), *_remarks_on(index), *found.notes)
    return Archive(
        root=root,
        layout=layout,
        index_file=root / located.path if located.path else None,
        index=index,
        notes=tuple(map(one_line, notes)),
    )


def _check_default(view: str | None, words: ViewWords) -> None:
    if view == SKIP:
        what = f"the default view cannot be `{SKIP}`: all whose view nobody states would be left out"
        raise UsageError("MX-U002", what, fix=f"name one of {', '.join(words.known)}")
    if view is not None:
        words.check(view)


def _is_radiograph(root: Path, file: Entry) -> bool:
    """Whether a file was meant as one: its suffix promises an image, or its first bytes are those of one.

    What breaks the promise is refused in sight when it is read; any other suffix means nothing (`1.2.840.10008.1`).
    """
    if looks_like_image(file.name):
        return True
    return file.code is None and _format(f"{root}/{file.path}") is not None


def _format_of_line(root: Path, files: Sequence[Entry], line: Line) -> str | None:
    if line.file is None or files[line.file].code is not None:
        return None
    return _format(f"{root}/{line.path}")


def _format(path: str) -> str | None:
    """The format that the file's first bytes belong to; None where there is none, or no reading."""
    try:
        # Not blocking: the regular file that was scanned may have become a pipe.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return format_of(os.read(handle, HEAD_BYTES))
    except OSError:
        return None
    finally:
        os.close(handle)


def _refuse_empty(root: Path, settled: Settled) -> None:
    if any(line.code not in _NO_RADIOGRAPH for line in settled.lines):
        return
    missing = sum(line.code == "MX-A101" for line in settled.lines)
    closed = sum(line.code == "MX-A110" for line in settled.lines)
    what = (
        f"none of the {missing:,} files that its index names is there" if missing else "no radiograph in it"
    )
    if settled.skipped:
        what += f", {settled.skipped:,} being left out by their views"
    if closed:
        what += f"; {closed:,} of its folders may not be listed"
    raise EnvironmentFault("MX-E002", what, path=root)


def _remarks(settled: Settled, records: Records | None, layout: str) -> list[str]:
    """What a user should know about how files and table met."""
    alone = sum(line.counts and line.row is None for line in settled.lines)
    unstated = sum(line.view == UNKNOWN_VIEW and line.code is None for line in settled.lines)
    remarks = list(records.notes) if records else []
    if records is None:
        remarks.append(f"no index: each of {alone:,} radiographs is its own specimen")
    elif alone:
        remarks.append(f"{alone:,} radiographs are not in {records.source}: each is its own specimen")
    if records is not None and layout == "table":
        taken = ", ".join(f"{field} = '{header}'" for field, header in records.columns.items())
        remarks.append(f"columns of {records.source}: {taken}")
    if records is not None and "specimen_id" not in records.columns:
        remarks.append(f"{records.source} has no column for the specimen: each radiograph is its own")
    if unstated:
        remarks.append(f"nobody says what {unstated:,} radiographs show: their view is '{UNKNOWN_VIEW}'")
    if settled.elsewhere:
        remarks.append(f"{settled.elsewhere:,} index rows of other procedures or parameters: left out")
    if settled.skipped:
        remarks.append(f"{settled.skipped:,} radiographs of skipped views: left out")
    return remarks


def _remarks_on(index: pa.Table) -> list[str]:
    dates = index["date_of_experiment"]
    odd = pc.sum(pc.invert(pc.match_substring_regex(dates, r"^(\d{4}-\d\d-\d\d)?$"))).as_py()
    return (
        [f"the dates of {odd:,} radiographs are not written as YYYY-MM-DD: kept as they are"] if odd else []
    )
