"""Intervals against sklearn, scipy and plain loops."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from studies.shared.uncertainty import (
    auroc_difference,
    auroc_interval,
    pair_wins,
    paired_interval,
    spearman,
)


def draw(seed: int, n: int = 60, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(int)
    # Rounded, so that ties occur.
    return labels, np.round(generator.normal(size=n) + shift * labels, 1)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_that_are_won_make_auroc(seed: int):
    labels, scores = draw(seed)
    wins = pair_wins(labels, scores)
    assert wins.shape == (20, 40)
    assert wins.mean() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("labels", [np.zeros(4), np.ones(4)])
def test_one_class_is_refused(labels: np.ndarray, one_line):
    with pytest.raises(ValueError) as caught:
        pair_wins(labels, np.arange(4.0))
    one_line(caught, "normal and anomalous", "4", "0")


def test_interval_agrees_with_a_plain_bootstrap():
    labels, scores = draw(1)
    generator = np.random.default_rng(9)
    high, low = np.flatnonzero(labels), np.flatnonzero(labels == 0)
    drawn = [
        np.concatenate([generator.choice(high, len(high)), generator.choice(low, len(low))])
        for _ in range(1000)
    ]
    values = [roc_auc_score(labels[rows], scores[rows]) for rows in drawn]
    found = auroc_interval(labels, scores, seed=0)
    np.testing.assert_allclose(found, np.quantile(values, [0.025, 0.975]), atol=0.015)


def test_interval_holds_the_value_and_narrows_with_more_images():
    labels, scores = draw(2)
    value = roc_auc_score(labels, scores)
    few = auroc_interval(labels, scores, seed=0)
    many = auroc_interval(np.tile(labels, 9), np.tile(scores, 9), seed=0)
    assert few[0] < value < few[1]
    assert (many[1] - many[0]) == pytest.approx((few[1] - few[0]) / 3, rel=0.2)


def test_perfect_separation_has_no_width():
    assert auroc_interval(np.array([0, 0, 1, 1]), np.arange(4.0), seed=0) == (1.0, 1.0)


def test_difference_of_paired_scores():
    labels, first = draw(3)
    _, second = draw(4, shift=2.0)
    value, low, high = auroc_difference(labels, first, second, seed=0)
    expected = roc_auc_score(labels, second) - roc_auc_score(labels, first)
    assert value == pytest.approx(expected, abs=1e-12)
    assert low < value < high
    assert auroc_difference(labels, first, 3 * first + 1, seed=0) == (0.0, 0.0, 0.0)
    runs = auroc_difference(labels, np.stack([first, first]), np.stack([second, first]), seed=0)
    assert runs[0] == pytest.approx(value / 2, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_spearman_is_scipys(seed: int):
    first = np.random.default_rng(seed).integers(0, 6, 30)
    second = first + np.random.default_rng(seed + 50).integers(0, 6, 30)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)
    assert spearman(first, np.zeros(30)) == 0.0


def test_interval_of_pairs():
    generator = np.random.default_rng(0)
    first = generator.normal(size=40)
    second = first + generator.normal(size=40)
    low, high = paired_interval(spearman, first, second, seed=1)
    assert -1 <= low < spearman(first, second) < high <= 1
    np.testing.assert_allclose(paired_interval(spearman, first, first, seed=1), 1.0)
    with pytest.raises(ValueError, match="equal shapes"):
        paired_interval(spearman, first, second[1:], seed=1)
