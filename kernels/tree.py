"""From logits to the probabilities that are stored, for trees whose nodes come parents first.

A hierarchical head gives the logits of P(node | parent), and probabilities are products along the paths. A
direct head gives the logits of P(node) itself, and a node gets the least of those along its path. Either way a
child's probability can never exceed its parent's, whatever the network says. This holds in floating point
too: rounding is monotone.
"""

# N specimens · K nodes, parents before their children

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def probabilities(
    logits_NK: Tensor, parents: Sequence[int], scale_K: Tensor, bias_K: Tensor, *, conditional: bool
) -> Tensor:
    """`float32[N, K]`: the probability of every node.

    `parents[k]` is the index of node k's parent, -1 for a root. `scale_K` and `bias_K` (`float32[K]`)
    calibrate the logits. `conditional` says whose logits they are: P(node | parent), or P(node). A NaN
    spoils its node and the nodes below it, no others.
    """
    along_path = path_products if conditional else path_minima
    return along_path(torch.sigmoid(torch.addcmul(bias_K, scale_K, logits_NK.float())), parents)


def path_products(conditional_NK: Tensor, parents: Sequence[int]) -> Tensor:
    """Each node's own number times those of all nodes above it."""
    return _down_the_tree(torch.mul, conditional_NK, parents)


def path_minima(marginal_NK: Tensor, parents: Sequence[int]) -> Tensor:
    """The least of each node's own number and those of all nodes above it."""
    return _down_the_tree(torch.minimum, marginal_NK, parents)


def _down_the_tree(
    join: Callable[[Tensor, Tensor], Tensor], own_NK: Tensor, parents: Sequence[int]
) -> Tensor:
    if any(parent >= child for child, parent in enumerate(parents)):
        raise ValueError(f"parents must come before their children, got {list(parents)}")
    path: list[Tensor] = []
    for child, parent in enumerate(parents):
        own_N = own_NK[:, child]
        path.append(own_N if parent < 0 else join(path[parent], own_N))
    return torch.stack(path, dim=1)
