"""What wrong answers cost: which labels count at which node, class weights, and three kinds of loss.

The labels of a specimen say of each node whether it is abnormal. A conditional head (P(node | parent)) learns a
node only from specimens whose parent is abnormal; a direct head learns it from all. Losses come as a sum and a
count per level, so that processes that share a batch can divide by the count of all of them.
"""

# N specimens · K nodes in the taxonomy's order · Q questions · L levels of a stage

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mxbatch.trainer.training import Loss


def what_counts(
    labels_NK: NDArray[np.float32], parents: Sequence[int], *, conditional: bool
) -> NDArray[np.bool_]:
    """`bool[N, K]`: where there is a label and, for a conditional head, the parent is abnormal."""
    counts_NK = ~np.isnan(labels_NK)
    if conditional:
        for child, parent in enumerate(parents):
            if parent >= 0:
                counts_NK[:, child] &= labels_NK[:, parent] == 1
    return counts_NK


def positive_weights(
    labels_NK: NDArray[np.float32],
    counts_NK: NDArray[np.bool_],
    draws_N: NDArray[np.float64],
    loss: Loss,
) -> NDArray[np.float32]:
    """`float32[K]`: how much more a positive weighs than a negative, from 1 / cap to cap.

    Specimens count as often as an epoch expects to draw them, so that balanced drawing and balanced weights
    do not do the same work twice.
    """
    positive_K = draws_N @ (counts_NK & (labels_NK == 1))
    negative_K = draws_N @ (counts_NK & (labels_NK == 0))
    if loss.class_weights == "none":
        return np.ones(len(positive_K), np.float32)
    ratio_K = np.divide(negative_K, positive_K, out=np.ones_like(negative_K), where=positive_K > 0)
    weight_K: NDArray[np.float32] = np.clip(ratio_K, 1 / loss.cap, loss.cap).astype(np.float32)
    return weight_K


def answer_costs(logits_NK: Tensor, labels_NK: Tensor, positive_weight_K: Tensor, loss: Loss) -> Tensor:
    """`float32[N, K]`: the cost of every answer, labels 0 or 1.

    bce: -log p of the truth. focal (Lin et al. 2017): times (1 - p)^gamma, so that what is right already
    fades. asymmetric (Ridnik et al. 2021): positives and negatives fade at their own pace, and the
    probability of a negative is lowered by `margin` first.
    """
    weight_NK = torch.where(labels_NK == 1, positive_weight_K, torch.ones_like(positive_weight_K))
    cost_NK = F.binary_cross_entropy_with_logits(logits_NK, labels_NK, reduction="none")
    if loss.kind == "bce":
        return weight_NK * cost_NK
    wrong_NK = torch.sigmoid(torch.where(labels_NK == 1, -logits_NK, logits_NK))
    if loss.kind == "focal":
        return weight_NK * cost_NK * _power(wrong_NK, loss.gamma)
    shifted_NK = (wrong_NK - loss.margin).clamp(min=0)
    negative_NK = -torch.log1p(-shifted_NK.clamp(max=1 - 1e-6)) * _power(shifted_NK, loss.gamma)
    positive_NK = cost_NK * _power(wrong_NK, loss.gamma_positive)
    return weight_NK * torch.where(labels_NK == 1, positive_NK, negative_NK)


def level_sums(costs_NK: Tensor, counts_NK: Tensor, levels: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Sum of what counts and how many that are, per level: `float32[L]` each. `levels` lists nodes."""
    counted_NK = torch.where(counts_NK, costs_NK, torch.zeros_like(costs_NK))
    sums_L = torch.stack([counted_NK[:, list(nodes)].sum() for nodes in levels])
    return sums_L, torch.stack([counts_NK[:, list(nodes)].sum() for nodes in levels]).float()


def question_sum(logits_NQ: Tensor, answers_NQ: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
    """-log p of the answers that were given, summed with each row's weight, and of how many rows there are any.

    0-dim float32 each.
    """
    given_NQ = ~answers_NQ.isnan()
    cost_NQ = F.binary_cross_entropy_with_logits(logits_NQ, answers_NQ.nan_to_num(), reduction="none")
    cost_NQ = torch.where(given_NQ, weight_N[:, None] * cost_NQ, torch.zeros_like(cost_NQ))
    return cost_NQ.sum(), given_NQ.any(dim=1).sum().float()


def _power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent with a finite slope at 0 for any exponent."""
    return base.clamp(min=1e-6).pow(exponent) if exponent else torch.ones_like(base)
