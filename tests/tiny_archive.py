"""Archives of a few bytes a file: what is planted in a folder, and what opening it says of each file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mxbatch.engine.archive.index import Archive

JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
DICOM = bytes(128) + b"DICM" + bytes(100)
TEXT = b"Copied on Monday."
DV = "MRC Harwell/HRWL_001/IMPC_XRY_001/IMPC_XRY_034_001"
LV = "MRC Harwell/HRWL_001/IMPC_XRY_001/IMPC_XRY_048_001"


def plant(root: Path, *paths: str, table: str | None = None) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(TEXT if path.endswith(".txt") else JPEG)
    if table is not None:
        (root / "index.csv").write_text(table, encoding="utf-8")
    return root


def rows(archive: Archive, *columns: str) -> list[tuple]:
    return list(zip(*(archive.index[column].to_pylist() for column in columns), strict=True))


def codes(archive: Archive) -> Mapping[str, str | None]:
    return dict(rows(archive, "path", "code"))
