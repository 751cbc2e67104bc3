"""Rules measured on unseen normals: counted by hand, and against laws that are known."""

import numpy as np
import pytest
from scipy.stats import beta, norm

from ad.params import Coreset, Score
from ad.protocol import Protocol, fold_indices
from studies.thresholds.nested import (
    CURVES,
    NestedScores,
    compare_rules,
    cross_conformal_p_values,
    flags_of,
    fold_shift,
    nested_scores,
    p_values,
    simulate_protocol,
    standardised,
)
from studies.thresholds.rules import conformal_p_values

PROTOCOL = Protocol(Coreset(ratio=0.2), Score(num_neighbors=2), 0)


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
    assert set(rows[0]) == {"correlation", *CURVES}
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
        PROTOCOL,
        outer_folds=4,
        split=lambda rest: fold_indices(len(rest), 3, shuffle=False, seed=0),
    )
    assert [n.outer.shape for n in found] == [(3, 6)] * 4
    assert all([len(own) for own in n.inner] == [6, 6, 6] for n in found)
    # An image in its own bank would score 0 where its patch was picked; here none is.
    assert min(n.outer.min() for n in found) > 0


def test_the_split_sees_the_numbers_of_the_inner_images():
    seen, images = [], features()

    def split(rest: np.ndarray) -> list:
        seen.append(rest)
        return [
            (np.arange(len(rest))[3:], np.arange(3)),
            (np.arange(len(rest))[:-1], np.array([11])),
        ]

    found = nested_scores(
        images,
        PROTOCOL,
        outer_folds=2,
        split=split,
    )
    assert [[len(own) for own in n.inner] for n in found] == [[3, 1]] * 2
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


def test_p_values_by_the_way_the_banks_are_used():
    inner = [np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0])]
    outer = np.array([[2.0, 4.0, 0.0], [15.0, 30.0, 0.0]])
    found = p_values([NestedScores(inner, outer)] * 2)
    assert {name: len(values) for name, values in found.items()} == {
        "one bank": 12,
        "max over banks": 6,
        "mean over banks": 6,
        "cross-conformal": 6,
    }
    pooled = np.concatenate(inner)
    np.testing.assert_array_equal(
        found["max over banks"][:3], conformal_p_values(pooled, outer.max(axis=0))
    )


def test_flags_are_those_that_the_comparison_counts():
    generator = np.random.default_rng(0)
    nested = [
        NestedScores(list(generator.normal(size=(3, 9))), generator.normal(size=(3, 11)) + 1)
        for _ in range(4)
    ]
    rows = compare_rules(nested, ["mean_sd:1", "max"], ["max", "standardised mean"])
    for row in rows:
        flags = flags_of(nested, row["rule"], row["aggregate"])
        assert (row["alarms"], row["normals"]) == (flags.sum(), 44)
        assert row["low"] == pytest.approx(
            beta.ppf(0.025, row["alarms"] + 0.5, 44.5 - row["alarms"]) if row["alarms"] else 0
        )
