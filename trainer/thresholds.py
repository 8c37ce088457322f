"""Where a node's call turns from `normal` over `review` to `abnormal`, by rules that are written into the bundle.

What a screening centre wants of the two thresholds is different. `abnormal` goes into tables without anybody
looking, and most classes are rare: it must be right when it is said, and said often enough. F1 weighs just these
two, and no abundance of normal animals can buy it. `normal` closes a case: there the share of abnormal animals that
slip through must be bounded, whatever the model's quality, and split-conformal prediction bounds it. Between the
two a person looks, and a poor model gives that person more work instead of wrong calls.
"""

# N specimens · K nodes in the taxonomy's order

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.calls import Thresholds
from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import Taxonomy

LIKELIER_THAN_NOT = 0.5
UNREACHED = -1.0
"""The score of a specimen that cannot be called abnormal, because its parent is not: below every threshold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """`alpha`: of the animals abnormal at a node that the nodes above have not called normal already, at most this
    share may be called normal there, on average over validation splits. At level 1 that is all abnormal animals.
    `few`: below so many abnormal specimens F1 is noise, and 0.5 takes its place."""

    alpha: float = 0.05
    few: int = 10

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and self.few >= 1):
            raise UsageError(
                "MX-U001", f"0 < alpha < 1 and few >= 1 are needed, got {self.alpha} and {self.few}"
            )

    def as_dict(self) -> dict[str, Any]:
        """The rule in words and numbers, for the bundle."""
        return {
            **asdict(self),
            "abnormal_from": f"largest F1; {LIKELIER_THAN_NOT} with fewer than {self.few} abnormal specimens",
            "normal_below": f"split-conformal: P(called normal here | abnormal, not normal above) <= {self.alpha}",
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Thresholds, and per node what they rest on."""

    thresholds: Thresholds
    rule: Rule
    nodes: Mapping[str, Mapping[str, Any]]
    """positives, negatives: specimens with a label · missed_above: so many positives are called normal by the nodes
    above · allowed: so many of the others may be called normal here (0: they are too few to bound anything, and
    nothing is called normal by this node) · f1: at abnormal_from, where that was chosen by it."""

    def as_dict(self) -> dict[str, Any]:
        """For the bundle's `training` table: all of it plain."""
        return {"rule": self.rule.as_dict(), "nodes": {name: dict(node) for name, node in self.nodes.items()}}


def choose_thresholds(
    p_NK: NDArray[np.float32],
    labels_NK: NDArray[np.float32],
    taxonomy: Taxonomy,
    rule: Rule | None = None,
) -> Choice:
    """Both thresholds of every node from calibrated path probabilities and labels (1, 0, NaN) of held-out specimens.

    Nodes are settled from the root down, because a call never goes beyond its parent's. Down the tree the misses
    add up: a class can lose `alpha` at each of its levels. A budget for the whole path would leave a class whose
    parent spends it nothing but review. The bound is exact where the scores of new animals and these are
    exchangeable and the specimens took no other part in the model; a calibration fitted on the same ones (two
    dozen numbers) and the thresholds above disturb that by little.
    """
    rule = rule or Rule()
    p_NK = np.asarray(p_NK, np.float32)
    open_NK, abnormal_NK = np.ones(p_NK.shape, np.bool_), np.ones(p_NK.shape, np.bool_)
    low_K, high_K = np.zeros(len(taxonomy.nodes)), np.zeros(len(taxonomy.nodes))
    nodes: dict[str, dict[str, Any]] = {}
    for k, (node, parent) in enumerate(zip(taxonomy.nodes, taxonomy.parents, strict=True)):
        if parent >= 0:
            open_NK[:, k], abnormal_NK[:, k] = open_NK[:, parent], abnormal_NK[:, parent]
        p_N, judged_N, true_N = p_NK[:, k], ~np.isnan(labels_NK[:, k]), labels_NK[:, k] == 1
        positives = int(true_N.sum())
        reached_N = np.where(abnormal_NK[:, k], p_N, np.float32(UNREACHED))
        high_K[k], f1 = largest_f1(reached_N[judged_N], true_N[judged_N])
        if positives < rule.few:
            high_K[k], f1 = LIKELIER_THAN_NOT, math.nan
        undecided = p_N[true_N & open_NK[:, k]]
        low_K[k] = min(conformal_bound(undecided, rule.alpha), high_K[k])

        open_NK[:, k] &= p_N >= np.float32(low_K[k])
        abnormal_NK[:, k] &= p_N >= np.float32(high_K[k])
        nodes[node.name] = {
            "positives": positives,
            "negatives": int(judged_N.sum()) - positives,
            "missed_above": positives - len(undecided),
            "allowed": _allowed(len(undecided), rule.alpha),
            **({} if math.isnan(f1) else {"f1": round(f1, 4)}),
        }
    thresholds = Thresholds(normal_below=_as_stored(low_K), abnormal_from=_as_stored(high_K))
    return Choice(thresholds=thresholds, rule=rule, nodes=nodes)


def conformal_bound(scores_P: NDArray[np.float32], alpha: float) -> float:
    """The largest score t such that a new abnormal specimen scores below t with probability at most `alpha`.

    Among n + 1 exchangeable scores the new one is below the k-th smallest of the other n with probability at most
    k / (n + 1). 0 when n is too small for any k (n < 1 / alpha - 1). (Papadopoulos et al., ECML 2002.)
    """
    allowed = _allowed(len(scores_P), alpha)
    return float(np.partition(scores_P, allowed - 1)[allowed - 1]) if allowed else 0.0


def _allowed(count: int, alpha: float) -> int:
    return math.floor(alpha * (count + 1) + 1e-9)


def largest_f1(scores_N: NDArray[np.float32], true_N: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold with the largest F1, half-way between two scores, and that F1.

    `LIKELIER_THAN_NOT` and NaN where no specimen is abnormal or none is reached.
    """
    order = np.argsort(-scores_N, kind="stable")
    score_N, hit_N = scores_N[order], true_N[order].cumsum()
    last_N = np.append(score_N[1:] < score_N[:-1], True)[: len(score_N)] & (score_N > UNREACHED)
    if not true_N.any() or not last_N.any():
        return LIKELIER_THAN_NOT, math.nan
    f1_N = np.where(last_N, 2 * hit_N / (np.arange(1, len(hit_N) + 1) + true_N.sum()), -1.0)
    best = int(f1_N.argmax())
    below = max(float(score_N[best + 1]), 0.0) if best + 1 < len(score_N) else 0.0
    threshold = np.float32((float(score_N[best]) + below) / 2)
    if threshold <= below:  # neighbours in float32
        threshold = score_N[best]
    return float(threshold), float(f1_N[best])


def _as_stored(numbers_K: NDArray[np.float64]) -> tuple[float, ...]:
    """The shortest decimals that are the same float32: thresholds are compared in that precision."""
    return tuple(float(str(np.float32(number))) for number in numbers_K)
