"""Rules keep what they promise on scores of a known law; folds and duplicates are what they say."""

import numpy as np
import pytest
from ad.threshold import fold_indices
from scipy.stats import binom, genpareto, norm

from studies.thresholds.rules import (
    NestedScores,
    cluster_folds,
    compare_flags,
    compare_rules,
    conformal_p_values,
    conformal_threshold,
    cross_conformal_p_values,
    find_duplicates,
    fold_shift,
    grouped_folds,
    image_embeddings,
    nested_scores,
    pareto_threshold,
    promised_rate,
    rate_interval,
    simulate_protocol,
    standardised,
    stratified_equals_kfold,
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


def test_flags_are_compared_by_mcnemars_exact_test():
    first = np.array([1, 1, 1, 1, 1, 0, 1, 0], dtype=bool)
    second = np.array([0, 0, 0, 0, 0, 1, 1, 0], dtype=bool)
    only_first, only_second, p_value = compare_flags(first, second)
    assert (only_first, only_second) == (5, 1)
    assert p_value == pytest.approx(2 * binom.cdf(1, 6, 0.5))
    assert compare_flags(first, first) == (0, 0, 1.0)


def test_rate_interval_inverts_the_binomial():
    low, high = rate_interval(3, 50)
    assert binom.sf(2, 50, low) == pytest.approx(0.025, rel=1e-6)
    assert binom.cdf(3, 50, high) == pytest.approx(0.025, rel=1e-6)
    assert rate_interval(0, 50)[0] == 0
    assert rate_interval(50, 50)[1] == 1


def test_rules_by_hand():
    inner = [np.array([1.0, 2.0, 5.0]), np.array([0.0, 3.0, 4.0])]
    assert threshold_of("mean of maxima", inner) == 4.5
    assert threshold_of("max", inner) == 5
    assert threshold_of("quantile:0.5", inner) == 2.5
    assert threshold_of("conformal:0.4", inner) == 4.0  # ceil(7 * 0.6) = 5th of 0 1 2 3 4 5
    assert promised_rate("max", 9) == 0.1
    assert promised_rate("mean_sd:3", 9) is None


def test_comparison_counts_by_hand():
    inner = [np.array([0.0, 2.0]), np.array([1.0, 4.0])]  # mean of maxima 3
    outer = np.array([[2.9, 3.5, 0.0], [3.1, 2.0, 0.0]])
    rows = compare_rules([NestedScores(inner, outer)], ["mean of maxima", "max"], ["max", "mean"])
    found = {(row["rule"], row["aggregate"]): row["alarms"] for row in rows}
    assert found == {
        ("mean of maxima", "max"): 2,
        ("mean of maxima", "mean"): 0,
        ("max", "max"): 0,
        ("max", "mean"): 0,
    }


def test_standardising_takes_out_a_folds_unit():
    generator = np.random.default_rng(0)
    inner, outer = [generator.normal(size=20) for _ in range(3)], generator.normal(size=(3, 9))
    unit = np.array([1.0, 10.0, 0.1])
    other = NestedScores(
        [u * s + 5 for u, s in zip(unit, inner, strict=True)], unit[:, None] * outer + 5
    )
    np.testing.assert_allclose(
        standardised(other).outer, standardised(NestedScores(inner, outer)).outer
    )


def test_simulated_rates():
    n, folds = 200, 5
    rows = simulate_protocol([0.0, 0.5, 1.0], n_normal=n, folds=folds, seed=0)
    # The largest of n exchangeable scores is exceeded with chance 1 / (n + 1).
    assert rows[0]["one bank, largest"] == pytest.approx(1 / (n + 1), rel=0.15)
    # With equal banks the maximum changes nothing; with independent ones it has five chances.
    assert rows[2]["maximum"] == pytest.approx(rows[2]["one bank"])
    ratio = rows[0]["maximum"] / rows[0]["one bank"]
    assert 4 < ratio <= 5.05
    assert rows[0]["maximum"] > rows[1]["maximum"] > rows[2]["maximum"]
    # An independent way to the one-bank rate: integrate over the threshold's distribution.
    generator = np.random.default_rng(9)
    maxima = norm.isf(generator.beta(1, n // folds, (20000, folds)))
    assert rows[1]["one bank"] == pytest.approx(norm.sf(maxima.mean(axis=1)).mean(), rel=0.05)


def test_shift_is_zero_without_a_difference_between_banks():
    outer = np.tile(np.random.default_rng(0).normal(size=12), (3, 1))
    inner = [np.array([1.0, 4.0])] * 3
    shift = fold_shift([NestedScores(inner, outer)])
    assert shift["score_shift"] == pytest.approx(0)
    assert shift["threshold_shift"] == pytest.approx(0)
    assert shift["correlation"] == pytest.approx(1)


def features(n: int = 24) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 6, 6, 4)).astype(np.float32)


def test_nested_scores_hold_every_image_out_once():
    found = nested_scores(
        features(),
        outer_folds=4,
        split=lambda rest: fold_indices(len(rest), 3, shuffle=False, seed=0),
        ratio=0.2,
        projection_dim=None,
        num_neighbors=2,
        squared=True,
        seed=0,
        progress=False,
    )
    assert [n.outer.shape for n in found] == [(3, 6)] * 4
    assert all([len(own) for own in n.inner] == [6, 6, 6] for n in found)
    # An image in its own bank would score 0 where its patch was picked; here none is.
    assert min(n.outer.min() for n in found) > 0


def test_the_split_sees_the_numbers_of_the_inner_images():
    seen, images = [], features()

    def split(rest: np.ndarray) -> list:
        seen.append(rest)
        return [(np.arange(len(rest))[3:], np.arange(3)), (np.arange(len(rest))[:-3], rest[:0])]

    found = nested_scores(
        images,
        outer_folds=2,
        split=split,
        ratio=0.2,
        projection_dim=None,
        num_neighbors=2,
        squared=True,
        seed=0,
        progress=False,
    )
    assert [[len(own) for own in n.inner] for n in found] == [[3, 0]] * 2
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(len(images)))


