"""Folds, thresholds and aggregation, against scikit-learn and values worked out by hand."""

import statistics
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.model_selection import KFold

from ad.threshold import aggregate_folds, fold_indices, fold_threshold


@pytest.mark.parametrize(("n_images", "folds"), [(213, 5), (5, 5), (7, 3), (2, 2)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_folds_are_those_of_scikit_learn(n_images: int, folds: int, shuffle: bool):
    reference = KFold(folds, shuffle=shuffle, random_state=7 if shuffle else None)
    expected = list(reference.split(np.arange(n_images)))
    found = fold_indices(n_images, folds, shuffle=shuffle, seed=7)
    assert len(found) == folds
    for (train, held_out), (expected_train, expected_held_out) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(train, expected_train)
        np.testing.assert_array_equal(held_out, expected_held_out)


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_image_is_held_out_once_and_never_trained_on_then(shuffle: bool):
    parts = fold_indices(23, 4, shuffle=shuffle, seed=0)
    assert sorted(np.concatenate([held_out for _, held_out in parts])) == list(range(23))
    for train, held_out in parts:
        assert sorted([*train, *held_out]) == list(range(23))


def test_the_seed_matters_only_where_images_are_shuffled():
    def held_out(seed: int, shuffle: bool) -> list[list[int]]:
        return [part.tolist() for _, part in fold_indices(20, 4, shuffle=shuffle, seed=seed)]

    assert held_out(0, False) == held_out(1, False)
    assert held_out(0, True) == held_out(0, True)
    assert held_out(0, True) != held_out(1, True)
    assert held_out(0, False)[0] == [0, 1, 2, 3, 4]  # a run of neighbours


def test_fewer_images_than_folds(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        fold_indices(4, 5, shuffle=False, seed=0)
    one_line(caught, "cv.folds=5", "4", "lower it")


def test_the_protocols_threshold_is_the_largest_held_out_score():
    assert fold_threshold(np.array([1.0, 7.5, -2.0]), "max") == 7.5


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("quantile:0.5", 2.5), ("quantile:0.75", 3.25), ("quantile:0.9", 3.7), ("quantile:1", 4.0)],
)
def test_quantiles_by_hand(rule: str, expected: float):
    # Position q * (n - 1) between the sorted scores: 0.9 * 3 = 2.7, so 3 + 0.7 * (4 - 3).
    assert fold_threshold(np.array([4.0, 1.0, 3.0, 2.0]), rule) == pytest.approx(expected)


def test_mean_and_sample_standard_deviation_by_hand():
    # Mean 5, squared deviations 9 + 1 + 1 + 9 = 20, over 3: 6.667.
    scores = np.array([2.0, 4.0, 6.0, 8.0])
    assert fold_threshold(scores, "mean_sd:3") == pytest.approx(5 + 3 * (20 / 3) ** 0.5)
    assert fold_threshold(scores, "mean_sd:0") == pytest.approx(5)
    drawn = np.random.default_rng(0).normal(size=30)
    expected = statistics.mean(drawn) + 2.5 * statistics.stdev(drawn)
    assert fold_threshold(drawn, "mean_sd:2.5") == pytest.approx(expected)


def test_a_deviation_of_one_score(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        fold_threshold(np.array([1.0]), "mean_sd:3")
    one_line(caught, "cv.threshold=mean_sd:3", "2", "got 1", "lower cv.folds")


def test_an_unknown_rule(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        fold_threshold(np.array([1.0, 2.0]), "mode")
    one_line(caught, "'mode'", "max", "quantile", "mean_sd")


@pytest.mark.parametrize(
    ("how", "expected"), [("max", [9, 5]), ("mean", [4, 13 / 3]), ("median", [2, 5])]
)
def test_aggregation_over_folds_by_hand(how: str, expected: list[float]):
    scores = np.array([[1.0, 5.0], [9.0, 3.0], [2.0, 5.0]])  # (folds, images)
    np.testing.assert_allclose(aggregate_folds(scores, how), expected)


@pytest.mark.parametrize("how", ["max", "mean", "median"])
def test_aggregation_takes_the_first_axis_alone(how: str):
    scores = np.random.default_rng(0).normal(size=(4, 3, 2, 5))
    found = aggregate_folds(scores, how)
    assert found.shape == (3, 2, 5)
    by_hand = {"max": max, "mean": statistics.fmean, "median": statistics.median}[how]
    for place in np.ndindex(found.shape):
        assert found[place] == pytest.approx(by_hand([float(fold[place]) for fold in scores]))


def test_an_unknown_aggregation(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        aggregate_folds(np.zeros((2, 3)), "sum")
    one_line(caught, "cv.aggregate='sum'", "max, mean, median")
