"""Reads what people said about the animals: IMPC's `experiment` table, a row per specimen and question.

Its columns are found by the same names as an index's, and its keys are put into the same shape, so that an answer
meets its radiographs. What the answers mean is for labels.py and the taxonomy to say; nothing is left out here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from mxbatch.engine.archive.columns import find_columns
from mxbatch.engine.archive.index import KEY
from mxbatch.engine.archive.settings import read_settings
from mxbatch.engine.archive.table import in_shape
from mxbatch.engine.errors import UsageError

SCORES_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in KEY),
        pa.field(
            "parameter", pa.string(), nullable=False
        ),  # IMPC_XRY_031, no version; empty where none is said
        pa.field("answer", pa.string()),  # the word that was chosen; null where there is none
        pa.field("number", pa.float64()),  # a count or a length; null where the answer is no number
    ]
)
ANSWERS = {"answer": ("category", "answer"), "number": ("data_point", "number")}
"""What was said -> the headers it may stand under, Solr's own first."""

_WHERE = (*KEY, "parameter")
_EMPTY = pa.scalar("", pa.string())
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_VERSION = r"^(.+_\d{3})_\d{3}$"
_DELIMITERS = (",", ";", "\t")
_NAMED = re.compile(r"experiment\.(csv|tsv|parquet|json)", re.IGNORECASE)
_LIKELY = re.compile(r"(?!\.).*experiment.*\.(csv|tsv|parquet|json)", re.IGNORECASE)

Choose = Callable[[Sequence[str]], list[str]]
"""The headers of a table -> those that are worth reading."""


def read_scores(archive: Path, path: Path | None = None) -> pa.Table:
    """`SCORES_SCHEMA`: every row of the answers table `path`, by default the one in the archive's root.

    That one is `experiment.csv`, or the only file with `experiment` in its name; CSV, TSV, Parquet and a Solr
    answer in JSON are read. Columns that `mxbatch.toml` explains for the index are explained here too. A word that
    is a number (Solr's `category` can be "13") fills `number`, where nothing else does.

    Raises UsageError: MX-T001 when there is no such table, or it cannot be read as one; MX-U003 when two of its
    columns could each hold the same thing.
    """
    source = _find(archive) if path is None else path
    reader = _READERS.get(source.suffix.lower())
    if reader is None:
        raise UsageError(
            "MX-T001",
            f"no table of answers ends in '{source.suffix}'; known: {', '.join(_READERS)}",
            path=source,
        )
    told = read_settings(archive, {}, {}).columns
    headers: dict[str, str] = {}

    def choose(names: Sequence[str]) -> list[str]:
        headers.update(_columns(names, told, source))
        return list(dict.fromkeys(headers.values()))

    with _unreadable(source):
        table = reader(source, choose)
        text = {name: table[header].cast(pa.string()) for name, header in headers.items()}
        return _shaped(text, table.num_rows)


def _find(archive: Path) -> Path:
    """The answers table in the archive's root."""
    try:
        names = sorted(entry.name for entry in archive.iterdir() if entry.is_file())
    except OSError as error:
        raise UsageError("MX-T001", error.strerror or str(error), path=archive) from error
    found = [name for name in names if _NAMED.fullmatch(name)] or [
        name for name in names if _LIKELY.fullmatch(name)
    ]
    if not found:
        raise UsageError("MX-T001", "no table of answers in it", path=archive)
    if len(found) > 1:
        what = f"several tables could hold the answers: {', '.join(found)}"
        raise UsageError("MX-T001", what, path=archive, fix=f"choose one: --scores {archive / found[0]}")
    return archive / found[0]


def _columns(names: Sequence[str], told: Mapping[str, str], path: Path) -> dict[str, str]:
    """What is needed -> the header under which it stands."""
    here = {field: header for field, header in told.items() if header in names}
    places = find_columns(names, here, path=path)
    found = {field: names[places[field]] for field in _WHERE if field in places}
    lower = {name.strip().lower(): name for name in reversed(names)}
    for field, headers in ANSWERS.items():
        if header := next((lower[name] for name in headers if name in lower), None):
            found[field] = header
    missing = [field for field in ("specimen_id", "parameter") if field not in found]
    if not found.keys() & ANSWERS.keys():
        missing.append("answer (category or data_point)")
    if missing:
        what = f"it has no column for the {' and the '.join(missing)}"
        raise UsageError("MX-T001", what, path=path, fix="name another table: --scores FILE")
    return found


def _shaped(text: Mapping[str, pa.ChunkedArray], length: int) -> pa.Table:
    """Columns of text as `SCORES_SCHEMA` wants them."""
    where = in_shape({name: text[name] for name in _WHERE if name in text}, length)
    columns = {name: pc.fill_null(where[name], _EMPTY) for name in _WHERE}
    columns["parameter"] = pc.replace_substring_regex(columns["parameter"], _VERSION, r"\1")
    answer, said = (_trimmed(text.get(name), length) for name in ANSWERS)
    number = pc.coalesce(_numbers(said), _numbers(answer))
    return pa.table({**columns, "answer": answer, "number": number}, schema=SCORES_SCHEMA)


def _trimmed(column: pa.ChunkedArray | None, length: int) -> pa.Array | pa.ChunkedArray:
    """`column` without blanks around its cells; cells of nothing else, and a column that is absent, are null."""
    if column is None:
        return pa.nulls(length, pa.string())
    cells = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(cells, _EMPTY), pa.scalar(None, pa.string()), cells)


def _numbers(cells: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """`float64`; null where a cell is no finite number."""
    known = pc.match_substring_regex(cells, _NUMBER)
    numbers = pc.if_else(known, cells, pa.scalar(None, pa.string())).cast(pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _read_csv(path: Path, choose: Choose) -> pa.Table:
    with path.open(encoding="utf-8-sig") as handle:
        first = handle.readline()
    parse = arrow_csv.ParseOptions(delimiter=max(_DELIMITERS, key=first.count), newlines_in_values=True)
    with arrow_csv.open_csv(path, parse_options=parse) as stream:
        wanted = choose(stream.schema.names)
    convert = arrow_csv.ConvertOptions(
        include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=False
    )
    return arrow_csv.read_csv(path, parse_options=parse, convert_options=convert)


def _read_parquet(path: Path, choose: Choose) -> pa.Table:
    return pq.read_table(path, columns=choose(pq.read_schema(path).names), partitioning=None)


def _read_solr(path: Path, choose: Choose) -> pa.Table:
    answer = json.loads(path.read_bytes())
    response = answer.get("response") if isinstance(answer, dict) else None
    docs = response.get("docs") if isinstance(response, dict) else None
    if not isinstance(docs, list) or not docs or not all(isinstance(doc, dict) for doc in docs):
        raise ValueError("not a Solr answer: it has no rows under response.docs")
    wanted = choose(list(dict.fromkeys(name for doc in docs for name in doc)))
    return pa.table({name: pa.array([_text(doc.get(name)) for doc in docs], pa.string()) for name in wanted})


def _text(value: Any) -> str | None:
    """A JSON value as a cell; of a field with several values the first."""
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else str(value)


_READERS: Mapping[str, Callable[[Path, Choose], pa.Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".json": _read_solr,
}


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """What readers raise leaves as UsageError; arrow's and json's errors are ValueErrors, or KeyErrors."""
    try:
        yield
    except (OSError, ValueError, KeyError, RecursionError, pa.ArrowException) as error:
        raise UsageError("MX-T001", f"cannot be read: {error}", path=path) from error