def test_cross_conformal_p_values_by_hand():
    inner = [np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0])]
    outer = np.array([[2.0, 4.0, 0.0], [15.0, 30.0, 0.0]])  # each bank has a unit of its own
    found = cross_conformal_p_values(NestedScores(inner, outer))
    np.testing.assert_allclose(found, [(1 + 2 + 1) / 6, 1 / 6, 1.0])


def test_one_bank_s_cross_conformal_p_value_is_the_conformal_one():
    generator = np.random.default_rng(0)
    inner, outer = generator.integers(0, 9, 40).astype(float), generator.integers(0, 9, 7)
    found = cross_conformal_p_values(NestedScores([inner], outer[None].astype(float)))
    np.testing.assert_allclose(found, conformal_p_values(inner, outer))


def test_cross_conformal_keeps_its_level_where_the_banks_are_alike():
    generator = np.random.default_rng(1)
    flagged = []
    for _ in range(400):
        inner = list(generator.standard_normal((5, 20)))
        outer = np.repeat(generator.standard_normal((1, 50)), 5, axis=0)
        flagged.append((cross_conformal_p_values(NestedScores(inner, outer)) <= 0.1).mean())
    error = np.std(flagged) / np.sqrt(len(flagged))
    # (n + 1) a = 10.1 of 101 places: the exact rate is 10 / 101.
    assert abs(np.mean(flagged) - 10 / 101) < 4 * error


@pytest.mark.parametrize(("n", "folds"), [(213, 5), (20, 3), (7, 7)])
def test_stratifying_one_class_is_plain_kfold(n, folds):
    assert stratified_equals_kfold(n, folds)


def test_cluster_folds_hold_every_cluster():
    generator = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], [50, 30, 20])  # in order, as a camera's sessions would be
    points = generator.standard_normal((100, 3)) * 0.1 + 5 * np.eye(3)[kinds]
    folds, clusters = cluster_folds(points, 5, n_clusters=3, seed=0)
    assert len(np.unique(clusters)) == 3
    for _, held_out in folds:
        assert np.bincount(kinds[held_out]).tolist() == [10, 6, 4]
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(100))


def test_duplicates_are_found_grouped_and_kept_together():
    generator = np.random.default_rng(0)
    points = generator.standard_normal((40, 16))
    points[30] = points[3] + 1e-3
    points[35] = points[30] - 1e-3
    found = find_duplicates(points)
    assert {pair[:2] for pair in found.pairs} == {(3, 30), (3, 35), (30, 35)}
    assert {pair[:2] for pair in found.across(32)} == {(3, 35), (30, 35)}
    for train, held_out in grouped_folds(found.groups, 4):
        together = {3, 30, 35}
        assert together <= set(train.tolist()) or together <= set(held_out.tolist())


def test_embeddings_are_cell_means():
    x = features(3)
    expected = x.reshape(3, 2, 3, 2, 3, 4).mean(axis=(2, 4)).reshape(3, -1)
    np.testing.assert_allclose(image_embeddings(x, grid=2), expected, rtol=1e-5, atol=1e-6)


def test_bad_arguments(one_line):
    for call, words in (
        (lambda: conformal_threshold(np.ones(3), 0.0), "rate=0.0"),
        (lambda: pareto_threshold(np.ones(5), 0.01), "n_scores=5"),
        (lambda: rate_interval(5, 4), "alarms=5"),
        (lambda: grouped_folds(np.zeros(9), 2), "n_groups=1"),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        one_line(caught, words)
