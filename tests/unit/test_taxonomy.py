"""The built-in taxonomy keeps its promises; one of your own is taken, or refused with the broken rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import Parameter, Taxonomy, read_taxonomy

L3 = {
    "craniofacial": ["skull", "jaw_teeth"],
    "axial": ["vertebra_shape", "vertebra_fusion", "spine_curvature", "ribs"],
    "appendicular": ["girdles", "long_bones", "joints", "digits"],
}


def small() -> dict[str, Any]:
    """A valid taxonomy of another domain's names, as TOML holds it."""
    parameter = {"id": "CCP_XRY_075", "name": "Baculum", "abnormal": ["short"], "normal": ["normal"]}
    return {
        "name": "small",
        "version": 3,
        "nodes": [
            {"name": "odd", "level": 1, "title": "odd"},
            {"name": "left", "level": 2, "parent": "odd", "title": "left", "mp": ["MP:0000001"]},
            {"name": "left_1", "level": 3, "parent": "left", "title": "left 1", "parameters": [parameter]},
        ],
    }


def parameters() -> dict[str, Parameter]:
    return {parameter.id: parameter for node in read_taxonomy().nodes for parameter in node.parameters}


def test_the_built_in_taxonomy_has_the_three_regions_and_ten_classes_in_order() -> None:
    taxonomy = read_taxonomy()
    assert taxonomy.names == ("abnormal", *L3, *(name for names in L3.values() for name in names))
    assert {node.name: node.parent for node in taxonomy.level(3)} == {
        n: p for p, ns in L3.items() for n in ns
    }


def test_every_scored_impc_parameter_belongs_to_exactly_one_class() -> None:
    numbers = [*range(1, 32), 33, *range(55, 75)]
    listed = [parameter.id for node in read_taxonomy().nodes for parameter in node.parameters]
    assert sorted(listed) == [f"IMPC_XRY_{number:03d}" for number in numbers]


@pytest.mark.parametrize(
    ("parameter", "abnormal", "normal"),
    [
        ("IMPC_XRY_001", "abnormal", "normal"),
        ("IMPC_XRY_011", "fused", "not fused"),
        ("IMPC_XRY_019", "yes", "no"),
        ("IMPC_XRY_029", "Syndactylism", "no syndactylism"),
        ("IMPC_XRY_031", "no", "yes"),  # digit integrity: the inverted one
        ("IMPC_XRY_056", "yes", "no"),
    ],
)
def test_the_abnormal_answer_is_the_one_of_impress(parameter: str, abnormal: str, normal: str) -> None:
    assert (parameters()[parameter].abnormal, parameters()[parameter].normal) == ((abnormal,), (normal,))


def test_counts_know_the_wild_type_and_only_the_tail_is_unreliable() -> None:
    counts = {key[-3:]: entry for key, entry in parameters().items() if entry.kind == "count"}
    expected = {"008": 13, "009": 13, "013": 7, "014": 13, "015": 6, "016": 4, "017": 28, "028": 20}
    assert {key: entry.expected for key, entry in counts.items()} == expected
    assert [key for key, entry in parameters().items() if not entry.reliable] == ["IMPC_XRY_017"]
    assert all(entry.mp_increased and entry.mp_decreased for entry in counts.values())


def test_only_what_was_seen_at_impc_is_called_verified() -> None:
    verified = {key[-3:] for key, entry in parameters().items() if entry.evidence == "verified"}
    assert verified == {"006", "008", "012", "021"}


def test_answers_that_mean_missing_are_never_an_answer() -> None:
    taxonomy = read_taxonomy()
    assert {"imageOnly", "unobservable", "no data", ""} == set(taxonomy.missing)
    assert not any(
        set(entry.abnormal + entry.normal) & set(taxonomy.missing) for entry in parameters().values()
    )


def test_the_way_through_toml_changes_nothing(tmp_path: Path) -> None:
    for taxonomy in (read_taxonomy(), Taxonomy.from_dict(small())):
        path = tmp_path / "taxonomy.toml"
        path.write_text(tomli_w.dumps(taxonomy.as_dict()), encoding="utf-8")
        assert read_taxonomy(path) == taxonomy


@given(order=st.permutations(range(len(read_taxonomy().nodes))))
def test_parents_come_before_their_children_however_the_file_is_ordered(order: list[int]) -> None:
    nodes = read_taxonomy().nodes
    taxonomy = Taxonomy(name="shuffled", version=1, nodes=tuple(nodes[index] for index in order))
    assert all(parent < child for child, parent in enumerate(taxonomy.parents))
    assert [node.level for node in taxonomy.nodes] == sorted(node.level for node in nodes)
    for node, parent in zip(taxonomy.nodes, taxonomy.parents, strict=True):
        assert node.parent == (taxonomy.names[parent] if parent >= 0 else None)


def _in_node(index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda table: table["nodes"][index].update(changes)


def _in_parameter(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda table: table["nodes"][2]["parameters"][0].update(changes)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda table: table.update(nodes=[]), "exactly one node has level 1, not 0"),
        (lambda table: table.update(nodes="left"), "nodes is not an array of tables"),
        (lambda table: table.update(nodes=["left"]), "an entry of nodes is not a table"),
        (lambda table: table["nodes"].append({**table["nodes"][0], "name": "second"}), "level 1, not 2"),
        (lambda table: table["nodes"].pop(), "no node has level 3"),
        (lambda table: table.pop("version"), "lacks the key 'version'"),
        (lambda table: table.update(version="3"), "is not a whole number"),
        (lambda table: table.update(colour="red"), "unknown key 'colour'; known are name, version"),
        (_in_node(1, name="odd"), "two nodes are named 'odd'"),
        (_in_node(1, name="Left side"), "a name is a-z, 0-9 and _"),
        (_in_node(1, level=4), "level 4 is none of 1, 2, 3"),
        (_in_node(1, parent="nobody"), "its parent 'nobody' is no node of level 1"),
        (_in_node(2, parent="odd"), "its parent 'odd' is no node of level 2"),
        (_in_node(0, parent="left"), "all but the node of level 1 name a parent"),
        (_in_node(1, mp=["0000001"]), "'0000001' is no MP term"),
        (_in_node(1, mp=[1]), "is not a list, each item a string"),
        (_in_node(1, titel="x"), "unknown key 'titel'"),
        (
            _in_node(2, parameters=[small()["nodes"][2]["parameters"][0]] * 2),
            "lists the parameter CCP_XRY_075 twice",
        ),
        (_in_parameter(id="CCP_XRY_075_001"), "no version"),
        (_in_parameter(abnormal=["normal"]), "both normal and abnormal"),
        (_in_parameter(abnormal=[]), "categories, and only they"),
        (_in_parameter(normal=["imageOnly"]), "mean missing"),
        (_in_parameter(expected=4), "counts, and only they"),
        (_in_parameter(kind="number"), "none of category, count, length"),
        (_in_parameter(evidence="certain"), "none of verified, inferred, candidate"),
    ],
)
def test_a_broken_rule_is_named(spoil: Callable[[dict[str, Any]], None], words: str, tmp_path: Path) -> None:
    table = small()
    spoil(table)
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(words)) as raised:
        read_taxonomy(path)
    assert raised.value.code == "MX-U006"
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", None])
def test_a_file_that_is_no_toml_or_not_there_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        read_taxonomy(path)
    assert raised.value.code == "MX-U006"
