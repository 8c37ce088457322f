"""Differences between models on the same specimens: does a second view help, does the hierarchy?

A difference is paired: both models are measured on the specimens that both can judge, and every bootstrap replicate
draws the same animal lines for both. So what is hard about an animal cancels out, and the interval is that of the
difference, far narrower than those of the two figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.models.recipe import Backbone
from mxbatch.trainer.bootstrap import Draws, interval
from mxbatch.trainer.judge import Judged
from mxbatch.trainer.measure import MEAN, measure_ranks

LevelMeans = dict[tuple[int, str], NDArray[np.float64]]
"""(level, kind) -> mean AUC of the data, then of the replicates."""


MULTIVIEW, HIERARCHICAL = "MV - best single view", "hierarchical - direct"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Mean AUC of `plus` minus that of `minus` (model ids), at one level."""

    what: str
    """`MULTIVIEW` or `HIERARCHICAL`."""
    family: str
    model: str
    """What both have in common, for people."""
    plus: str
    minus: str
    over: str
    """Which single view was the best, such as LV; empty where that is not the question."""
    level: int
    kind: str
    value: float
    low: float
    high: float
    specimens: int

    def as_row(self) -> dict[str, Any]:
        """For JSON; what is no number is None."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


FAMILIES = {"convnext": "ConvNeXt", "efficientnetv2": "EfficientNetV2", "tf_efficientnetv2": "EfficientNetV2"}
"""How an architecture's name begins -> what the papers call it."""


def family_of(backbone: Backbone) -> str:
    """What the papers would call it; other architectures keep their own name."""
    if backbone.kind == "cae":
        return "CAE"
    return next(
        (family for start, family in FAMILIES.items() if backbone.name.startswith(start)), backbone.name
    )


def column_of(views: Sequence[str]) -> str:
    """What the papers call it: DV, LV or another single view in capitals, MV for several."""
    return views[0].upper() if len(views) == 1 else "MV"


def label_of(judged: Judged, *, head: bool = True) -> str:
    """`ConvNeXt (convnext_atto), direct`: what a model is, but for the views that it was shown."""
    recipe = judged.bundle.recipe
    family = family_of(recipe.backbone)
    exact = "" if family.lower() == recipe.backbone.name.lower() else f" ({recipe.backbone.name})"
    kind = f", {recipe.head.kind}" if head else ""
    limited = "" if judged.views == recipe.views else f", trained on {column_of(recipe.views)}"
    return f"{family}{exact}{kind}{limited}"


def compare(judged: Sequence[Judged], *, replicates: int, seed: int) -> list[Difference]:
    """Every difference that these models allow, with 95 % intervals."""
    return [
        *_multiview(judged, replicates, seed),
        *_hierarchical(judged, replicates, seed),
    ]


def _multiview(judged: Sequence[Judged], replicates: int, seed: int) -> Iterator[Difference]:
    """Against the single view with the largest mean AUC at that level, picked on the same specimens: the odds are
    on the single view's side."""
    alike: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for one in judged:
        alike[one.bundle.recipe.backbone.name, one.bundle.recipe.head.kind].append(one)
    for models in alike.values():
        singles = [one for one in models if len(one.views) == 1]
        for multi in (one for one in models if len(one.views) > 1):
            if not singles:
                continue
            (ours, *theirs), count = _paired([multi, *singles], replicates, seed)
            for level, kind in ours:
                order = [_or_least(means[level, kind][0]) for means in theirs]
                best = int(np.argmax(order))
                yield _difference(
                    MULTIVIEW,
                    label_of(multi),
                    multi,
                    singles[best],
                    (level, kind),
                    ours[level, kind] - theirs[best][level, kind],
                    over=column_of(singles[best].views),
                    specimens=count,
                )


def _hierarchical(judged: Sequence[Judged], replicates: int, seed: int) -> Iterator[Difference]:
    """On equal terms: the same backbone, trained on the same views and shown the same."""
    alike: dict[tuple[str, tuple[str, ...], tuple[str, ...]], dict[str, Judged]] = defaultdict(dict)
    for one in judged:
        recipe = one.bundle.recipe
        alike[recipe.backbone.name, recipe.views, one.views].setdefault(recipe.head.kind, one)
    for (_, _, views), heads in alike.items():
        if {"hierarchical", "direct"} <= set(heads):
            plus, minus = heads["hierarchical"], heads["direct"]
            (ours, theirs), count = _paired([plus, minus], replicates, seed)
            for level, kind in ours:
                yield _difference(
                    HIERARCHICAL,
                    f"{label_of(plus, head=False)}, {column_of(views)}",
                    plus,
                    minus,
                    (level, kind),
                    ours[level, kind] - theirs[level, kind],
                    specimens=count,
                )


def _paired(models: Sequence[Judged], replicates: int, seed: int) -> tuple[list[LevelMeans], int]:
    """Mean AUC per level of each model on the specimens that all can judge, in the same draws; and how many."""
    common = set(models[0].keys).intersection(*(one.keys for one in models[1:]))
    same = [one.only(sorted(common)) for one in models]
    draws = Draws.make(same[0].groups_N, replicates=replicates, seed=seed)
    means = []
    for one in same:
        figures = measure_ranks(
            one.p_NK,
            one.labels_NK,
            one.bundle.taxonomy,
            draws,
        )
        means.append({(f.level, f.kind): f.values_B for f in figures if (f.node, f.metric) == (MEAN, "auc")})
    return means, len(common)


def _difference(
    what: str,
    model: str,
    plus: Judged,
    minus: Judged,
    place: tuple[int, str],
    values_B: NDArray[np.float64],
    *,
    specimens: int,
    over: str = "",
) -> Difference:
    low, high = interval(values_B[1:])
    return Difference(
        what=what,
        family=family_of(plus.bundle.recipe.backbone),
        model=model,
        plus=plus.bundle.model_id,
        minus=minus.bundle.model_id,
        over=over,
        level=place[0],
        kind=place[1],
        value=float(values_B[0]),
        low=low,
        high=high,
        specimens=specimens,
    )


def _or_least(value: float) -> float:
    return -1.0 if np.isnan(value) else float(value)
