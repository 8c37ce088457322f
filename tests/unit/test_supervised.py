"""What a step of training costs: a specimen's radiographs together, and each of them alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import toy_training
from torch import Tensor
from toy_training import TAXONOMY, toy_recipe, toy_split

from mxbatch.engine.models.hierarchical import HierarchicalModel, build_model
from mxbatch.trainer.supervised import Answers, Supervised
from mxbatch.trainer.training import training_of

DATA = toy_training.toy_dataset()
STAGES: dict[str, Any] = {
    "stages": [{"levels": [1, 2, 3], "epochs": 1}],
    "augment": toy_training.STILL,
    "view_dropout": 0,
    "unnamed": 0,
}


def answers(each_alone: float, model: HierarchicalModel | None = None) -> tuple[Answers, Supervised]:
    recipe = toy_recipe(questions=True, each_alone=each_alone, **STAGES)
    training = training_of(recipe)
    stage = Supervised(
        training.stages[0],
        recipe=recipe,
        training=training,
        taxonomy=TAXONOMY,
        dataset=DATA,
        split=toy_split(DATA),
    )
    objective = stage.objective(model or build_model(recipe, TAXONOMY, seed=0))
    assert isinstance(objective, Answers)
    return objective.eval(), stage  # eval: no chance, and norms that do not move


def step(stage: Supervised, specimens: list[int]) -> list[Tensor]:
    return list(stage.load(np.array(specimens), np.random.default_rng(0)))


def test_each_radiograph_alone_costs_its_share_of_its_specimen() -> None:
    whole, stage = answers(0.0)
    both, _ = answers(0.5, whole.model)
    tensors = step(stage, list(range(8)))
    mask_NT = tensors[2]
    assert (mask_NT.sum(dim=1) > 1).any()
    with torch.no_grad():
        expected, counts = whole(*tensors)
        for row in range(len(mask_NT)):
            shown = mask_NT[row].nonzero()[:, 0].tolist()
            for at in shown if len(shown) > 1 else ():
                alone = torch.zeros_like(mask_NT[:1])
                alone[0, at] = True
                given = [part[row : row + 1] for part in tensors]
                expected = expected + 0.5 * whole(*given[:2], alone, *given[3:])[0] / len(shown)
        sums, same_counts = both(*tensors)
    torch.testing.assert_close(sums, expected)
    assert torch.equal(counts, same_counts)


def test_a_radiograph_without_the_name_of_its_view_costs_its_share_beside_the_others() -> None:
    objective, stage = answers(0.0)
    tensors = step(stage, list(range(8)))
    mask_NT, unnamed_NT = tensors[2], torch.zeros_like(tensors[2])
    assert not tensors[-1].any()
    unnamed_NT[2, 0] = unnamed_NT[5, 0] = True
    with torch.no_grad():
        expected = objective(*tensors)[0]
        for row in (2, 5):
            alone = torch.zeros_like(mask_NT[:1])
            alone[0, 0] = True
            given = [part[row : row + 1] for part in tensors]
            nameless = torch.zeros_like(given[1])
            expected = expected + objective(given[0], nameless, alone, *given[3:])[0] / mask_NT[row].sum()
        torch.testing.assert_close(objective(*tensors[:-1], unnamed_NT)[0], expected)


def test_about_the_share_that_the_recipe_names_is_shown_without_a_name() -> None:
    _, stage = answers(0.0)
    stage.training = replace(stage.training, unnamed=0.25)
    *_, unnamed_NT = step(stage, [0, 1, 2, 3] * 200)
    mask_NT = step(stage, [0, 1, 2, 3] * 200)[2]
    assert not (unnamed_NT & ~mask_NT).any()
    assert 0.2 < unnamed_NT.sum() / mask_NT.sum() < 0.3


def test_a_specimen_of_one_radiograph_costs_what_it_did() -> None:
    whole, stage = answers(0.0)
    both, _ = answers(1.0, whole.model)
    tensors = step(stage, list(range(8)))
    tensors[2] = torch.zeros_like(tensors[2]) | (torch.arange(tensors[2].shape[1]) == 0)
    with torch.no_grad():
        assert torch.equal(whole(*tensors)[0], both(*tensors)[0])
