"""Reads the table beside the files, CSV or a Solr answer in JSON, into one shape: `Records`.

Every cell is text here: a specimen called 007 must not become 7. A row that cannot be split into its columns
is kept as a reason; only a table that cannot be read at all raises.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mxbatch.engine.archive.columns import FIELDS, find_columns, is_index, not_an_index
from mxbatch.engine.errors import UsageError

_DELIMITERS = (",", ";", "\t")
_BLOCK_BYTES = 1 << 18
_TEXT = pa.string()
_HEX = re.compile(r"[0-9a-fA-F]{32,128}")
_DATES = [
    (re.compile(r"(?P<y>\d{4})[-/.]?(?P<m>\d\d)[-/.]?(?P<d>\d\d)(?!\d)"), "{y}-{m}-{d}"),
    (re.compile(r"(?P<d>\d\d)\.(?P<m>\d\d)\.(?P<y>\d{4})(?!\d)"), "{y}-{m}-{d}"),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """The rows of an index, as it says them."""

    source: str
    """The index's path from the root, posix."""
    table: pa.Table
    """A string column per field of `FIELDS`, trimmed; null where the cell is blank or the column absent."""
    columns: Mapping[str, str]
    """Field -> the header that it was read from."""
    row: Sequence[int]
    """The number of each row in the file, as a spreadsheet shows it: the header is row 1."""
    broken: Mapping[int, str]
    """Row number -> why the row could not be split into columns."""
    notes: tuple[str, ...] = ()


def read_records(path: Path, source: str, mapping: Mapping[str, str]) -> Records:
    """Read `path`, whose columns `mapping` (our field -> their header) may name. `UsageError` is MX-U003."""
    records = (_read_solr if path.suffix.lower() == ".json" else _read_csv)(path, source, mapping)
    if not records.row and not records.broken:
        raise UsageError("MX-U003", "holds no rows", path=path, fix="fill it, or move it out of the archive")
    return records


def read_header(path: Path) -> list[str]:
    """The first row of a CSV. Raises `UsageError` (MX-U003) when there is none."""
    return _split_header(path)[0]


def _read_csv(path: Path, source: str, mapping: Mapping[str, str]) -> Records:
    header, delimiter, encoding = _split_header(path)
    columns = _usable(header, mapping, path)
    with _unreadable(path):
        raw, broken = _parse(path, len(header), columns, delimiter, encoding)
    body = raw.slice(1)
    return Records(
        source=source,
        table=in_shape({field: body[str(place)] for field, place in columns.items()}, body.num_rows),
        columns={field: header[place] for field, place in columns.items()},
        row=[number for number in range(2, raw.num_rows + len(broken) + 1) if number not in broken],
        broken=broken,
    )


def _parse(
    path: Path, width: int, columns: Mapping[str, int], delimiter: str, encoding: str
) -> tuple[pa.Table, dict[int, str]]:
    """Every row (the header too) of the wanted columns, named by position; and the rows that do not fit."""
    broken: dict[int, str] = {}

    def note_and_skip(row: arrow_csv.InvalidRow) -> str:
        broken[row.number] = f"{row.actual_columns} cells instead of {row.expected_columns}"
        return "skip"

    wanted = [str(place) for place in sorted(set(columns.values()))]
    table = arrow_csv.read_csv(
        path,
        # One thread, because rows have numbers only then. The header is read as a row: its names may repeat.
        read_options=arrow_csv.ReadOptions(
            column_names=[str(i) for i in range(width)], encoding=encoding, use_threads=False
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note_and_skip
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, _TEXT), strings_can_be_null=False
        ),
    )
    return table, broken


