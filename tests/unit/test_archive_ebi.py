"""The EBI mirror's layout, with and without the index that goes with it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from mxbatch.engine.archive.ebi import Place, of_another_procedure, place_of
from mxbatch.engine.archive.index import INDEX_SCHEMA, Archive
from mxbatch.engine.archive.open import open_archive

HEADER = [
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
# Literal rows of EBI's own test of its downloader; the last one is no X-ray.
ROWS = """
99e8981b,1.0,http://images.mousephenotype.org/src/7/12/3407/61/560/19791/2490342.dcm,JAX,JAX_001,IMPC_XRY_001,IMPC,IMPC_XRY_048_001,f33bff76faab3c545341dc0bb6f9c87488e1b411
9a976919,0.0,http://images.mousephenotype.org/src/11/13/10479/19/561/19918/2603343.png,UC Davis,UCD_001,IMPC_XRY_001,IMPC,IMPC_XRY_048_001,325bfa70131d6e1a429d2b25545ac49d3d6c0b18
76b68b5b,1.0,http://images.mousephenotype.org/src/12/15/1064/18/175/4828/2342233.dcm,WTSI,MGP_001,MGP_XRY_001,IMPC,IMPC_XRY_051_001,8fb3f3e92292bbc964d27d8a9a02ac67c04470ad
bad_url_image,,http://images.mousephenotype.org/src/4/8/0/35/666/29283/8723.pdf,MRC Harwell,HRWL_001,IMPC_ABR_002,IMPC,IMPC_ABR_014_001,
"""  # noqa: E501
LITERAL = [line.split(",") for line in ROWS.strip().splitlines()]
TWO = ["full_resolution_file_path", "external_sample_id"]
HRWL = "MRC Harwell/HRWL_001/IMPC_XRY_001"


def plant(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"\xff\xd8\xff")


def write(path: Path, header: Sequence[str], *rows: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def table(archive: Archive, *columns: str) -> list[tuple]:
    return list(zip(*(archive.index[column].to_pylist() for column in columns), strict=True))


def test_the_place_is_read_from_the_end_of_the_path() -> None:
    place = Place("MRC Harwell", "HRWL_001", "IMPC_XRY_001", "IMPC_XRY_034_001")
    assert place_of("/".join(place)) == place
    assert place_of("clean/dr_15/" + "/".join(place)) == place
    assert place_of("/".join(place) + "/more") is None
    assert place_of("/".join(place[:3])) is None


@pytest.mark.parametrize("depth", range(5))
def test_the_root_may_be_any_folder_of_the_mirror(depth: int) -> None:
    place = Place("MRC Harwell", "HRWL_001", "IMPC_XRY_001", "IMPC_XRY_034_001")
    assert place_of("/".join(place[depth:]), ("data", *place[:depth])) == place


def test_folders_above_the_root_are_not_taken_for_what_they_do_not_look_like() -> None:
    assert place_of("IMPC_XRY_001/IMPC_XRY_034_001", ("home", "me")) == (
        "",
        "",
        "IMPC_XRY_001",
        "IMPC_XRY_034_001",
    )
    assert place_of("JAX_001/IMPC_XRY_001/IMPC_XRY_034_001", ("home",)) == (
        "",
        "JAX_001",
        "IMPC_XRY_001",
        "IMPC_XRY_034_001",
    )
    assert place_of("IMPC_XRY_034_001", ()) is None


def test_other_procedures_are_told_by_parent_and_name_together() -> None:
    assert of_another_procedure("IMPC_EYE_001", "IMPC_EYE_050_001")
    assert not of_another_procedure("MGP_XRY_001", "IMPC_XRY_034_001")
    assert not of_another_procedure("scans", "IMPC_EYE_050_001")
    assert not of_another_procedure("IMPC_EYE_001", "BOX_DAY_001")


def test_views_and_keys_come_from_the_folders_when_there_is_no_index(tmp_path: Path) -> None:
    plant(
        tmp_path,
        f"{HRWL}/IMPC_XRY_034_001/114182.dcm",
        "MRC Harwell/HRWLLA_001/HRWLLA_XRY_001/HRWLLA_XRY_048_001/7.dcm",
        "MRC Harwell/HAS_001/HAS_XRY_001/HAS_XRY_034_001/has-lateral.dcm",
        "WTSI/MGP_001/MGP_XRY_001/IMPC_XRY_051_001/2379926.jpg",
        "CCP-IMG/ALTCCP_001/ALTCCP_XRY_001/ALTCCP_XRY_052_001/no_suffix",
    )
    archive = open_archive(tmp_path)
    assert (archive.layout, archive.index_file) == ("ebi", None)
    assert archive.index.schema == INDEX_SCHEMA
    assert table(archive, "centre", "pipeline", "procedure", "specimen_id", "view", "code") == [
        ("CCP-IMG", "ALTCCP_001", "ALTCCP_XRY_001", "no_suffix", "hind_leg", None),
        ("MRC Harwell", "HRWL_001", "IMPC_XRY_001", "114182", "dv", None),
        ("MRC Harwell", "HRWLLA_001", "HRWLLA_XRY_001", "7", "lv", None),
        ("MRC Harwell", "HAS_001", "HAS_XRY_001", "has-lateral", "lv", None),
        ("WTSI", "MGP_001", "MGP_XRY_001", "2379926", "skull_dv", None),
    ]
    assert archive.notes == ("no index: each of 5 radiographs is its own specimen",)


def test_a_centre_opened_alone_gives_the_same_specimens(tmp_path: Path) -> None:
    plant(tmp_path, f"{HRWL}/IMPC_XRY_034_001/1.dcm", f"{HRWL}/IMPC_XRY_048_001/1.dcm")
    columns = ("centre", "specimen_id", "procedure", "pipeline", "view", "parameter")
    whole = table(open_archive(tmp_path), *columns)
    assert table(open_archive(tmp_path / "MRC Harwell"), *columns) == whole
    assert table(open_archive(tmp_path / HRWL), *columns) == whole
    assert [row[1] for row in whole] == [
        "IMPC_XRY_034_001/1",
        "IMPC_XRY_048_001/1",
    ]  # two mice, for all we know


def test_the_mirrors_index_meets_files_that_are_named_by_checksum_or_by_number(tmp_path: Path) -> None:
    write(tmp_path / "impc_images_dr15.csv", HEADER, *LITERAL)
    jax = f"JAX/JAX_001/IMPC_XRY_001/IMPC_XRY_048_001/{LITERAL[0][-1]}.dcm"
    davis = "UC Davis/UCD_001/IMPC_XRY_001/IMPC_XRY_048_001/2603343.png"
    wtsi = "WTSI/MGP_001/MGP_XRY_001/IMPC_XRY_051_001/2342233.dcm"
    plant(tmp_path, jax, davis, "JAX/JAX_001/IMPC_EYE_001/IMPC_EYE_050_001/eye.jpg")
    archive = open_archive(tmp_path)
    assert archive.index_file == tmp_path / "impc_images_dr15.csv"
    assert table(archive, "centre", "view", "checksum", "code", "path") == [
        ("JAX", "lv", LITERAL[0][-1], None, jax),
        ("UC Davis", "lv", LITERAL[1][-1], None, davis),
        ("WTSI", "skull_dv", LITERAL[2][-1], "MX-A101", wtsi),
    ]
    assert archive.index["reason"].to_pylist()[2] == "row 4 of impc_images_dr15.csv names it"
    assert archive.notes == (
        "impc_images_dr15.csv has no column for the specimen: each radiograph is its own",
        "1 index rows of other procedures or parameters: left out",
        "1 folders of other procedures (IMPC_EYE_050_001): not read",
    )


def test_a_release_folder_may_hold_both_the_mirror_and_its_index(tmp_path: Path) -> None:
    plant(tmp_path, f"dr_15/{HRWL}/IMPC_XRY_034_001/1.dcm")
    write(tmp_path / "dr_15/impc_images.csv", TWO, [f"{HRWL}/IMPC_XRY_034_001/1.dcm", "M-1"])
    archive = open_archive(tmp_path)
    assert archive.index_file == tmp_path / "dr_15/impc_images.csv"
    assert table(archive, "centre", "specimen_id", "view", "code") == [("MRC Harwell", "M-1", "dv", None)]


def test_a_solr_record_brings_all_that_it_says_about_the_mouse(tmp_path: Path) -> None:
    path = "WTSI/MGP_001/MGP_XRY_001/IMPC_XRY_034_001/93377.dcm"
    plant(tmp_path, path)
    doc = {
        "full_resolution_file_path": path,
        "date_of_experiment": "2012-08-14T00:00:00Z",
        "pipeline_stable_id": "MGP_001",
        "procedure_stable_id": "MGP_XRY_001",
        "parameter_stable_id": "IMPC_XRY_034_001",
        "gene_symbol": "Rab15",
        "phenotyping_center": "WTSI",
        "colony_id": "MEAW",
        "zygosity": "homozygote",
        "sex": "female",
        "biological_sample_group": "experimental",
        "external_sample_id": "1146783",
        "metadata_group": "9f99711a947ef9f7dacf34c176b42e1b",
        "allele_symbol": "Rab15<tm1a(KOMP)Wtsi>",
        "download_file_path": "http://images.mousephenotype.org/src/12/15/2032/18/175/4811/93377.dcm",
        "age_in_weeks": 14,
    }
    (tmp_path / "solr_impc_images_record.json").write_text(
        json.dumps({"response": {"numFound": 1, "docs": [doc]}})
    )
    (row,) = open_archive(tmp_path, sniff=True).index.to_pylist()
    status = (tmp_path / path).stat()
    assert row == {
        "path": path,
        "size": 3,
        "mtime_ns": status.st_mtime_ns,
        "checksum": None,
        "format": "jpeg",  # by its bytes, whatever it is called
        "view": "dv",
        "parameter": "IMPC_XRY_034_001",
        "centre": "WTSI",
        "specimen_id": "1146783",
        "procedure": "MGP_XRY_001",
        "date_of_experiment": "2012-08-14",
        "pipeline": "MGP_001",
        "colony_id": "MEAW",
        "gene_symbol": "Rab15",
        "allele_symbol": "Rab15<tm1a(KOMP)Wtsi>",
        "zygosity": "homozygote",
        "sex": "female",
        "group": "experimental",
        "age_weeks": 14.0,
        "metadata_group": "9f99711a947ef9f7dacf34c176b42e1b",
        "code": None,
        "reason": None,
    }


def test_two_observations_of_one_file_are_one_radiograph(tmp_path: Path) -> None:
    plant(tmp_path, f"{HRWL}/IMPC_XRY_034_001/1.dcm")
    row = [f"{HRWL}/IMPC_XRY_034_001/1.dcm", "M-1"]
    lost = [f"{HRWL}/IMPC_XRY_034_001/2.dcm", "M-2"]
    write(tmp_path / "index.csv", TWO, row, row, lost, lost)
    assert table(open_archive(tmp_path), "specimen_id", "code") == [("M-1", None), ("M-2", "MX-A101")]


def test_a_missing_file_belongs_to_the_same_specimen_as_the_files_that_are_there(tmp_path: Path) -> None:
    dv, lv = f"{HRWL}/IMPC_XRY_034_001/1.dcm", f"{HRWL}/IMPC_XRY_048_001/2.dcm"
    plant(tmp_path, dv)
    write(tmp_path / "index.csv", TWO, [dv, "M-1"], [lv, "M-1"])
    archive = open_archive(tmp_path)
    assert table(archive, "view", "code", "path") == [("dv", None, dv), ("lv", "MX-A101", lv)]
    assert archive.counts()["specimens"] == 1


def test_files_that_the_index_does_not_name_are_their_own_specimens(tmp_path: Path) -> None:
    plant(tmp_path, f"{HRWL}/IMPC_XRY_034_001/1.dcm", f"{HRWL}/IMPC_XRY_034_001/M-1.dcm")
    write(tmp_path / "index.csv", TWO, [f"{HRWL}/IMPC_XRY_034_001/1.dcm", "M-1"])
    archive = open_archive(tmp_path)
    assert table(archive, "specimen_id", "path") == [
        ("IMPC_XRY_034_001/M-1", f"{HRWL}/IMPC_XRY_034_001/M-1.dcm"),  # the stem alone is another mouse's id
        ("M-1", f"{HRWL}/IMPC_XRY_034_001/1.dcm"),
    ]
    assert archive.notes == ("1 radiographs are not in index.csv: each is its own specimen",)
