"""The learning rate over a phase, and who learns at which: pure functions of the step, so that resuming is exact."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from mxbatch.trainer.muon import Muon, is_matrix


def rate_at(step: int, steps: int, *, highest: float, warmup: float) -> float:
    """The learning rate of `step` (from 0) out of `steps`: a line up to `highest`, then a cosine down to near 0."""
    rising = min(steps - 1, round(warmup * steps))
    if step < rising:
        return highest * (step + 1) / (rising + 1)
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def optimiser_over(
    own: Iterable[nn.Parameter],
    earlier: Iterable[nn.Parameter] = (),
    *,
    kind: str,
    earlier_rate: float = 1.0,
    weight_decay: float,
) -> Muon:
    """Parameters that learn at the full rate, and at `earlier_rate` times it; `kind` is one of training.OPTIMISERS.

    Vectors (biases, norms, scales) are not pulled towards zero. Each group says its share of the learning
    rate as `share`; see `set_rate`.
    """
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = defaultdict(list)
    for share, parameters in ((1.0, own), (earlier_rate, earlier)):
        for parameter in parameters:
            groups[share, parameter.ndim > 1, kind == "muon" and is_matrix(parameter)].append(parameter)
    return Muon(
        {
            "params": chosen,
            "share": share,
            "weight_decay": weight_decay if decays else 0.0,
            "matrices": matrices,
        }
        for (share, decays, matrices), chosen in groups.items()
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]
