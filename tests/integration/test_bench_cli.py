"""`mxbatch bench` as a user gives it: a result file, a picture, tables; the smallest archive that is one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run

from mxbatch.bench.apart import score_apart
from mxbatch.bench.cli import app
from mxbatch.bench.data import lay_out, radiographs_in
from mxbatch.bench.model import measure_model, operations
from mxbatch.bench.overhead import measure_overhead
from mxbatch.bench.result import read_result
from mxbatch.bench.scale import measure_scale
from mxbatch.bench.score import Amounts, measure_score
from mxbatch.bench.subject import Asked, Chosen, settle
from mxbatch.bench.write import measure_write
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.file_formats import FILE_FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG and a DICOM."""
    home = tmp_path_factory.mktemp("given")
    for seed, (name, suffix) in enumerate([("jpeg", "jpg"), ("dicom", "dcm")]):
        picture = draw_radiograph("dv", seed=seed, height=96, width=80)
        (home / f"{name}.{suffix}").write_bytes(FILE_FORMATS[name](picture))
    return home


@pytest.fixture
def chosen(small_bundle: Bundle) -> Chosen:
    return Chosen(bundle=small_bundle, runtime="eager", precision="float32", device="cpu", batch=4, workers=1)


def test_the_command_leaves_a_result_and_its_picture_and_prints_its_tables(
    mxbatch: Run, folder: Path, tmp_path: Path
) -> None:
    asked = ("decode", folder, "--size", 32, "--rounds", 2, "--seconds", 0.001, "--price-per-hour", 0.5)
    done = mxbatch("bench", *asked)
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "bench" / "results").glob("decode_32_*.json")
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    result = read_result(path)
    assert result.command.startswith(f"mxbatch bench decode {folder.name} --size 32")
    for words in ("jpeg, mxbatch", "dicom, naive", "times naive", "per million", path.name):
        assert words in done.stdout


def test_a_result_compared_with_itself_differs_in_nothing(mxbatch: Run, folder: Path, tmp_path: Path) -> None:
    done = mxbatch("bench", "decode", folder, "--size", 32, "--rounds", 1, "--seconds", 0.001, "--json")
    assert json.loads(done.stdout)["kind"] == "decode"
    [path] = (tmp_path / "bench" / "results").glob("*.json")
    compared = json.loads(mxbatch("bench", "compare", path, path, "--json").stdout)
    assert {row[4] for row in compared["figures"]["rows"]} == {1.0}
    assert compared["what else differs"]["rows"] == []


def test_a_folder_without_radiographs_is_refused_before_anything_is_measured(
    mxbatch: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = mxbatch("bench", "score", tmp_path / "empty")
    assert done.returncode == 2
    assert done.stderr.startswith("mxbatch: MX-U001 ")
    assert not (tmp_path / "bench").exists()


def test_a_whole_run_is_measured_beside_its_limit_and_its_time_is_divided(
    folder: Path, chosen: Chosen
) -> None:
    result = measure_score(
        radiographs_in(folder), chosen, Amounts(radiographs=9, rounds=1), price_per_hour=0.1
    )
    decode, model = (result.figures[f"{name} alone"].median for name in ("decode", "model"))
    assert result.figures["limit"].median == pytest.approx(1 / (1 / decode + 1 / model))
    assert result.shares["whole of limit"] == pytest.approx(
        result.figures["whole"].median / result.figures["limit"].median
    )
    assert set(result.stages) == {"read", "decode", "wait", "encode", "fuse", "write", "rest"}
    assert min(result.stages[name] for name in ("read", "decode", "encode", "fuse", "write")) > 0
    assert 0 < result.shares["writing of the clock"] < 1
    assert result.figures["whole, specimens"].median == pytest.approx(result.figures["whole"].median / 3)
    assert result.figures["peak of a worker"].median > 50
    assert ("price per hour", 0.1) in result.tables["corpus"].rows
    assert result.data["formats"] == {"dicom": 1, "jpeg": 1}


def test_workers_and_archives_are_scaled(folder: Path, chosen: Chosen) -> None:
    result = measure_scale(radiographs_in(folder), chosen, radiographs=6, rounds=1, archives=[12, 6])
    assert [row[0] for row in result.tables["workers"].rows] == [1]
    assert [row[0] for row in result.tables["memory"].rows] == [6, 12]
    assert all(row[1] > 50 for row in result.tables["memory"].rows)


def test_the_encoder_is_measured_beside_the_processors_roof(chosen: Chosen, small_bundle: Bundle) -> None:
    result = measure_model(chosen, rounds=1, radiographs=8)
    speed, reached = (result.figures[name].median for name in ("model alone", "reached"))
    assert reached == pytest.approx(speed * operations(small_bundle) / 1e9)
    assert result.figures["roof"].median > 0


def test_a_shard_is_committed_whole_round_after_round(folder: Path, small_bundle: Bundle) -> None:
    result = measure_write(radiographs_in(folder), small_bundle, rounds=2, radiographs=30)
    [(radiographs, rows, bytes_per_row, _)] = result.tables["a shard"].rows
    assert (radiographs, rows) == (30, 10)
    assert bytes_per_row > 100
    assert len(result.figures["written"].rounds) == 2


def test_what_is_neither_decoding_nor_model_is_measured_step_by_step(chosen: Chosen) -> None:
    result = measure_overhead(chosen, radiographs=12, archive=30, rounds=2)
    per = dict(result.tables["per radiograph"].rows)
    assert 0 < per["of it, Parquet"] < per["per radiograph"]
    *steps, (last, *whole) = result.tables["to the first shard of 30"].rows
    assert last == "to the first shard"
    for column in (1, 2):  # by the clock, of a processor
        assert min(step[column] for step in steps) >= 0
        assert max(steps, key=lambda step: step[column])[0] == "first worker"
        assert sum(step[column] for step in steps) == pytest.approx(whole[column - 1], abs=0.2)
    assert all(len(figure.rounds) == 2 for figure in result.figures.values())


def test_an_overhead_that_cannot_be_measured_is_reported_with_its_last_words(chosen: Chosen) -> None:
    with pytest.raises(EnvironmentFault, match=r"MX-E006 the measurement failed: .*MX-U001 workers must be"):
        measure_overhead(replace(chosen, workers=-1), radiographs=3, archive=3, rounds=1)


def test_a_run_that_fails_is_reported_with_its_last_words(
    folder: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    archive = lay_out(radiographs_in(folder), tmp_path / "archive", 3)
    with pytest.raises(EnvironmentFault, match="MX-U001 workers must be at least 1"):
        score_apart(archive, tmp_path / "out", small_bundle.path, workers=0)


def test_what_was_asked_for_by_name_is_what_is_measured(small_bundle: Bundle, tmp_path: Path) -> None:
    asked = Asked(model=str(small_bundle.path), runtime="eager", device="cpu", workers=3, batch=7)
    subject = settle(asked, tmp_path).subject
    assert (subject.runtime, subject.precision, subject.batch, subject.workers) == ("eager", "float32", 7, 3)
    assert (subject.model, subject.size) == (small_bundle.model_id, 32)


def test_every_benchmark_that_the_page_names_is_a_command() -> None:
    named = set(re.findall(r"mxbatch bench (\w+)", PAGE.read_text("utf-8")))
    commands = {info.name or info.callback.__name__ for info in app.registered_commands if info.callback}
    assert named == commands
