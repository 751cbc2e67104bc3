"""Folds and duplicates are what they say; grouped folds mend what planted duplicates spoil."""

import numpy as np
import pytest
from sklearn.model_selection import KFold

from ad.params import Coreset, Score
from ad.protocol import Protocol
from studies.thresholds import arms
from studies.thresholds.folds import (
    cluster_folds,
    describe_folds,
    find_duplicates,
    grouped_folds,
    image_embeddings,
    plant_duplicates,
    same_folds,
    stratified_equals_kfold,
)
from studies.thresholds.nested import NestedScores


def features(n: int = 24) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 6, 6, 4)).astype(np.float32)


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
    for train, held_out in grouped_folds(found.groups, 4, seed=0):
        together = {3, 30, 35}
        assert together <= set(train.tolist()) or together <= set(held_out.tolist())


def test_embeddings_are_cell_means():
    x = features(3)
    expected = x.reshape(3, 2, 3, 2, 3, 4).mean(axis=(2, 4)).reshape(3, -1)
    np.testing.assert_allclose(image_embeddings(x, grid=2), expected, rtol=1e-5, atol=1e-6)


def test_grouped_folds_without_duplicates_are_shuffled_kfold():
    found = grouped_folds(np.arange(23), 4, seed=5)
    expected = list(KFold(4, shuffle=True, random_state=5).split(np.zeros(23)))
    assert same_folds(found, expected)
    assert not same_folds(found, grouped_folds(np.arange(23), 4, seed=6))


def test_folds_are_described_by_hand():
    splits = {
        "halves": [(np.array([2, 3]), np.array([0, 1])), (np.array([0, 1]), np.array([2, 3]))]
    }
    (row,) = describe_folds(splits, np.array([0, 0, 0, 1]))
    assert row["held-out sizes"] == "2, 2" and row["largest share of a cluster in one fold"] == 1.0
    (row,) = describe_folds(splits, np.array([0, 1, 0, 1]))
    assert row["largest share of a cluster in one fold"] == 0.5


def test_planted_copies_are_near_their_source_and_are_found():
    images = features(40)
    planted, source = plant_duplicates(images, share=0.75, noise=0.05, seed=1)
    np.testing.assert_array_equal(planted[:40], images)
    assert len(planted) == 70 and len(set(source[40:])) == 30
    noise = planted[40:] - images[source[40:]]
    assert noise.std() == pytest.approx(0.05 * images.std(axis=0).mean(), rel=0.1)
    found = find_duplicates(image_embeddings(planted))
    assert {pair[:2] for pair in found.pairs} == {(s, 40 + n) for n, s in enumerate(source[40:])}


def kinds(groups: np.ndarray) -> dict:
    return arms.fold_kinds(image_embeddings(features()), groups, folds=3, clusters=2, seed=0)


def test_grouped_folds_are_a_kind_only_where_there_are_duplicates():
    assert list(kinds(np.arange(24))) == [arms.KFOLD, arms.SHUFFLED, arms.CLUSTERS]
    groups = np.arange(24)
    groups[7] = groups[2]
    found = kinds(groups)
    assert arms.GROUPED in found
    own = np.array([0, 2, 7, 9, 11, 20])
    for kept, held_out in found[arms.GROUPED](own):
        assert sorted([*kept, *held_out]) == list(range(6))
        assert {1, 2} <= set(held_out.tolist()) or {1, 2} <= set(kept.tolist())


def test_kinds_are_compared_by_hand():
    inner = [np.array([0.0, 2.0]), np.array([1.0, 4.0])]  # mean of maxima 3
    few = NestedScores(inner, np.array([[4.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    many = NestedScores(inner, np.array([[0.0, 4.0, 4.0], [0.0, 0.0, 4.0]]))
    first, second = arms.compare_kinds({"few": [few], "many": [many]}, 0.4)
    assert (first["alarms"], first["only here"], first["only there"], first["p"]) == (1, 0, 0, 1.0)
    assert (second["alarms"], second["only here"], second["only there"]) == (2, 2, 1)
    assert second["p"] == 1.0  # two against one


def test_planted_duplicates_lower_the_thresholds_of_folds_that_split_them():
    images = features(40)
    images += np.random.default_rng(2).standard_normal((40, 1, 1, 4)).astype(np.float32) * 3
    protocol = Protocol(Coreset(ratio=0.5), Score(num_neighbors=1), 0)
    planting = arms.Planting(share=0.75, noise=0.01, nearer=0.25)
    found = arms.measure_planted(images, protocol, planting, outer_folds=2, folds=4)
    assert (found.planted, found.found, found.other) == (30, 30, 0)
    assert found.twins == 60 and found.lower > 30
    split, grouped = found.thresholds()
    assert split < grouped
    alarms = [int(flags.sum()) for flags in found.flags()]
    assert alarms[0] >= alarms[1] and len(found.flags()[0]) == 40


def test_too_few_groups_are_refused(one_line):
    with pytest.raises(ValueError) as caught:
        grouped_folds(np.zeros(9), 2, seed=0)
    one_line(caught, "n_groups=1")
