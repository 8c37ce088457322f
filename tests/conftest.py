"""Fixtures that every room of the tests shares."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import compiled
import pytest
import s3_server
from hypothesis import settings

from mxbatch.engine.bundle import Bundle, write_untrained
from mxbatch.engine.models.recipe import Recipe

Run = Callable[..., subprocess.CompletedProcess[str]]

settings.register_profile("mxbatch", deadline=None)  # never judge by the clock of a shared machine
settings.load_profile("mxbatch")
pytest.register_assert_rewrite("pictures", "whole_files")  # helpers that assert say by how much


@pytest.fixture(scope="session")
def radiographs() -> Path:
    """The folder of the eight real radiographs."""
    return Path(os.environ.get("MXBATCH_RADIOGRAPHS", Path(__file__).parent / "data" / "radiographs"))


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An untrained bundle that needs torch but not timm, and milliseconds per radiograph: the fault tests' model."""
    recipe = Recipe.from_dict(
        {
            "name": "small",
            "views": ["dv", "lv", "skull_dv", "skull_lv", "forepaw", "hind_leg"],
            "backbone": {"kind": "cae", "name": "small", "widths": [8, 16], "latent": 16},
            "head": {"width": 16},
            "input": {"size": 32},
        }
    )
    return write_untrained(tmp_path_factory.mktemp("bundle") / "small", recipe=recipe)


@pytest.fixture(scope="session")
def compiled_cache(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For XDG_CACHE_HOME: its engine cache holds `small_bundle`, compiled by inductor in float32. Takes 15 s, once."""
    return compiled.build(small_bundle, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def _listening() -> Iterator[s3_server.Server]:
    if find_spec("moto") is None:
        pytest.skip("moto is not installed: pip install 'mxbatch[test]'")
    server = s3_server.Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def s3(_listening: s3_server.Server) -> Iterator[s3_server.Server]:
    """An object store, with its credentials in the environment."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.ENVIRONMENT.items():
            environment.setenv(name, value)
        yield _listening


@pytest.fixture
def mxbatch(tmp_path: Path) -> Run:
    """Run the command as a user does: `mxbatch("score", archive, "--model", bundle)`, in an empty folder."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mxbatch", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "160", **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="rewrite golden files and what the documents show")
