"""What a user says about an archive: options first, then `mxbatch.toml` beside the files.

index = "animals.csv"            # where several tables lie in the folder
[columns]
specimen = "Tier-Nr"             # ours = theirs
[views]
"a.p." = "dv"                    # theirs = ours, or "skip"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mxbatch.engine.archive.columns import field_named
from mxbatch.engine.errors import UsageError

FILE_NAME = "mxbatch.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Checked as far as the index is not needed: fields exist, values are text, the path stays inside."""

    index: str | None
    """From the root, posix."""
    columns: Mapping[str, str]
    """Our field -> their column."""
    views: Mapping[str, str]
    """Their word -> our view."""


def read_settings(root: Path, columns: Mapping[str, str], views: Mapping[str, str]) -> Settings:
    """The root's `mxbatch.toml`, overruled by the options. Raises `UsageError` (MX-U003)."""
    path = root / FILE_NAME
    told = _read_toml(path)
    index = told.pop("index", None)
    tables = {name: _words(told.pop(name, {}), name, path) for name in ("columns", "views")}
    if told:
        raise UsageError(
            "MX-U003", f"unknown key '{next(iter(told))}'", path=path, fix="known: index, [columns], [views]"
        )
    if index is not None and not (isinstance(index, str) and _inside(index)):
        raise UsageError("MX-U003", "`index` is not the path of a file inside the archive", path=path)
    return Settings(
        index=None if index is None else str(PurePosixPath(index)),
        columns={field_named(ours): theirs for ours, theirs in (tables["columns"] | dict(columns)).items()},
        views=tables["views"] | dict(views),
    )


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError("MX-U003", f"cannot be read: {error}", path=path, fix="mend or remove it") from error


def _words(table: object, name: str, path: Path) -> dict[str, str]:
    if isinstance(table, dict) and all(isinstance(value, str) for value in table.values()):
        return dict(table)
    raise UsageError(
        "MX-U003", f"[{name}] is not a table of words", path=path, fix='write lines such as "theirs" = "ours"'
    )


def _inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts
