"""Opening an archive: what plain folders and tables become, and what holds for every index."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_archive import DICOM, DV, JPEG, LV, TEXT, codes, plant, rows

from mxbatch.engine.archive.ebi import place_of
from mxbatch.engine.archive.index import INDEX_SCHEMA, KEY, ORDER
from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.archive.scan import Entry, looks_like_image
from mxbatch.engine.archive.settle import settle
from mxbatch.engine.archive.table import Records, in_shape
from mxbatch.engine.archive.views import ViewWords
from mxbatch.engine.errors import CODES

# --- a plain folder without an index


def test_in_a_plain_folder_each_image_is_a_specimen_and_the_notes_say_so(tmp_path: Path) -> None:
    archive = open_archive(
        plant(tmp_path, "a/1.jpg", "b/1.JPEG", "b/2.tif", "README.txt", ".hidden.jpg", "x/.git/3.jpg")
    )
    assert (archive.layout, archive.index_file) == ("plain", None)
    assert rows(archive, "specimen_id", "path", "view", "code") == [
        ("", "README.txt", None, "MX-A108"),
        ("2", "b/2.tif", "unknown", None),
        ("a/1.jpg", "a/1.jpg", "unknown", None),
        ("b/1.JPEG", "b/1.JPEG", "unknown", None),
    ]
    assert archive.notes == (
        "no index: each of 3 radiographs is its own specimen",
        "nobody says what 3 radiographs show: their view is 'unknown'",
    )


def test_the_view_of_a_plain_folder_can_be_said_once(tmp_path: Path) -> None:
    assert rows(open_archive(plant(tmp_path, "1.jpg"), default_view="lv"), "view") == [("lv",)]
    assert rows(open_archive(tmp_path, default_view="tail", extra_views=["tail"]), "view") == [("tail",)]


@pytest.mark.parametrize("content", [JPEG, DICOM], ids=["jpeg", "dicom"])
@pytest.mark.parametrize(
    "name", ["IM000001", "1.2.840.10008.1", "a.img", "c.2012-08-14", "d.jfif", "f.gif", "notes.txt"]
)
def test_a_suffix_that_promises_no_image_means_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    plant(tmp_path, "x.jpg")
    (tmp_path / name).write_bytes(content)
    assert codes(open_archive(tmp_path))[name] is None
    (tmp_path / name).write_bytes(TEXT)
    assert codes(open_archive(tmp_path))[name] == "MX-A108"


def test_a_suffix_that_promises_an_image_is_held_to_it_when_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(TEXT)
    assert codes(open_archive(tmp_path)) == {"1.jpg": None}


def test_the_format_is_looked_up_only_when_asked_for_and_never_by_name(tmp_path: Path) -> None:
    plant(tmp_path, "1.png")
    (tmp_path / "2.jpg").write_bytes(DICOM)
    (tmp_path / "3.jpg").write_bytes(b"<html>")
    assert open_archive(tmp_path).counts()["by_format"] == {}
    assert rows(open_archive(tmp_path, sniff=True), "path", "format") == [
        ("1.png", "jpeg"),
        ("2.jpg", "dicom"),
        ("3.jpg", None),
    ]


# --- a folder with a table


def test_a_table_with_recognisable_columns_needs_no_options(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "sub/b.jpg", "sub/c.jpg")
    (tmp_path / "animals.csv").write_text(
        "Image;Mouse ID;Projection;Sex;Date\n"
        "a.jpg;M/1;DV;f;14.08.2012\n"
        "sub/b.jpg;M/1;Lateral;f;2012-08-14\n"
        "c.jpg;;dv;;\n"
    )
    archive = open_archive(tmp_path)
    assert (archive.layout, archive.index_file) == ("table", tmp_path / "animals.csv")
    assert rows(archive, "specimen_id", "date_of_experiment", "view", "path", "sex", "code") == [
        ("M/1", "2012-08-14", "dv", "a.jpg", "f", None),
        ("M/1", "2012-08-14", "lv", "sub/b.jpg", "f", None),
        ("c", "", "dv", "sub/c.jpg", None, None),
    ]
    taken = "file = 'Image', specimen_id = 'Mouse ID', view = 'Projection', date_of_experiment = 'Date', sex = 'Sex'"
    assert archive.notes == (f"columns of animals.csv: {taken}",)


def test_columns_and_views_can_be_mapped_by_options_or_by_the_toml(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "x.csv").write_text("Bild,Tier,Lage\n1.jpg,A,AP\n2.jpg,A,seitlich\n3.jpg,A,Schwanz\n")
    columns = {"file": "Bild", "specimen": "Tier", "view": "Lage"}
    archive = open_archive(tmp_path, columns=columns, views={"ap": "dv", "Seitlich": "lv", "schwanz": "skip"})
    assert rows(archive, "path", "view") == [("1.jpg", "dv"), ("2.jpg", "lv")]
    assert "1 radiographs of skipped views: left out" in archive.notes
    (tmp_path / "mxbatch.toml").write_text(
        'index = "x.csv"\n[columns]\nfile = "Bild"\nspecimen = "Tier"\nview = "Lage"\n'
        '[views]\nAP = "dv"\nseitlich = "lv"\nSchwanz = "dv"\n'
    )
    assert open_archive(tmp_path, views={"Schwanz": "skip"}).index == archive.index


def test_a_cell_without_a_view_takes_the_default(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "2.jpg", table="file,specimen,view\n1.jpg,A,\n2.jpg,A,lv\n")
    assert rows(open_archive(tmp_path), "view") == [("lv",), ("unknown",)]
    assert rows(open_archive(tmp_path, default_view="dv"), "view") == [("dv",), ("lv",)]


def test_a_parameter_in_the_table_says_the_view(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "1.jpg",
        table="file,specimen,parameter_stable_id,phenotyping_center\n1.jpg,A,HAS_XRY_034_001,MRC\n",
    )
    assert rows(open_archive(tmp_path), "view", "parameter", "centre") == [("lv", "HAS_XRY_034_001", "MRC")]


def test_a_table_of_something_else_is_no_index_and_the_notes_say_why(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg")
    (tmp_path / "calibration.csv").write_text("day,volts\n1,23\n")
    archive = open_archive(tmp_path)
    assert codes(archive) == {"1.jpg": None}
    assert archive.notes[0].startswith(
        "calibration.csv was not taken as an index: no column for the file and the "
    )


# --- the whole


def test_counts_add_up(tmp_path: Path) -> None:
    plant(tmp_path, f"{DV}/1.jpg", f"{LV}/1.jpg", f"{LV}/2.jpg", "x.txt")
    table = f"file,specimen\n{DV}/1.jpg,A\n{LV}/1.jpg,A\n{LV}/3.jpg,B\n"
    assert open_archive(plant(tmp_path, table=table), sniff=True).counts() == {
        "radiographs": 5,
        "usable": 3,
        "specimens": 3,
        "layout": "ebi",
        "index_file": str(tmp_path / "index.csv"),
        "by_centre": {"": 1, "MRC Harwell": 4},
        "by_view": {"dv": 1, "lv": 3},
        "by_format": {"jpeg": 3},
        "by_code": {"MX-A101": 1, "MX-A108": 1},
    }


def test_an_index_does_not_depend_on_the_order_of_its_rows(tmp_path: Path) -> None:
    plant(tmp_path, f"{DV}/1.jpg", f"{LV}/1.jpg", f"{DV}/2.jpg")
    lines = [f"{DV}/1.jpg,A", f"{LV}/1.jpg,A", f"{DV}/2.jpg,B"]
    there = open_archive(plant(tmp_path, table="\n".join(["file,specimen", *lines]))).index
    back = open_archive(plant(tmp_path, table="\n".join(["file,specimen", *reversed(lines)]))).index
    assert there == back


FOLDERS = st.sampled_from(["", "a", DV, LV, f"dr_1/{DV}", DV.replace("034", "001")])
NAMES = st.sampled_from(["1.jpg", "2.dcm", "3.txt", "4"])
FILES = st.lists(
    st.builds(Entry, FOLDERS, NAMES, code=st.sampled_from([None, None, "MX-A102", "MX-A103", "MX-A111"])),
    unique_by=lambda file: file.path,
)
CELLS = st.lists(
    st.fixed_dictionaries(
        {
            "file": st.sampled_from(["", "1.jpg", "a/1.jpg", f"{DV}/1.jpg", "3.txt", "9.jpg", "../1"]),
            "specimen_id": st.sampled_from(["", "A", "B"]),
            "view": st.sampled_from(["", "dv", "lv", "huh"]),
        }
    )
)


@given(FILES, CELLS | st.none(), st.sampled_from(["ebi", "table", "plain"]))
def test_no_file_and_no_named_specimen_is_ever_lost(files, cells, layout) -> None:
    records = None
    if cells is not None:
        columns = {field: [row[field] for row in cells] for field in ("file", "specimen_id", "view")}
        numbers = range(2, len(cells) + 2)
        records = Records(
            source="index.csv", table=in_shape(columns, len(cells)), columns={}, row=numbers, broken={}
        )
    settled = settle(
        files,
        place_of,
        records,
        ViewWords(),
        layout=layout,
        default_view=None,
        is_radiograph=lambda file: looks_like_image(file.name),
    )
    lines = settled.lines
    assert {line.file for line in lines if line.file is not None} == set(range(len(files)))
    for i, file in enumerate(files):
        mine = [line for line in lines if line.file == i]
        assert len(mine) == 1 or {line.code for line in mine} <= {"MX-A107", file.code}
        assert file.code is None or {line.code for line in mine} == {file.code}
    specimens = {row["specimen_id"] for row in cells or []} - {""}
    assert specimens == {cells[line.row]["specimen_id"] for line in lines if line.row is not None} - {""}
    assert all(line.view is not None if line.code is None else line.code in CODES for line in lines)


def test_the_index_has_its_schema_and_order(tmp_path: Path) -> None:
    index = open_archive(plant(tmp_path, f"{LV}/2.jpg", f"{DV}/1.jpg", "z.txt")).index
    assert index.schema == INDEX_SCHEMA
    assert index == index.sort_by([(name, "ascending") for name in ORDER])
    assert all(index[name].null_count == 0 for name in KEY)
