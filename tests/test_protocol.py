"""The protocol against its plain steps, scikit-learn and values worked out by hand."""

import statistics
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors

from ad.coreset import k_center_greedy
from ad.files import load_array
from ad.params import Coreset, CrossValidation, Score
from ad.protocol import (
    BankImages,
    aggregate_folds,
    run_protocol,
    select_coresets,
)
from ad.scores import score_images
from ad.thresholds import check_rule, fold_threshold, patch_threshold

PLAIN = {"coreset": Coreset(ratio=0.1), "score": Score(num_neighbors=3, squared=False), "seed": 4}


def features(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4, 4, 6)).astype(np.float32)


def plain_scores(images: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank.astype(np.float64))
    distances = index.kneighbors(images.reshape(-1, images.shape[-1]).astype(np.float64))[0]
    return distances.mean(axis=1).reshape(len(images), -1).max(axis=1)


@pytest.mark.parametrize("shuffle", [False, True])
def test_folds_banks_thresholds_and_flags_step_by_step(shuffle: bool):
    normals, queries = features(11, 2), features(5, 3)
    cv = CrossValidation(folds=3, shuffle=shuffle)
    found = run_protocol(normals, queries, cv=cv, **PLAIN)
    maxima = []
    splits = KFold(3, shuffle=shuffle, random_state=4 if shuffle else None).split(normals)
    for fold, (kept, held_out) in enumerate(splits):
        patches = normals[kept].reshape(-1, 6)
        bank = patches[k_center_greedy(patches, round(0.1 * len(patches)), seed=4)]
        np.testing.assert_array_equal(found.banks[fold], bank)
        expected = plain_scores(normals[held_out], bank, 3)
        np.testing.assert_allclose(found.held_out[fold], expected, rtol=1e-5)
        maxima.append(expected.max())
        np.testing.assert_allclose(found.fold_scores[fold], plain_scores(queries, bank, 3), 1e-5)
    np.testing.assert_allclose(found.thresholds, maxima, rtol=1e-5)
    assert found.threshold == pytest.approx(np.mean(maxima), rel=1e-5)
    np.testing.assert_array_equal(found.scores, found.fold_scores.max(axis=0))
    np.testing.assert_array_equal(found.flags, found.scores > found.threshold)
    np.testing.assert_allclose(found.scores_of("mean"), found.fold_scores.mean(axis=0))
    assert found.threshold_of("quantile:0.5") < found.threshold


def test_a_split_of_ones_own_replaces_kfold():
    normals = features(6, 1)
    own = [(np.array([0, 1, 2]), np.array([3, 4, 5])), (np.array([3, 4, 5]), np.array([0, 1, 2]))]
    found = run_protocol(normals, normals[:1], folds=own, **PLAIN)
    assert [len(scores) for scores in found.held_out] == [3, 3]
    assert found.fold_scores.shape == (2, 1)


def test_image_scores_and_those_of_no_image():
    images, bank = features(35, 0), features(3, 1).reshape(-1, 6)
    found = score_images(images, bank, PLAIN["score"])
    np.testing.assert_allclose(found.images, plain_scores(images, bank, 3), rtol=1e-5)
    assert found.patches.shape == (35, 4, 4)
    assert score_images(images[:0], bank, PLAIN["score"]).images.shape == (0,)


def test_ignored_patches_are_in_no_bank_and_no_threshold():
    """As of a clock in the picture's corner: it varies most, and would fill the banks."""
    normals, ignored = features(10, 2), np.zeros((4, 4), dtype=bool)
    ignored[0, 0] = True
    normals[:, 0, 0] *= 100
    settings = {"cv": CrossValidation(folds=2), "ignored": ignored} | PLAIN
    found = run_protocol(normals, normals[:0], **settings)
    for bank in found.banks:
        assert len(bank) == round(0.1 * 5 * 15) and abs(bank).max() < 10
    scores = np.arange(32.0).reshape(2, 4, 4)
    counted = [*range(1, 16), *range(17, 32)]
    assert patch_threshold([scores], ignored) == np.quantile(counted, 0.999)


