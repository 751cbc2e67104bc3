"""Rules keep what they promise on scores of a known law."""

import numpy as np
import pytest
from scipy.stats import genpareto

from ad.protocol import final_threshold
from studies.thresholds.rules import (
    PROTOCOL,
    SECOND,
    configured_rule,
    conformal_p_values,
    conformal_threshold,
    pareto_threshold,
    promised_rate,
    rule_names,
    threshold_of,
)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (99, 0.01), (40, 0.1), (33, 0.07)])
def test_conformal_threshold_keeps_its_rate(n, rate):
    generator = np.random.default_rng(0)
    alarms = [
        (generator.gamma(2, size=50) > conformal_threshold(generator.gamma(2, size=n), rate)).mean()
        for _ in range(4000)
    ]
    promised = promised_rate(f"conformal:{rate}", n)
    assert promised <= rate + 1e-12
    assert np.mean(alarms) == pytest.approx(promised, abs=4 * np.std(alarms) / np.sqrt(4000))


def test_conformal_threshold_by_hand():
    scores = np.arange(1.0, 10.0)  # nine scores: the tenth lies above all with chance 1 in 10
    assert conformal_threshold(scores, 0.1) == 9
    assert conformal_threshold(scores, 0.2) == 8
    assert conformal_threshold(scores, 0.05) == float("inf")
    assert conformal_p_values(scores, np.array([9.5, 9.0, 0.0])).tolist() == [0.1, 0.2, 1.0]


def test_p_values_and_threshold_agree():
    generator = np.random.default_rng(1)
    calibration, new = generator.normal(size=57), generator.normal(size=300)
    for rate in (0.02, 0.05, 0.1, 0.3):
        flagged = new > conformal_threshold(calibration, rate)
        np.testing.assert_array_equal(flagged, conformal_p_values(calibration, new) <= rate)


def test_pareto_threshold_of_a_tied_largest_score_is_that_score():
    scores = np.concatenate([np.arange(20.0), np.full(10, 20.0)])
    assert pareto_threshold(scores, 0.05) == 20.0


def test_pareto_threshold_finds_the_tail_of_a_pareto_law():
    law = genpareto(0.1, scale=2)
    scores = law.rvs(size=20000, random_state=0)
    assert pareto_threshold(scores, 0.001) == pytest.approx(law.isf(0.001), rel=0.15)


def test_rules_by_hand():
    inner = [np.array([1.0, 2.0, 5.0]), np.array([0.0, 3.0, 4.0])]
    assert threshold_of("mean of maxima", inner) == 4.5
    assert threshold_of("max", inner) == 5
    assert threshold_of("quantile:0.5", inner) == 2.5
    assert threshold_of("conformal:0.4", inner) == 4.0  # ceil(7 * 0.6) = 5th of 0 1 2 3 4 5
    assert promised_rate("max", 9) == 0.1
    assert promised_rate("mean_sd:3", 9) is None


def test_the_second_largest_does_not_move_with_a_fold_s_largest():
    inner = [np.array([1.0, 2.0, 5.0]), np.array([0.0, 3.0, 4.0])]
    assert threshold_of(SECOND, inner) == 2.5
    assert threshold_of(SECOND, [np.array([1.0, 2.0, 500.0]), inner[1]]) == 2.5
    assert threshold_of(SECOND, [np.array([7.0]), inner[1]]) == 5.0  # a fold of one image has one


@pytest.mark.parametrize("threshold", ["max", "quantile:0.9", "mean_sd:2"])
def test_the_pipeline_s_rule_is_that_of_the_protocol(threshold: str):
    inner = list(np.random.default_rng(0).normal(size=(3, 20)))
    assert threshold_of(configured_rule(threshold), inner) == final_threshold(inner, threshold)


def test_a_tail_is_fitted_to_scores_enough():
    assert "pareto:0.05" in rule_names(0.05, 20) and "pareto:0.05" not in rule_names(0.05, 19)
    assert rule_names(0.01, 99)[0] == PROTOCOL
    assert len(set(rule_names(0.01, 99))) == len(rule_names(0.01, 99))  # quantile:0.99 once


def test_bad_arguments(one_line):
    for call, words in (
        (lambda: conformal_threshold(np.ones(3), 0.0), "rate=0.0"),
        (lambda: pareto_threshold(np.ones(5), 0.01), "n_scores=5"),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        one_line(caught, words)
