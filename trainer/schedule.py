"""The learning rate over a phase, and who learns at which: pure functions of the step, so that resuming is exact."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def rate_at(step: int, steps: int, *, highest: float, warmup: float) -> float:
    """The learning rate of `step` (from 0) out of `steps`: a line up to `highest`, then a cosine down to near 0."""
    rising = min(steps - 1, round(warmup * steps))
    if step < rising:
        return highest * (step + 1) / (rising + 1)
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def adamw(
    own: Iterable[nn.Parameter], earlier: Iterable[nn.Parameter], *, earlier_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW over parameters that learn at the full rate and at `earlier_rate` times it.

    Vectors (biases, norms, scales) are not pulled towards zero. Each group says its share of the learning
    rate as `share`; see `set_rate`.
    """
    groups: list[dict[str, Any]] = []
    for share, parameters in ((1.0, list(own)), (earlier_rate, list(earlier))):
        for decay, wanted in ((weight_decay, True), (0.0, False)):
            if chosen := [p for p in parameters if (p.ndim > 1) == wanted]:
                groups.append({"params": chosen, "weight_decay": decay, "share": share})
    return torch.optim.AdamW(groups, lr=0.0)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]
