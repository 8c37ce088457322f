"""The tree of abnormalities that a model judges: L1 -> L2 -> L3, with IMPC parameters and MP terms.

A taxonomy is data: the built-in one is `impc_xry.toml` beside this file, a centre may bring its own.
Nothing in the code knows a node's name. The order of the nodes (L1, then all L2, then all L3, each in file
order) is the order of a model's logits and of the `p_` columns, so it is fixed here and nowhere else.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mxbatch.engine.errors import UsageError
from mxbatch.engine.records import from_table, plain

BUILT_IN = Path(__file__).with_name("impc_xry.toml")
LEVELS = (1, 2, 3)
KINDS = ("category", "count", "length")
EVIDENCE = ("verified", "inferred", "candidate")
MISSING = ("", "imageOnly", "unobservable", "no data")
"""Answers that mean "not judged", the empty one included. Never the same as normal."""

_NODE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PARAMETER_ID = re.compile(r"[A-Z0-9-]+_[A-Z0-9]+_\d{3}")
_MP_TERM = re.compile(r"MP:\d{7}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One IMPReSS parameter whose value says whether a node is abnormal. See the header of impc_xry.toml."""

    id: str
    """Without the version suffix: IMPC_XRY_031, not IMPC_XRY_031_001."""
    name: str
    kind: str = "category"
    abnormal: tuple[str, ...] = ()
    normal: tuple[str, ...] = ()
    expected: float | None = None
    """Counts: the wild type's number; any other number is a deviation."""
    reliable: bool = True
    """False where a deviation often has another cause than the genotype; such a label should be left out."""
    mp: str = ""
    mp_increased: str = ""
    mp_decreased: str = ""
    evidence: str = "candidate"
    """How sure the assignment of the MP terms to this parameter is."""

    def __post_init__(self) -> None:
        where = f"parameter {self.id!r}"
        _require(
            bool(_PARAMETER_ID.fullmatch(self.id)), f"{where}: an id looks like IMPC_XRY_031, no version"
        )
        _require(self.kind in KINDS, f"{where}: kind {self.kind!r} is none of {', '.join(KINDS)}")
        _require(
            self.evidence in EVIDENCE, f"{where}: evidence {self.evidence!r} is none of {', '.join(EVIDENCE)}"
        )
        for term in filter(None, (self.mp, self.mp_increased, self.mp_decreased)):
            _require(bool(_MP_TERM.fullmatch(term)), f"{where}: {term!r} is no MP term")
        is_category, is_count = self.kind == "category", self.kind == "count"
        _require(
            bool(self.abnormal and self.normal) == is_category
            and bool(self.abnormal or self.normal) == is_category,
            f"{where}: categories, and only they, list abnormal and normal answers",
        )
        _require(
            (self.expected is not None) == is_count,
            f"{where}: counts, and only they, have an expected number",
        )
        _require(not set(self.abnormal) & set(self.normal), f"{where}: an answer is both normal and abnormal")


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One question: is this abnormal? `mp` holds for every animal that is called abnormal here."""

    name: str
    level: int
    parent: str | None = None
    title: str
    mp: tuple[str, ...] = ()
    mp_evidence: str = "candidate"
    parameters: tuple[Parameter, ...] = ()

    def __post_init__(self) -> None:
        where = f"node {self.name!r}"
        _require(bool(_NODE_NAME.fullmatch(self.name)), f"{where}: a name is a-z, 0-9 and _, a letter first")
        _require(self.level in LEVELS, f"{where}: level {self.level} is none of 1, 2, 3")
        _require(
            (self.parent is None) == (self.level == 1), f"{where}: all but the node of level 1 name a parent"
        )
        _require(self.mp_evidence in EVIDENCE, f"{where}: mp_evidence is none of {', '.join(EVIDENCE)}")
        for term in self.mp:
            _require(bool(_MP_TERM.fullmatch(term)), f"{where}: {term!r} is no MP term")
        if twice := _repeated(parameter.id for parameter in self.parameters):
            raise _broken(f"{where} lists the parameter {twice} twice")


@dataclass(frozen=True, kw_only=True, slots=True)
class Taxonomy:
    """A tree three levels deep. `nodes` may be given in any order; they are kept sorted by level."""

    name: str
    version: int
    nodes: tuple[Node, ...]
    missing: tuple[str, ...] = MISSING

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(sorted(self.nodes, key=lambda node: node.level)))
        if twice := _repeated(self.names):
            raise _broken(f"two nodes are named {twice!r}")
        _require(len(self.level(1)) == 1, f"exactly one node has level 1, not {len(self.level(1))}")
        for level in LEVELS[1:]:
            _require(bool(self.level(level)), f"no node has level {level}")
        levels = {node.name: node.level for node in self.nodes}
        for node in self.nodes[1:]:
            _require(
                levels.get(node.parent or "") == node.level - 1,
                f"node {node.name!r}: its parent {node.parent!r} is no node of level {node.level - 1}",
            )
            for parameter in node.parameters:
                unusable = set(parameter.abnormal + parameter.normal) & set(self.missing)
                _require(
                    not unusable,
                    f"parameter {parameter.id!r}: {sorted(unusable)} mean missing, not an answer",
                )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes)

    @property
    def questions(self) -> tuple[str, ...]:
        """Ids of the parameters whose answers say normal or abnormal: all but lengths and what is not reliable."""
        ids = (
            parameter.id
            for node in self.nodes
            for parameter in node.parameters
            if parameter.reliable and parameter.kind != "length"
        )
        return tuple(dict.fromkeys(ids))

    @property
    def parents(self) -> tuple[int, ...]:
        """The index of each node's parent, always smaller than its own; -1 for the node of level 1."""
        return tuple(self.names.index(node.parent) if node.parent else -1 for node in self.nodes)

    def level(self, level: int) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.level == level)

    def as_dict(self) -> dict[str, Any]:
        """The taxonomy as TOML holds it: fields that say nothing are left out."""
        nodes = []
        for node in self.nodes:
            table = _said(asdict(node))
            if node.parameters:
                table["parameters"] = [_said(asdict(parameter)) for parameter in node.parameters]
            nodes.append(table)
        return {"name": self.name, "version": self.version, "missing": list(self.missing), "nodes": nodes}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Taxonomy:
        """The inverse of `as_dict`. Raises UsageError MX-U006 with the rule that is broken."""
        nodes = tuple(_node(entry) for entry in _tables(table, "nodes", "the taxonomy"))
        return from_table(cls, {**table, "nodes": nodes}, code="MX-U006", where="the taxonomy")


