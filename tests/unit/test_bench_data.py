"""Archives to measure on: as many radiographs as wanted, of the few that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from mxbatch.bench.data import FOLDER, describe, distinct_contents, lay_out, radiographs_in
from mxbatch.bench.decode import measure_decode
from mxbatch.bench.naive import naive
from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.errors import UsageError
from mxbatch.engine.file_formats import FILE_FORMATS, SUFFIXES

SOURCES = ("jpeg", "dicom", "png", "tiff", "bmp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file per format, one without a suffix, and what is no radiograph."""
    home = tmp_path / "given"
    (home / "deep").mkdir(parents=True)
    for seed, name in enumerate(SOURCES):
        picture = draw_radiograph("dv", seed=seed, height=90, width=70)
        (home / "deep" / f"{name}.{SUFFIXES[name]}").write_bytes(FILE_FORMATS[name](picture))
    (home / "bare").write_bytes((home / "deep" / "jpeg.jpg").read_bytes())
    (home / "notes.txt").write_text("no radiograph")
    return home


def test_radiographs_are_told_by_content_and_the_rest_is_left_alone(folder: Path) -> None:
    names = [path.name for path in radiographs_in(folder)]
    assert sorted(names) == ["bare", "bmp.bmp", "dicom.dcm", "jpeg.jpg", "png.png", "tiff.tif"]


def test_formats_can_be_picked(folder: Path) -> None:
    assert [path.name for path in radiographs_in(folder, ["dicom"])] == ["dicom.dcm"]


@pytest.mark.parametrize(("formats", "words"), [(["gif"], "no format 'gif'"), (["dicom"], "no radiograph")])
def test_what_is_not_there_is_said_in_one_line(formats: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(UsageError, match=words):
        radiographs_in(tmp_path, formats)


def test_an_archive_of_any_size_holds_three_radiographs_per_specimen(folder: Path, tmp_path: Path) -> None:
    root = lay_out(radiographs_in(folder), tmp_path / "archive", 20)
    counts = open_archive(root).counts()
    assert (counts["radiographs"], counts["usable"], counts["specimens"]) == (20, 20, 7)
    assert counts["by_view"] == {"dv": 7, "lv": 7, "skull_dv": 6}


def test_files_are_copied_once_and_linked_from_then_on(folder: Path, tmp_path: Path) -> None:
    sources = radiographs_in(folder)
    files = sorted((lay_out(sources, tmp_path / "archive", 18) / FOLDER).iterdir())
    assert len({path.stat().st_ino for path in files}) == len(sources)
    assert not {path.stat().st_ino for path in files} & {path.stat().st_ino for path in sources}
    assert {path.suffix for path in files} == {".jpg", ".dcm", ".png", ".tif", ".bmp"}


def test_the_description_counts_contents_and_not_names(folder: Path) -> None:
    said = describe(radiographs_in(folder), 600)
    assert (said["radiographs"], said["distinct_files"], said["formats"]["jpeg"]) == (600, 5, 2)


def test_files_are_distinct_by_their_bytes_and_not_by_their_size(tmp_path: Path) -> None:
    contents = {"a": b"one", "copy of a": b"one", "b": b"two", "c": b"three"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link to b").symlink_to("b")
    assert distinct_contents(tmp_path.iterdir()) == 3


@pytest.mark.parametrize("name", SOURCES)
def test_the_naive_way_reads_every_format_to_the_same_square(name: str, folder: Path) -> None:
    [path] = folder.glob(f"deep/{name}.*")
    picture = naive(path.read_bytes(), 32)
    assert picture.shape == (32, 32)
    assert picture.max() > 2 * picture.min() + 20


def test_decoding_is_measured_per_format_beside_the_naive_way_and_a_limit(folder: Path) -> None:
    result = measure_decode(radiographs_in(folder), size=32, rounds=2, seconds=0.001)
    for name in SOURCES:
        ours, theirs = (result.figures[f"{name}, {way}"] for way in ("mxbatch", "naive"))
        assert min(*ours.rounds, *theirs.rounds) > 0
    assert "png, limit" not in result.figures  # compressed: nothing simple bounds it
    assert {f"{name}, mxbatch of limit" for name in ("jpeg", "dicom", "bmp")} <= set(result.shares)
    assert [row[0] for row in result.tables["per radiograph"].rows] == sorted(SOURCES)
