"""Which file an index row means. Pure: names in, positions out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.archive.ebi import Place, place_of
from mxbatch.engine.archive.join import AMBIGUOUS, MISSING, Wanted, match, wanted_files
from mxbatch.engine.archive.scan import Entry
from mxbatch.engine.archive.specimens import Nameless, own_names
from mxbatch.engine.archive.table import Records, in_shape

JAX_LV = "JAX/JAX_001/IMPC_XRY_001/IMPC_XRY_048_001"
JAX_DV = "JAX/JAX_001/IMPC_XRY_001/IMPC_XRY_034_001"
SHA = "f33bff76faab3c545341dc0bb6f9c87488e1b411"


def row(source: str = "index.csv", **cells: str) -> Wanted:
    """The row of an index that says `cells`; `place` stands for its four cells."""
    if "place" in cells:
        cells |= dict(zip(Place._fields, cells.pop("place").split("/"), strict=True))
    table = in_shape({field: [text] for field, text in cells.items()}, 1)
    return wanted_files(Records(source=source, table=table, columns={}, row=[2], broken={}))[0]


def find(paths: list[str], wanted: Wanted) -> str | int:
    files = [Entry(*path.rpartition("/")[::2]) for path in paths]
    hit = match(files, [place_of(file.folder) for file in files], [wanted])[0]
    return paths[hit] if hit >= 0 else hit


def test_a_path_from_the_root_finds_its_file() -> None:
    assert find(["a/1.jpg", "b/1.jpg"], row(file="b/1.jpg")) == "b/1.jpg"
    assert find(["a/1.jpg", "b/1.jpg"], row(file="./b//1.jpg")) == "b/1.jpg"
    assert find(["a/1.jpg", "b/1.jpg"], row(file="b\\1.jpg")) == "b/1.jpg"


def test_a_path_is_also_meant_from_the_folder_of_the_index() -> None:
    assert find(["a/1.jpg", "1.jpg"], row("a/index.csv", file="1.jpg")) == "a/1.jpg"


def test_a_bare_name_finds_its_file_where_it_is_unique() -> None:
    assert find(["a/1.jpg", "b/2.jpg"], row(file="2.jpg")) == "b/2.jpg"
    assert find(["a/1.jpg", "b/1.jpg"], row(file="1.jpg")) == AMBIGUOUS
    assert find(["a/1.jpg", "1.jpg"], row(file="1.jpg")) == "1.jpg"  # a path from the root, too


def test_a_path_that_is_not_there_is_not_looked_for_by_name() -> None:
    assert find(["a/1.jpg"], row(file="b/1.jpg")) == MISSING


@pytest.mark.parametrize(
    "cell", ["/etc/passwd", "../1.jpg", "a/../../1.jpg", "C:\\x\\1.jpg", "\\\\host\\1.jpg", "."]
)
def test_a_path_out_of_the_archive_is_a_problem(cell: str) -> None:
    wanted = row(file=cell)
    assert wanted.problem == "not a path inside the archive"
    assert (wanted.paths, wanted.names) == ((), ())


def test_a_row_without_any_name_is_a_problem() -> None:
    assert row(specimen_id="7").problem == "no file name"


@pytest.mark.parametrize(
    "cells",
    [
        {"full_resolution_file_path": f"{JAX_LV}/2490342.dcm"},
        {"download_file_path": "http://images.mousephenotype.org/src/7/12/3407/61/560/19791/2490342.dcm"},
        {"download_file_path": "https://images.mousephenotype.org/2490342.dcm?x=/1", "place": JAX_LV},
        {"full_resolution_file_path": "2490342.dcm", "parameter": "IMPC_XRY_048_001"},
        {"file": "2490342.dcm", "centre": "JAX"},
        {"file": "https://somewhere.org/2490342.dcm"},
    ],
)
def test_the_columns_of_the_mirrors_dumps_find_a_file_in_its_place(cells: dict[str, str]) -> None:
    paths = [f"dr_15/{JAX_DV}/1.dcm", f"dr_15/{JAX_LV}/2490342.dcm"]
    assert find(paths, row(**cells)) == paths[1]


@pytest.mark.parametrize("suffix", [".dcm", ".png", ""])
def test_a_checksum_finds_the_file_that_is_named_by_it(suffix: str) -> None:
    assert find([f"{JAX_LV}/{SHA}{suffix}"], row(checksum=SHA, place=JAX_LV)) == f"{JAX_LV}/{SHA}{suffix}"
    assert find([f"flat/{SHA}{suffix}"], row(checksum=SHA.upper())) == f"flat/{SHA}{suffix}"
    tracker = f"https://api.mousephenotype.org/tracker/media/getfile/{SHA}"
    assert find([f"{JAX_LV}/{SHA}{suffix}"], row(download_file_path=tracker)) == f"{JAX_LV}/{SHA}{suffix}"


def test_the_same_name_in_two_views_is_told_apart_by_the_parameter() -> None:
    paths = [f"{JAX_DV}/1.dcm", f"{JAX_LV}/1.dcm"]
    assert find(paths, row(file="1.dcm", place=JAX_LV)) == paths[1]
    assert find(paths, row(file="1.dcm", parameter="IMPC_XRY_048_001")) == paths[1]
    assert find(paths, row(file="1.dcm")) == AMBIGUOUS


def test_another_centres_file_of_the_same_name_is_never_taken() -> None:
    assert find([f"{JAX_LV}/1.dcm"], row(file="1.dcm", centre="TCP")) == MISSING


def test_two_releases_of_one_file_are_told_apart_by_where_the_index_lies() -> None:
    paths = [f"dr_14/{JAX_LV}/1.dcm", f"dr_15/{JAX_LV}/1.dcm"]
    assert find(paths, row("dr_15/index.csv", file="1.dcm", place=JAX_LV)) == paths[1]
    assert find(paths, row(file="1.dcm", place=JAX_LV)) == AMBIGUOUS


def test_a_file_in_another_views_folder_is_taken_only_when_no_other_row_asks_for_it() -> None:
    files = [Entry(JAX_DV, "1.dcm")]
    dv, lv = row(file="1.dcm", place=JAX_DV), row(file="1.dcm", place=JAX_LV)
    places = [place_of(JAX_DV)]
    assert match(files, places, [lv]) == [0]
    assert match(files, places, [dv, lv]) == [0, MISSING]


FOLDERS = st.sampled_from(["", "a", JAX_DV, JAX_LV, f"dr_15/{JAX_LV}"])
FILES = st.lists(st.builds(Entry, FOLDERS, st.sampled_from(["1.jpg", "2.jpg", f"{SHA}.dcm"])), unique=True)
CELLS = st.fixed_dictionaries(
    {},
    optional={
        "file": st.sampled_from(["1.jpg", "a/1.jpg", "3.jpg", "/1.jpg"]),
        "checksum": st.just(SHA),
        "place": st.sampled_from([JAX_DV, JAX_LV]),
        "centre": st.sampled_from(["JAX", "TCP"]),
    },
)


@given(FILES, st.lists(CELLS), st.randoms(use_true_random=False))
def test_the_join_is_a_function_of_names_and_of_nothing_else(files, cells, random) -> None:
    rows = [row(**each) for each in cells]
    places = [place_of(file.folder) for file in files]
    hits = match(files, places, rows)
    assert len(hits) == len(rows)
    order = random.sample(range(len(files)), len(files))
    turned = random.sample(range(len(rows)), len(rows))
    again = match([files[i] for i in order], [places[i] for i in order], [rows[k] for k in turned])
    assert [order[hit] if hit >= 0 else hit for hit in again] == [hits[k] for k in turned]


def nameless(*paths: str) -> list[Nameless]:
    return [Nameless(("JAX",), (path.rpartition("/")[2].partition(".")[0], path)) for path in paths]


def test_a_nameless_radiograph_is_called_by_its_stem_where_that_is_unique() -> None:
    assert own_names(nameless("a/1.jpg", "b/1.jpg", "b/2.jpg")) == ["a/1.jpg", "b/1.jpg", "2"]
    assert own_names(nameless("b/2.jpg"), {(("JAX",), "2")}) == ["b/2.jpg"]
    assert own_names(nameless("b/2.jpg"), {(("TCP",), "2")}) == ["2"]


@given(st.lists(st.from_regex(r"[ab]/[12]\.(jpg|png)", fullmatch=True), unique=True))
def test_no_two_nameless_radiographs_share_a_name(paths: list[str]) -> None:
    names = own_names(nameless(*paths))
    assert len(set(names)) == len(paths)
    assert dict(zip(paths, names, strict=True)) == dict(
        zip(reversed(paths), own_names(nameless(*reversed(paths))), strict=True)
    )
