"""What a model says while it is being made: of all of a specimen's radiographs, and of its views one by one."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from mxbatch.engine.models.hierarchical import HierarchicalModel
from mxbatch.trainer.calibrate import calibrate
from mxbatch.trainer.data import Dataset
from mxbatch.trainer.metrics import calibration_error
from mxbatch.trainer.predict import Showings, predict_logits, predict_showings


class Adder(nn.Module):
    """Its two logits: the first pixels of what it is shown, added up, and how many pictures those are."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, images_NT1SS: Tensor, view_ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        seen_NT = images_NT1SS[:, :, 0, 0, 0] * mask_NT
        return torch.stack([seen_NT.sum(1), mask_NT.sum(1)], dim=1).float() + self.nothing


MODEL = cast("HierarchicalModel", Adder())


def drawn(*views: list[int]) -> Dataset:
    """Specimens with radiographs of these views; picture r is filled with r + 1."""
    counts = [len(some) for some in views]
    return Dataset(
        images=np.repeat(np.arange(1, sum(counts) + 1, dtype=np.uint8), 4).reshape(-1, 2, 2),
        views=np.array([view for some in views for view in some], np.int64),
        first=np.cumsum([0, *counts]),
        labels=np.zeros((len(views), 2), np.float32),
        answers=np.empty((len(views), 0), np.float32),
        keys=tuple(("", str(n), "", "") for n in range(len(views))),
        colonies=("",) * len(views),
        centres=("",) * len(views),
        quarantined=(),
        fingerprint="",
    )


def showings(dataset: Dataset, specimens: list[int], radiographs: int = 8) -> Showings:
    rows = np.array(specimens, np.int64)
    logits_NK = predict_logits(MODEL, dataset, rows, radiographs=radiographs)
    return predict_showings(MODEL, dataset, rows, logits_NK, radiographs=radiographs)


def listed(shown: Showings) -> list[tuple[int, float, list[float]]]:
    return [
        (int(row), float(weight), logits.tolist())
        for row, weight, logits in zip(shown.rows_S, shown.weights_S, shown.logits_SK, strict=True)
    ]


def test_a_specimen_is_shown_with_all_its_views_and_with_each_alone() -> None:
    shown = showings(drawn([1], [1, 2, 2, 3]), [1])
    assert listed(shown) == [
        (0, 0.5, [2 + 3 + 4 + 5, 4]),
        (0, 0.5 / 3, [2, 1]),
        (0, 0.5 / 3, [3 + 4, 2]),
        (0, 0.5 / 3, [5, 1]),
    ]


def test_a_specimen_of_one_view_is_shown_once_and_counts_as_much() -> None:
    assert listed(showings(drawn([2, 2], [1, 2]), [1, 0])) == [
        (0, 0.5, [7, 2]),
        (1, 1.0, [3, 2]),
        (0, 0.25, [3, 1]),
        (0, 0.25, [4, 1]),
    ]


def test_a_view_that_does_not_fit_in_is_not_shown_alone_either() -> None:
    """Of three views the model takes two radiographs: the third was never shown to it."""
    assert [row[2] for row in listed(showings(drawn([1, 2, 3]), [0], radiographs=2))] == [
        [3, 2],
        [1, 1],
        [2, 1],
    ]


def test_nobody_is_shown_in_no_way() -> None:
    shown = showings(drawn([1, 2]), [])
    assert (len(shown.rows_S), len(shown.weights_S), shown.logits_SK.shape) == (0, 0, (0, 2))


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=6))
def test_every_specimen_weighs_one(views: list[list[int]]) -> None:
    shown = showings(drawn(*views), list(range(len(views))), radiographs=4)
    weights = np.bincount(shown.rows_S, weights=shown.weights_S, minlength=len(views))
    assert weights == pytest.approx(np.ones(len(views)))
    assert (shown.logits_SK[:, 1] > 0).all()  # something was shown each time


def test_to_count_views_alone_makes_one_view_honest_and_keeps_all_of_them_so() -> None:
    """Two views say the same sign; a model that adds them up, and makes too much of one when it has no other."""
    rng = np.random.default_rng(0)
    true_N = rng.random(4000) < 0.5
    views_N2 = np.where(true_N, 1.0, -1.0)[:, None] + rng.normal(scale=1.5, size=(4000, 2))
    both_N, one_N = views_N2.sum(axis=1), 1.5 * views_N2[:, 0]
    tree: Any = _Root()
    labels_N1 = true_N[:, None].astype(np.float32)

    def fitted(*shown: NDArray[np.float64]) -> list[float]:
        """The errors for both views and for one, after a calibration with these."""
        weights = np.full(len(shown) * len(true_N), 1 / len(shown))
        logits = np.concatenate(shown)[:, None].astype(np.float32)
        labels = np.concatenate([labels_N1] * len(shown))
        line = calibrate(logits, labels, tree, conditional=False, weights_N=weights)
        p = [1 / (1 + np.exp(-line.scale[0] * z - line.bias[0])) for z in (both_N, one_N)]
        return [calibration_error(each.astype(np.float32), true_N) for each in p]

    before, after = fitted(both_N), fitted(both_N, one_N)
    assert after[1] < 0.7 * before[1]
    assert after[0] < 0.05


class _Root:
    """A tree of one node."""

    class _Node:
        level = 1

    nodes = (_Node(),)
    parents = (-1,)
