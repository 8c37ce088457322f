"""A training that takes seconds: drawn squares for radiographs, a recipe to match, and a process that runs both.

Each class of level 3 is a bright square at its own place, so there is something to learn, and a level is abnormal
where one of its children is. Run as a script (`RUN OUT`) it trains in RUN and saves the weights as OUT;
`RUN OUT still` leaves out all chance.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.trainer.data import Dataset
from mxbatch.trainer.fit import fit
from mxbatch.trainer.splits import Split

TAXONOMY = read_taxonomy()
PARENTS = TAXONOMY.parents
LEAVES = [k for k in range(len(PARENTS)) if k not in PARENTS]
SIDE = 32
STILL = {"rotation_deg": 0, "shear_deg": 0, "scale": 0, "translate": 0, "noise": 0, "exposure": 0}
"""An [augment] table that changes nothing."""


def toy_dataset(specimens: int = 48, seed: int = 0) -> Dataset:
    """`specimens` of one to three radiographs, each colony of one specimen."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((specimens, len(PARENTS)), np.float32)
    labels[:, LEAVES] = rng.random((specimens, len(LEAVES))) < 0.1
    for child in reversed(range(len(PARENTS))):
        if PARENTS[child] >= 0:
            labels[:, PARENTS[child]] = np.maximum(labels[:, PARENTS[child]], labels[:, child])
    counts = rng.integers(1, 4, specimens)
    first = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
    images = rng.integers(0, 60, (first[-1], SIDE, SIDE)).astype(np.uint8)
    images[:, 4:28, 2:30] += 60
    owner = np.repeat(np.arange(specimens), counts)
    for place, leaf in enumerate(LEAVES):
        top, left = 6 + 12 * (place // 5), 3 + 5 * (place % 5)
        images[labels[owner, leaf] == 1, top : top + 5, left : left + 4] = 255
    return Dataset(
        images=images,
        views=np.concatenate([np.arange(1, count + 1) for count in counts]).astype(np.int64),
        first=first,
        labels=labels,
        answers=_answers(labels),
        keys=tuple(("CENTRE", f"mouse-{n}", "IMPC_XRY_001", "2020-01-01") for n in range(specimens)),
        colonies=tuple(f"colony-{n}" for n in range(specimens)),
        centres=("CENTRE",) * specimens,
        quarantined=(),
        fingerprint=f"toy-{specimens}-{seed}",
    )


def _answers(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each class was judged by the first of its questions; nobody answered the others."""
    answers = np.full((len(labels), len(TAXONOMY.questions)), np.nan, np.float32)
    for leaf in LEAVES:
        answers[:, TAXONOMY.questions.index(TAXONOMY.nodes[leaf].parameters[0].id)] = labels[:, leaf]
    return answers


def toy_split(dataset: Dataset) -> Split:
    """Every third specimen validates, none tests."""
    order = np.arange(len(dataset.keys))
    return Split(train=order[order % 3 > 0], validation=order[order % 3 == 0], test=order[:0])


def toy_recipe(head: str = "hierarchical", *, questions: bool = False, **training: Any) -> Recipe:
    """A recipe of some thousand weights; `training` is its table."""
    return Recipe.from_dict(
        {
            "name": "toy",
            "max_radiographs": 3,
            "views": ["dv", "lv", "forepaw"],
            "backbone": {"kind": "cae", "name": "toy", "widths": [4, 8], "latent": 8, "pool": "mean_peak"},
            "head": {"kind": head, "width": 8, "questions": questions},
            "input": {"size": SIDE},
            "training": {"batch": 8, **training},
        }
    )


def stages(*levels: list[int], epochs: int = 1, **more: Any) -> list[dict[str, Any]]:
    return [{"levels": level, "epochs": epochs, **more} for level in levels]


def eventful_recipe() -> Recipe:
    """Every kind of phase, and every kind of chance."""
    return toy_recipe(
        questions=True, pretrain={"epochs": 2, "patch": 4}, stages=stages([1], [1, 2], [2, 3], epochs=2)
    )


def still_recipe() -> Recipe:
    """Nothing that depends on how processes share the work: no chance, and no norm over a batch."""
    table = toy_recipe(
        stages=stages([1, 2, 3], epochs=2), view_dropout=0, unnamed=0, precision="float32", augment=STILL
    ).as_dict()
    backbone = {"kind": "timm", "name": "test_convnext"}
    return Recipe.from_dict({**table, "backbone": backbone, "head": {**table["head"], "dropout": 0.0}})


if __name__ == "__main__":
    torch.set_num_threads(1)
    toys = toy_dataset()
    plan = still_recipe() if sys.argv[3:] == ["still"] else eventful_recipe()
    model = fit(plan, toys, toy_split(toys), TAXONOMY, Path(sys.argv[1]), device="cpu")
    torch.save(model.state_dict(), sys.argv[2])
