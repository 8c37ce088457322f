"""Figures of the evaluation: against scikit-learn, by hand, and drawn by animal line."""

from __future__ import annotations

import numpy as np
import pytest
from echo import TAXONOMY
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score

from mxbatch.engine.calls import ABNORMAL, NORMAL, REVIEW, Thresholds
from mxbatch.trainer.bootstrap import Draws, group_lines, interval
from mxbatch.trainer.measure import CONDITIONAL, MARGINAL, MEAN, measure_calls, measure_ranks
from mxbatch.trainer.metrics import calibration_error, call_metrics, mean_auc, rank_metrics, reliability

K = len(TAXONOMY.nodes)


def once(count: int) -> NDArray[np.float64]:
    """The weights of the data as they are."""
    return np.ones((1, count))


def tree_data(count: int = 300, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Path probabilities that know something, and labels in which a parent is abnormal when a child is."""
    rng = np.random.default_rng(seed)
    labels_NK = (rng.random((count, K)) < 0.2).astype(np.float32)
    for child in range(K - 1, 0, -1):
        parent = TAXONOMY.parents[child]
        labels_NK[:, parent] = np.maximum(labels_NK[:, parent], labels_NK[:, child])
    p_NK = (1 / (1 + np.exp(-rng.normal(2 * labels_NK - 1)))).astype(np.float32)
    for child in range(1, K):
        p_NK[:, child] *= p_NK[:, TAXONOMY.parents[child]]
    return p_NK, labels_NK


def no_resampling(count: int) -> Draws:
    return Draws.make(np.arange(count), replicates=0, seed=0)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40),
)
def test_ranks_are_scikit_learns_with_ties_and_weights(rows: list[tuple[int, bool, int]]) -> None:
    score, true, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = {name: values[0] for name, values in rank_metrics(score / 7, true, weight[None]).items()}
    if weight[true].sum() and weight[~true].sum():
        assert found["auc"] == pytest.approx(roc_auc_score(true, score, sample_weight=weight))
        expected = average_precision_score(true, score, sample_weight=weight)
        assert found["average_precision"] == pytest.approx(expected)
    else:
        assert np.isnan(found["auc"])


def test_weights_count_like_copies() -> None:
    rng = np.random.default_rng(1)
    score, true, weight = rng.random(50).round(1), rng.random(50) < 0.4, rng.integers(0, 4, 50)
    weighted = rank_metrics(score, true, weight[None])
    copied = rank_metrics(score.repeat(weight), true.repeat(weight), once(weight.sum()))
    assert weighted["auc"] == pytest.approx(copied["auc"])
    assert weighted["average_precision"] == pytest.approx(copied["average_precision"])


def test_calls_are_judged_without_those_under_review() -> None:
    rng = np.random.default_rng(2)
    call, true = rng.integers(0, 3, 200).astype(np.int8), rng.random(200) < 0.3
    found = {name: values[0] for name, values in call_metrics(call, true, once(200)).items()}
    decided = call != REVIEW
    said = call[decided] == ABNORMAL
    assert found["sensitivity"] == pytest.approx(recall_score(true[decided], said))
    assert found["specificity"] == pytest.approx(recall_score(~true[decided], ~said))
    assert found["f1"] == pytest.approx(f1_score(true[decided], said))
    assert found["ppv"] == pytest.approx(true[decided][said].mean())
    assert found["npv"] == pytest.approx((~true[decided][~said]).mean())
    assert found["review_share"] == pytest.approx((call == REVIEW).mean())
    assert found["missed"] == pytest.approx((call[true] == NORMAL).mean())
    assert found["caught"] == pytest.approx((call[true] == ABNORMAL).mean())


def test_calibration_error_by_hand() -> None:
    p = np.array([0.1, 0.1, 0.2, 0.4, 0.8, 1.0])
    true = np.array([False, False, False, True, True, True])
    predicted, observed, counts = reliability(p, true, bins=3)
    assert predicted == pytest.approx([0.1, 0.3, 0.9])
    assert observed == pytest.approx([0, 0.5, 1])
    assert counts.tolist() == [2, 2, 2]
    assert calibration_error(p, true, bins=3) == pytest.approx((0.1 + 0.2 + 0.1) / 3)


def test_fewer_specimens_than_bins_and_none_at_all() -> None:
    assert calibration_error(np.array([0.25]), np.array([True])) == 0.75
    assert np.isnan(calibration_error(np.empty(0), np.empty(0, np.bool_)))


def test_the_mean_auc_of_a_level_is_over_classes_that_have_both_kinds() -> None:
    p_NK, labels_NK = tree_data()
    labels_NK[:, -1] = 0  # no positive
    labels_NK[:, -2] = np.nan  # never judged
    labels_NK[:50, -3] = np.nan
    level_3 = [k for k, node in enumerate(TAXONOMY.nodes) if node.level == 3][:-2]
    judged = [~np.isnan(labels_NK[:, k]) for k in level_3]
    expected = [roc_auc_score(labels_NK[j, k], p_NK[j, k]) for j, k in zip(judged, level_3, strict=True)]
    assert mean_auc(p_NK, labels_NK, TAXONOMY)[3] == pytest.approx(np.mean(expected))
    assert np.isnan(mean_auc(p_NK, np.full_like(labels_NK, np.nan), TAXONOMY)[1])


def test_conditional_figures_are_among_the_truly_abnormal_by_probability_given_the_parent() -> None:
    p_NK, labels_NK = tree_data()
    figures = measure_ranks(p_NK, labels_NK, TAXONOMY, no_resampling(300))
    child = K - 1
    parent = TAXONOMY.parents[child]
    among = labels_NK[:, parent] == 1
    expected = roc_auc_score(labels_NK[among, child], p_NK[among, child] / p_NK[among, parent])
    [found] = [
        f for f in figures if (f.node, f.kind, f.metric) == (TAXONOMY.names[child], CONDITIONAL, "auc")
    ]
    assert found.value == pytest.approx(expected)
    assert (found.specimens, found.positives) == (among.sum(), labels_NK[among, child].sum())


def test_how_ill_an_animal_looks_says_nothing_of_what_it_has() -> None:
    """Among the abnormal, a model that doubts some animals as a whole is as good as one that does not."""
    p_NK, labels_NK = tree_data()
    doubt_N1 = 2.0 ** -np.random.default_rng(1).integers(0, 6, (300, 1)).astype(np.float32)
    sure, doubtful = (
        {
            f.node: f.value
            for f in measure_ranks(p, labels_NK, TAXONOMY, no_resampling(300))
            if (f.kind, f.metric, f.level) == (CONDITIONAL, "auc", 3)
        }
        for p in (p_NK, p_NK * doubt_N1)
    )
    assert sure == doubtful


def test_level_1_has_no_conditional_figure() -> None:
    figures = measure_ranks(*tree_data(), TAXONOMY, no_resampling(300))
    assert {figure.kind for figure in figures if figure.level == 1} == {MARGINAL}


def test_a_class_without_a_positive_has_no_auc_and_the_mean_says_over_how_many_it_goes() -> None:
    p_NK, labels_NK = tree_data()
    labels_NK[:, -1] = 0
    draws = Draws.make(np.arange(300), replicates=20, seed=0)
    figures = measure_ranks(p_NK, labels_NK, TAXONOMY, draws)
    [missing] = [f for f in figures if (f.node, f.kind, f.metric) == (TAXONOMY.names[-1], MARGINAL, "auc")]
    [mean] = [f for f in figures if (f.level, f.node, f.kind, f.metric) == (3, MEAN, MARGINAL, "auc")]
    assert missing.as_row()["value"] is None
    assert missing.positives == 0
    assert mean.nodes == "9/10"
    low, high = mean.interval
    assert low < mean.value < high


def test_calls_and_calibration_are_measured_at_every_node_and_level() -> None:
    p_NK, labels_NK = tree_data()
    figures = measure_calls(p_NK, labels_NK, TAXONOMY, Thresholds.uniform(TAXONOMY), no_resampling(300))
    assert {(f.node, f.metric) for f in figures} >= {("abnormal", "ece"), (MEAN, "f1"), ("ribs", "missed")}
    assert all(np.isnan(figure.interval).all() for figure in figures)


def test_every_replicate_draws_whole_animal_lines() -> None:
    groups = group_lines(["x", "x", "y", "baseline", "", "Baseline", "z", "z"])
    assert groups.tolist() == [0, 0, 1, 2, 3, 4, 5, 5]
    draws = Draws.make(groups, replicates=50, seed=3)
    [weights_BN] = draws.weights(np.ones(8, np.bool_))
    assert (weights_BN[0] == 1).all()
    assert (weights_BN[:, 0] == weights_BN[:, 1]).all()
    assert (weights_BN[:, 6] == weights_BN[:, 7]).all()
    assert (weights_BN[:, 0] != weights_BN[:, 6]).any()
    assert (draws.counts_BG.sum(axis=1) == 6).all()


def test_draws_are_the_same_for_the_same_seed_and_in_any_chunks() -> None:
    groups = np.arange(20) // 2
    first, again = (Draws.make(groups, replicates=9, seed=5) for _ in range(2))
    other = Draws.make(groups, replicates=9, seed=6)
    assert (first.counts_BG == again.counts_BG).all()
    assert (first.counts_BG != other.counts_BG).any()
    rows = groups > 3
    assert np.array_equal(
        np.concatenate(list(first.weights(rows, size=30))), np.concatenate(list(first.weights(rows)))
    )


def test_animals_that_resemble_their_line_widen_the_interval() -> None:
    """Ten copies of each animal say no more than one; taken for independent, the interval would shrink to a third."""
    rng = np.random.default_rng(7)
    true = np.tile(np.arange(40) % 4 == 0, (10, 1)).T.ravel()
    score = np.repeat(rng.normal(size=40), 10) + true
    widths = []
    for groups in (np.arange(400) // 10, np.arange(400)):
        weights_BN = np.concatenate(
            list(Draws.make(groups, replicates=300, seed=0).weights(np.ones(400, np.bool_)))
        )
        low, high = interval(rank_metrics(score, true, weights_BN)["auc"][1:])
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]


def test_an_interval_ignores_replicates_that_lost_the_class_unless_most_did() -> None:
    assert interval(np.array([np.nan, 0.5, 0.5, 0.5])) == (0.5, 0.5)
    assert np.isnan(interval(np.array([np.nan, np.nan, 0.5]))).all()
    assert np.isnan(interval(np.empty(0))).all()
