"""Muon moves every direction of a matrix alike, AdamW's steps are torch's, and both go on from a saved state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mxbatch.trainer.muon import Muon, is_matrix, orthogonal


def steps(optimiser: torch.optim.Optimizer, parameter: nn.Parameter, gradients: list[Tensor]) -> Tensor:
    """`parameter` after a step of `optimiser` for each of the `gradients`."""
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach()


def gradients(*shape: int, count: int = 5) -> list[Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def group(parameter: nn.Parameter, **settings: Any) -> list[dict[str, Any]]:
    return [{"params": [parameter], "lr": 0.01, "weight_decay": 0.1, **settings}]


@given(st.integers(1, 3), st.integers(16, 40), st.integers(16, 40), st.floats(1e-4, 1e4), st.integers(0, 99))
def test_all_directions_count_alike_and_keep_their_sense(
    stack: int, rows: int, columns: int, size: float, seed: int
) -> None:
    matrices = size * torch.randn(stack, rows, columns, generator=torch.Generator().manual_seed(seed))
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    moved = torch.einsum("mrk,mrc,mkc->mk", u, orthogonal(matrices), v)
    strong = s > 0.05 * s[:, :1]  # five rounds bring weaker ones nearer, not all the way
    assert ((moved > 0.3) & (moved < 1.4))[strong].all()
    assert (moved > 0).all()


def test_under_autocast_a_step_is_rounded_and_goes_the_same_way() -> None:
    exact, rounded = (nn.Parameter(torch.ones(3, 40, 64)) for _ in range(2))
    expected = steps(Muon(group(exact, matrices=True)), exact, gradients(3, 40, 64)) - 1
    with torch.autocast("cpu", torch.bfloat16):
        moved = steps(Muon(group(rounded, matrices=True)), rounded, gradients(3, 40, 64)) - 1
    assert moved.dtype == torch.float32
    assert 0 < (moved - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((32, 32), True),
        ((7, 32, 32), True),
        ((32, 16, 3, 3), True),
        ((32, 1, 8, 8), False),
        ((64, 1, 7, 7), False),
        ((3, 160), False),
        ((160,), False),
    ],
    ids=["linear", "stack", "convolution", "stem", "depthwise", "few answers", "bias"],
)
def test_matrices_are_what_joins_channels(shape: tuple[int, ...], wanted: bool) -> None:
    assert is_matrix(torch.zeros(shape)) == wanted


def test_what_is_no_matrix_takes_the_steps_of_torchs_adamw() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 12)) for _ in range(2))
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    torch.testing.assert_close(
        steps(Muon(group(ours)), ours, gradients(12)), steps(reference, theirs, gradients(12))
    )


def test_a_matrix_takes_the_steps_of_torchs_muon_but_for_its_bfloat16() -> None:
    ours, theirs = (nn.Parameter(torch.ones(24, 40)) for _ in range(2))
    reference = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    moved = steps(Muon(group(ours, matrices=True)), ours, gradients(24, 40)) - 1
    expected = steps(reference, theirs, gradients(24, 40)) - 1
    assert (moved - expected).norm() < 0.03 * expected.norm()


def test_kernels_are_one_row_per_channel_out() -> None:
    flat, kernel = nn.Parameter(torch.ones(16, 36)), nn.Parameter(torch.ones(16, 4, 3, 3))
    given = gradients(16, 36)
    a = steps(Muon(group(flat, matrices=True)), flat, given)
    b = steps(Muon(group(kernel, matrices=True)), kernel, [g.reshape(16, 4, 3, 3) for g in given])
    torch.testing.assert_close(a, b.reshape(16, 36))


@pytest.mark.parametrize("matrices", [True, False])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(matrices: bool) -> None:
    whole, halves = (nn.Parameter(torch.ones(16, 20)) for _ in range(2))
    expected = steps(Muon(group(whole, matrices=matrices)), whole, gradients(16, 20))
    first = Muon(group(halves, matrices=matrices))
    steps(first, halves, gradients(16, 20)[:2])
    second = Muon(group(halves, matrices=matrices))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(steps(second, halves, gradients(16, 20)[2:]), expected)


def test_a_parameter_without_a_gradient_rests() -> None:
    resting = nn.Parameter(torch.ones(16, 16))
    Muon(group(resting, matrices=True)).step()
    assert torch.equal(resting, torch.ones(16, 16))


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="no closure"):
        Muon(group(nn.Parameter(torch.ones(2)))).step(lambda: 0.0)
