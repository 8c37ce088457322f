"""Probabilities along the paths of a tree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mxbatch.kernels.tree import probabilities


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[int], NDArray[np.float32]]:
    """Parents of 1 to 20 nodes, and extreme logits for a few specimens."""
    parents = [draw(st.integers(-1, child - 1)) for child in range(draw(st.integers(1, 20)))]
    shape = (draw(st.integers(0, 4)), len(parents))
    return parents, draw(arrays(np.float32, shape, elements=st.floats(-(2.0**100), 2.0**100, width=32)))


def plain(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(count), torch.zeros(count)


@given(trees(), st.booleans())
def test_a_child_is_never_more_probable_than_its_parent_whichever_head_it_was(
    tree: tuple[list[int], NDArray[np.float32]], conditional: bool
) -> None:
    parents, logits = tree
    p = probabilities(torch.tensor(logits), parents, *plain(len(parents)), conditional=conditional)
    assert p.dtype == torch.float32
    assert ((p >= 0) & (p <= 1)).all()
    for child, parent in enumerate(parents):
        assert parent < 0 or (p[:, child] <= p[:, parent]).all()


@given(trees())
def test_a_probability_is_the_product_of_the_conditional_ones_up_to_the_root(
    tree: tuple[list[int], NDArray[np.float32]],
) -> None:
    parents, logits = tree
    p = probabilities(torch.tensor(logits), parents, *plain(len(parents)), conditional=True)
    conditional = torch.sigmoid(torch.tensor(logits, dtype=torch.float64))
    for child in range(len(parents)):
        product, node = torch.ones(len(logits), dtype=torch.float64), child
        while node >= 0:
            product, node = product * conditional[:, node], parents[node]
        torch.testing.assert_close(p[:, child].double(), product, rtol=1e-4, atol=1e-6)


@given(trees())
def test_marginal_logits_give_the_least_probability_on_the_way_up_to_the_root(
    tree: tuple[list[int], NDArray[np.float32]],
) -> None:
    parents, logits = tree
    p = probabilities(torch.tensor(logits), parents, *plain(len(parents)), conditional=False)
    marginal = torch.sigmoid(torch.tensor(logits))
    for child in range(len(parents)):
        path = [child]
        while parents[path[-1]] >= 0:
            path.append(parents[path[-1]])
        assert torch.equal(p[:, child], marginal[:, path].amin(dim=1))


@pytest.mark.parametrize("conditional", [True, False])
def test_calibration_scales_and_shifts_the_logits(conditional: bool) -> None:
    scale, bias = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 3.0])
    p = probabilities(torch.tensor([[1.0, -8.0]]), [-1, 0], scale, bias, conditional=conditional)
    root, child = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))
    torch.testing.assert_close(p, torch.tensor([[root, root * child if conditional else child]]))


@pytest.mark.parametrize("conditional", [True, False])
def test_a_nan_stays_in_its_branch(conditional: bool) -> None:
    logits = torch.tensor([[0.0, math.nan, 0.0, 0.0, 0.0]])
    p = probabilities(logits, [-1, 0, 0, 1, 2], *plain(5), conditional=conditional)
    assert p.isnan().tolist() == [[False, True, False, True, False]]


@pytest.mark.parametrize("parents", [[0], [1, -1], [-1, 2, 0]])
def test_a_child_before_its_parent_is_refused(parents: list[int]) -> None:
    with pytest.raises(ValueError, match="before their children"):
        probabilities(torch.zeros(1, len(parents)), parents, *plain(len(parents)), conditional=True)
