"""`mxbatch compile --calibrate`, and what `score` does with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import real_archive
from conftest import Run

from mxbatch.engine.bundle import Bundle, write_bundle
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.engine.models.hierarchical import build_model
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.results import read_calls
from mxbatch.engine.taxonomy import read_taxonomy

ASKED = ("--runtime", "onnxruntime", "--precision", "int8", "--device", "cpu")


@pytest.fixture
def archive(radiographs: Path, tmp_path: Path) -> Path:
    return real_archive.build(tmp_path / "archive", source=radiographs)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder of more radiographs than the real ones are."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    for n in range(72):
        grey = draw_radiograph("dv", seed=n, height=90, width=70)
        (folder / f"{n:03}.png").write_bytes(FILE_FORMATS["png"](grey))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Random weights without the untrained example's calibration, which makes every difference huge."""
    backbone = {"kind": "cae", "name": "tiny", "widths": [8, 16, 16]}
    recipe = Recipe.from_dict(
        {"name": "tiny", "backbone": backbone, "head": {"width": 32}, "input": {"size": 64}}
    )
    model = build_model(recipe, read_taxonomy(), seed=0)
    folder = tmp_path / "bundle"
    return write_bundle(folder, model, recipe=recipe, taxonomy=read_taxonomy(), learned_from="nothing")


def test_an_engine_that_was_calibrated_scores_and_none_is_made_on_the_way(
    mxbatch: Run, bundle: Bundle, archive: Path, drawn: Path, tmp_path: Path
) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    score = ("score", archive, "--model", bundle.path, *ASKED, "--out", "out", "--workers", 1)
    early = mxbatch(*score, **environment)
    assert early.returncode == 3
    assert "no engine in int8 that was calibrated here" in early.stderr
    assert "--calibrate ARCHIVE" in early.stderr

    made = mxbatch("compile", bundle.path, *ASKED, "--calibrate", drawn, "--json", **environment)
    assert made.returncode == 0, made.stderr
    assert Path(json.loads(made.stdout)["engine"]).is_dir()
    assert "held-out radiographs" in made.stderr

    scored = mxbatch(*score, **environment)
    assert scored.returncode in (0, 1), scored.stderr
    assert set(read_calls(tmp_path / "out")["runtime"].to_pylist()) == {"onnxruntime-int8"}


def test_radiographs_to_calibrate_on_are_refused_where_nothing_is_calibrated(
    mxbatch: Run, bundle: Bundle, archive: Path
) -> None:
    done = mxbatch("compile", bundle.path, "--runtime", "onnxruntime", "--calibrate", archive)
    assert done.returncode == 2
    assert "--calibrate is for --precision int8 and float8" in done.stderr
