"""A cache with one engine in it, built once for all tests that need compiled code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.runtime.inductor import compiler
from mxbatch.engine.runtime.scorer import open_scorer

BATCH = 16
"""The default of a CPU, so that `mxbatch score` finds the engine."""

needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")


def build(bundle: Bundle, folder: Path) -> Path:
    """A value for XDG_CACHE_HOME: its engine cache holds the float32 engine of `bundle`."""
    engines = folder / "mxbatch" / "engines"
    open_scorer(bundle, runtime="inductor", precision="float32", batch=BATCH, engines=engines)
    return folder


def copy(cache: Path, to: Path) -> Path:
    """Its own copy for a test that does harm. Returns the engine's folder."""
    shutil.copytree(cache, to, dirs_exist_ok=True)
    (engine,) = (to / "mxbatch" / "engines").glob("*-inductor-float32-*")
    return engine
