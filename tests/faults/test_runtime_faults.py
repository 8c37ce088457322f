"""What can be wrong with compiled code: each fault has its line, and none its silence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import compiled
import pytest
from conftest import Run

from mxbatch.engine.bundle import Bundle, write_untrained
from mxbatch.engine.machine import has_bfloat16
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.encoder import EngineSpec
from mxbatch.engine.runtime.scorer import RUNTIMES
from mxbatch.engine.runtime.speeds import Trial, remember

INDUCTOR = ("--runtime", "inductor", "--precision", "float32", "--workers", 1, "--limit", 4)


@pytest.fixture
def score(mxbatch: Run, archive: Path, small_bundle: Bundle) -> Run:
    def run(*options: object, **environment: str) -> object:
        return mxbatch("score", archive, "--model", small_bundle.path, "--json", *options, **environment)

    return run  # type: ignore[return-value]


def engine_of(stdout: str) -> dict[str, object]:
    """How the run's record says that it was computed."""
    (record,) = json.loads(stdout)["runs"]
    return {name: record["engine"][name] for name in ("runtime", "precision", "batch")}


COMPILED = {"runtime": "inductor", "precision": "float32", "batch": compiled.BATCH}


@compiled.needs_compiler
def test_an_engine_with_a_flipped_byte_is_built_again(
    score: Run, compiled_cache: Path, tmp_path: Path
) -> None:
    engine = compiled.copy(compiled_cache, tmp_path / "cache")
    (library,) = engine.rglob("*.so")
    code = bytearray(library.read_bytes())
    code[len(code) // 2] ^= 1
    library.write_bytes(code)
    done = score(*INDUCTOR, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert f"{library.name} differs from its checksum): building it again" in done.stderr
    assert engine_of(done.stdout) == COMPILED


@compiled.needs_compiler
def test_an_engine_that_others_could_have_written_is_not_loaded(
    score: Run, compiled_cache: Path, tmp_path: Path
) -> None:
    engine = compiled.copy(compiled_cache, tmp_path / "cache")
    engine.parent.chmod(0o777)
    done = score(*INDUCTOR, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 3
    assert "mxbatch: MX-E012 " in done.stderr
    assert "chmod 0700" in done.stderr


def test_without_a_compiler_inductor_is_refused_with_the_command_that_brings_one(
    score: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = score(*INDUCTOR, PATH=str(tmp_path / "empty"), CXX="g++")
    assert done.returncode == 3
    assert done.stderr.startswith("mxbatch: MX-M006 inductor: there is no C++ compiler: apt-get install g++")
    assert not (tmp_path / "mxbatch-out").exists()


def test_without_a_place_for_the_cache_the_run_says_so_and_goes_on(score: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = score("--workers", 1, "--limit", 4, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 0, done.stderr
    assert "what is compiled will not outlive this run" in done.stderr


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_a_runtime_that_fails_its_golden_check_is_refused_by_name_and_left_out_by_auto(
    score: Run, small_bundle: Bundle, tmp_path: Path
) -> None:
    """The calibration of a model that has seen nothing makes differences some hundred times as large, and a deeper
    network has more of them: bfloat16 is not good enough for it."""
    table = small_bundle.recipe.as_dict()
    table["backbone"]["widths"] = [8, 16, 32, 32]
    table["input"]["size"] = 64
    steep = write_untrained(tmp_path / "steep", recipe=Recipe.from_dict(table))
    few = ("--model", steep.path, "--workers", 1, "--limit", 4)
    asked = score(*few, "--runtime", "eager", "--precision", "bfloat16", "--out", "asked")
    assert asked.returncode == 3
    assert "MX-M003" in asked.stderr
    assert "golden probabilities differ by" in asked.stderr

    engines = tmp_path / "cache" / "mxbatch" / "engines"
    for precision, rate in (("float32", 0.1), ("bfloat16", 9e9)):  # as if it had been right once
        spec = EngineSpec(device="cpu", precision=precision, batch=16)
        trial = Trial(runtime="eager", precision=precision, batch=16, rate=rate)
        remember(engines, steep, RUNTIMES["eager"], spec, trial)
    engines.chmod(0o700)
    done = score(*few, "--out", "auto", XDG_CACHE_HOME=str(tmp_path / "cache"), PATH=os.defpath)
    assert done.returncode == 0, done.stderr
    assert "runtime eager-bfloat16: measured 9e+09/s" in done.stderr
    assert "eager-bfloat16 is left out: golden probabilities differ by" in done.stderr
    assert engine_of(done.stdout)["precision"] == "float32"
