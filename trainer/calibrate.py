"""From a trained model's logits on the validation split to honest probabilities.

Networks are too sure of themselves, and class weights shift their logits on purpose. Both are undone by a line per
node: one slope per level (a temperature), because a level's nodes share their layers and rare classes could not
carry a slope of their own, and one offset per node, because every class is weighted differently.

A model that is shown a single view of an animal knows less and is hardly less sure of itself. So both count: half of a
specimen's weight is for all of its radiographs together, half for its views one by one (predict.py).
"""

# N specimens, or showings of them · K nodes in the taxonomy's order · M nodes of one level

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.bundle import Calibration
from mxbatch.engine.taxonomy import LEVELS, Taxonomy

SCALE_SPREAD, BIAS_SPREAD = 1.0, 2.0
"""Standard deviations of the prior: slope around 1, offset around 0. Some ten abnormal specimens outweigh it; with
few it keeps the numbers near the network's own, and with none the calibration is the identity."""
SCALE_BOUNDS = (0.05, 20.0)


def calibrate(
    logits_NK: NDArray[np.float32],
    labels_NK: NDArray[np.float32],
    taxonomy: Taxonomy,
    *,
    conditional: bool,
    weights_N: NDArray[np.float64] | None = None,
) -> Calibration:
    """The most probable slopes and offsets, given `labels_NK` (1 abnormal, 0 normal, NaN not judged).

    `weights_N` says how much each row counts, by default 1: a specimen that is shown in several ways is still one.
    `conditional` says what a logit means: P(node | parent abnormal), learned where the parent's label is 1
    (hierarchical heads), or P(node), learned everywhere (direct heads). The order of the specimens at a node
    never changes.
    """
    counted_NK = ~np.isnan(labels_NK)
    if conditional:
        counted_NK &= parent_abnormal(labels_NK, taxonomy)
    weights_NK = counted_NK * (np.ones(len(labels_NK)) if weights_N is None else weights_N)[:, None]
    scale_K, bias_K = np.ones(len(taxonomy.nodes)), np.zeros(len(taxonomy.nodes))
    for level in LEVELS:
        nodes = [k for k, node in enumerate(taxonomy.nodes) if node.level == level]
        scale_K[nodes], bias_K[nodes] = _fit(
            logits_NK[:, nodes].astype(np.float64), np.nan_to_num(labels_NK[:, nodes]), weights_NK[:, nodes]
        )
    # Four digits: the model id should not hang on the last bit of an optimiser.
    return Calibration(scale=_rounded(scale_K), bias=_rounded(bias_K))


def parent_abnormal(labels_NK: NDArray[np.float32], taxonomy: Taxonomy) -> NDArray[np.bool_]:
    """`bool[N, K]`: whether the parent of each node is truly abnormal; the root has none and is always True."""
    parents_K = np.array(taxonomy.parents)
    abnormal_NK: NDArray[np.bool_] = (parents_K < 0) | (labels_NK[:, parents_K] == 1)
    return abnormal_NK


def _fit(
    logits_NM: NDArray[np.float64], labels_NM: NDArray[np.float32], weights_NM: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Slope and offsets of one level: logistic regression with a common slope, which is convex."""
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, bias_M = parameters[0], parameters[1:]
        z_NM = scale * logits_NM + bias_M
        wrong_NM = weights_NM * (expit(z_NM) - labels_NM)
        surprise = (weights_NM * (np.logaddexp(0, z_NM) - labels_NM * z_NM)).sum()
        prior = ((scale - 1) / SCALE_SPREAD) ** 2 + ((bias_M / BIAS_SPREAD) ** 2).sum()
        gradient = np.append((wrong_NM * logits_NM).sum(), wrong_NM.sum(axis=0))
        gradient += np.append((scale - 1) / SCALE_SPREAD**2, bias_M / BIAS_SPREAD**2)
        return float(surprise + prior / 2), gradient

    count = logits_NM.shape[1]
    start = np.append(1.0, np.zeros(count))
    bounds = [SCALE_BOUNDS, *[(None, None)] * count]
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-12})
    return float(found.x[0]), found.x[1:]


def _rounded(numbers: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{number:.4g}") for number in numbers)
