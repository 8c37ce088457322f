"""Every code that opening an archive can give: to a file or a row, and to the whole, which is then refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_archive import DV, JPEG, LV, codes, plant, rows

from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.errors import EnvironmentFault, UsageError

# --- of a file or a row


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


# --- of the whole


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