def test_banks_have_copies_of_their_own_training_images_only():
    normals = features(6, 5)
    # Copy i stands alone, far from all else; whoever has it in the bank finds it at distance 0.
    copies = np.zeros_like(normals) + 1000 * np.arange(1, 7, dtype=np.float32)[:, None, None, None]
    images = BankImages([normals, copies], np.tile(np.arange(6), 2))
    settings = {"coreset": Coreset(ratio=0.2), "score": Score(num_neighbors=1, squared=False)}
    cv = CrossValidation(folds=3, shuffle=False)
    found = run_protocol(normals, copies, cv=cv, bank_images=images, **settings)
    for fold, (kept, held_out) in enumerate(found.folds):
        assert (found.fold_scores[fold][kept] == 0).all()
        assert (found.fold_scores[fold][held_out] > 1).all()


def test_a_selection_is_a_share_of_the_normals_patches_copies_or_not():
    normals = features(8, 6)
    for parts in ([normals], [normals, normals + 50], [normals[:3], normals[3:]]):
        images = BankImages(parts, np.arange(sum(map(len, parts))) % 8)
        (rows,) = select_coresets(images, [np.arange(4)], Coreset(ratio=0.1), seed=4)
        assert len(rows) == round(0.1 * 4 * 16)
        joined = np.concatenate([part.reshape(-1, 6) for part in parts])
        np.testing.assert_array_equal(images.take(rows), joined[rows])
    (rows,) = select_coresets(images, [np.arange(4)], Coreset(n_select=7), seed=4)
    assert len(rows) == 7


def test_features_on_disk_give_what_features_in_memory_give(tmp_path: Path):
    values = np.random.default_rng(9).normal(size=(24, 14, 14, 20)).astype(np.float32)
    np.save(tmp_path / "f.npy", values)
    settings = {"coreset": Coreset(ratio=0.02, projection_dim=8), "cv": CrossValidation(folds=2)}
    plain = run_protocol(values[:18], values[18:], **settings)
    mapped = load_array(tmp_path / "f.npy")
    found = run_protocol(mapped[:18], mapped[18:], **settings)
    np.testing.assert_array_equal(found.fold_scores, plain.fold_scores)
    np.testing.assert_array_equal(found.held_out[0], plain.held_out[0])


def test_fewer_images_than_folds_and_a_bank_smaller_than_k_are_refused():
    small = {"coreset": Coreset(n_select=3), "score": Score(num_neighbors=9)}
    for folds, words in ((5, r"cv.folds=5 exceeds.* images, 4"), (2, "num_neighbors=9.*ratio")):
        with pytest.raises(ValueError, match=words):
            run_protocol(features(4, 0), features(1, 1), cv=CrossValidation(folds=folds), **small)


# Rules


SCORES = np.array([1.0, 2.0, 4.0, 9.0])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("max", 9.0),
        ("quantile:1", 9.0),
        ("quantile:0.5", 3.0),
        ("quantile:0.25", 1.75),
        ("mean_sd:2", 4 + 2 * statistics.stdev(SCORES.tolist())),
    ],
)
def test_threshold_rules_by_hand(rule: str, expected: float):
    assert fold_threshold(SCORES, rule) == pytest.approx(expected)


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "Max",
        "max:1",
        "quantile",
        "quantile:0",
        "quantile:1.1",
        "mean_sd",
        "mean_sd:x",
        "mean_sd:nan",
    ],
)
def test_what_is_no_rule_is_refused(rule: str):
    with pytest.raises(ValueError, match="is no rule; write max"):
        check_rule(rule)


def test_aggregates_by_hand():
    scores = np.array([[1.0, 5.0], [2.0, 3.0], [9.0, 4.0]])
    assert aggregate_folds(scores, "max").tolist() == [9, 5]
    assert aggregate_folds(scores, "mean").tolist() == [4, 4]
    assert aggregate_folds(scores, "median").tolist() == [2, 4]
    with pytest.raises(ValueError, match="must be one of max, mean, median"):
        aggregate_folds(scores, "min")
