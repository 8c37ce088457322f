"""Calibration finds a known distortion; thresholds keep their promise to animals that nobody has seen."""

from __future__ import annotations

import tomllib
from itertools import pairwise

import numpy as np
import pytest
import tomli_w
from echo import TAXONOMY
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mxbatch.engine.calls import NORMAL, decide
from mxbatch.engine.errors import UsageError
from mxbatch.trainer.calibrate import calibrate
from mxbatch.trainer.thresholds import Rule, choose_thresholds, conformal_bound, largest_f1

K = len(TAXONOMY.nodes)
LEVEL_K = np.array([node.level for node in TAXONOMY.nodes])


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def drawn(true_logits_NK: NDArray[np.float64], seed: int, *, conditional: bool) -> NDArray[np.float32]:
    """Labels that follow the logits; conditional ones are abnormal only below an abnormal parent."""
    rng = np.random.default_rng(seed)
    labels_NK = (rng.random(true_logits_NK.shape) < sigmoid(true_logits_NK)).astype(np.float32)
    for child in range(1, K if conditional else 0):
        labels_NK[:, child] *= labels_NK[:, TAXONOMY.parents[child]]
    return labels_NK


@pytest.mark.parametrize("conditional", [True, False])
def test_a_known_temperature_and_known_offsets_are_recovered(conditional: bool) -> None:
    rng = np.random.default_rng(0)
    scale_K, bias_K = np.array([0.5, 0.8, 2.0])[LEVEL_K - 1], rng.normal(size=K)
    logits_NK = rng.normal(scale=2, size=(6000, K)).astype(np.float32)
    labels_NK = drawn(scale_K * logits_NK + bias_K, 1, conditional=conditional)
    found = calibrate(logits_NK, labels_NK, TAXONOMY, conditional=conditional)
    assert np.array(found.scale) == pytest.approx(scale_K, rel=0.12)
    assert np.array(found.bias) == pytest.approx(bias_K, abs=0.3)


def test_where_nothing_is_judged_the_calibration_is_the_identity() -> None:
    nothing = np.full((20, K), np.nan, np.float32)
    found = calibrate(np.ones((20, K), np.float32), nothing, TAXONOMY, conditional=True)
    assert found.scale == (1.0,) * K
    assert found.bias == (0.0,) * K


def test_one_abnormal_specimen_moves_a_class_less_than_many_do() -> None:
    logits_NK = np.zeros((400, K), np.float32)
    one, many = np.full((400, K), np.nan, np.float32), np.full((400, K), np.nan, np.float32)
    one[:4, 0], many[:, 0] = (1, 0, 0, 0), (1, 0, 0, 0) * 100
    biases = [calibrate(logits_NK, labels, TAXONOMY, conditional=True).bias[0] for labels in (one, many)]
    assert biases[1] == pytest.approx(np.log(1 / 3), abs=0.03)
    assert biases[1] < biases[0] < 0


def test_labels_below_a_normal_parent_count_for_direct_heads_only() -> None:
    logits_NK = np.zeros((100, K), np.float32)
    labels_NK = np.zeros((100, K), np.float32)
    conditional = calibrate(logits_NK, labels_NK, TAXONOMY, conditional=True)
    direct = calibrate(logits_NK, labels_NK, TAXONOMY, conditional=False)
    assert conditional.bias[1:] == (0.0,) * (K - 1)
    assert max(direct.bias) < -1


def test_a_model_that_is_wrong_throughout_still_gets_a_positive_slope() -> None:
    logits_NK = np.random.default_rng(2).normal(size=(500, K)).astype(np.float32)
    found = calibrate(logits_NK, (logits_NK < 0).astype(np.float32), TAXONOMY, conditional=False)
    assert min(found.scale) > 0


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
def test_the_order_of_specimens_at_a_node_never_changes(seed: int, count: int, conditional: bool) -> None:
    rng = np.random.default_rng(seed)
    logits_NK = rng.normal(scale=5, size=(count, K)).astype(np.float32)
    labels_NK = rng.choice(np.array([0, 1, np.nan], np.float32), size=(count, K))
    found = calibrate(logits_NK, labels_NK, TAXONOMY, conditional=conditional)
    calibrated_NK = np.array(found.scale) * logits_NK + np.array(found.bias)
    assert (calibrated_NK.argsort(axis=0) == logits_NK.argsort(axis=0)).all()


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_a_row_of_weight_three_counts_as_three_and_one_of_weight_0_not_at_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits_NK = rng.normal(scale=3, size=(80, K)).astype(np.float32)
    labels_NK = drawn(logits_NK.astype(np.float64), seed, conditional=True)
    often = rng.integers(0, 4, 80)
    weighed = calibrate(logits_NK, labels_NK, TAXONOMY, conditional=True, weights_N=often.astype(np.float64))
    logits_NK, labels_NK = np.repeat(logits_NK, often, axis=0), np.repeat(labels_NK, often, axis=0)
    repeated = calibrate(logits_NK, labels_NK, TAXONOMY, conditional=True)
    assert weighed.scale == pytest.approx(repeated.scale, rel=0.01, abs=0.01)
    assert weighed.bias == pytest.approx(repeated.bias, rel=0.01, abs=0.01)


