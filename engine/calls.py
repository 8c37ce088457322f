"""From probabilities to calls: thresholds, the order of the tree, and the columns that a user reads.

A node is `normal` below one threshold, `abnormal` from another on, and `review` between them: a person
should look. A child is never called higher than its parent. What has no probability is `unscored`, which is
not a kind of normal.
"""

# N specimens · K nodes in the taxonomy's order

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import Taxonomy

CALLS = ("normal", "review", "abnormal")
"""What `decide` returns indices of, the lowest first."""
UNSCORED = -1
TREE = "mxbatch.taxonomy.json"
"""Key of a part's metadata under which the whole taxonomy stands: its columns can be read without its model."""
NORMAL, REVIEW, ABNORMAL = range(len(CALLS))


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Two probabilities per node, in the taxonomy's order."""

    normal_below: tuple[float, ...]
    abnormal_from: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.normal_below) != len(self.abnormal_from):
            raise UsageError("MX-U007", "thresholds: as many normal_below as abnormal_from are needed")
        for low, high in zip(self.normal_below, self.abnormal_from, strict=True):
            if not 0 <= low <= high <= 1:
                raise UsageError("MX-U007", f"thresholds: 0 <= {low} <= {high} <= 1 does not hold")

    @classmethod
    def uniform(
        cls, taxonomy: Taxonomy, *, normal_below: float = 0.4, abnormal_from: float = 0.6
    ) -> Thresholds:
        """The same pair for every node: for models whose thresholds nobody has chosen yet."""
        count = len(taxonomy.nodes)
        return cls(normal_below=(normal_below,) * count, abnormal_from=(abnormal_from,) * count)

    def as_dict(self, taxonomy: Taxonomy) -> dict[str, list[float]]:
        """`{node: [normal_below, abnormal_from]}`."""
        pairs = zip(taxonomy.names, self.normal_below, self.abnormal_from, strict=True)
        return {name: [low, high] for name, low, high in pairs}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], taxonomy: Taxonomy) -> Thresholds:
        """The inverse of `as_dict`. Raises UsageError MX-U007."""
        low, high = node_pairs(table, taxonomy, where="thresholds")
        return cls(normal_below=low, abnormal_from=high)


def node_pairs(
    table: Mapping[str, Any], taxonomy: Taxonomy, *, where: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The two columns of a table that gives each node two numbers. Raises UsageError MX-U007."""
    if set(table) != set(taxonomy.names):
        odd = sorted(set(table) ^ set(taxonomy.names))
        raise UsageError(
            "MX-U007", f"{where} must name the nodes of the taxonomy, each once; look at {', '.join(odd)}"
        )
    for name, pair in table.items():
        if not (
            isinstance(pair, list | tuple) and len(pair) == 2 and all(type(x) in (int, float) for x in pair)
        ):
            raise UsageError("MX-U007", f"{where}: {name} = {pair!r} is no pair of numbers")
    return (
        tuple(float(table[name][0]) for name in taxonomy.names),
        tuple(float(table[name][1]) for name in taxonomy.names),
    )


def decide(probabilities: ArrayLike, thresholds: Thresholds, taxonomy: Taxonomy) -> NDArray[np.int8]:
    """`int8[N, K]`: for each path probability `[N, K]` an index into `CALLS`, or `UNSCORED` for NaN and None.

    A node is at most what its parent is, so below an unscored node all is unscored. Thresholds are compared
    as float32, the precision in which probabilities are stored: whoever repeats it on the stored columns
    agrees.
    """
    p_NK = np.asarray(probabilities, dtype=np.float32)
    rank_NK = (p_NK >= np.array(thresholds.normal_below, np.float32)).astype(np.int8)
    rank_NK += p_NK >= np.array(thresholds.abnormal_from, np.float32)
    rank_NK[np.isnan(p_NK)] = UNSCORED
    for child, parent in enumerate(taxonomy.parents):
        if parent >= 0:
            np.minimum(rank_NK[:, child], rank_NK[:, parent], out=rank_NK[:, child])
    return rank_NK


def call_columns(
    probabilities: ArrayLike, thresholds: Thresholds, taxonomy: Taxonomy
) -> dict[str, list[Any]]:
    """The columns `call, l2_calls, l3_calls, mp_terms, review`, one entry per specimen of `[N, K]`.

    `l2_calls` and `l3_calls` name the abnormal nodes, `review` those of any level that a person should look
    at, and `mp_terms` the terms of all abnormal nodes, each once; all in the taxonomy's order.
    """
    rank_NK = decide(probabilities, thresholds, taxonomy)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("call", "l2_calls", "l3_calls", "mp_terms", "review")
    }
    for rank_K in rank_NK:
        abnormal = [node for node, rank in zip(taxonomy.nodes, rank_K, strict=True) if rank == ABNORMAL]
        columns["call"].append("unscored" if rank_K[0] == UNSCORED else CALLS[rank_K[0]])
        columns["l2_calls"].append([node.name for node in abnormal if node.level == 2])
        columns["l3_calls"].append([node.name for node in abnormal if node.level == 3])
        columns["mp_terms"].append(list(dict.fromkeys(term for node in abnormal for term in node.mp)))
        columns["review"].append(
            [n for n, rank in zip(taxonomy.names, rank_K, strict=True) if rank == REVIEW]
        )
    return columns


def calls_schema(taxonomy: Taxonomy) -> pa.Schema:
    """The schema of a part, one row per specimen. Later versions add columns; they change and drop none."""
    text, names = pa.string(), pa.list_(pa.string())
    return pa.schema(
        [
            *(
                (name, text)
                for name in ("centre", "specimen_id", "procedure", "date_of_experiment", "pipeline")
            ),
            *(
                (name, text)
                for name in ("colony_id", "gene_symbol", "allele_symbol", "zygosity", "sex", "group")
            ),
            ("age_weeks", pa.float32()),
            ("metadata_group", text),
            ("views_used", names),
            ("views_missing", names),
            *((f"p_{name}", pa.float32()) for name in taxonomy.names),
            ("call", text),
            *((name, names) for name in ("l2_calls", "l3_calls", "mp_terms", "review", "flags")),
            *((name, text) for name in ("model_id", "runtime", "run_id")),
            ("scored_at", pa.timestamp("ms", tz="UTC")),
        ]
    )
