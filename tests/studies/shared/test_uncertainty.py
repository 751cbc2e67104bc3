"""Intervals against sklearn, scipy and plain loops."""

import numpy as np
import pytest
from scipy.stats import beta, spearmanr
from sklearn.metrics import roc_auc_score

from studies.shared.uncertainty import (
    auroc_difference,
    auroc_interval,
    pair_wins,
    paired_interval,
    rate_interval,
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
        for _ in range(500)
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


@pytest.mark.parametrize(("k", "n"), [(0, 40), (40, 40), (4, 7), (1, 10), (0, 0)])
def test_rate_interval_is_jeffreys_and_never_a_point(k: int, n: int):
    low, high = rate_interval(k, n)
    assert low < high
    assert low <= (k / n if n else 0.5) <= high
    posterior = beta(k + 0.5, n - k + 0.5)
    assert low == (0 if k == 0 else pytest.approx(posterior.ppf(0.025)))
    assert high == (1 if k == n else pytest.approx(posterior.ppf(0.975)))
    # The other class's share is the mirror image.
    assert rate_interval(n - k, n) == pytest.approx((1 - high, 1 - low))


def test_rate_interval_covers_the_rate_about_as_often_as_it_says():
    generator, covered = np.random.default_rng(0), []
    for rate in generator.uniform(0.02, 0.98, 2000):
        low, high = rate_interval(generator.binomial(40, rate), 40)
        covered.append(low <= rate <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_rate_interval_refuses_more_hits_than_trials(one_line):
    with pytest.raises(ValueError) as caught:
        rate_interval(8, 7)
    one_line(caught, "k=8", "n=7")


def test_perfect_separation_is_as_sure_as_so_many_separate_pairs():
    labels = np.repeat([0, 1], [50, 20])
    assert auroc_interval(labels, np.arange(70.0), seed=0) == rate_interval(20, 20)
    assert auroc_interval(labels, -np.arange(70.0), seed=0) == rate_interval(0, 20)


def test_several_runs_are_drawn_again():
    labels, first = draw(5, 300)
    runs = np.stack([first, first + 2 * labels])  # two runs that disagree
    low, high = auroc_interval(labels, runs, seed=0)
    mean = np.mean([roc_auc_score(labels, scores) for scores in runs])
    assert low < mean < high
    assert high - low > 2 * np.diff(auroc_interval(labels, first, seed=0))[0]
    assert auroc_interval(labels, first[None], seed=0) == auroc_interval(labels, first, seed=0)


def test_difference_of_paired_scores():
    labels, first = draw(3)
    _, second = draw(4, shift=2.0)
    value, low, high = auroc_difference(labels, first, second, seed=0)
    expected = roc_auc_score(labels, second) - roc_auc_score(labels, first)
    assert value == pytest.approx(expected, abs=1e-12)
    assert low < value < high
    runs = auroc_difference(labels, np.stack([first, first]), np.stack([second, first]), seed=0)
    assert runs[0] == pytest.approx(value / 2, abs=1e-12)


def test_a_difference_that_no_image_shows_is_not_surely_zero():
    labels, scores = draw(3)
    reach = rate_interval(0, 20)[1]
    assert auroc_difference(labels, scores, 3 * scores + 1, seed=0) == (0.0, -reach, reach)


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
