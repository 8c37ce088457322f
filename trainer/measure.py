"""All figures of one model on one labelled set: per node and per level, conditional and marginal, with intervals."""

# B replicates, the real data first · N specimens · n those that a question is about · K nodes in the taxonomy's order

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.calls import Thresholds, decide
from mxbatch.engine.taxonomy import Taxonomy
from mxbatch.trainer.bootstrap import Draws, interval
from mxbatch.trainer.calibrate import parent_abnormal
from mxbatch.trainer.metrics import calibration_error, call_metrics, nan_mean, rank_metrics

MEAN = "mean"
"""Stands in the place of a node for the mean over the nodes of a level."""
MARGINAL, CONDITIONAL = "marginal", "conditional"

Weighted = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure. The value is NaN where it cannot be measured.

    `specimens` and `positives` are those of the question; for a mean, the most specimens of any node and the
    positives of all, and `nodes` says over how many nodes of how many it goes ("9/10").
    """

    level: int
    node: str
    kind: str
    metric: str
    specimens: int
    positives: int
    values_B: NDArray[np.float64]
    """The value, then its bootstrap replicates, if it has any."""
    nodes: str = ""

    @property
    def value(self) -> float:
        return float(self.values_B[0])

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, NaN where there is none."""
        return interval(self.values_B[1:])

    def as_row(self) -> dict[str, Any]:
        """For CSV and JSON; what is no number is None."""
        low, high = self.interval
        numbers = {"value": self.value, "low": low, "high": high}
        return {
            "node": self.node,
            "level": self.level,
            "kind": self.kind,
            "metric": self.metric,
            **{name: None if np.isnan(number) else number for name, number in numbers.items()},
            "specimens": self.specimens,
            "positives": self.positives,
            "nodes": self.nodes,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of one node: about which specimens, by what score, and the truth.

    marginal: every specimen with a label, by P(node).
    conditional: specimens whose parent node is truly abnormal, by P(node | parent) = P(node) / P(parent), whatever
    the head: who has a finding is abnormal above it, so a direct head says this number too. Judged by P(node), it
    would be asked how ill an animal is, which all of these are. Level 1 has no parent and is marginal only.
    """

    level: int
    index: int
    name: str
    kind: str
    rows_N: NDArray[np.bool_]
    score_n: NDArray[np.float32]
    true_n: NDArray[np.bool_]

    def figures(self, measure: Weighted, draws: Draws) -> list[Figure]:
        """What `measure` makes of the weights of all draws."""
        chunks = [measure(weights_Bn) for weights_Bn in draws.weights(self.rows_N)]
        return [
            self.figure(metric, np.concatenate([chunk[metric] for chunk in chunks])) for metric in chunks[0]
        ]

    def figure(self, metric: str, values_B: NDArray[np.float64]) -> Figure:
        return Figure(
            level=self.level,
            node=self.name,
            kind=self.kind,
            metric=metric,
            specimens=len(self.true_n),
            positives=int(self.true_n.sum()),
            values_B=values_B,
        )


def questions(
    p_NK: NDArray[np.float32], labels_NK: NDArray[np.float32], taxonomy: Taxonomy
) -> Iterator[Question]:
    """Every question that labels (1, 0, NaN) can answer about path probabilities, node by node."""
    below_abnormal_NK = parent_abnormal(labels_NK, taxonomy)
    for k, (node, parent) in enumerate(zip(taxonomy.nodes, taxonomy.parents, strict=True)):
        judged_N = ~np.isnan(labels_NK[:, k])
        rows = {MARGINAL: judged_N}
        if parent >= 0:
            rows[CONDITIONAL] = judged_N & below_abnormal_NK[:, k]
        for kind, rows_N in rows.items():
            score_n = p_NK[rows_N, k]
            if kind == CONDITIONAL:
                above_n = p_NK[rows_N, parent]
                score_n = np.divide(score_n, above_n, out=np.zeros_like(score_n), where=above_n > 0)
            yield Question(
                level=node.level,
                index=k,
                name=node.name,
                kind=kind,
                rows_N=rows_N,
                score_n=score_n,
                true_n=labels_NK[rows_N, k] == 1,
            )


def measure_ranks(
    p_NK: NDArray[np.float32],
    labels_NK: NDArray[np.float32],
    taxonomy: Taxonomy,
    draws: Draws,
) -> list[Figure]:
    """AUC and average precision of every node and, as `MEAN`, of every level."""
    found: list[Figure] = []
    for asked in questions(p_NK, labels_NK, taxonomy):
        found.extend(asked.figures(partial(rank_metrics, asked.score_n, asked.true_n), draws))
    return with_means(found)


def measure_calls(
    p_NK: NDArray[np.float32],
    labels_NK: NDArray[np.float32],
    taxonomy: Taxonomy,
    thresholds: Thresholds,
    draws: Draws,
) -> list[Figure]:
    """What calls at these thresholds are worth, and the calibration error. Marginal: everybody gets a call."""
    call_NK = decide(p_NK, thresholds, taxonomy)
    found: list[Figure] = []
    for asked in questions(p_NK, labels_NK, taxonomy):
        if asked.kind == MARGINAL:
            call_n = call_NK[asked.rows_N, asked.index]
            found.extend(asked.figures(partial(call_metrics, call_n, asked.true_n), draws))
            found.append(asked.figure("ece", np.array([calibration_error(asked.score_n, asked.true_n)])))
    return with_means(found)


def with_means(found: Iterable[Figure]) -> list[Figure]:
    """The figures, and after them their mean over the nodes of each level, as node `MEAN`.

    A node counts where the data have a value for it; where a replicate lost it (no abnormal animal was drawn), the
    mean of that replicate is over the others.
    """
    found = list(found)
    means = []
    for level, kind, metric in dict.fromkeys((figure.level, figure.kind, figure.metric) for figure in found):
        members = [f for f in found if (f.level, f.kind, f.metric) == (level, kind, metric)]
        measured = [figure for figure in members if not np.isnan(figure.value)]
        means.append(
            Figure(
                level=level,
                node=MEAN,
                kind=kind,
                metric=metric,
                specimens=max(figure.specimens for figure in members),
                positives=sum(figure.positives for figure in members),
                values_B=nan_mean([figure.values_B for figure in measured or members]),
                nodes=f"{len(measured)}/{len(members)}",
            )
        )
    return [*found, *means]
