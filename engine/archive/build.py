"""Turns settled lines into the index: columns of Arrow, no row ever a dict."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mxbatch.engine.archive.columns import FIELDS
from mxbatch.engine.archive.ebi import Place
from mxbatch.engine.archive.index import INDEX_SCHEMA, KEY, ORDER
from mxbatch.engine.archive.scan import Entry
from mxbatch.engine.archive.settle import Line
from mxbatch.engine.archive.specimens import Nameless, own_names
from mxbatch.engine.archive.table import Records, each_value
from mxbatch.engine.errors import one_line


def build(
    lines: Sequence[Line],
    files: Sequence[Entry],
    records: Records | None,
    formats: Sequence[str | None],
) -> pa.Table:
    """The index (`INDEX_SCHEMA`, sorted by `ORDER`) of `lines`; `formats` runs along them.

    What the table says about a radiograph goes before what its folder says.
    """
    said = _said(lines, records)
    columns: dict[str, pa.Array | list[object]] = {
        **{name: said[name] for name in INDEX_SCHEMA.names if name in FIELDS},
        **{name: pc.coalesce(said[name], _folders(lines, name)) for name in Place._fields},
        "path": [line.path for line in lines],
        "size": [files[line.file].size if line.file is not None else None for line in lines],
        "mtime_ns": [files[line.file].mtime_ns if line.file is not None else None for line in lines],
        "format": list(formats),
        "view": [line.view for line in lines],
        "age_weeks": each_value(said["age_weeks"], _number, pa.float32()),
        "code": [line.code for line in lines],
        "reason": [one_line(line.reason) if line.reason else None for line in lines],
    }
    for name in KEY:
        columns[name] = pc.fill_null(columns[name], "")
    columns["specimen_id"] = _specimens(lines, columns)
    arrays = [pa.array(columns[field.name], field.type) for field in INDEX_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=INDEX_SCHEMA).sort_by([(name, "ascending") for name in ORDER])


def _said(lines: Sequence[Line], records: Records | None) -> pa.RecordBatch:
    """The index rows of `lines`, nulls where no row stands behind one."""
    if records is None:
        return pa.RecordBatch.from_pydict({field: pa.nulls(len(lines), pa.string()) for field in FIELDS})
    at = pa.array([line.row for line in lines], pa.int64())
    return pa.RecordBatch.from_pydict(
        {field: records.table[field].combine_chunks().take(at) for field in FIELDS}
    )


def _folders(lines: Sequence[Line], name: str) -> pa.Array:
    at = Place._fields.index(name)
    return pa.array([(line.place[at] or None) if line.place else None for line in lines], pa.string())


def _specimens(lines: Sequence[Line], columns: dict[str, pa.Array | list[object]]) -> list[str]:
    """Specimen ids: the index's, the radiograph's own where it has none, empty for what is no radiograph."""
    centres, ids, procedures, dates = (pa.array(columns[name]).to_pylist() for name in KEY)
    said: list[str] = ids
    parameters = pa.array(columns["parameter"]).to_pylist()
    groups = list(zip(centres, procedures, dates, strict=True))
    needy = [i for i, line in enumerate(lines) if not said[i] and line.counts and line.path]
    names = own_names(
        [Nameless(groups[i], _candidates(lines[i].path, parameters[i])) for i in needy],
        {(group, name) for group, name in zip(groups, said, strict=True) if name},
    )
    for i, name in zip(needy, names, strict=True):
        said[i] = name
    return said


def _candidates(path: str, parameter: str | None) -> tuple[str, ...]:
    name = path.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return (stem, f"{parameter}/{stem}", path) if parameter else (stem, path)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
