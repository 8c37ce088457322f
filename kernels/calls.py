"""From logits to the calls of the whole tree in one step: probabilities, and two bits per node.

The same arithmetic as tree.py followed by the thresholds of engine/calls.py, which is the place where calls are
explained. A node's rank is 0 normal, 1 review, 2 abnormal, or -1 unscored where its probability is no number; and
at most its parent's. Sixteen nodes go into one word, so that a batch's calls leave the device as a few numbers.
The twin is written for reading. The kernel is in calls_triton.py.

Twin and kernel agree to the last bits of a float32: a node called differently is one whose probability lies that
near to a threshold. What the twin promises (a child is never above its parent, a NaN stays in its branch), the
kernel keeps exactly.
"""

# N specimens · K nodes, parents before their children · D levels · W words, ceil(K / 16)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from mxbatch.kernels.device import triton_serves
from mxbatch.kernels.tree import probabilities

PER_WORD = 16
"""Nodes in an int32, two bits each, the first in the lowest."""
UNSCORED = 3
"""How a rank of -1 is packed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRules:
    """What turns logits into calls. Tensors are `float32[K]`, all on one device."""

    parents: tuple[int, ...]
    """The index of each node's parent, -1 for a root. Raises ValueError where a child comes first."""
    scale_K: Tensor
    bias_K: Tensor
    normal_below_K: Tensor
    abnormal_from_K: Tensor
    conditional: bool
    """Whether the logits are those of P(node | parent), or of P(node)."""
    path_DK: Tensor = field(init=False)
    """`int32`: the nodes from a node's root down to itself, then -1."""

    def __post_init__(self) -> None:
        paths = paths_from_root(self.parents)
        depth = max(map(len, paths), default=0)
        rows = [[path[level] if level < len(path) else -1 for path in paths] for level in range(depth)]
        path_DK = torch.tensor(rows, dtype=torch.int32, device=self.scale_K.device)
        object.__setattr__(self, "path_DK", path_DK.reshape(depth, len(paths)))


def paths_from_root(parents: Sequence[int]) -> list[list[int]]:
    """For every node the nodes from its root down to itself."""
    paths: list[list[int]] = []
    for child, parent in enumerate(parents):
        if parent >= child:
            raise ValueError(f"parents must come before their children, got {list(parents)}")
        paths.append([*(paths[parent] if parent >= 0 else ()), child])
    return paths


def calls(logits_NK: Tensor, rules: CallRules) -> tuple[Tensor, Tensor]:
    """Path probabilities `float32[N, K]`, and packed calls `int32[N, W]`."""
    if logits_NK.ndim != 2 or logits_NK.shape[1] != len(rules.parents):
        raise ValueError(f"the tree has {len(rules.parents)} nodes, got logits{list(logits_NK.shape)}")
    if triton_serves(logits_NK.device):
        from mxbatch.kernels.calls_triton import calls_on_gpu

        return calls_on_gpu(logits_NK, rules)
    return calls_plainly(logits_NK, rules)


def path_probabilities(logits_NK: Tensor, rules: CallRules) -> Tensor:
    """The probabilities of `calls` alone, `float32[N, K]`: of the twin only the half that gives them is run."""
    if triton_serves(logits_NK.device):
        return calls(logits_NK, rules)[0]
    return probabilities(logits_NK, rules.parents, rules.scale_K, rules.bias_K, conditional=rules.conditional)


def calls_plainly(logits_NK: Tensor, rules: CallRules) -> tuple[Tensor, Tensor]:
    """The twin, in torch."""
    p_NK = probabilities(logits_NK, rules.parents, rules.scale_K, rules.bias_K, conditional=rules.conditional)
    rank_NK = (p_NK >= rules.normal_below_K).int() + (p_NK >= rules.abnormal_from_K).int()
    rank_NK = rank_NK.masked_fill(p_NK.isnan(), -1)
    for child, parent in enumerate(rules.parents):
        if parent >= 0:
            rank_NK[:, child] = torch.minimum(rank_NK[:, child], rank_NK[:, parent])
    return p_NK, pack(rank_NK)


def pack(rank_NK: Tensor) -> Tensor:
    """`int32[N, W]` of ranks -1 to 2."""
    codes_NK = torch.where(rank_NK < 0, UNSCORED, rank_NK).long()
    specimens, nodes = codes_NK.shape
    words = -(-nodes // PER_WORD)
    codes_NWP = pad(codes_NK, (0, words * PER_WORD - nodes)).reshape(specimens, words, PER_WORD)
    bits_NW = (codes_NWP << 2 * torch.arange(PER_WORD, device=rank_NK.device)).sum(dim=2)
    return bits_NW.to(torch.int32)  # the sixteenth node's bits become the sign: the same bits


def unpack(packed_NW: Tensor, nodes: int) -> Tensor:
    """`int8[N, K]` ranks, as `decide` of engine/calls.py gives them."""
    shifts = 2 * torch.arange(PER_WORD, device=packed_NW.device, dtype=torch.int32)
    codes_NK = (packed_NW[:, :, None] >> shifts & 3).flatten(1)[:, :nodes]
    return torch.where(codes_NK == UNSCORED, -1, codes_NK).to(torch.int8)
