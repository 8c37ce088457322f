"""What a model says of specimens while it is being made: logits, before calibration and without a bundle."""

# N specimens · K nodes

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mxbatch.engine.models.hierarchical import HierarchicalModel
from mxbatch.trainer.data import Dataset, batch
from mxbatch.trainer.loader import ahead, threads_for

SPECIMENS = 32
"""Per step. Fixed, so that a prediction can be repeated bit for bit."""


def predict_logits(
    model: HierarchicalModel,
    dataset: Dataset,
    specimens: NDArray[np.int64],
    *,
    radiographs: int,
    precision: torch.dtype = torch.float32,
) -> NDArray[np.float32]:
    """`float32[N, K]`: the head's logits, in the order of `specimens`. `radiographs` is the recipe's maximum.

    Runs where `model` is, in evaluation mode, and leaves its mode as it was.
    """
    device = next(model.parameters()).device
    steps = [specimens[at : at + SPECIMENS] for at in range(0, len(specimens), SPECIMENS)]
    if not steps:
        return np.empty((0, dataset.labels.shape[1]), np.float32)

    def load(number: int) -> tuple[NDArray[Any], ...]:
        return batch(dataset, steps[number], radiographs=radiographs)[:3]

    lower = precision != torch.float32
    training = model.training
    model.eval()
    logits = []
    try:
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=lower):
            for arrays in ahead(load, len(steps), threads=threads_for(device)):
                tensors = (torch.from_numpy(array).to(device) for array in arrays)
                logits.append(model(*tensors).float().cpu().numpy())
    finally:
        model.train(training)
    return np.concatenate(logits)
