"""Causes against brute force over labellings and row orders, and cases worked by hand."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product
from math import comb

import numpy as np
import pytest
from brute_force import MODEL, SMALL, fits, independent_flags, labels_of, parts_of
from scipy.integrate import quad
from scipy.stats import binom, hypergeom

from studies.gap.enumeration import (
    Reading,
    Reported,
    standard_reading,
)
from studies.gap.forensics import (
    NO_INFORMATION,
    SOME_INFORMATION,
    equal_footing,
    flag_window,
    hits_given_flags,
    information_table,
    likelihoods,
    log10_factor,
    split_likelihoods,
    standard_causes,
    strength,
    working_counts,
)
from studies.gap.forensics_text import (
    listed,
    times,
)
from studies.gap.information import Profile, information_profile
from studies.gap.shared_order import (
    common,
    largest_overlap,
    shared_order_likelihood,
    working_overlap,
)


@pytest.mark.parametrize("private", ["rest", "all"])
def test_likelihood_is_the_sum_over_every_split_and_every_set_of_flags(private):
    reading = replace(SMALL, private=private)
    table = independent_flags(reading, 0.7, 0.2)
    expected, labels = 0.0, labels_of(reading)
    for size in reading.public_sizes:
        parts = list(parts_of(reading, size))
        for part, flags in product(parts, product((0, 1), repeat=6)):
            rates = [0.7 if label else 0.2 for label in labels]
            chance = np.prod([r if f else 1 - r for r, f in zip(rates, flags, strict=True)])
            expected += fits(MODEL, labels, flags, part) * chance / len(parts) / 2
    assert expected > 0
    assert likelihoods([MODEL], reading, {"x": table})["x"] == pytest.approx(expected, rel=1e-12)


def test_over_all_printed_values_the_likelihoods_sum_to_one():
    reading = Reading(6, 2, (3,), rounding="round")
    table = independent_flags(reading, 0.6, 0.3)
    tables = [(tp, fp, p) for p in range(3) for tp in range(p + 1) for fp in range(5)]
    values = {f"{2 * tp / (tp + fp + p):.6f}" for tp, fp, p in tables if tp + fp + p}
    total = sum(
        likelihoods([Reported("m", a, b)], reading, {"x": table})["x"]
        for a, b in product(values, repeat=2)
    )
    # Parts with neither anomalous nor flagged images have no F1: their share is left out.
    empty = 4 / 20 * 0.7**3  # a part holds none of the 2 anomalous
    assert total == pytest.approx(1 - 2 * empty, rel=1e-9)


# Causes.


def test_no_information_is_flags_given_to_images_at_random():
    reading = Reading()
    for flags in (1, 30, 40, 99):
        expected = hypergeom.pmf(np.arange(41), 100, 40, flags)
        assert hits_given_flags(
            reading.n_images, reading.n_anomalous, flags, Fraction(0)
        ) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("information", [Fraction(1, 4), Fraction(-1, 5), Fraction(2, 5)])
def test_hits_given_flags_are_independent_flags_of_which_so_many_came(information):
    reading = Reading(7, 3, (3,))
    for flags in (3, 4):
        sensitivity = (flags + 4 * information) / 7
        alarms = (flags - 3 * information) / 7
        assert sensitivity - alarms == information
        chances = Counter()
        for pattern in product((0, 1), repeat=7):
            if sum(pattern) == flags:
                rates = [sensitivity] * 3 + [alarms] * 4
                terms = [r if f else 1 - r for r, f in zip(rates, pattern, strict=True)]
                chances[sum(pattern[:3])] += np.prod(terms)
        total = sum(chances.values())
        expected = [float(chances[tp] / total) for tp in range(4)]
        assert hits_given_flags(
            reading.n_images, reading.n_anomalous, flags, information
        ) == pytest.approx(expected)


def test_more_information_than_so_many_flags_allow_is_what_they_allow():
    reading = Reading(10, 4, (5,))
    assert hits_given_flags(reading.n_images, reading.n_anomalous, 4, Fraction(1)) == (
        0,
        0,
        0,
        0,
        1,
    )
    assert hits_given_flags(reading.n_images, reading.n_anomalous, 2, Fraction(1)) == (
        0,
        0,
        1,
        0,
        0,
    )
    assert hits_given_flags(reading.n_images, reading.n_anomalous, 7, Fraction(1)) == (
        0,
        0,
        0,
        0,
        1,
    )
    assert hits_given_flags(reading.n_images, reading.n_anomalous, 7, Fraction(-1)) == (
        0,
        1,
        0,
        0,
        0,
    )


@pytest.mark.parametrize("working", [0.9, 0.5, 0, 1])
def test_working_counts_are_the_mean_of_binomials(working):
    found = working_counts(8, working)
    assert sum(found) == 1
    if working == 1:
        assert found == [0] * 8 + [1]
        return
    for k, value in enumerate(found):
        mean = quad(lambda rate, k=k: binom.pmf(k, 8, rate), working, 1)[0] / (1 - working)
        assert float(value) == pytest.approx(mean, abs=1e-9)


def test_all_causes_have_the_same_distribution_of_flags():
    reading = standard_reading(40, 16)
    window = flag_window(reading, 0.25)
    assert list(window) == list(range(12, 21))
    for name, table in standard_causes(reading, working=0.9, window=0.25).items():
        table = table.reshape(-1, 17, 25).mean(axis=0)
        flags = np.bincount(np.add(*np.indices(table.shape)).ravel(), table.ravel())
        expected = np.isin(np.arange(len(flags)), window) / len(window)
        assert flags == pytest.approx(expected, abs=1e-12), name


def test_impossible_numbers_of_flags_stay_impossible():
    table = equal_footing([Fraction(0), Fraction(1)], [Fraction(1), Fraction(0)], range(1, 3))
    assert table.tolist() == [[0, 0], [1, 0]]
    assert not equal_footing([Fraction(1)], [Fraction(1)], range(5, 7)).any()


def test_two_models_share_the_split():
    table = information_table(6, 2, range(1, 6), Fraction(1, 5))
    single = likelihoods([MODEL], SMALL, {"a": table})["a"]
    both = likelihoods([MODEL, MODEL], SMALL, {"a": table})["a"]
    assert both > single**2  # a split that explains one explains the other
    assert (split_likelihoods(MODEL, SMALL, table[None]) >= 0).all()


# One row order for two models.


@pytest.mark.parametrize("both", [0, 1, 2])
def test_a_shared_order_is_every_permutation_of_two_sets_of_flags(both):
    labels = labels_of(SMALL)
    models = [Reported("a", "0.67", "0"), Reported("b", "1", "0")]
    window = flag_window(SMALL, 0.5)  # 1 to 3 flags
    expected = 0.0
    for one, two in product(window, repeat=2):
        shared = min(both, one, two)
        first = [1] * one + [0] * (6 - one)
        second = [0] * (one - shared) + [1] * two + [0] * (6 - one + shared - two)
        pairs = {
            (tuple(first[i] for i in order), tuple(second[i] for i in order))
            for order in permutations(range(6))
        }  # each comes from as many permutations
        for size in SMALL.public_sizes:
            weight = 1 / comb(6, size) / len(SMALL.public_sizes) / len(window) ** 2
            for parts, pair in product(parts_of(SMALL, size), pairs):
                good = all(fits(m, labels, f, parts) for m, f in zip(models, pair, strict=True))
                expected += weight * good / len(pairs)
    found = shared_order_likelihood(
        models, SMALL, overlap=lambda one, two: {min(both, one, two): 1.0}, window=0.5
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert expected > 0 or both == 0


def test_with_an_overlap_by_chance_a_shared_order_is_independent_flags():
    reading = standard_reading(20, 8)
    models = [Reported("a", "0.5", "0.4"), Reported("b", "0.33", "0.5")]
    window = 0.5
    blind = information_table(20, 8, flag_window(reading, window), Fraction(0))
    expected = likelihoods(models, reading, {"x": blind})["x"]
    found = shared_order_likelihood(
        models, reading, overlap=lambda one, two: common(20, one, two), window=window
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > 0


def test_overlap_of_working_detectors_is_that_of_every_pair_of_flags():
    hits, alarms = working_counts(2, 0.6), working_counts(3, 0.6)[::-1]

    def chance(flags: tuple[int, ...]) -> Fraction:
        tp, fp = sum(flags[:2]), sum(flags[2:])
        return hits[tp] / comb(2, tp) * alarms[fp] / comb(3, fp)

    overlap = working_overlap(2, 3, 0.6)
    patterns = list(product((0, 1), repeat=5))
    for one, two in ((2, 2), (2, 3), (1, 4)):
        chances = Counter()
        for a, b in product(patterns, repeat=2):
            if (sum(a), sum(b)) == (one, two):
                chances[sum(x and y for x, y in zip(a, b, strict=True))] += chance(a) * chance(b)
        total = sum(chances.values())
        expected = {count: float(value / total) for count, value in chances.items() if value}
        assert overlap(one, two) == pytest.approx(expected)
    assert largest_overlap(2, 3) == {2: 1.0}


def test_alike_flags_print_alike_values_under_one_order():
    reading = Reading(20, 8, (10,))
    same = [Reported("a", "0.50000", "0.40000"), Reported("b", "0.50000", "0.40000")]
    apart = [Reported("a", "0.80000", "0.00000"), Reported("b", "0.00000", "0.80000")]
    blind = information_table(20, 8, flag_window(reading, 0.25), Fraction(0))
    for models, likelier in ((same, True), (apart, False)):
        alone = likelihoods(models, reading, {"x": blind})["x"]
        together = shared_order_likelihood(models, reading, overlap=largest_overlap, window=0.25)
        assert alone > 0
        assert (together > alone) == likelier


def test_profile_figures_worked_by_hand():
    profile = Profile([-0.5, 0.0, 0.5, 1.0], [1.0, 4.0, 0.02, 0.01])
    assert profile.none == 4
    mean, best = profile.factors(0.5)
    assert 10**mean == pytest.approx(4 / 0.015)
    assert 10**best == pytest.approx(200)
    assert profile.decisive_from() == 0.5
    assert profile.upper_bound(0.95) == 0.0
    assert Profile([0.0, 1.0], [1.0, 0.5]).decisive_from() is None
    assert log10_factor(1.0, 0.0) == float("inf")


def test_the_profile_begins_at_no_information():
    reading = standard_reading(20, 8)
    models = [Reported("a", "0.5", "0.4"), Reported("b", "0.33", "0.5")]
    causes = standard_causes(reading, working=0.9, window=0.25)
    found = likelihoods(models, reading, causes)
    profile = information_profile(models, reading, 0.25)
    assert profile.none == found[NO_INFORMATION]
    assert np.mean(profile.above(0.01)) == pytest.approx(found[SOME_INFORMATION])
    for least in (0.1, 0.2, 0.3):
        mean, best = profile.factors(least)
        assert mean >= best


def test_words_of_the_scale():
    factors = (0, 0.3, 0.5, -1.2, np.log10(21), np.log10(52), 2, -9, float("inf"))
    assert [strength(f).split()[0] for f in factors] == [
        "barely", "barely", "substantial", "strong", "strong", "very", "decisive", "decisive",
        "decisive",
    ]  # fmt: skip
    assert times(np.log10(21)) == "21.0 times"
    assert times(-3) == "1,000 times"
    assert times(42.2) == "10^42 times"
    assert times(float("inf")) == "infinitely many times"
    assert listed([1]) == "1" and listed([1, 2, 3], "or") == "1, 2 or 3"
