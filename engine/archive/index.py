"""The index: an Arrow table with a row per radiograph, and the archive that it describes.

Everything after this file reads the index alone; no other module of the engine knows how an archive is laid
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

KEY = ("centre", "specimen_id", "procedure", "date_of_experiment")
"""What makes a specimen: one animal at one procedure date. Never null; empty where nobody says."""

ORDER = (*KEY, "view", "path")
"""How the rows of an index are sorted, whatever order the disk or a table gave them."""

INDEX_SCHEMA = pa.schema(
    [
        pa.field(
            "path", pa.string(), nullable=False
        ),  # from the root, posix; bytes that are no UTF-8 as \xNN
        pa.field("size", pa.int64()),  # bytes; null where no file could be looked at
        pa.field("mtime_ns", pa.int64()),  # since 1970, UTC
        pa.field(
            "checksum", pa.string()
        ),  # lower-case hex, as the archive's own table gives it: not computed here
        pa.field("format", pa.string()),  # by the first bytes; null unless asked for
        pa.field("view", pa.string()),
        pa.field("parameter", pa.string()),
        pa.field("centre", pa.string(), nullable=False),
        pa.field("specimen_id", pa.string(), nullable=False),
        pa.field("procedure", pa.string(), nullable=False),
        pa.field("date_of_experiment", pa.string(), nullable=False),  # YYYY-MM-DD
        pa.field("pipeline", pa.string()),
        pa.field("colony_id", pa.string()),
        pa.field("gene_symbol", pa.string()),
        pa.field("allele_symbol", pa.string()),
        pa.field("zygosity", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("group", pa.string()),  # control or experimental
        pa.field("age_weeks", pa.float32()),
        pa.field("metadata_group", pa.string()),
        pa.field("code", pa.string()),  # key of errors.CODES; null: the radiograph can be used
        pa.field("reason", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A folder of radiographs, read once."""

    root: Path
    """Absolute."""
    layout: str
    """`ebi` (folders say centre and view), `table` (a table does) or `plain` (nobody does)."""
    index_file: Path | None
    index: pa.Table
    """`INDEX_SCHEMA`, sorted by `ORDER`."""
    notes: tuple[str, ...]
    """One line each: what a user should know before trusting the index."""

    def counts(self) -> dict[str, Any]:
        """Sums over the index, ready for JSON. `radiographs` counts all rows: `usable` and `by_code`."""
        key = self.index.filter(pc.not_equal(self.index["specimen_id"], "")).select(list(KEY))
        return {
            "radiographs": self.index.num_rows,
            "usable": self.index["code"].null_count,
            "specimens": key.group_by(list(KEY)).aggregate([]).num_rows,
            "layout": self.layout,
            "index_file": str(self.index_file) if self.index_file else None,
            **{f"by_{name}": _tally(self.index[name]) for name in ("centre", "view", "format", "code")},
        }


def _tally(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value stands in `column`, sorted by value; nulls are left out."""
    counted = column.drop_null().value_counts().to_pylist()
    return {
        entry["values"]: entry["counts"] for entry in sorted(counted, key=lambda entry: str(entry["values"]))
    }
