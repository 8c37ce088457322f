"""The table of answers, as the world writes it: CSV, Parquet and Solr's JSON, with Solr's names or a centre's own."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mxbatch.engine.errors import UsageError
from mxbatch.trainer.scores import SCORES_SCHEMA, read_scores

HEADER = (
    "observation_id,external_sample_id,phenotyping_center,procedure_stable_id,parameter_stable_id,"
    "category,data_point,date_of_experiment"
)
LINES = [
    "o1,007,MRC Harwell,IMPC_XRY_001,IMPC_XRY_031_001,no,,2015-03-02T00:00:00Z",
    'o2,008,MRC Harwell,IMPC_XRY_001,IMPC_XRY_008_002,,12,"2015-03-02"',
    "o3,008,MRC Harwell,IMPC_XRY_001,IMPC_XRY_009_001,13, ,20150302",
    "o4,009,,IMPC_XRY_001,IMPC_XRY_001_001, imageOnly ,NaN,",
]
READ = [
    ("MRC Harwell", "007", "IMPC_XRY_001", "2015-03-02", "IMPC_XRY_031", "no", None),
    ("MRC Harwell", "008", "IMPC_XRY_001", "2015-03-02", "IMPC_XRY_008", None, 12.0),
    ("MRC Harwell", "008", "IMPC_XRY_001", "2015-03-02", "IMPC_XRY_009", "13", 13.0),
    ("", "009", "IMPC_XRY_001", "", "IMPC_XRY_001", "imageOnly", None),
]


def rows_of(table: pa.Table) -> list[tuple[object, ...]]:
    assert table.schema.equals(SCORES_SCHEMA)
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("name", "delimiter", "start"),
    [("experiment.csv", ",", ""), ("dr20_experiment.tsv", "\t", ""), ("Experiments-XRY.csv", ";", "\ufeff")],
)
def test_solrs_column_names_are_read_from_csv(tmp_path: Path, name: str, delimiter: str, start: str) -> None:
    text = start + "\n".join([HEADER, *LINES]).replace(",", delimiter) + "\n"
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert rows_of(read_scores(tmp_path)) == READ


def test_a_solr_answer_and_parquet_say_the_same_as_csv(tmp_path: Path) -> None:
    names = HEADER.split(",")
    docs = [dict(zip(names, line.replace('"', "").split(","), strict=True)) for line in LINES]
    (tmp_path / "experiment.json").write_text(json.dumps({"response": {"numFound": 4, "docs": docs}}))
    assert rows_of(read_scores(tmp_path)) == READ
    pq.write_table(pa.Table.from_pylist(docs), tmp_path / "other.parquet")
    assert rows_of(read_scores(tmp_path, tmp_path / "other.parquet")) == READ


def test_columns_that_the_archive_explains_for_its_index_are_explained_for_the_answers(
    tmp_path: Path,
) -> None:
    (tmp_path / "mxbatch.toml").write_text('[columns]\nspecimen = "Tier-Nr"\nview = "Aufnahme"\n')
    table = tmp_path / "experiment.csv"
    table.write_text("Tier-Nr,parameter,answer\nm1,IMPC_XRY_001,normal\n")
    assert rows_of(read_scores(tmp_path)) == [("", "m1", "", "", "IMPC_XRY_001", "normal", None)]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no table of answers"),
        ({"a_experiment.csv": "", "b_experiment.csv": ""}, "several tables"),
        ({"experiment.csv": "animal,parameter\nm1,IMPC_XRY_001\n"}, "no column for the answer"),
        ({"experiment.csv": "a,category\n1,2\n"}, "no column for the specimen_id and the parameter"),
        ({"experiment.csv": "specimen,parameter,category\nm1,IMPC_XRY_001\n"}, "cannot be read"),
        ({"experiment.csv": ""}, "cannot be read"),
        ({"experiment.parquet": "PAR1"}, "cannot be read"),
        ({"experiment.json": '{"response": {"docs": []}}'}, "no rows under response.docs"),
    ],
)
def test_a_table_of_answers_that_is_none_is_named(tmp_path: Path, files: dict[str, str], words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_scores(tmp_path)
    assert caught.value.code == "MX-T001"


def test_a_named_table_of_an_unknown_kind_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.tsv, \.parquet, \.json"):
        read_scores(tmp_path, tmp_path / "scores.xlsx")
