"""Only labels that count cost anything, rare classes weigh more, and every kind of loss rewards the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.trainer.losses import answer_costs, level_sums, positive_weights, question_sum, what_counts
from mxbatch.trainer.training import Loss

NAN = math.nan
BALANCED = Loss(class_weights="balanced")
PARENTS = (-1, 0, 0, 1)
LABELS = np.array(
    [
        [0, 0, 0, 0],  # a normal animal
        [1, 1, 0, 1],
        [1, 0, 1, NAN],
        [1, NAN, 1, 0],  # nobody judged node 1, so nothing is known of node 3 given node 1
        [NAN, NAN, NAN, NAN],
    ],
    np.float32,
)
KINDS = [Loss(), Loss(kind="focal"), Loss(kind="asymmetric"), Loss(kind="asymmetric", gamma_positive=1.0)]


def ones(count: int) -> torch.Tensor:
    return torch.ones(count)


def test_a_conditional_head_learns_a_node_where_its_parent_is_abnormal() -> None:
    assert what_counts(LABELS, PARENTS, conditional=True).astype(int).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 0],
        [1, 0, 1, 0],
        [0, 0, 0, 0],
    ]


def test_a_direct_head_learns_a_node_wherever_it_was_judged() -> None:
    assert np.array_equal(what_counts(LABELS, PARENTS, conditional=False), ~np.isnan(LABELS))


def test_balanced_weights_make_positives_weigh_what_negatives_do() -> None:
    labels = np.array([[1], [0], [0], [0]], np.float32)
    counts, draws = np.ones_like(labels, bool), np.ones(4)
    assert positive_weights(labels, counts, draws, BALANCED).tolist() == [3]
    assert positive_weights(labels, counts, draws, Loss()).tolist() == [1]
    assert positive_weights(labels, counts, draws, replace(BALANCED, cap=2)).tolist() == [2]
    assert positive_weights(labels[:1], counts[:1], draws[:1], replace(BALANCED, cap=4)).tolist() == [0.25]


def test_a_class_that_is_drawn_more_often_needs_less_weight() -> None:
    labels = np.array([[1], [0], [0], [0]], np.float32)
    draws = np.array([3.0, 0.5, 0.5, 0.5])
    assert positive_weights(labels, np.ones_like(labels, bool), draws, BALANCED).tolist() == [0.5]


def test_a_class_without_positives_is_left_as_it_is() -> None:
    labels = np.zeros((3, 1), np.float32)
    assert positive_weights(labels, np.ones_like(labels, bool), np.ones(3), BALANCED).tolist() == [1]


def test_binary_cross_entropy_is_the_logarithm_of_the_truths_probability() -> None:
    costs = answer_costs(
        torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([3.0, 9.0]), Loss()
    )
    torch.testing.assert_close(costs, torch.tensor([[3 * math.log(2), math.log(1 + math.exp(2))]]))


def test_focal_loss_passes_over_what_is_right_already() -> None:
    logits, labels = torch.tensor([[3.0, -3.0]]), torch.tensor([[1.0, 1.0]])
    plain = answer_costs(logits, labels, ones(2), Loss())
    focal = answer_costs(logits, labels, ones(2), Loss(kind="focal", gamma=2))
    wrong = torch.sigmoid(-logits)
    torch.testing.assert_close(focal, plain * wrong**2)


@pytest.mark.parametrize("kind", ["focal", "asymmetric"])
def test_without_gamma_and_margin_every_kind_is_cross_entropy(kind: str) -> None:
    logits, labels = torch.linspace(-5, 5, 11)[None], torch.tensor([[0.0, 1.0] * 5 + [0.0]])
    torch.testing.assert_close(
        answer_costs(logits, labels, ones(11), Loss(kind=kind, gamma=0, margin=0)),
        answer_costs(logits, labels, ones(11), Loss()),
        rtol=1e-4,
        atol=1e-5,
    )


def test_asymmetric_loss_takes_no_notice_of_negatives_below_its_margin() -> None:
    logits = torch.logit(torch.tensor([[0.04, 0.06]]))
    costs = answer_costs(logits, torch.zeros(1, 2), ones(2), Loss(kind="asymmetric", margin=0.05))
    assert costs[0, 0] < 1e-9 < costs[0, 1]


@pytest.mark.parametrize("loss", KINDS, ids=lambda loss: f"{loss.kind}-{loss.gamma_positive}")
@given(logit=st.floats(-80, 80, width=32), truth=st.sampled_from([0.0, 1.0]))
def test_every_cost_is_finite_and_its_slope_points_to_the_truth(
    loss: Loss, logit: float, truth: float
) -> None:
    logits = torch.tensor([[logit]], requires_grad=True)
    cost = answer_costs(logits, torch.tensor([[truth]]), ones(1), loss)
    cost.sum().backward()
    assert cost.isfinite().all()
    assert cost.item() >= 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.item() * (1 - 2 * truth) >= -1e-6


def test_sums_and_counts_are_per_level_and_take_only_what_counts() -> None:
    costs = torch.tensor([[1.0, 2.0, 4.0], [8.0, NAN, 16.0]])
    counts = torch.tensor([[True, True, False], [True, False, True]])
    sums, numbers = level_sums(costs, counts, [[0], [1, 2]])
    assert (sums.tolist(), numbers.tolist()) == ([9, 18], [2, 2])


def test_questions_cost_what_was_answered_and_count_specimens_of_whom_anything_was() -> None:
    logits = torch.zeros(3, 2)
    answers = torch.tensor([[1.0, 0.0], [NAN, 1.0], [NAN, NAN]])
    cost, count = question_sum(logits, answers, ones(3))
    assert cost.item() == pytest.approx(3 * np.log(2))
    assert count.item() == 2
    half, count = question_sum(logits, answers, torch.tensor([0.5, 1.0, 1.0]))
    assert half.item() == pytest.approx(2 * np.log(2))
    assert count.item() == 2


def test_what_does_not_count_has_no_slope() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    counts = torch.tensor([[True, False], [False, True]])
    sums, _ = level_sums(answer_costs(logits, torch.ones(2, 2), ones(2), Loss()), counts, [[0, 1]])
    sums.sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == counts.tolist()
