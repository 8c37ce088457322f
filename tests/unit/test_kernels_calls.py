"""Packed calls of the whole tree are the engine's calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mxbatch.engine.calls import Thresholds, decide
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.kernels.calls import CallRules, calls, pack, path_probabilities, paths_from_root, unpack
from mxbatch.kernels.tree import probabilities

TAXONOMY = read_taxonomy()
K = len(TAXONOMY.nodes)
LOGITS = arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.just(K)),
    elements=st.floats(-20, 20, width=32) | st.just(np.nan),
)


@given(LOGITS, st.booleans())
def test_probabilities_and_calls_are_those_of_the_engine(
    logits: NDArray[np.float32], conditional: bool
) -> None:
    falling = np.linspace(0.6, 0.1, K)  # so that a child would often be called higher than its parent
    thresholds = Thresholds(normal_below=tuple(falling), abnormal_from=tuple(falling + 0.1))
    scale, bias = torch.linspace(0.5, 2, K), torch.linspace(-1, 1, K)
    rules = CallRules(
        parents=tuple(TAXONOMY.parents),
        scale_K=scale,
        bias_K=bias,
        normal_below_K=torch.tensor(thresholds.normal_below),
        abnormal_from_K=torch.tensor(thresholds.abnormal_from),
        conditional=conditional,
    )
    p_NK, packed_NW = calls(torch.from_numpy(logits), rules)
    expected = probabilities(torch.from_numpy(logits), TAXONOMY.parents, scale, bias, conditional=conditional)
    assert torch.equal(p_NK.nan_to_num(-1), expected.nan_to_num(-1))
    assert torch.equal(
        path_probabilities(torch.from_numpy(logits), rules).nan_to_num(-1), p_NK.nan_to_num(-1)
    )
    assert np.array_equal(unpack(packed_NW, K).numpy(), decide(p_NK.numpy(), thresholds, TAXONOMY))


@given(arrays(np.int8, st.tuples(st.integers(0, 4), st.integers(1, 50)), elements=st.integers(-1, 2)))
def test_packing_loses_nothing(ranks: NDArray[np.int8]) -> None:
    packed = pack(torch.from_numpy(ranks))
    assert packed.shape == (len(ranks), -(-ranks.shape[1] // 16))
    assert np.array_equal(unpack(packed, ranks.shape[1]).numpy(), ranks)


def test_a_path_leads_from_the_root_to_its_node() -> None:
    assert paths_from_root([-1, 0, 1, -1, 3, 0]) == [[0], [0, 1], [0, 1, 2], [3], [3, 4], [0, 5]]
    with pytest.raises(ValueError, match="before their children"):
        paths_from_root([-1, 2, 0])


def test_logits_of_another_tree_are_refused() -> None:
    one = torch.ones(1)
    rules = CallRules(
        parents=(-1,), scale_K=one, bias_K=one, normal_below_K=one, abnormal_from_K=one, conditional=True
    )
    with pytest.raises(ValueError, match=r"1 nodes, got logits\[2, 3\]"):
        calls(torch.zeros(2, 3), rules)