def test_the_conformal_bound_holds_for_new_animals() -> None:
    """Over many calibration sets of 60, the share of new abnormal animals below the bound stays near 3 / 61."""
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(400):
        bound = conformal_bound(rng.random(60).astype(np.float32), alpha=0.05)
        shares.append(bound)  # of a uniform score, the share below the bound is the bound itself
    assert np.mean(shares) == pytest.approx(3 / 61, abs=0.004)
    assert np.mean(shares) <= 0.05 + 0.004


def test_with_too_few_abnormal_animals_nothing_can_be_bounded() -> None:
    scores = np.linspace(0.5, 1, 18, dtype=np.float32)
    assert conformal_bound(scores, alpha=0.05) == 0
    assert conformal_bound(np.append(scores, np.float32(0.2)), alpha=0.05) == np.float32(0.2)


def test_the_largest_f1_lies_half_way_between_two_scores() -> None:
    scores = np.array([0.1, 0.3, 0.5, 0.9], np.float32)
    threshold, f1 = largest_f1(scores, np.array([False, False, True, True]))
    assert threshold == pytest.approx(0.4)
    assert f1 == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30))
def test_no_threshold_has_a_larger_f1(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 10 for score, _ in rows], np.float32)
    true = np.array([truth for _, truth in rows])

    def f1(threshold: float) -> float:
        said = scores >= np.float32(threshold)
        return 2 * float((said & true).sum()) / float(said.sum() + true.sum())

    if true.any():
        threshold, found = largest_f1(scores, true)
        assert f1(threshold) == pytest.approx(found)
        assert found >= max(f1(float(score)) for score in scores) - 1e-9


def noisy_tree(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Path probabilities and labels of a model that is neither blind nor perfect."""
    rng = np.random.default_rng(seed)
    labels_NK = drawn(rng.normal(-0.3, 1, (count, K)), seed, conditional=True)
    p_NK = sigmoid(rng.normal(3 * labels_NK - 1.5)).astype(np.float32)
    for child in range(1, K):
        p_NK[:, child] *= p_NK[:, TAXONOMY.parents[child]]
    return p_NK, labels_NK


def test_new_abnormal_animals_called_normal_stay_near_alpha_at_every_node() -> None:
    """Of those that the parent has left open. As called: `decide` has the tree's say in it."""
    choice = choose_thresholds(*noisy_tree(4000, 4), TAXONOMY, Rule(alpha=0.1))
    p_NK, labels_NK = noisy_tree(8000, 5)
    call_NK = decide(p_NK, choice.thresholds, TAXONOMY)
    missed = []
    for k, parent in enumerate(TAXONOMY.parents):
        left_open = (labels_NK[:, k] == 1) & ((parent < 0) | (call_NK[:, parent] != NORMAL))
        missed.append((call_NK[left_open, k] == NORMAL).mean())
    assert max(missed) < 0.1 + 0.04
    assert np.mean(missed) > 0.05  # else review would be all there is


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(0, 80))
def test_normal_never_begins_above_abnormal_whatever_the_labels(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    p_NK, _ = noisy_tree(count, seed)
    labels_NK = rng.choice(np.array([0, 1, np.nan], np.float32), size=(count, K))
    thresholds = choose_thresholds(p_NK, labels_NK, TAXONOMY).thresholds  # its own rules refuse low > high
    assert np.float32(thresholds.abnormal_from).tolist() == list(map(np.float32, thresholds.abnormal_from))


def test_a_class_with_few_positives_gets_the_widest_band_and_says_so() -> None:
    p_NK, labels_NK = noisy_tree(500, 6)
    labels_NK[5:, -1] = 0
    labels_NK[:5, -1] = 1
    choice = choose_thresholds(p_NK, labels_NK, TAXONOMY)
    assert choice.thresholds.normal_below[-1] == 0
    assert choice.thresholds.abnormal_from[-1] == 0.5
    told = choice.nodes[TAXONOMY.names[-1]]
    assert (told["positives"], told["allowed"]) == (5, 0)
    assert "f1" not in told


def test_a_smaller_alpha_never_calls_more_animals_normal() -> None:
    p_NK, labels_NK = noisy_tree(600, 7)
    lows = [
        choose_thresholds(p_NK, labels_NK, TAXONOMY, Rule(alpha=alpha)).thresholds.normal_below[0]
        for alpha in (0.01, 0.05, 0.2)
    ]
    assert all(low <= high for low, high in pairwise(lows))


def test_what_the_thresholds_rest_on_fits_into_the_bundles_toml() -> None:
    told = choose_thresholds(*noisy_tree(300, 8), TAXONOMY).as_dict()
    assert tomllib.loads(tomli_w.dumps(told)) == told
    assert told["rule"]["alpha"] == 0.05


@pytest.mark.parametrize("alpha", [0, 1, -0.1])
def test_an_alpha_that_is_no_share_is_refused(alpha: float) -> None:
    with pytest.raises(UsageError, match="MX-U001"):
        Rule(alpha=alpha)
