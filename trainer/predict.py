"""What a model says of specimens while it is being made: logits, before calibration and without a bundle."""

# N specimens · S showings of them · K nodes

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mxbatch.engine.models.hierarchical import HierarchicalModel
from mxbatch.trainer.data import Dataset, batch, chosen
from mxbatch.trainer.loader import ahead, threads_for

SPECIMENS = 32
"""Per step. Fixed, so that a prediction can be repeated bit for bit."""


def predict_logits(
    model: HierarchicalModel,
    dataset: Dataset,
    specimens: NDArray[np.int64],
    *,
    radiographs: int,
    view: int | None = None,
    precision: torch.dtype = torch.float32,
) -> NDArray[np.float32]:
    """`float32[N, K]`: the head's logits, in the order of `specimens`. `radiographs` is the recipe's maximum.

    With `view`, an index of the recipe's, radiographs of other views stay unseen; each specimen should have one of it.

    Runs where `model` is, in evaluation mode, and leaves its mode as it was.
    """
    device = next(model.parameters()).device
    steps = [specimens[at : at + SPECIMENS] for at in range(0, len(specimens), SPECIMENS)]
    if not steps:
        return np.empty((0, dataset.labels.shape[1]), np.float32)

    def load(number: int) -> tuple[NDArray[Any], ...]:
        images, view_ids, mask, _ = batch(dataset, steps[number], radiographs=radiographs)
        return images, view_ids, mask if view is None else mask & (view_ids == view)

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Showings:
    """Specimens, as the model may get to see them: with all of their views, and with each alone."""

    rows_S: NDArray[np.int64]
    """Which of the specimens that were asked for each is of."""
    weights_S: NDArray[np.float64]
    """A specimen's sum to 1: half for all of its radiographs, the rest for its views alone, in equal parts."""
    logits_SK: NDArray[np.float32]


def predict_showings(
    model: HierarchicalModel,
    dataset: Dataset,
    specimens: NDArray[np.int64],
    logits_NK: NDArray[np.float32],
    *,
    radiographs: int,
) -> Showings:
    """`specimens` with all of their radiographs, of which `logits_NK` is known, and with those of each view alone.

    What the second half shows a specimen of one view is what the first does, so that one stands here once.
    """
    views = [np.unique(dataset.views[chosen(dataset, n, radiographs)]) for n in specimens]
    count_N = np.array([len(some) for some in views], np.int64)
    rows, logits = [np.arange(len(specimens))], [logits_NK]
    weights = [np.where(count_N > 1, 0.5, 1.0)]
    for view in np.unique(dataset.views):
        alone = np.flatnonzero([len(some) > 1 and view in some for some in views])
        rows.append(alone)
        weights.append(0.5 / count_N[alone])
        logits.append(
            predict_logits(model, dataset, specimens[alone], radiographs=radiographs, view=int(view))
        )
    return Showings(
        rows_S=np.concatenate(rows), weights_S=np.concatenate(weights), logits_SK=np.concatenate(logits)
    )
