"""Opening an archive: tables and plain folders, every code that an index can give, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.archive.ebi import place_of
from mxbatch.engine.archive.index import INDEX_SCHEMA, KEY, ORDER, Archive
from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.archive.scan import Entry, looks_like_image
from mxbatch.engine.archive.settle import settle
from mxbatch.engine.archive.table import Records, in_shape
from mxbatch.engine.archive.views import ViewWords
from mxbatch.engine.errors import CODES, EnvironmentFault, UsageError

JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
DICOM = bytes(128) + b"DICM" + bytes(100)
TEXT = b"Copied on Monday."
DV = "MRC Harwell/HRWL_001/IMPC_XRY_001/IMPC_XRY_034_001"
LV = "MRC Harwell/HRWL_001/IMPC_XRY_001/IMPC_XRY_048_001"


def plant(root: Path, *paths: str, table: str | None = None) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(TEXT if path.endswith(".txt") else JPEG)
    if table is not None:
        (root / "index.csv").write_text(table, encoding="utf-8")
    return root


def rows(archive: Archive, *columns: str) -> list[tuple]:
    return list(zip(*(archive.index[column].to_pylist() for column in columns), strict=True))


def codes(archive: Archive) -> Mapping[str, str | None]:
    return dict(rows(archive, "path", "code"))


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


# --- each code


def test_a101_a_file_that_the_index_names_and_nobody_has(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", table="file,specimen,view\n1.jpg,A,dv\n2.jpg,B,lv\n")
    archive = open_archive(tmp_path)
    assert rows(archive, "specimen_id", "view", "path", "size", "code") == [
        ("A", "dv", "1.jpg", len(JPEG), None),
        ("B", "lv", "2.jpg", None, "MX-A101"),
    ]


def test_a102_a103_stand_at_the_specimen_that_the_index_names(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "1.jpg",
        "2.jpg/x.jpg",
        table="file,specimen,view\n1.jpg,A,dv\n2.jpg,A,lv\n3.jpg,A,forepaw\n",
    )
    (tmp_path / "3.jpg").symlink_to("nowhere")
    assert rows(open_archive(tmp_path), "specimen_id", "view", "path", "code") == [
        ("A", "dv", "1.jpg", None),
        ("A", "forepaw", "3.jpg", "MX-A103"),
        ("A", "lv", "2.jpg", "MX-A102"),
    ]


def test_a102_stands_at_its_own_specimen_in_the_mirror_without_an_index(tmp_path: Path) -> None:
    plant(tmp_path, f"{DV}/1.jpg", f"{DV}/2.jpg/x.jpg")
    assert rows(open_archive(tmp_path), "specimen_id", "view", "code") == [
        ("1", "dv", None),
        ("2", "dv", "MX-A102"),
    ]


def test_a104_a_file_that_the_table_does_not_name(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "2.jpg", "readme.txt", table="file,specimen,view\n1.jpg,A,dv\n")
    archive = open_archive(tmp_path)
    assert codes(archive) == {"1.jpg": None, "2.jpg": "MX-A104", "readme.txt": "MX-A108"}
    assert archive.counts()["specimens"] == 1


def test_a105_a_folder_of_an_xray_parameter_that_is_no_image(tmp_path: Path) -> None:
    odd = DV.replace("034", "033")
    plant(tmp_path, f"{DV}/1.jpg", f"{odd}/1.jpg")
    assert codes(open_archive(tmp_path)) == {f"{DV}/1.jpg": None, f"{odd}/1.jpg": "MX-A105"}
    (tmp_path / "index.csv").write_text(f"file,specimen,view\n{odd}/1.jpg,A,lv\n")
    assert codes(open_archive(tmp_path)) == {f"{DV}/1.jpg": None, f"{odd}/1.jpg": None}


def test_a106_a_view_that_nobody_knows_keeps_its_specimen(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", table="file,specimen,view\n1.jpg,A,bauchseitig\n")
    archive = open_archive(tmp_path)
    assert rows(archive, "specimen_id", "view", "code") == [("A", None, "MX-A106")]
    assert (
        archive.index["reason"]
        .to_pylist()[0]
        .startswith("the index gives the view 'bauchseitig'; known: dv, lv")
    )
    assert rows(open_archive(tmp_path, extra_views=["bauchseitig"]), "view") == [("bauchseitig",)]


def test_a107_one_file_for_two_specimens_is_lost_for_both_in_sight(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", table="file,specimen,view\n1.jpg,A,dv\n1.jpg,B,dv\n1.jpg,A,dv\n")
    archive = open_archive(tmp_path)
    assert rows(archive, "specimen_id", "path", "view", "code") == [
        ("A", "1.jpg", "dv", "MX-A107"),
        ("B", "1.jpg", "dv", "MX-A107"),
    ]
    assert (
        archive.index["reason"].to_pylist()[0] == "rows 2 and 3 and 4 of index.csv differ in their specimen"
    )


def test_a107_one_file_with_two_views(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", table="file,specimen,view\n1.jpg,A,dv\n1.jpg,A,lv\n")
    archive = open_archive(tmp_path)
    assert rows(archive, "specimen_id", "view", "code") == [("A", None, "MX-A107")]
    assert archive.index["reason"].to_pylist() == ["rows 2 and 3 of index.csv differ in their view"]


def test_a107_folder_and_index_disagree_about_the_view(tmp_path: Path) -> None:
    plant(tmp_path, f"{DV}/1.jpg", table="file,specimen,parameter_stable_id\n1.jpg,A,IMPC_XRY_048_001\n")
    archive = open_archive(tmp_path)
    assert rows(archive, "specimen_id", "view", "code") == [("A", None, "MX-A107")]
    assert archive.index["reason"].to_pylist() == ["the index's parameter says lv, the folder says dv"]


def test_a108_a_file_outside_the_mirrors_layout(tmp_path: Path) -> None:
    plant(tmp_path, f"{DV}/1.jpg", f"{DV}/sub/2.jpg", "3.jpg", "MRC Harwell/Thumbs.db")
    assert set(codes(open_archive(tmp_path)).values()) == {None, "MX-A108"}
    assert codes(open_archive(tmp_path))[f"{DV}/1.jpg"] is None


def test_a109_a_row_without_a_usable_name(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "a/2.jpg", "b/2.jpg")
    text = "file,specimen,view\n1.jpg,A,dv\n/etc/passwd,A,lv\n../1.jpg,A,lv\n,A,lv\n2.jpg,A,lv\nx.jpg\n"
    archive = open_archive(plant(tmp_path, table=text))
    bad = archive.index.filter([code == "MX-A109" for code in archive.index["code"].to_pylist()])
    assert sorted(
        zip(*(bad[name].to_pylist() for name in ("specimen_id", "path", "reason")), strict=True)
    ) == [
        ("", "", "row 7 of index.csv: 1 cells instead of 3"),
        ("A", "", "row 5 of index.csv: no file name"),
        ("A", "../1.jpg", "row 4 of index.csv: not a path inside the archive"),
        ("A", "/etc/passwd", "row 3 of index.csv: not a path inside the archive"),
        ("A", "2.jpg", "row 6 of index.csv: fits several files, give its path from the root"),
    ]


def test_a110_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, f"{DV}/1.jpg", f"{LV}/1.jpg")
    listing = os.scandir

    def scandir(path: str | Path) -> object:
        if str(path).endswith(LV):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    archive = open_archive(tmp_path)
    assert codes(archive) == {f"{DV}/1.jpg": None, LV: "MX-A110"}
    assert archive.counts()["specimens"] == 1


def test_a111_a_name_that_no_table_can_hold(tmp_path: Path) -> None:
    plant(tmp_path, f"{DV}/1.jpg")
    open(os.fsencode(tmp_path / DV) + b"/\xe9.jpg", "wb").close()
    assert rows(open_archive(tmp_path), "specimen_id", "path", "code") == [
        ("1", f"{DV}/1.jpg", None),
        ("\\xe9", f"{DV}/\\xe9.jpg", "MX-A111"),
    ]


def test_reasons_and_notes_are_single_lines_whatever_the_data(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", table='file,specimen,view\n1.jpg,A,"new\nline"\n')
    assert "'new\\nline'" in open_archive(tmp_path).index["reason"].to_pylist()[0]


# --- what is refused as a whole


def test_e001_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="MX-E001"):
        open_archive(tmp_path / "nowhere")


def test_e002_no_radiograph(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"MX-E002 .*no radiograph in it"):
        open_archive(plant(tmp_path, "README.txt"))


def test_e002_an_index_whose_files_are_all_gone_is_a_lost_mount(tmp_path: Path) -> None:
    plant(tmp_path, table="file,specimen,view\n1.jpg,A,dv\n2.jpg,B,lv\n")
    with pytest.raises(
        EnvironmentFault, match=r"MX-E002 .*none of the 2 files that its index names is there"
    ):
        open_archive(tmp_path)


@pytest.mark.parametrize("wrong", [{"default_view": "ventral"}, {"views": {"AP": "ventral"}}])
def test_u002_a_view_that_cannot_be_meant(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UsageError, match="MX-U002 unknown view 'ventral'"):
        open_archive(plant(tmp_path, "1.jpg"), **wrong)


def test_u002_a_default_of_skip_would_empty_the_archive(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"MX-U002 the default view cannot be `skip`: .* one of dv, lv"):
        open_archive(plant(tmp_path, "1.jpg"), default_view="skip")


def test_u003_several_tables_could_be_the_index(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg")
    for name in ("a.csv", "b.tsv"):
        (tmp_path / name).write_text(
            "file,specimen\n1.jpg,A\n".replace(",", "\t" if name == "b.tsv" else ",")
        )
    with pytest.raises(UsageError, match=r'MX-U003 .*a.csv, b.tsv.*index = "a.csv"'):
        open_archive(tmp_path)
    (tmp_path / "mxbatch.toml").write_text('index = "b.tsv"')
    assert codes(open_archive(tmp_path)) == {"1.jpg": None}


@pytest.mark.parametrize("options", [{"columns": {"file": "x"}}, {"views": {"x": "dv"}}])
def test_u003_a_mapping_without_a_table(tmp_path: Path, options: dict) -> None:
    with pytest.raises(UsageError, match="MX-U003"):
        open_archive(plant(tmp_path, "1.jpg"), **options)


def test_u003_a_named_index_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "mxbatch.toml").write_text('index = "b.csv"')
    with pytest.raises(UsageError, match=r"MX-U003 .*'b.csv', which is not there"):
        open_archive(plant(tmp_path, "1.jpg"))


def test_u003_an_ambiguous_table_is_asked_about_rather_than_passed_over(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg")
    (tmp_path / "animals.csv").write_text("file,animal,mouse\n1.jpg,A,B\n")
    with pytest.raises(UsageError, match="'animal' and 'mouse' could each be the specimen_id"):
        open_archive(tmp_path)
    assert rows(open_archive(tmp_path, columns={"specimen": "mouse"}), "specimen_id") == [("B",)]


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
