"""The kernel behind calls.py: one launch for the whole tree.

Every node walks down its own path from the root, with the probability and the rank so far. Paths are short and
their logits in the cache, so doing an ancestor's arithmetic again costs less than waiting for whoever did it.
"""

# N specimens · K nodes · D levels · W words

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mxbatch.kernels.calls import PER_WORD, UNSCORED, CallRules

SPECIMENS = 64
"""Specimens per program, which writes one word of calls for each."""


def calls_on_gpu(logits_NK: Tensor, rules: CallRules) -> tuple[Tensor, Tensor]:
    """`calls`, on the logits' own device and its current stream."""
    specimens, nodes = logits_NK.shape
    words = triton.cdiv(nodes, PER_WORD)
    p_NK = torch.empty(specimens, nodes, device=logits_NK.device)
    packed_NW = torch.empty(specimens, words, dtype=torch.int32, device=logits_NK.device)
    if specimens and nodes:
        # Triton launches on the current device
        with torch.cuda.device_of(logits_NK):  # type: ignore[no-untyped-call]
            _calls[(triton.cdiv(specimens, SPECIMENS), words)](
                logits_NK.contiguous(),
                rules.path_DK,
                rules.scale_K,
                rules.bias_K,
                rules.normal_below_K,
                rules.abnormal_from_K,
                p_NK,
                packed_NW,
                specimens,
                nodes,
                len(rules.path_DK),
                words,
                CONDITIONAL=rules.conditional,
                SPECIMENS=SPECIMENS,
                PER_WORD=PER_WORD,
                UNSCORED=UNSCORED,
            )
    return p_NK, packed_NW


@triton.jit
def _calls(
    logits_NK: tl.tensor,
    path_DK: tl.tensor,
    scale_K: tl.tensor,
    bias_K: tl.tensor,
    normal_below_K: tl.tensor,
    abnormal_from_K: tl.tensor,
    p_NK: tl.tensor,
    packed_NW: tl.tensor,
    specimens: int,
    nodes: int,
    depth: int,
    words: int,
    CONDITIONAL: tl.constexpr,
    SPECIMENS: tl.constexpr,
    PER_WORD: tl.constexpr,
    UNSCORED: tl.constexpr,
) -> None:
    word = tl.program_id(1)
    row = (tl.program_id(0) * SPECIMENS + tl.arange(0, SPECIMENS)).to(tl.int64)
    place = tl.arange(0, PER_WORD)
    node = word * PER_WORD + place
    p = tl.full([SPECIMENS, PER_WORD], 1.0, tl.float32)
    rank = tl.full([SPECIMENS, PER_WORD], 2, tl.int32)
    for level in range(depth):
        on_path = tl.load(path_DK + level * nodes + node, mask=node < nodes, other=-1)
        there = on_path >= 0
        scale, bias = tl.load(scale_K + on_path, mask=there), tl.load(bias_K + on_path, mask=there)
        below = tl.load(normal_below_K + on_path, mask=there)[None, :]
        above = tl.load(abnormal_from_K + on_path, mask=there)[None, :]
        used = (row < specimens)[:, None] & there[None, :]
        logit = tl.load(logits_NK + row[:, None] * nodes + on_path[None, :], mask=used, other=0).to(
            tl.float32
        )
        own = 1.0 / (1.0 + tl.exp(-(bias[None, :] + scale[None, :] * logit)))
        # of two probabilities a NaN wins, as in torch.minimum
        along = p * own if CONDITIONAL else tl.where((own < p) | (own != own), own, p)
        p = tl.where(used, along, p)
        here = (p >= below).to(tl.int32) + (p >= above).to(tl.int32)
        here = tl.where(p != p, -1, here)
        rank = tl.where(used, tl.minimum(rank, here), rank)
    used = (row < specimens)[:, None] & (node < nodes)[None, :]
    tl.store(p_NK + row[:, None] * nodes + node[None, :], p, mask=used)
    code = tl.where(used, tl.where(rank < 0, UNSCORED, rank), 0)
    packed = tl.sum(code << (2 * place)[None, :], 1)
    tl.store(packed_NW + row * words + word, packed, mask=row < specimens)
