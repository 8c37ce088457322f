"""From conditional logits to the probabilities that are stored: products along the paths of the tree.

A child's probability is its parent's times a factor of at most 1, so it can never exceed its parent's,
whatever the network says. This holds in floating point too: rounding is monotone.
"""

# N specimens · K nodes, parents before their children

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def path_probabilities(logits_NK: Tensor, parents: Sequence[int], scale_K: Tensor, bias_K: Tensor) -> Tensor:
    """`float32[N, K]`: the probability of every node, given the logits of P(node | parent).

    `parents[k]` is the index of node k's parent, -1 for a root. `scale_K` and `bias_K` (`float32[K]`)
    calibrate the logits. A NaN spoils its node and the nodes below it, no others.
    """
    if any(parent >= child for child, parent in enumerate(parents)):
        raise ValueError(f"parents must come before their children, got {list(parents)}")
    conditional_NK = torch.sigmoid(torch.addcmul(bias_K, scale_K, logits_NK.float()))
    path: list[Tensor] = []
    for child, parent in enumerate(parents):
        own_N = conditional_NK[:, child]
        path.append(own_N if parent < 0 else path[parent] * own_N)
    return torch.stack(path, dim=1)
