"""The protocol against its plain steps, scikit-learn and values worked out by hand."""

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors

from ad import protocol as module
from ad.coreset import k_center_greedy
from ad.files import load_array
from ad.params import Coreset, Score
from ad.protocol import (
    BankImages,
    Protocol,
    aggregate_folds,
    cross_validate,
    fold_indices,
    fold_threshold,
    score_in_parts,
    select_coresets,
)

PLAIN = Protocol(Coreset(ratio=0.1), Score(num_neighbors=3, squared=False), 4)


def features(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4, 4, 6)).astype(np.float32)


def plain_scores(images: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank.astype(np.float64))
    distances = index.kneighbors(images.reshape(-1, images.shape[-1]).astype(np.float64))[0]
    return distances.mean(axis=1).reshape(len(images), -1).max(axis=1)


def test_image_scores_do_not_depend_on_their_parts():
    images, bank = features(35, 0), features(3, 1).reshape(-1, 6)
    found = score_in_parts(images, bank, PLAIN.score)
    np.testing.assert_allclose(found.images, plain_scores(images, bank, 3), rtol=1e-5)
    assert found.patches.shape == (35, 4, 4)
    assert score_in_parts(images[:0], bank, PLAIN.score).images.shape == (0,)


@pytest.mark.parametrize("shuffle", [False, True])
def test_folds_banks_and_scores_step_by_step(shuffle: bool):
    normals, queries = features(11, 2), features(5, 3)
    folds = fold_indices(11, 3, shuffle=shuffle, seed=4)
    result = cross_validate(normals, [queries[:2], queries[2:]], folds, PLAIN)
    for fold, (kept, held_out) in enumerate(folds):
        patches = normals[kept].reshape(-1, 6)
        picked = k_center_greedy(patches, max(3, round(0.1 * len(patches))), seed=4)
        bank = patches[picked]
        expected = plain_scores(normals[held_out], bank, 3)
        np.testing.assert_allclose(result.held_out[fold], expected, rtol=1e-5)
        expected = plain_scores(queries, bank, 3)
        np.testing.assert_allclose(result.fold_scores[fold], expected, rtol=1e-5)
    maxima = [own.max() for own in result.held_out]
    assert result.threshold() == pytest.approx(np.mean(maxima))
    np.testing.assert_array_equal(result.scores(), result.fold_scores.max(axis=0))


def test_banks_have_copies_of_their_own_training_images_only():
    normals = features(6, 5)
    # Copy i stands alone, far from all else; whoever has it in the bank finds it at distance 0.
    copies = np.zeros_like(normals) + 1000 * np.arange(1, 7, dtype=np.float32)[:, None, None, None]
    protocol = Protocol(Coreset(ratio=0.2), Score(num_neighbors=1, squared=False), 0)
    folds = fold_indices(6, 3, shuffle=False, seed=0)
    images = BankImages([normals, copies], np.tile(np.arange(6), 2))
    result = cross_validate(normals, [copies], folds, protocol, images=images)
    for fold, (kept, held_out) in enumerate(folds):
        assert (result.fold_scores[fold][kept] == 0).all()
        assert (result.fold_scores[fold][held_out] > 1).all()


def test_copies_do_not_enlarge_a_bank():
    normals = features(8, 6)
    images = BankImages([normals, normals + 50], np.tile(np.arange(8), 2))
    (rows,) = select_coresets(images, [np.arange(4)], PLAIN)
    assert len(rows) == round(0.1 * 4 * 16)


def test_a_bank_holds_the_patches_that_the_selection_names():
    normals = features(4, 8)
    patches, images = normals.reshape(-1, 6), BankImages([normals], np.arange(4))
    (rows,) = select_coresets(images, [np.arange(4)], PLAIN)
    np.testing.assert_array_equal(rows, k_center_greedy(patches, round(0.1 * 64), seed=4))
    np.testing.assert_array_equal(images.take(rows), patches[rows])
    two = BankImages([normals[:1], normals[1:]], np.arange(4))
    np.testing.assert_array_equal(two.take(rows), patches[rows])


def test_a_bank_is_large_enough_for_its_neighbours():
    few = Protocol(Coreset(ratio=0.001), Score(num_neighbors=5), 0)
    assert few.bank_size(100) == 5
    assert few.bank_size(3) == 3
    assert few.bank_size(20_000) == 20
    fixed = Protocol(Coreset(ratio=0.5, size=30), Score(num_neighbors=5), 0)
    assert (fixed.bank_size(20_000), fixed.bank_size(7)) == (30, 7)


@pytest.mark.parametrize("at_a_time", [32768, 2048])
def test_features_on_disk_give_what_features_in_memory_give(
    at_a_time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "PATCHES", at_a_time)
    values = np.random.default_rng(9).normal(size=(24, 14, 14, 20)).astype(np.float32)
    np.save(tmp_path / "f.npy", values)
    protocol = Protocol(Coreset(ratio=0.02, projection_dim=8), Score(num_neighbors=3), 0)
    folds = fold_indices(18, 2, shuffle=False, seed=0)
    plain = cross_validate(values[:18], [values[18:]], folds, protocol)
    mapped = load_array(tmp_path / "f.npy")
    found = cross_validate(mapped[:18], [mapped[18:]], folds, protocol)
    np.testing.assert_array_equal(found.fold_scores, plain.fold_scores)
    np.testing.assert_array_equal(found.held_out[0], plain.held_out[0])
    np.testing.assert_array_equal(mapped, values)


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
