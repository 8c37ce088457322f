"""The recipes that come with mxbatch, and how one is found: by name, or as a file of one's own.

Recipes differ in little, so a file may say `base = "convnext_mv"` and only what differs: its keys, and those of
its tables, take the place of the base's. What is built, hashed and written into a bundle is the whole that
results; no bundle depends on a base.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.recipe import Recipe
from mxbatch.trainer.training import training_of

FOLDER = Path(__file__).with_name("recipes")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of `mxbatch recipes`."""

    name: str
    summary: str
    """The first comment of its file."""
    recipe: Recipe


def list_recipes() -> list[Entry]:
    """The recipes that come with mxbatch, by name."""
    return [
        Entry(path.stem, path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "), find_recipe(path))
        for path in sorted(FOLDER.glob("*.toml"))
    ]


def find_recipe(name: str | Path) -> Recipe:
    """The recipe called `name`, or the one in the file `name`, its training table checked too.

    Raises UsageError MX-U007: no such recipe or file, or the rule that it breaks.
    """
    path = _locate(name)
    table = _read(path)
    if "base" in table:
        base = _read(_locate(table.pop("base"), beside=path))
        if "base" in base:
            raise UsageError("MX-U007", "its base has a base itself, name that one", path=path)
        table = overlay({**base, "name": path.stem}, table)
    try:
        recipe = Recipe.from_dict({"name": path.stem, **table})
        training_of(recipe)
    except UsageError as error:
        raise UsageError(error.code, error.what, path=path) from error
    return recipe


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`; tables that both have are joined, one level deep."""
    joined = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        joined[key] = {**base[key], **value} if both else value
    return joined


def _locate(name: object, beside: Path | None = None) -> Path:
    """The file of a recipe: one that is shipped, else a path, relative to the file that names it."""
    if not isinstance(name, str | Path):
        raise UsageError("MX-U007", f"base = {name!r} is no name of a recipe", path=beside)
    shipped = {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
    if str(name) in shipped:
        return shipped[str(name)]
    path = (beside.parent if beside else Path()) / Path(name).expanduser()
    if path.is_file():
        return path
    near = difflib.get_close_matches(str(name), shipped, n=3, cutoff=0.4) or list(shipped)
    raise UsageError(
        "MX-U007", f"there is no recipe or file {str(name)!r}; there is {', '.join(near)}", path=beside
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no TOML
        raise UsageError("MX-U007", str(error), path=path) from error
