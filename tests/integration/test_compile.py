"""`mxbatch compile` and what `score` does with it: the same calls from compiled code, compiled once."""

from __future__ import annotations

import json
from pathlib import Path

import compiled
import numpy as np
import pytest
import real_archive
from conftest import Run
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.ledger import Output
from mxbatch.engine.results import read_calls
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.scorer import Scorer, open_scorer

pytestmark = compiled.needs_compiler
ASKED = ("--runtime", "inductor", "--precision", "float32")


@pytest.fixture
def archive(radiographs: Path, tmp_path: Path) -> Path:
    return real_archive.build(tmp_path / "archive", source=radiographs)


@pytest.fixture(scope="module")
def scorer(small_bundle: Bundle, compiled_cache: Path) -> Scorer:
    notes: list[str] = []
    engines = compiled_cache / "mxbatch" / "engines"
    opened = open_scorer(
        small_bundle,
        runtime="inductor",
        precision="float32",
        batch=compiled.BATCH,
        engines=engines,
        note=notes.append,
    )
    assert notes == []  # it was built already
    return opened


def pictures(bundle: Bundle) -> NDArray[np.uint8]:
    seeds = range(compiled.BATCH // 4)
    return np.concatenate([golden_images(bundle.recipe.input.size, seed) for seed in seeds])


def test_a_picture_gives_the_same_bits_in_every_slot(scorer: Scorer, small_bundle: Bundle) -> None:
    images = pictures(small_bundle)
    features = scorer.encode(images)
    assert len(np.unique(features, axis=0)) == compiled.BATCH
    for shift in range(1, compiled.BATCH):
        assert np.array_equal(scorer.encode(np.roll(images, shift, axis=0)), np.roll(features, shift, axis=0))


@pytest.mark.parametrize("filling", [0, 255])
def test_a_picture_gives_the_same_bits_beside_any_neighbours(
    scorer: Scorer, small_bundle: Bundle, filling: int
) -> None:
    images = pictures(small_bundle)
    features = scorer.encode(images)
    for slot in range(compiled.BATCH):
        company = np.full_like(images, filling)
        company[slot] = images[slot]
        assert np.array_equal(scorer.encode(company)[slot], features[slot])


def test_a_submitted_batch_may_be_overwritten_at_once(scorer: Scorer, small_bundle: Bundle) -> None:
    images = pictures(small_bundle)
    expected = scorer.encode(images)
    first = scorer.submit(images)
    images[:] = 0
    second = scorer.submit(images)
    assert np.array_equal(second(), scorer.encode(images))
    assert np.array_equal(first(), expected)


def test_compiled_code_makes_the_calls_of_plain_torch(
    mxbatch: Run, archive: Path, small_bundle: Bundle, compiled_cache: Path, tmp_path: Path
) -> None:
    environment = {"XDG_CACHE_HOME": str(compiled_cache)}
    options = ("--model", small_bundle.path, "--workers", 1, "--json")
    tables = {}
    for name, runtime in (("plain", ("--runtime", "eager")), ("compiled", ASKED), ("again", ASKED)):
        done = mxbatch("score", archive, "--out", name, *options, *runtime, **environment)
        assert done.returncode == 0, done.stderr
        assert "compiles" not in done.stderr or name == "plain"
        tables[name] = read_calls(tmp_path / name).to_pandas()
    assert set(tables["plain"]["runtime"]) == {"eager-float32"}
    assert set(tables["compiled"]["runtime"]) == {"inductor-float32"}
    for column in (name for name in tables["plain"].columns if name.startswith("p_")):
        difference = np.abs(tables["compiled"][column] - tables["plain"][column]).max()
        assert difference <= 1e-4, column
        assert np.array_equal(tables["compiled"][column], tables["again"][column])
    assert list(tables["compiled"]["call"]) == list(tables["plain"]["call"])


def test_compile_answers_with_what_it_made(mxbatch: Run, small_bundle: Bundle, compiled_cache: Path) -> None:
    done = mxbatch("compile", small_bundle.path, *ASKED, "--json", XDG_CACHE_HOME=str(compiled_cache))
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert {name: made[name] for name in ("runtime", "precision", "batch", "device")} == {
        "runtime": "inductor",
        "precision": "float32",
        "batch": compiled.BATCH,
        "device": "cpu",
    }
    assert made["radiographs_per_s"] > 0
    assert Path(made["engine"]).is_dir()


def test_an_interrupted_run_goes_on_with_the_runtime_that_it_began_with(
    mxbatch: Run, archive: Path, small_bundle: Bundle, compiled_cache: Path, tmp_path: Path
) -> None:
    environment = {"XDG_CACHE_HOME": str(compiled_cache)}
    options = ("--model", small_bundle.path, "--workers", 1, "--out", "out")
    assert mxbatch("score", archive, *options, *ASKED, **environment).returncode == 0
    output = Output(tmp_path / "out")
    (record,) = output.runs()
    record.state = "running"  # as if it had been killed before its first shard
    output.write_record(record)
    for number in output.committed(record.run_id):
        output.store.remove(output.calls_part(record.run_id, number))
    assert mxbatch("score", archive, *options, **environment).returncode == 0
    assert set(read_calls(tmp_path / "out")["runtime"].to_pylist()) == {"inductor-float32"}
