"""Finds the table that describes the files of an archive, if there is one.

In this order: the one that `mxbatch.toml` names; `index.csv`; an `impc_images` dump (CSV, or a Solr answer in
JSON); the only CSV or TSV whose columns read like an index. A release folder (`dr_15`) may hold it as well as
the root.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mxbatch.engine.archive.columns import find_columns, is_index, not_an_index
from mxbatch.engine.archive.scan import Entry
from mxbatch.engine.archive.settings import FILE_NAME, Settings
from mxbatch.engine.archive.table import read_header
from mxbatch.engine.errors import UsageError

_NAMED = (re.compile(r"index\.(csv|tsv|json)", re.I), re.compile(r".*impc_images.*\.(csv|tsv|json)", re.I))
_TABLE = re.compile(r".*\.(csv|tsv)", re.I)
_RELEASE = re.compile(r"dr[_-]?\d+(\.\d+)?", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    path: str | None
    """From the root, posix."""
    notes: tuple[str, ...] = ()


def locate_index(root: Path, files: Sequence[Entry], settings: Settings) -> Located:
    """The index among `files`. `UsageError` (MX-U003): the named one is missing, or several fit alike."""
    if settings.index is not None:
        if not (root / settings.index).is_file():
            raise UsageError(
                "MX-U003", f"names the index '{settings.index}', which is not there", path=root / FILE_NAME
            )
        return Located(path=settings.index)
    usable = [file for file in files if file.code is None]
    in_root = [file for file in usable if not file.folder]
    in_release = [file for file in usable if _RELEASE.fullmatch(file.folder)]
    for near in (in_root, in_release):
        for pattern in _NAMED:
            if named := [file.path for file in near if pattern.fullmatch(file.name)]:
                return Located(path=_only(named, root))
    return _by_columns(root, [file.path for file in in_root if _TABLE.fullmatch(file.name)], settings)


def is_table(file: Entry) -> bool:
    """Whether `file` is one of the tables that lie beside the radiographs (scores, truth), in the archive's root."""
    return not file.folder and bool(_TABLE.fullmatch(file.name))


def _by_columns(root: Path, tables: Sequence[str], settings: Settings) -> Located:
    fitting, refused = [], []
    for table in tables:
        try:
            header = read_header(root / table)
        except UsageError as error:
            refused.append((table, error))
            continue
        try:
            columns = find_columns(header, settings.columns, path=root / table)
        except UsageError as error:
            if settings.columns:  # made for another table than this one
                refused.append((table, error))
            else:  # two columns that fit: an index, and reading it will ask which one
                fitting.append(table)
            continue
        if is_index(columns):
            fitting.append(table)
        else:
            refused.append((table, not_an_index(header, columns, path=root / table)))
    if fitting:
        return Located(path=_only(fitting, root))
    if refused and settings.columns:
        raise refused[0][1]
    return Located(
        path=None, notes=tuple(f"{table} was not taken as an index: {error.what}" for table, error in refused)
    )


def _only(paths: Sequence[str], root: Path) -> str:
    if len(paths) == 1:
        return paths[0]
    raise UsageError(
        "MX-U003",
        f"several tables could be the index: {', '.join(paths)}",
        path=root,
        fix=f'choose one in {FILE_NAME}: index = "{paths[0]}"',
    )
