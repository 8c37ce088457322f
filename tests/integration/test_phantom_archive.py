"""An archive of phantoms, read by the engine's own reader."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode, read_bytes
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.trainer.phantom.archive import ArchiveSummary, draw_archive
from mxbatch.trainer.phantom.findings import FINDINGS
from mxbatch.trainer.phantom.sheet import TELLING, TILE, compare
from mxbatch.trainer.phantom.shot import Nuisance

SIZE = 96


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> ArchiveSummary:
    root = tmp_path_factory.mktemp("phantoms") / "archive"
    return draw_archive(root, specimens=20, seed=11, prevalence=0.5, size=SIZE, workers=1)


def table(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name).open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def bytes_of(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_reader_finds_every_radiograph_with_its_view_specimen_and_metadata(drawn: ArchiveSummary) -> None:
    archive = open_archive(drawn.root)
    assert archive.layout == "ebi"
    assert archive.index_file == drawn.root / "impc_images.csv"
    assert archive.counts()["by_code"] == {}
    found = {row["path"]: row for row in archive.index.to_pylist()}
    told = table(drawn.root, "impc_images.csv")
    assert len(found) == len(told) == drawn.radiographs
    assert Counter(row["view"] for row in found.values()) == drawn.by_view
    for row in told:
        read = found[row["download_file_path"]]
        assert read["specimen_id"] == row["external_sample_id"]
        assert read["centre"] == row["phenotyping_center"]
        assert read["colony_id"] == row["colony_id"]
        assert read["group"] == row["biological_sample_group"]
        assert f"{read['date_of_experiment']}T00:00:00Z" == row["date_of_experiment"]
        assert read["age_weeks"] == float(row["age_in_weeks"])
    assert len({(row["centre"], row["specimen_id"]) for row in found.values()}) == drawn.specimens == 20


def test_every_radiograph_decodes_at_the_size_that_was_asked_for(drawn: ArchiveSummary) -> None:
    formats = set()
    for row in table(drawn.root, "impc_images.csv"):
        data = read_bytes(drawn.root / row["download_file_path"], Limits())
        decoded = decode(data, InputContract(size=64), Limits())
        assert max(decoded.width, decoded.height) == SIZE
        formats.add(decoded.format)
    assert formats == {"jpeg", "png", "bmp", "tiff", "dicom"}


def test_scores_and_truth_speak_of_the_animals_in_the_index(drawn: ArchiveSummary) -> None:
    key = ("phenotyping_center", "external_sample_id")
    shown = {tuple(row[name] for name in key) for row in table(drawn.root, "impc_images.csv")}
    scored = {tuple(row[name] for name in key) for row in table(drawn.root, "experiment.csv")}
    sick = {tuple(row[name] for name in key) for row in table(drawn.root, "truth.csv")}
    assert scored == shown
    assert sick < shown
    assert len(sick) == drawn.abnormal == 10


def test_the_truth_gives_each_finding_its_class_and_severity(drawn: ArchiveSummary) -> None:
    rows = table(drawn.root, "truth.csv")
    assert all(FINDINGS[row["finding"]].node == row["node"] for row in rows)
    assert all(0.35 <= float(row["severity"]) <= 1 for row in rows)
    assert {row["node"] for row in rows} == set(drawn.by_class)


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(
    drawn: ArchiveSummary, tmp_path: Path
) -> None:
    counted: list[int] = []
    again = draw_archive(
        tmp_path / "again",
        specimens=20,
        seed=11,
        prevalence=0.5,
        size=SIZE,
        workers=2,
        progress=counted.append,
    )
    assert bytes_of(again.root) == bytes_of(drawn.root)
    assert replace(again, root=drawn.root) == drawn
    assert sum(counted) == drawn.radiographs
    assert len(counted) == 20


def test_another_seed_gives_other_radiographs(drawn: ArchiveSummary, tmp_path: Path) -> None:
    other = draw_archive(tmp_path / "other", specimens=3, seed=12, size=SIZE, workers=1)
    assert not set(bytes_of(other.root).values()) & set(bytes_of(drawn.root).values())


def test_only_the_centres_asked_for_take_part(tmp_path: Path) -> None:
    drawn = draw_archive(
        tmp_path / "two",
        specimens=3,
        seed=0,
        centres=["ICS", "HMGU"],
        size=SIZE,
        nuisance=Nuisance.none(),
        workers=1,
    )
    assert drawn.by_centre == {"ICS": 2, "HMGU": 4}
    assert drawn.by_view == {"dv": 3, "lv": 3}


def test_an_animal_whose_every_view_may_be_lost_keeps_one(tmp_path: Path) -> None:
    lost = replace(Nuisance.none(), missing_view=1.0)
    drawn = draw_archive(tmp_path / "lost", specimens=3, seed=0, size=SIZE, nuisance=lost, workers=1)
    assert drawn.by_view == {"dv": 3}


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="MX-U001"):
        draw_archive(tmp_path, specimens=1, seed=0, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert draw_archive(tmp_path, specimens=1, seed=0, size=SIZE, workers=1).radiographs >= 1
    assert (tmp_path / "truth.csv").is_file()


@pytest.mark.parametrize(
    "impossible", [{"size": 8}, {"seed": -1}, {"workers": 0}, {"centres": []}, {"centres": ["Atlantis"]}]
)
def test_impossible_options_are_refused(tmp_path: Path, impossible: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="MX-U001"):
        draw_archive(tmp_path / "none", **{"specimens": 1, "seed": 0, **impossible})
    assert not list(tmp_path.iterdir())


def test_when_workers_die_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EnvironmentFault, match="MX-E006"):
        draw_archive(tmp_path / "dead", specimens=4, seed=0, size=SIZE, workers=2)
    assert not list(tmp_path.iterdir())


def test_a_worker_that_is_killed_ends_the_drawing_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    def kill_one(radiographs: int) -> None:
        if not seen:
            started[0].kill()
        seen.append(radiographs)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with pytest.raises(EnvironmentFault, match=r"MX-E006.*a worker died"):
        draw_archive(tmp_path / "killed", specimens=200, seed=0, size=SIZE, workers=2, progress=kill_one)
    assert len(seen) < 100
    assert all(process.poll() is not None for process in started)
    assert not list(tmp_path.iterdir())


def test_a_worker_s_disk_that_is_full_is_told_as_such(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.touch()
    with pytest.raises(EnvironmentFault, match="MX-E005"):
        draw_archive(closed / "archive", specimens=2, seed=0, size=SIZE, workers=2)


def test_the_contact_sheet_lays_real_radiographs_over_phantoms(radiographs: Path, tmp_path: Path) -> None:
    compare(radiographs, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 6 * TILE
        assert sheet.height > 3 * TILE
    with pytest.raises(EnvironmentFault, match="MX-E002"):
        compare(tmp_path, tmp_path / "sheet.png")


def test_the_sheet_of_findings_tells_every_class_in_a_view_that_shows_it() -> None:
    nodes = [FINDINGS[name].node for name in TELLING]
    assert nodes == list(dict.fromkeys(finding.node for finding in FINDINGS.values()))
    assert all(window.view in FINDINGS[name].views for name, window in TELLING.items())
