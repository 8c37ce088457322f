"""The arithmetic of the kernels' benchmark; what it measures is nobody's to judge."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mxbatch.bench.kernels import (
    Case,
    Work,
    calls_case,
    copy_rate,
    dwnorm_case,
    measure,
    prepare_case,
    result,
)
from mxbatch.bench.result import read_result, write_result

CPU = torch.device("cpu")


def test_the_benchmark_counts_what_has_to_be_moved_once() -> None:
    assert prepare_case("x", 2, 30, 20, torch.uint16, 16, CPU).bytes == 2 * (30 * 20 * 2 + 256 * 3)
    assert calls_case(10, (-1, 0, 0), CPU).bytes == 10 * (3 * 4 + 3 * 4 + 4)
    assert dwnorm_case(2, 5, 8, torch.bfloat16, CPU).bytes == 2 * (2 * 25 * 8 * 2) + 49 * 8 * 2


def test_the_benchmark_gives_rates_and_shares_of_the_roof(tmp_path: Path) -> None:
    timer = {"kernel": 2.0, "instead": 6.0}
    roof = copy_rate(CPU, lambda work: 1.0, count=1000)
    assert roof == pytest.approx(0.002)
    case = Case("x", 1000, lambda: "kernel", lambda: "instead")
    found = result([measure(case, lambda work: timer[str(work())])], roof)
    assert found.shares["x of a copy"] == pytest.approx(0.25)
    (row,) = found.tables["kernels"].rows
    assert row[-3:] == (2.0, 6.0, 3.0)
    assert read_result(write_result(found, tmp_path)) == found


@pytest.mark.parametrize(
    "case",
    [
        prepare_case("x", 1, 30, 20, torch.uint8, 16, CPU),
        calls_case(3, (-1, 0), CPU),
        dwnorm_case(1, 4, 8, torch.float32, CPU),
    ],
    ids=lambda case: case.name,
)
def test_both_sides_of_every_case_run(case: Case) -> None:
    def timer(work: Work) -> float:
        assert work() is not None
        return 1.0

    with torch.inference_mode():
        assert measure(case, timer, rounds=2).times_faster == 1.0


def test_without_a_gpu_the_benchmark_says_in_one_line_that_it_needs_one() -> None:
    code = "import mxbatch.bench.kernels as bench, sys; sys.argv = ['kernels']; bench.main()"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr.splitlines() == [
        "the kernels' benchmark needs an NVIDIA GPU, and torch sees none here"
    ]