def _read_solr(path: Path, source: str, mapping: Mapping[str, str]) -> Records:
    with _unreadable(path):
        answer = json.loads(path.read_bytes())
    response = answer.get("response") if isinstance(answer, dict) else None
    response = response if isinstance(response, dict) else {}
    docs = response.get("docs")
    if not isinstance(docs, list) or not all(isinstance(doc, dict) for doc in docs):
        raise UsageError(
            "MX-U003", "not a Solr answer: it has no response.docs", path=path, fix="name another index"
        )
    header = list(dict.fromkeys(name for doc in docs for name in doc))
    places = _usable(header, mapping, path) if docs else {}
    columns = {field: header[place] for field, place in places.items()}
    with _unreadable(path):  # JSON can hold text that is no Unicode
        cells = {
            field: pa.array([_text(doc.get(name)) for doc in docs], _TEXT) for field, name in columns.items()
        }
    notes: tuple[str, ...] = ()
    if isinstance(found := response.get("numFound"), int) and found > len(docs):
        notes = (f"{source} holds {len(docs):,} of Solr's {found:,} records: ask again with rows={found}",)
    return Records(
        source=source,
        table=in_shape(cells, len(docs)),
        columns=columns,
        row=range(1, len(docs) + 1),
        broken={},
        notes=notes,
    )


def _text(value: object) -> str | None:
    """A JSON value as a cell; of a multi-valued field the first value."""
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else str(value)


def in_shape(columns: Mapping[str, pa.ChunkedArray | pa.Array | list[str]], length: int) -> pa.Table:
    """`columns` (field -> text) as `Records.table` wants them."""

    def shaped(field: str) -> pa.Array:
        if field not in columns:
            return pa.nulls(length, _TEXT)
        column = columns[field]
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else pa.array(column, _TEXT)
        trimmed = pc.utf8_trim_whitespace(column)
        cells = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, _TEXT), trimmed)
        return each_value(cells, _IN_SHAPE[field]) if field in _IN_SHAPE else cells

    return pa.table({field: shaped(field) for field in FIELDS})


def each_value(cells: pa.Array, shape: Callable[[str], object], to: pa.DataType = _TEXT) -> pa.Array:
    """`shape` of every cell, asked once per distinct value; nulls stay null."""
    coded = cells.dictionary_encode()
    return pa.array([shape(value) for value in coded.dictionary.to_pylist()], to).take(coded.indices)


def iso_date(text: str) -> str:
    """`YYYY-MM-DD` of the ways of writing a date that cannot be misread; any other text as it is.

    03/04/2021 is left alone: it is March in Toronto and April in Harwell.
    """
    for pattern, form in _DATES:
        if match := pattern.match(text):
            return form.format(**match.groupdict())
    return text


def _hexadecimal(text: str) -> str | None:
    return text.lower() if _HEX.fullmatch(text) else None


_IN_SHAPE: dict[str, Callable[[str], str | None]] = {"checksum": _hexadecimal, "date_of_experiment": iso_date}


def _usable(header: Sequence[str], mapping: Mapping[str, str], path: Path) -> dict[str, int]:
    columns = find_columns(header, mapping, path=path)
    if not is_index(columns):
        raise not_an_index(header, columns, path=path)
    return columns


def _encoding(path: Path) -> str:
    """`utf8` where all of the file is, `utf-16` where it begins so, else `latin-1`: no bytes are wrong in that one.

    To be known before arrow parses: a row that does not fit and is no UTF-8 never reaches arrow's handler of such
    rows (26.0 prints to stderr and loses it).
    """
    decoder = codecs.getincrementaldecoder("utf8")()
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        file.seek(0)
        try:
            while block := file.read(_BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf8"


def _split_header(path: Path) -> tuple[list[str], str, str]:
    """The names in the first row, the delimiter that splits it furthest, and the encoding."""
    with _unreadable(path):
        encoding = _encoding(path)
        with path.open("rb") as file:
            head = file.read(_BLOCK_BYTES)
        # The decoder is incremental: a character cut in two at the end is no error.
        text = codecs.getincrementaldecoder(encoding)().decode(head).removeprefix("\ufeff")
        rows = {delimiter: _first_row(text, delimiter) for delimiter in _DELIMITERS}
    delimiter = max(_DELIMITERS, key=lambda one: len(rows[one]))
    if not rows[delimiter]:
        raise UsageError("MX-U003", "is empty", path=path, fix="fill it, or move it out of the archive")
    return [name.strip() for name in rows[delimiter]], delimiter, encoding


def _first_row(text: str, delimiter: str) -> list[str]:
    return next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), [])


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """What the readers raise leaves as `UsageError`; arrow's, json's and the codecs' are `ValueError`s."""
    try:
        yield
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise UsageError("MX-U003", f"cannot be read: {error}", path=path) from error
