"""TOML tables to frozen dataclasses and back, with the rule that was broken in words.

Taxonomies, recipes and bundles are data that people write by hand and send each other. They all pass this one
door, so that a typo is answered with the known keys, and a wrong type with the place where it stands.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from mxbatch.engine.errors import UsageError

Record = TypeVar("Record")


def from_table(kind: type[Record], table: object, *, code: str, where: str) -> Record:
    """Build the dataclass `kind` from a TOML table.

    Unknown keys, missing keys and wrong types raise `UsageError(code)`; `where` names the table to the
    reader. Arrays become tuples and whole numbers pass for floats; whatever else `kind` demands is up to
    its `__post_init__`.
    """
    if not isinstance(table, Mapping):
        raise UsageError(code, f"{where} is not a table")
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(known)):
        raise UsageError(code, f"{where} has the unknown key '{unknown[0]}'; known are {', '.join(known)}")
    required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in table]:
        raise UsageError(code, f"{where} lacks the key '{missing[0]}'")
    values = {name: _frozen(value) for name, value in table.items()}
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise UsageError(code, f"{where}: {name} = {table[name]!r} is not {_spell(hints[name])}")
    return kind(**values)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _spell(hint: Any) -> str:
    """A type in the words of a TOML file."""
    words = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    if typing.get_origin(hint) is tuple:
        return f"a list, each item {_spell(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_spell(option) for option in typing.get_args(hint) if option is not types.NoneType)
    return words.get(hint, "a table")


def plain(value: Any) -> Any:
    """`value` with tuples as lists and mappings as dicts: what TOML and JSON can hold."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
