"""The kernels natively: the promises of tests/kernel_parity.py, and a measured answer to "is it faster?"."""

from __future__ import annotations

import pytest
import torch
from kernel_parity import *  # noqa: F403  # its tests and their fixture

from mxbatch.kernels.dwnorm import race

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_race_times_both_sides(dtype: torch.dtype) -> None:
    found = race((4, 96, 28, 28), dtype, torch.device("cuda"), rounds=3)
    assert found.fused_ms > 0
    assert found.torch_ms > 0
