"""A phase of training with labels: one stage of the recipe.

Which of the model's parts learn, and how fast, is decided here; the steps themselves are in fit.py.
"""

# N specimens · T radiographs per specimen · K nodes · Q questions · S side
# P parts of the loss: one per level, and one of questions · A times that a radiograph is shown alone

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.hierarchical import HierarchicalModel
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.taxonomy import Taxonomy
from mxbatch.kernels.tree import probabilities
from mxbatch.trainer.data import Dataset, batch
from mxbatch.trainer.loader import augmented, keep_some
from mxbatch.trainer.losses import answer_costs, level_sums, positive_weights, question_sum, what_counts
from mxbatch.trainer.metrics import mean_auc
from mxbatch.trainer.order import cut, draw, expected_draws
from mxbatch.trainer.predict import predict_logits
from mxbatch.trainer.schedule import optimiser_over
from mxbatch.trainer.splits import Split
from mxbatch.trainer.training import Stage, Training


class Answers(nn.Module):
    """The model and what its answers cost: what a step runs forward and backward."""

    def __init__(
        self,
        model: HierarchicalModel,
        training: Training,
        positive_weight_K: Tensor,
        levels: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.model, self.table, self.levels = model, training, levels
        self.register_buffer("positive_weight_K", positive_weight_K)

    def forward(
        self,
        images_NT1SS: Tensor,
        view_ids_NT: Tensor,
        mask_NT: Tensor,
        labels_NK: Tensor,
        counts_NK: Tensor,
        answers_NQ: Tensor,
        unnamed_NT: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Sums and counts per part of the loss, `float32[P]` each. `answers_NQ` is NaN where nobody said.

        `unnamed_NT` says which radiographs are asked without the name of their view, too.
        """
        features_NTD = self.model.features(images_NT1SS, mask_NT)
        known = (labels_NK, counts_NK, answers_NQ)
        given = self.model.answer(features_NTD, view_ids_NT, mask_NT)
        ones_N = torch.ones_like(labels_NK[:, 0])
        sums_P, counts_P = self._costs(given, known, ones_N)
        several_NT = mask_NT & (mask_NT.sum(dim=1, keepdim=True) > 1) & bool(self.table.each_alone)
        of_A, at_A = torch.cat([several_NT.nonzero(), unnamed_NT.nonzero()]).unbind(dim=1)
        named_A = torch.arange(len(of_A), device=of_A.device) < several_NT.sum()
        views_A = view_ids_NT[of_A, at_A] * named_A
        # Even of no radiograph: the head's norms wait for all processes, and another may have some.
        given = self.model.answer(
            features_NTD[of_A, at_A][:, None], views_A[:, None], torch.ones_like(named_A)[:, None]
        )
        weight_A = torch.where(named_A, self.table.each_alone, 1.0) / mask_NT.sum(dim=1)[of_A]
        return sums_P + self._costs(given, [part[of_A] for part in known], weight_A)[0], counts_P

    def _costs(
        self, given: tuple[Tensor, Tensor | None], known: Sequence[Tensor], weight_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of what the model says, given what is known: sums, in which each row has its weight, and counts."""
        logits_NK, questions_NQ = given
        labels_NK, counts_NK, answers_NQ = known
        costs_NK = answer_costs(logits_NK, labels_NK, cast("Tensor", self.positive_weight_K), self.table.loss)
        sums_P, counts_P = level_sums(weight_N[:, None] * costs_NK, counts_NK, self.levels)
        if questions_NQ is None:
            return sums_P, counts_P
        sum_, count = question_sum(questions_NQ, answers_NQ, weight_N)
        share = self.table.questions
        return torch.cat([sums_P, share * sum_[None]]), torch.cat([counts_P, count[None]])


class Supervised:
    """One stage. Raises UsageError MX-T002 where nobody has a label in its levels."""

    unit = "specimens"

    def __init__(
        self,
        stage: Stage,
        *,
        recipe: Recipe,
        training: Training,
        taxonomy: Taxonomy,
        dataset: Dataset,
        split: Split,
    ) -> None:
        self.stage, self.recipe, self.training = stage, recipe, training
        self.taxonomy, self.dataset, self.split = taxonomy, dataset, split
        self.epochs, self.learning_rate = stage.epochs, stage.learning_rate
        self.name = "level " + "+".join(map(str, stage.levels))
        self.parts = tuple(f"loss_l{level}" for level in stage.levels)
        if recipe.head.questions:
            self.parts += ("loss_questions",)
        level_K = np.array([node.level for node in taxonomy.nodes])
        self.nodes = [np.flatnonzero(level_K == level).tolist() for level in stage.levels]

        labels_NK = dataset.labels
        self.counts_NK = what_counts(labels_NK, taxonomy.parents, conditional=recipe.head.conditional)
        self.counts_NK &= np.isin(level_K, stage.levels)
        rows = split.train
        self.draws_N = expected_draws(labels_NK[rows], self.counts_NK[rows], training.balance)
        if not self.draws_N.any():
            raise UsageError(
                "MX-T002", f"{self.name}: no specimen of the training side has a label to learn from"
            )
        self.positive_weight_K = torch.from_numpy(
            positive_weights(labels_NK[rows], self.counts_NK[rows], self.draws_N, training.loss)
        )

    def objective(self, model: HierarchicalModel) -> nn.Module:
        """`model` made ready for this stage: only what learns in it has gradients, the rest rests."""
        model.train().requires_grad_(False)
        own, earlier = self._learners(model)
        for parameter in own:
            parameter.requires_grad_(True)
        for parameter in earlier:
            parameter.requires_grad_(self.stage.earlier_rate > 0)
        if not self.stage.earlier_rate:
            model.encoder.eval()  # its batch norms, where there are any, must not drift
            model.head.fusion.eval()  # nor what is known of each view
        return Answers(model, self.training, self.positive_weight_K, self.nodes)

    def optimiser(self, model: HierarchicalModel) -> torch.optim.Optimizer:
        own, earlier = self._learners(model)
        return optimiser_over(
            own,
            earlier if self.stage.earlier_rate else (),
            kind=self.training.optimiser,
            earlier_rate=self.stage.earlier_rate,
            weight_decay=self.training.weight_decay,
        )

    def steps(self, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """The specimens of each step of one epoch."""
        return cut(self.split.train[draw(self.draws_N, rng)], self.training.batch)

    def load(self, specimens: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, ...]:
        """What `Answers.forward` takes."""
        images, view_ids, mask, labels = batch(
            self.dataset, specimens, radiographs=self.recipe.max_radiographs
        )
        mask = keep_some(mask, self.training.view_dropout, rng)
        images[mask, 0] = augmented(images[mask, 0], self.training.augment, rng)
        known = (np.nan_to_num(labels), self.counts_NK[specimens], self.dataset.answers[specimens])
        unnamed = mask & (rng.random(mask.shape) < self.training.unnamed)
        return tuple(torch.from_numpy(array) for array in (images, view_ids, mask, *known, unnamed))

    def validate(self, model: HierarchicalModel, precision: torch.dtype) -> dict[str, float]:
        """The loss of the stage's levels, and the AUC of all levels, on specimens not learned from."""
        rows = self.split.validation
        if not len(rows):
            return {}
        logits_NK = torch.from_numpy(
            predict_logits(
                model, self.dataset, rows, radiographs=self.recipe.max_radiographs, precision=precision
            )
        )
        labels_NK = self.dataset.labels[rows]
        costs_NK = answer_costs(
            logits_NK, torch.from_numpy(np.nan_to_num(labels_NK)), self.positive_weight_K, self.training.loss
        )
        sums_P, counts_P = level_sums(costs_NK, torch.from_numpy(self.counts_NK[rows]), self.nodes)
        ones_K, zeros_K = torch.ones(logits_NK.shape[1]), torch.zeros(logits_NK.shape[1])
        p_NK = probabilities(
            logits_NK, self.taxonomy.parents, ones_K, zeros_K, conditional=self.recipe.head.conditional
        )
        auc = mean_auc(p_NK.numpy(), labels_NK, self.taxonomy)
        return {
            "validation_loss": float((sums_P / counts_P.clamp(min=1)).sum()),
            **{f"auc_l{level}": value for level, value in auc.items()},
        }

    def _learners(self, model: HierarchicalModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the stage's own levels, and of what lies before the first of them.

        A decoder learns in pre-training alone, and levels after the stage's wait for their own.
        """
        layers: list[Any] = list(model.head.levels)
        if self.recipe.head.conditional:
            own = [layers[level - 1] for level in self.stage.levels]
            above = [layer for layer in layers[: max(self.stage.levels)] if layer not in own]
        else:
            own, above = layers, []
        encoder = [p for name, p in model.encoder.named_parameters() if ".decoder." not in name]
        if (questions := model.head.questions) is not None:
            above.append(questions)
        return _parameters(own), [*encoder, *_parameters([model.head.fusion, *above])]


def _parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]
