"""The headline's interval holds what it says; what the threshold hangs on is found by hand."""

from dataclasses import replace

import numpy as np
import pytest

from ad.metrics import bootstrap_interval, f1_score
from ad.params import Coreset, CrossValidation, Score
from ad.protocol import CrossValidated, Protocol, cross_validate, fold_indices
from studies.thresholds import headline as study
from studies.thresholds.rules import PROTOCOL, SECOND, threshold_of

PLAIN = Protocol(Coreset(ratio=0.1), Score(num_neighbors=2, squared=False), 3)
CV = CrossValidation(folds=3)


def features(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, 3, 5)).astype(np.float32)


def test_copies_of_an_image_stay_in_one_fold_and_all_are_held_out_once():
    drawn = np.random.default_rng(0).integers(20, size=20)
    folds = study.folds_of_drawn(drawn, 4, seed=1)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([held_out for _, held_out in folds])), np.sort(drawn)
    )
    for kept, held_out in folds:
        assert not set(kept) & set(held_out)
        assert sorted({*kept, *held_out}) == np.unique(drawn).tolist()


def test_without_drawing_it_is_the_protocol_with_another_seed():
    normals, test = features(12, 0), features(5, 1)
    (found,) = study.run_again(normals, test, PLAIN, 3, 1, draw=False)
    expected = cross_validate(
        normals, [test], fold_indices(12, 3, shuffle=True, seed=4), replace(PLAIN, seed=4)
    )
    np.testing.assert_array_equal(found.fold_scores, expected.fold_scores)
    assert found.threshold() == expected.threshold()


def test_drawn_banks_keep_their_size_and_hold_no_copy(monkeypatch):
    seen = []

    def spy(normals, queries, folds, protocol):
        seen.append((folds, protocol))
        return cross_validate(normals, queries, folds, protocol)

    monkeypatch.setattr(study, "cross_validate", spy)
    study.run_again(features(30, 0), features(4, 1), PLAIN, 3, 5, draw=True)
    for folds, protocol in seen:
        sizes = [protocol.bank_size(9 * len(kept)) for kept, _ in folds]
        assert np.mean(sizes) == pytest.approx(PLAIN.bank_size(9 * 20), abs=1)
        assert all(len(np.unique(kept)) == len(kept) for kept, _ in folds)
    assert len({protocol.seed for _, protocol in seen}) == 5


def test_of_one_run_the_draws_are_the_bootstrap_over_test_images():
    generator = np.random.default_rng(0)
    labels = np.repeat([1, 0], [40, 60])
    flags = generator.random(100) < np.where(labels, 0.9, 0.1)
    found = np.quantile(study.f1_draws(labels, flags[None], seed=0), [0.025, 0.975])
    np.testing.assert_allclose(found, bootstrap_interval(labels, flags, seed=1), atol=0.015)


def test_runs_that_differ_widen_the_interval_by_their_share():
    labels = np.repeat([1, 0], [200, 200])
    right, half = labels == 1, np.tile([True, False], 200)
    draws = study.f1_draws(labels, np.stack([right, half]), seed=0)
    assert (draws == 1).mean() == 0.5  # every second draw is of the run that is always right
    assert np.median(draws[draws < 1]) == pytest.approx(f1_score(labels, half), abs=0.01)


def scored(largest: float) -> CrossValidated:
    held_out = [np.array([1.0, largest, 2.0]), np.array([3.0, 0.0, 4.0])]
    return CrossValidated(held_out, np.array([[2.0, 5.0, 9.0, 1.0], [0.0, 6.0, 7.0, 2.0]]))


FOLDS = [(np.array([3, 4, 5]), np.array([0, 1, 2])), (np.array([0, 1, 2]), np.array([3, 4, 5]))]
LABELS = np.array([0, 1, 1, 0])


def test_the_image_that_the_threshold_hangs_on_by_hand():
    first, second = study.setters(scored(10.0), FOLDS, PROTOCOL)
    assert (first.number, first.fold, first.score, first.next_score) == (1, 0, 10.0, 2.0)
    assert first.threshold == 3.0  # (2 + 4) / 2, before (10 + 4) / 2
    assert (second.number, second.threshold) == (5, 6.5)


def test_rules_are_paired_and_the_pipeline_s_comes_first():
    base = scored(10.0)
    runs = study.Runs(PROTOCOL, FOLDS, base, 1, scored(2.5), [base], [base, scored(2.5)])
    first, second = study.headlines(LABELS, runs, [SECOND, PROTOCOL], "max", seed=0)
    assert (first.rule, first.threshold, first.difference) == (PROTOCOL, 7.0, 0.0)
    assert (first.low, first.high) == (0.0, 0.0)
    assert first.f1 == pytest.approx(2 / 3) and second.f1 == 1.0  # thresholds 7 and 2.5
    assert second.difference == pytest.approx(1 / 3)
    assert first.fixed[0] <= first.f1 <= first.fixed[1] and first.whole[1] == 1.0


def test_a_whole_run():
    normals, test = features(14, 0), features(6, 1)
    runs = study.run_headline(normals, test, PLAIN, CV, (1, 2))
    folds = fold_indices(14, 3, shuffle=False, seed=0)
    expected = cross_validate(normals, [test], folds, PLAIN)
    np.testing.assert_array_equal(runs.base.fold_scores, expected.fold_scores)
    assert (len(runs.seeds), len(runs.training)) == (1, 2)
    assert sum(map(len, runs.without.held_out)) == 13
    moved = [
        abs(e.threshold - expected.threshold()) for e in study.setters(expected, folds, PROTOCOL)
    ]
    assert runs.hanging == study.setters(expected, folds, PROTOCOL)[0].number
    assert moved == sorted(moved, reverse=True)
    assert threshold_of(runs.rule, runs.base.held_out) == expected.threshold()


def test_folds_of_one_image_go_with_it():
    normals, test = features(5, 0), features(3, 1)
    runs = study.run_headline(normals, test, PLAIN, CrossValidation(folds=5), (0, 0))
    assert [len(own) for own in runs.without.held_out] == [1] * 4
    held_out = np.concatenate(runs.base.held_out)
    first = study.setters(runs.base, runs.folds, PROTOCOL)[0]
    assert first.threshold == pytest.approx(np.delete(held_out, first.number).mean())


def test_differences_hold_together():
    labels, generator = np.repeat([1, 0], [40, 60]), np.random.default_rng(0)
    base, *others = (
        CrossValidated(
            [generator.normal(size=30), generator.normal(size=30)],
            (2 * labels + generator.normal(size=(2, 100))),
        )
        for _ in range(9)
    )
    runs = study.Runs(PROTOCOL, FOLDS, base, 1, base, others, others)
    alone = study.headlines(labels, runs, [SECOND], "max", seed=0)[1]
    rules = [SECOND, "max", "quantile:0.9", "quantile:0.8", "mean_sd:2"]
    together = study.headlines(labels, runs, rules, "max", seed=0)[1]
    assert (alone.rule, alone.whole) == (together.rule, together.whole)
    assert together.low < alone.low and together.high > alone.high