def read_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read a taxonomy file; `None` is the built-in one. Raises UsageError MX-U006 with the broken rule."""
    source = BUILT_IN if path is None else path
    try:
        return Taxonomy.from_dict(tomllib.loads(source.read_text(encoding="utf-8")))
    except UsageError as error:
        raise UsageError(error.code, error.what, path=source) from error
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no TOML
        raise UsageError("MX-U006", str(error), path=source) from error


def _node(entry: Any) -> Node:
    where = f"node {entry.get('name')!r}" if isinstance(entry, Mapping) else "an entry of nodes"
    if not isinstance(entry, Mapping):
        raise _broken(f"{where} is not a table")
    parameters = tuple(
        from_table(Parameter, parameter, code="MX-U006", where=f"a parameter of {where}")
        for parameter in _tables(entry, "parameters", where)
    )
    return from_table(Node, {**entry, "parameters": parameters}, code="MX-U006", where=where)


def _tables(table: object, key: str, where: str) -> list[Any]:
    """The array of tables under `key`, empty where there is none."""
    if not isinstance(table, Mapping) or not isinstance(table.get(key, []), list):
        raise _broken(f"{where}: {key} is not an array of tables")
    return list(table.get(key, []))


def _said(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: plain(value)
        for key, value in table.items()
        if value not in (None, "", ()) and key != "parameters"
    }


def _repeated(names: Any) -> str | None:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    return name if count > 1 else None


def _require(rule: bool, words: str) -> None:
    if not rule:
        raise _broken(words)


def _broken(words: str) -> UsageError:
    return UsageError("MX-U006", words)
