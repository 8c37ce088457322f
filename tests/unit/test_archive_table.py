"""Reading the table beside the files: any delimiter and encoding, any names of columns, never a guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.archive.columns import FIELDS, field_named, find_columns
from mxbatch.engine.archive.settings import read_settings
from mxbatch.engine.archive.table import Records, in_shape, iso_date, read_records
from mxbatch.engine.errors import UsageError

IMPC_HEADER = [
    "observation_id",
    "increment_value",
    "download_file_path",
    "phenotyping_center",
    "pipeline_stable_id",
    "procedure_stable_id",
    "datasource_name",
    "parameter_stable_id",
    "checksum",
]

SOLR = {
    "responseHeader": {"status": 0},
    "response": {
        "numFound": 1,
        "docs": [
            {
                "full_resolution_file_path": "WTSI/MGP_001/MGP_XRY_001/IMPC_XRY_034_001/93377.dcm",
                "omero_id": 135846,
                "allele_name": ["tm1a(KOMP)Wtsi", "tm1e(KOMP)Wtsi"],
                "date_of_experiment": "2012-08-14T00:00:00Z",
                "specimen_id": "ef848cbdf31b6c602b282378ca4e7471",
                "external_sample_id": "1146783",
                "pipeline_stable_id": "MGP_001",
                "procedure_stable_id": "MGP_XRY_001",
                "parameter_stable_id": "IMPC_XRY_034_001",
                "parameter_id": 37597,
                "phenotyping_center": ["WTSI"],
                "production_center": "WTSI",
                "colony_id": "MEAW",
                "age_in_weeks": 14,
            }
        ],
    },
}


def read(tmp_path: Path, content: str | bytes, name: str = "index.csv", **columns: str) -> Records:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_records(path, name, columns)


def cells(records: Records, *fields: str) -> list[tuple[str | None, ...]]:
    return list(zip(*(records.table[field].to_pylist() for field in fields), strict=True))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_delimiter_and_encoding_are_found_out(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = ["File;Specimen;Größe", "a.jpg;Mäuse/7;", "b.jpg;007;w"]
    records = read(tmp_path, "\r\n".join(lines).replace(";", delimiter).encode(encoding))
    assert cells(records, "file", "specimen_id") == [("a.jpg", "Mäuse/7"), ("b.jpg", "007")]


def test_cells_may_be_quoted_and_hold_the_delimiter_and_line_breaks(tmp_path: Path) -> None:
    records = read(tmp_path, 'file,specimen,comment\n"a,1.jpg"," 7 ","two\nlines"\n')
    assert cells(records, "file", "specimen_id") == [("a,1.jpg", "7")]


def test_blank_cells_and_absent_columns_are_null(tmp_path: Path) -> None:
    records = read(tmp_path, "file,specimen,sex\na.jpg,,  \n")
    assert cells(records, "file", "specimen_id", "sex", "centre") == [("a.jpg", None, None, None)]
    assert records.table.column_names == list(FIELDS)


def test_a_row_that_cannot_be_split_is_kept_as_a_reason_with_its_number(tmp_path: Path) -> None:
    records = read(tmp_path, "file,specimen\na.jpg,1\nb.jpg\nc.jpg,3\nd.jpg,4,5\ne.jpg,6\n")
    assert records.broken == {3: "1 cells instead of 2", 5: "3 cells instead of 2"}
    assert list(zip(records.row, records.table["file"].to_pylist(), strict=True)) == [
        (2, "a.jpg"),
        (4, "c.jpg"),
        (6, "e.jpg"),
    ]


def test_a_row_that_is_neither_utf8_nor_fits_is_kept_too(tmp_path: Path) -> None:
    records = read(tmp_path, "file,specimen\na.jpg,Mäuse,7\nb.jpg,Mäuse\n".encode("latin-1"))
    assert records.broken == {2: "3 cells instead of 2"}
    assert cells(records, "specimen_id") == [("Mäuse",)]


def test_the_literal_header_of_the_mirrors_index_is_understood() -> None:
    assert find_columns(IMPC_HEADER, {}, path="x") == {
        "download_file_path": 2,
        "centre": 3,
        "pipeline": 4,
        "procedure": 5,
        "parameter": 7,
        "checksum": 8,
    }


def test_a_solr_answer_is_read_like_a_table(tmp_path: Path) -> None:
    records = read(tmp_path, json.dumps(SOLR), "impc_images.json")
    wanted = ("specimen_id", "centre", "date_of_experiment", "parameter", "age_weeks", "zygosity")
    assert cells(records, *wanted) == [("1146783", "WTSI", "2012-08-14", "IMPC_XRY_034_001", "14", None)]
    assert records.notes == ()


def test_a_solr_answer_that_was_cut_to_its_first_page_says_so(tmp_path: Path) -> None:
    cut = {"response": {**SOLR["response"], "numFound": 5213}}
    note = "index.json holds 1 of Solr's 5,213 records: ask again with rows=5213"
    assert read(tmp_path, json.dumps(cut), "index.json").notes == (note,)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.csv", b""),
        ("index.csv", b"\n\n"),
        ("index.csv", b"file,specimen\n"),
        ("index.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
        ("index.csv", b"number,comment\n1,2\n"),
        ("index.json", b"[1, 2]"),
        ("index.json", b'{"response": {"docs": [3]}}'),
        ("index.json", b'{"response": {"docs": []}}'),
        ("index.json", b'{"response": {"docs": [{"file": "a", "view": "\\ud800"}]}}'),
        ("index.json", b"[" * 100_000),
        ("index.json", b"{"),
    ],
)
def test_what_is_no_index_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, content, name)
    assert caught.value.code == "MX-U003"
    assert "\n" not in str(caught.value)


def test_the_refusal_names_the_columns_found_and_the_option_that_helps(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'Datei', 'Tier'.*--column file=THEIRS --column specimen=THEIRS"):
        read(tmp_path, "Datei,Tier\na,b\n")
    assert cells(read(tmp_path, "Datei,Tier\na,b\n", file="Datei", specimen_id="tier"), "specimen_id") == [
        ("b",)
    ]


def test_two_columns_of_one_rank_are_a_question() -> None:
    with pytest.raises(UsageError, match=r"'animal' and 'Mouse ID' could each be the specimen_id.*--column"):
        find_columns(["file", "animal", "Mouse ID"], {}, path="x")
    assert (
        find_columns(["file", "animal", "Mouse ID"], {"specimen_id": "Mouse ID"}, path="x")["specimen_id"]
        == 2
    )


def test_the_centres_own_specimen_id_goes_before_the_portals() -> None:
    assert find_columns(["specimen_id", "external_sample_id"], {}, path="x") == {"specimen_id": 1}


def test_a_mapped_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no column 'Tier' among 'file', 'animal'"):
        find_columns(["file", "animal"], {"specimen_id": "Tier"}, path="x")


def test_a_field_can_be_called_by_its_short_name_and_a_typo_is_answered_with_the_names() -> None:
    assert [field_named(name) for name in ("specimen", "date", "file", "sex")] == [
        "specimen_id",
        "date_of_experiment",
        "file",
        "sex",
    ]
    with pytest.raises(UsageError, match=r"MX-U003 unknown column 'specimn'.*specimen, "):
        field_named("specimn")


@given(st.sampled_from(sorted(FIELDS)), st.data())
def test_every_synonym_finds_its_field_whatever_its_case_and_punctuation(
    field: str, data: st.DataObject
) -> None:
    synonym = data.draw(st.sampled_from([word for rank in FIELDS[field] for word in rank.split()]))
    header = data.draw(st.sampled_from([synonym, synonym.upper(), synonym.replace("_", " ").title()]))
    assert find_columns(["x", header], {}, path="x") == {field: 1}


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2012-08-14", "2012-08-14"),
        ("2012-08-14T00:00:00Z", "2012-08-14"),
        ("20120814", "2012-08-14"),
        ("2012/08/14 10:00", "2012-08-14"),
        ("14.08.2012", "2012-08-14"),
        ("03/04/2012", "03/04/2012"),
        ("201208141", "201208141"),
        ("?", "?"),
    ],
)
def test_dates_are_written_one_way_unless_they_could_be_misread(text: str, date: str) -> None:
    assert iso_date(text) == date


def test_a_checksum_is_lower_case_hex_or_nothing() -> None:
    table = in_shape({"checksum": ["AB" * 20, "n/a", ""]}, 3)
    assert table["checksum"].to_pylist() == ["ab" * 20, None, None]


def settings_of(root: Path, text: str, **options: dict[str, str]) -> object:
    (root / "mxbatch.toml").write_text(text, encoding="utf-8")
    return read_settings(root, options.get("columns", {}), options.get("views", {}))


def test_options_overrule_the_toml_beside_the_files(tmp_path: Path) -> None:
    text = 'index = "./animals.csv"\n[columns]\nspecimen = "Tier"\nsex = "G"\n[views]\nap = "dv"\n'
    settings = settings_of(tmp_path, text, columns={"specimen_id": "Nummer"}, views={"ap": "skip", "x": "lv"})
    assert settings.index == "animals.csv"
    assert settings.columns == {"specimen_id": "Nummer", "sex": "G"}
    assert settings.views == {"ap": "skip", "x": "lv"}


@pytest.mark.parametrize(
    "text",
    [
        "colums = 1",
        "index = 3",
        'index = "../a.csv"',
        'index = "/a.csv"',
        'index = ""',
        "columns = 3",
        "[columns]\nfile = 3",
        '[columns]\nfil = "x"',
        '[views]\nap = ["dv"]',
        "not toml",
    ],
)
def test_a_toml_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="MX-U003"):
        settings_of(tmp_path, text)
