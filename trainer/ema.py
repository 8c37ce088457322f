"""A running mean of the weights: steadier than the last step's, and what is validated and shipped."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def shadow(model: Module) -> Module:
    """A copy of `model` to hold the mean: evaluation mode, no gradients."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def follow(mean: nn.Module, model: nn.Module, *, step: int, decay: float) -> None:
    """Move `mean` towards `model` after training's step number `step`, from 0 over all phases.

    The early steps are forgotten sooner: the mean reaches back over a tenth of the steps at most, so a short
    training is not held to where it began. Whole numbers (counters of batch norm) are copied.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    theirs = dict(model.state_dict())
    for name, value in mean.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name], share)
        else:
            value.copy_(theirs[name])
