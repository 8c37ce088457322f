"""The centres of `centres.toml`, as values: where a centre's files lie, what it photographs and how it scores."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mxbatch.engine.archive.views import VIEWS
from mxbatch.engine.errors import UsageError
from mxbatch.engine.records import from_table
from mxbatch.trainer.phantom.film import Look

TABLE = Path(__file__).with_name("centres.toml")
SCORED_TO = (31, 68, 74)
BEYOND = ("", "imageOnly")


@dataclass(frozen=True, kw_only=True, slots=True)
class Centre:
    """One entry of `centres.toml`; its header says what the fields mean."""

    name: str
    pipeline: str
    procedure: str
    share: float
    format: str
    frame: tuple[int, ...]
    """Width and height in pixels."""
    views: Mapping[str, float]
    turns: tuple[float, ...]
    scatter: float
    rod: float = 0.0
    scored_to: int
    beyond: str = ""
    specimen: str
    colony: str
    look: Look = field(default_factory=Look)

    def __post_init__(self) -> None:
        where = f"centre {self.name!r}"
        _require(len(self.frame) == 2 and min(self.frame) > 0, f"{where}: frame is [width, height]")
        _require(set(self.views) <= set(VIEWS), f"{where}: views are among {', '.join(VIEWS)}")
        _require(bool(self.turns), f"{where}: turns names at least one direction")
        _require(self.share > 0, f"{where}: share is a positive weight")
        _require(self.scored_to in SCORED_TO, f"{where}: scored_to is one of {SCORED_TO}")
        _require(self.beyond in BEYOND, f"{where}: beyond is one of {BEYOND}")

    def frame_at(self, size: int | None) -> tuple[int, int]:
        """Height and width in pixels, the longest side brought to `size`."""
        width, height = self.frame
        scale = 1.0 if size is None else size / max(width, height)
        return max(1, round(height * scale)), max(1, round(width * scale))


@cache
def read_centres() -> tuple[Centre, ...]:
    """Every centre, in the order of the file."""
    return tuple(_centre(entry) for entry in tomllib.loads(TABLE.read_text(encoding="utf-8"))["centres"])


def named_centres(names: Sequence[str] | None) -> tuple[Centre, ...]:
    """The centres called `names`, None for all. Raises UsageError (MX-U001) that lists them."""
    known = {centre.name: centre for centre in read_centres()}
    if names is None:
        return tuple(known.values())
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            "MX-U001", f"no centre is called {unknown[0]!r}", fix=f"known are {', '.join(known)}"
        )
    if not names:
        raise UsageError("MX-U001", "no centre is named", fix=f"known are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _centre(entry: Mapping[str, Any]) -> Centre:
    where = f"centre {entry.get('name')!r}"
    look = from_table(Look, entry.get("look", {}), code="MX-U001", where=f"the look of {where}")
    return from_table(Centre, {**entry, "look": look}, code="MX-U001", where=where)


def _require(rule: bool, words: str) -> None:
    if not rule:
        raise UsageError("MX-U001", words, path=TABLE)
