"""The small steps of the hot path, timed one by one: `pytest tests/benchmarks --benchmark-enable`.

Without that option each is done once and is an ordinary test. None judges by the clock: pytest-benchmark's
`--benchmark-autosave` and `--benchmark-compare` set two commits side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
import torch
from echo import TAXONOMY, echo_bundle

from mxbatch.engine.calls import CALLS, Thresholds, call_columns, decide
from mxbatch.engine.decode.blocks import block_means
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.plane import Plane
from mxbatch.engine.decode.prepare import prepare
from mxbatch.engine.decode.radiograph import decode, read_bytes
from mxbatch.engine.decode.ranks import tails
from mxbatch.engine.decode.upright import upright
from mxbatch.engine.feed import Loaded
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.engine.ledger import Output, write_parquet
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.plan import METADATA, Radiograph, Specimen
from mxbatch.engine.rows import Outcome, calls_table
from mxbatch.kernels.tree import probabilities

Benchmark = Callable[..., Any]
LIMITS = Limits()
HEIGHT, WIDTH = 2048, 1024
SPECIMENS = 85
"""Of a shard of 256 radiographs."""
LOOK = pytest.mark.parametrize("upright_wanted", [False, True], ids=["padded", "upright"])


@cache
def drawn() -> np.ndarray:
    """12 bits, as most detectors give them."""
    return corpus.mouse(HEIGHT, WIDTH, bits=12)


# --- decode ---


@LOOK
def test_decode_of_a_real_radiograph(benchmark: Benchmark, radiographs: Path, upright_wanted: bool) -> None:
    data = (radiographs / "whole_body_dv_a.jpg").read_bytes()
    decoded = benchmark(decode, data, InputContract(upright=upright_wanted), LIMITS)
    assert (decoded.width, decoded.height) == (2368, 2340)


@pytest.mark.parametrize("name", FILE_FORMATS)
def test_decode_of_each_format(benchmark: Benchmark, name: str) -> None:
    decoded = benchmark(decode, FILE_FORMATS[name](drawn()), InputContract(), LIMITS)
    assert (decoded.width, decoded.height) == (WIDTH, HEIGHT)


def test_python_around_the_decoders(benchmark: Benchmark) -> None:
    """A picture too small to cost anything: what is left is what every radiograph pays besides its pixels."""
    assert benchmark(decode, corpus.jpeg(16, 16), InputContract(size=16), LIMITS).width == 16


def test_reading_a_file(benchmark: Benchmark, tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(corpus.dicom(pixels=drawn(), stored=12))
    assert len(benchmark(read_bytes, path, LIMITS)) > 2 * HEIGHT * WIDTH


# --- prepare ---


@LOOK
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_prepare(benchmark: Benchmark, bits: int, upright_wanted: bool) -> None:
    grey = drawn() >> 4 if bits == 8 else drawn() << (bits - 12)
    grey = grey.astype(np.uint8 if bits == 8 else np.uint16)
    picture = benchmark(prepare, Plane((grey,), WIDTH, HEIGHT), InputContract(upright=upright_wanted))
    assert picture.shape == (224, 224)


@pytest.mark.parametrize("factor", [2, 4, 5])
def test_block_means(benchmark: Benchmark, factor: int) -> None:
    assert benchmark(block_means, drawn(), factor).shape == (-(-HEIGHT // factor), -(-WIDTH // factor))


def test_tails(benchmark: Benchmark) -> None:
    low, high = benchmark(tails, block_means(drawn(), 5), 0.5, 99.5)
    assert low < high


def test_upright(benchmark: Benchmark) -> None:
    picture = np.ascontiguousarray(drawn()[::5, ::5] >> 4).astype(np.uint8)
    assert benchmark(upright, picture, 224).shape == (224, 224)


# --- calls ---


def scored() -> np.ndarray:
    return np.random.default_rng(0).random((SPECIMENS, len(TAXONOMY.nodes)), np.float32)


def test_products_along_the_tree(benchmark: Benchmark) -> None:
    nodes = len(TAXONOMY.nodes)
    logits, one, zero = torch.from_numpy(scored()), torch.ones(nodes), torch.zeros(nodes)
    p = benchmark(probabilities, logits, TAXONOMY.parents, one, zero, conditional=True)
    assert p.shape == (SPECIMENS, nodes)


@pytest.mark.parametrize("step", [decide, call_columns])
def test_calls(benchmark: Benchmark, step: Callable[..., Any]) -> None:
    assert len(CALLS) == 3
    assert len(benchmark(step, scored(), Thresholds.uniform(TAXONOMY), TAXONOMY)) in (SPECIMENS, 5)


# --- write ---


def outcomes(recipe: Recipe) -> list[Outcome]:
    made = []
    for number in range(SPECIMENS):
        shots = tuple(Radiograph(f"{number}-{view}", view, size=9, mtime_ns=0) for view in ("dv", "lv"))
        specimen = Specimen(
            ("BCM", f"m{number}", "XRY", ""), (None,) * len(METADATA), f"work {number}", shots
        )
        outcome = Outcome(specimen, recipe)
        for row, radiograph in enumerate(outcome.to_load()):
            outcome.accept(radiograph, Loaded(checksum=radiograph.path), 2 * number + row)
        made.append(outcome)
    return made


def test_rows_and_parquet(benchmark: Benchmark, tmp_path: Path) -> None:
    """From what became of a shard to its file, fsync and rename included."""
    recipe = Recipe(name="rows", views=("dv", "lv"), max_radiographs=2)
    bundle, p = echo_bundle(recipe, learned_from="radiographs"), scored()

    def write() -> None:
        write_parquet(tmp_path / "part.parquet", calls_table(outcomes(recipe), p, bundle, "echo", "run"))

    benchmark(write)
    assert Output(tmp_path).read_part("part.parquet").num_rows == SPECIMENS
