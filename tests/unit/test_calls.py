"""Calls follow from probabilities, thresholds and the tree alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mxbatch.engine.calls import CALLS, UNSCORED, Thresholds, call_columns, calls_schema, decide
from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import Taxonomy, read_taxonomy

TAXONOMY = read_taxonomy()
COUNT = len(TAXONOMY.nodes)
PLAIN = Thresholds.uniform(TAXONOMY, normal_below=0.4, abnormal_from=0.6)

unit = st.floats(0, 1, width=32)
probabilities = arrays(
    np.float32, st.tuples(st.integers(0, 5), st.just(COUNT)), elements=unit | st.just(math.nan)
)
pairs = st.lists(st.tuples(unit, unit).map(sorted), min_size=COUNT, max_size=COUNT)


def thresholds_of(rows: list[list[float]]) -> Thresholds:
    return Thresholds(
        normal_below=tuple(low for low, _ in rows), abnormal_from=tuple(high for _, high in rows)
    )


def specimen(**values: float) -> NDArray[np.float32]:
    """One row of probabilities: 0 but for the nodes named."""
    return np.array([[values.get(name, 0.0) for name in TAXONOMY.names]], np.float32)


@given(probabilities, pairs)
def test_a_child_is_never_called_higher_than_its_parent(
    p: NDArray[np.float32], rows: list[list[float]]
) -> None:
    rank = decide(p, thresholds_of(rows), TAXONOMY)
    assert rank.dtype == np.int8
    assert rank.shape == p.shape
    for child, parent in enumerate(TAXONOMY.parents):
        assert parent < 0 or (rank[:, child] <= rank[:, parent]).all()


@given(probabilities, pairs)
def test_where_the_tree_does_not_interfere_a_call_is_what_its_thresholds_say(
    p: NDArray[np.float32], rows: list[list[float]]
) -> None:
    rank = decide(p, thresholds_of(rows), TAXONOMY)
    low, high = np.float32(rows[0][0]), np.float32(rows[0][1])
    for value, got in zip(p[:, 0], rank[:, 0], strict=True):
        if math.isnan(value):
            assert got == UNSCORED
        else:
            assert CALLS[got] == ("normal" if value < low else "abnormal" if value >= high else "review")


@given(probabilities)
def test_a_higher_probability_never_lowers_a_call(p: NDArray[np.float32]) -> None:
    raised = np.minimum(p + np.float32(0.1), np.float32(1))
    assert (decide(raised, PLAIN, TAXONOMY) >= decide(p, PLAIN, TAXONOMY)).all()


@given(probabilities)
def test_the_columns_agree_with_each_other(p: NDArray[np.float32]) -> None:
    columns = call_columns(p, PLAIN, TAXONOMY)
    assert {len(column) for column in columns.values()} == {len(p)}
    for call, l2, l3, terms, review in zip(*columns.values(), strict=True):
        assert bool(l2) <= (call == "abnormal")
        assert {node.parent for node in TAXONOMY.level(3) if node.name in l3} <= set(l2)
        assert bool(terms) == (call == "abnormal")
        assert len(set(terms)) == len(terms)
        assert not set(review) & {*l2, *l3}
        assert ("abnormal" in review) == (call == "review")
        assert call != "unscored" or not (l2 or l3 or terms or review)


def test_one_specimen_reads_as_expected() -> None:
    row = specimen(abnormal=0.9, axial=0.8, ribs=0.7, vertebra_shape=0.5, craniofacial=0.3, skull=0.3)
    assert call_columns(row, PLAIN, TAXONOMY) == {
        "call": ["abnormal"],
        "l2_calls": [["axial"]],
        "l3_calls": [["ribs"]],
        "mp_terms": [["MP:0005390", "MP:0002114", "MP:0004624"]],
        "review": [["vertebra_shape"]],
    }


@pytest.mark.parametrize("row", [[None] * COUNT, [math.nan] * COUNT])
def test_what_has_no_probability_is_unscored(row: list[Any]) -> None:
    columns = call_columns([row], PLAIN, TAXONOMY)
    assert columns == {
        "call": ["unscored"],
        "l2_calls": [[]],
        "l3_calls": [[]],
        "mp_terms": [[]],
        "review": [[]],
    }


def test_a_probability_equal_to_a_threshold_is_called_by_it_in_float32() -> None:
    assert (
        float(np.float32(0.7)) < 0.7
    )  # why it must be said: in float64 the stored 0.7 would miss its threshold
    edge = Thresholds.uniform(TAXONOMY, normal_below=0.7, abnormal_from=0.7)
    assert call_columns(specimen(abnormal=0.7), edge, TAXONOMY)["call"] == ["abnormal"]


@pytest.mark.parametrize(("low", "high"), [(0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (math.nan, 0.5)])
def test_thresholds_that_cannot_be_are_refused(low: float, high: float) -> None:
    with pytest.raises(UsageError, match="does not hold"):
        Thresholds.uniform(TAXONOMY, normal_below=low, abnormal_from=high)


def test_thresholds_are_kept_by_node_and_must_name_every_node() -> None:
    table = PLAIN.as_dict(TAXONOMY)
    assert Thresholds.from_dict(table, TAXONOMY) == PLAIN
    with pytest.raises(UsageError, match="look at ribs"):
        Thresholds.from_dict({name: pair for name, pair in table.items() if name != "ribs"}, TAXONOMY)
    with pytest.raises(UsageError, match="no pair of numbers"):
        Thresholds.from_dict({**table, "ribs": [0.1]}, TAXONOMY)


def test_the_schema_has_the_documented_columns_in_their_order() -> None:
    before = (
        "centre specimen_id procedure date_of_experiment pipeline colony_id gene_symbol allele_symbol "
        "zygosity sex group age_weeks metadata_group views_used views_missing"
    )
    after = "call l2_calls l3_calls mp_terms review flags model_id runtime run_id scored_at"
    schema = calls_schema(TAXONOMY)
    assert schema.names == [*before.split(), *(f"p_{name}" for name in TAXONOMY.names), *after.split()]
    lists = {field.name for field in schema if field.type == pa.list_(pa.string())}
    assert lists == {"views_used", "views_missing", "l2_calls", "l3_calls", "mp_terms", "review", "flags"}
    assert {field.type for field in schema if field.name.startswith("p_")} == {pa.float32()}


def test_the_schema_takes_what_call_columns_gives_for_any_taxonomy() -> None:
    nodes = [{"name": "odd", "level": 1, "title": "odd"}]
    nodes += [{"name": "left", "level": 2, "parent": "odd", "title": "left"}]
    nodes += [{"name": "toe", "level": 3, "parent": "left", "title": "toe"}]
    taxonomy = Taxonomy.from_dict({"name": "small", "version": 1, "nodes": nodes})
    columns = call_columns([[0.9, 0.8, 0.7]], Thresholds.uniform(taxonomy), taxonomy)
    schema = calls_schema(taxonomy)
    table = pa.table(columns, schema=pa.schema([schema.field(name) for name in columns]))
    assert table.to_pylist() == [{name: column[0] for name, column in columns.items()}]
