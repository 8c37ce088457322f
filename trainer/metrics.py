"""How good probabilities and calls are, on the specimens at hand and on resampled ones at the same time.

Every function takes weights `[B, N]`: row 0 is all ones and gives the value, the other rows say how often each
specimen was drawn in a bootstrap replicate and give the interval. So value and interval come from the same lines,
and a thousand replicates cost a few matrix products instead of a thousand sorts. What cannot be measured (no
abnormal specimen, no normal one, no call to judge) is NaN, never an exception.
"""

# B replicates, the real data first · N specimens · K nodes in the taxonomy's order · G groups of equal scores

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.calls import ABNORMAL, NORMAL, REVIEW
from mxbatch.engine.taxonomy import LEVELS, Taxonomy

BINS = 15
"""Bins of a reliability curve, of equal mass: with equal widths nearly all specimens of a rare class share one."""


def rank_metrics(
    score_N: NDArray[np.floating[Any]], true_N: NDArray[np.bool_], weights_BN: NDArray[np.floating[Any]]
) -> dict[str, NDArray[np.float64]]:
    """`auc` (ties count half) and `average_precision` (a step per distinct score), `float64[B]` each."""
    order = np.argsort(-score_N, kind="stable")
    weights_BN = weights_BN[:, order].astype(np.float64)
    starts = np.flatnonzero(np.diff(score_N[order], prepend=np.inf))
    if not len(starts):
        nothing_B = np.full(len(weights_BN), np.nan)
        return {"auc": nothing_B, "average_precision": nothing_B}
    hit_BG = np.add.reduceat(weights_BN * true_N[order], starts, axis=1)
    miss_BG = np.add.reduceat(weights_BN * ~true_N[order], starts, axis=1)
    hits_BG, misses_BG = hit_BG.cumsum(axis=1), miss_BG.cumsum(axis=1)
    hits_B, misses_B = hits_BG[:, -1], misses_BG[:, -1]
    outranked_B = (hit_BG * (misses_B[:, None] - misses_BG + miss_BG / 2)).sum(axis=1)
    precision_BG = _ratio(hits_BG, hits_BG + misses_BG)
    gained_B = np.where(hit_BG > 0, hit_BG * precision_BG, 0).sum(axis=1)
    return {"auc": _ratio(outranked_B, hits_B * misses_B), "average_precision": _ratio(gained_B, hits_B)}


def call_metrics(
    call_N: NDArray[np.int8], true_N: NDArray[np.bool_], weights_BN: NDArray[np.floating[Any]]
) -> dict[str, NDArray[np.float64]]:
    """What calls (`engine.calls.CALLS`, as indices) are worth, `float64[B]` each.

    `review_share` of all specimens is for a person to judge; sensitivity, specificity, ppv, npv and f1 are those
    of the rest. `missed` is the share of all abnormal specimens that were called normal, `caught` of those called
    abnormal: what is missing to 1 is under review.
    """
    sums_B = {
        (call, truth): (weights_BN @ ((call_N == call) & (true_N == truth)).astype(np.float64))
        for call in (NORMAL, REVIEW, ABNORMAL)
        for truth in (False, True)
    }
    tp_B, fp_B = sums_B[ABNORMAL, True], sums_B[ABNORMAL, False]
    tn_B, fn_B = sums_B[NORMAL, False], sums_B[NORMAL, True]
    review_B = sums_B[REVIEW, False] + sums_B[REVIEW, True]
    abnormal_B = tp_B + fn_B + sums_B[REVIEW, True]
    return {
        "sensitivity": _ratio(tp_B, tp_B + fn_B),
        "specificity": _ratio(tn_B, tn_B + fp_B),
        "ppv": _ratio(tp_B, tp_B + fp_B),
        "npv": _ratio(tn_B, tn_B + fn_B),
        "f1": _ratio(2 * tp_B, 2 * tp_B + fp_B + fn_B),
        "review_share": _ratio(review_B, tp_B + fp_B + tn_B + fn_B + review_B),
        "missed": _ratio(fn_B, abnormal_B),
        "caught": _ratio(tp_B, abnormal_B),
    }


def reliability(
    p_N: NDArray[np.floating[Any]], true_N: NDArray[np.bool_], bins: int = BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean probability, share that is abnormal, and number of specimens per bin of equal mass.

    Specimens are sorted by probability and cut into `bins` runs, equal to within one specimen; fewer specimens
    than bins make a bin each.
    """
    order = np.argsort(p_N, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    predicted = np.array([p_N[part].mean(dtype=np.float64) for part in parts])
    observed = np.array([true_N[part].mean() for part in parts])
    return predicted, observed, np.array([len(part) for part in parts], np.int64)


def calibration_error(p_N: NDArray[np.floating[Any]], true_N: NDArray[np.bool_], bins: int = BINS) -> float:
    """ECE: the mean distance between predicted and observed, over bins of equal mass. NaN without specimens.

    It has no interval: resampling adds its own noise to every bin, so replicates lie above the value.
    """
    if not len(p_N):
        return float("nan")
    predicted, observed, counts = reliability(p_N, true_N, bins)
    return float(np.average(np.abs(predicted - observed), weights=counts))


def mean_auc(
    p_NK: NDArray[np.floating[Any]], labels_NK: NDArray[np.float32], taxonomy: Taxonomy
) -> dict[int, float]:
    """Level -> mean AUC over its nodes that have both kinds among specimens with a label; NaN where none has.

    Marginal: every specimen with a label counts at every node. Cheap enough for every epoch.
    """
    auc_K = np.full(len(taxonomy.nodes), np.nan)
    for k in range(len(taxonomy.nodes)):
        judged_N = ~np.isnan(labels_NK[:, k])
        true_N = labels_NK[judged_N, k] == 1
        auc_K[k] = rank_metrics(p_NK[judged_N, k], true_N, np.ones((1, len(true_N))))["auc"][0]
    levels_K = np.array([node.level for node in taxonomy.nodes])
    return {level: float(nan_mean(auc_K[levels_K == level])) for level in LEVELS}


def nan_mean(values: NDArray[np.float64] | Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over the first axis of what is a number; NaN where nothing is."""
    stacked = np.asarray(values, np.float64)
    known = ~np.isnan(stacked)
    return _ratio(np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0))


def _ratio(part: Any, whole: Any) -> NDArray[np.float64]:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    quotient: NDArray[np.float64] = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return quotient
