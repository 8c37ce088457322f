"""Muon: steps for weight matrices whose directions all count alike; AdamW for everything else.

A gradient of a matrix is dominated by few directions, and what a rare finding has to say lies in the others. Muon
(Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes the momentum orthogonal before it is applied, so every
direction moves by as much. Sizes are those of AdamW's steps (Liu et al. 2025, arXiv:2502.16982, section 2.2), so one
learning rate serves both. torch has a Muon since 2.9; it takes no convolutions and no stacks of matrices. Under
autocast the products are bfloat16, as its author has them.
"""

# R rows, C columns of a matrix · M matrices that a parameter holds

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

LEAST_SIDE = 16
"""A matrix with a shorter side has few directions: AdamW."""
_A, _B, _C = 3.4445, -4.7750, 2.0315
"""The quintic of Newton and Schulz with the steepest slope at 0; singular values end near 1, not at it."""
_STEPS = 5
_ADAM_LIKE = 0.2
"""The root mean square of an AdamW step, in learning rates."""


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon takes it: a matrix, a stack of them, or the kernels of a convolution that joins channels."""
    if (
        parameter.ndim == 4
    ):  # of one channel in: a stem, or depthwise, whose kernels have nothing to do with another
        return parameter.shape[1] > 1 and min(parameter.shape[0], parameter[0].numel()) >= LEAST_SIDE
    return parameter.ndim in (2, 3) and min(parameter.shape[-2:]) >= LEAST_SIDE


def orthogonal(matrices_MRC: Tensor) -> Tensor:
    """`float32[M, R, C]`, each matrix with its singular values moved to about 1 and its directions kept."""
    x = matrices_MRC
    wide = x.mT if (tall := x.shape[-2] > x.shape[-1]) else x
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = wide @ wide.mT
        wide = _A * wide + (_B * gram + _C * gram @ gram) @ wide
    result: Tensor = wide.mT if tall else wide
    return result


class Muon(torch.optim.Optimizer):
    """Groups say `matrices`: True for Muon's steps, False for AdamW's. `weight_decay` is decoupled in both."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        shared = {"lr": 0.0, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": 0.0}
        super().__init__(groups, {**shared, "matrices": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there. `closure` is not supported."""
        if closure is not None:
            raise ValueError("Muon evaluates no closure")
        for group in self.param_groups:
            move = _muon if group["matrices"] else _adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    move(parameter, parameter.grad, self.state[parameter], group)


def _muon(parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    momentum = state.setdefault("momentum", torch.zeros_like(parameter))
    momentum.lerp_(gradient, 1 - group["momentum"])
    ahead = gradient.lerp(momentum, group["momentum"])  # Nesterov's
    matrices_MRC = ahead if ahead.ndim == 3 else ahead.reshape(1, len(ahead), -1)
    size = _ADAM_LIKE * max(matrices_MRC.shape[-2:]) ** 0.5
    parameter.add_(orthogonal(matrices_MRC).reshape(parameter.shape), alpha=-group["lr"] * size)


def _adamw(parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2."""
    mean = state.setdefault("mean", torch.zeros_like(parameter))
    square = state.setdefault("square", torch.zeros_like(parameter))
    count = state["count"] = state.get("count", 0) + 1
    beta_1, beta_2 = group["betas"]
    mean.lerp_(gradient, 1 - beta_1)
    square.lerp_(gradient.square(), 1 - beta_2)
    spread = (square / (1 - beta_2**count)).sqrt_().add_(group["eps"])
    parameter.addcdiv_(mean, spread, value=-group["lr"] / (1 - beta_1**count))
