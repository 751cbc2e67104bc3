"""Forensics against brute force over every labelling and row order, and cases worked by hand."""

import ast
import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, permutations, product
from math import comb
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom, hypergeom

from studies.gap import forensics_plots
from studies.gap.enumeration import (
    Reading,
    Reported,
    explanations,
    flag_counts,
    matching_tables,
    parse_reported,
    printed_as,
    splits,
    standard_reading,
)
from studies.gap.forensics import (
    IN_ORDER,
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
from studies.gap.forensics_rows import count_rows, factor_rows, information_rows, setting
from studies.gap.forensics_text import (
    evidence_sentence,
    findings,
    listed,
    reordering_sentence,
    times,
)
from studies.gap.information import Profile, information_profile
from studies.gap.investigation import (
    ONE_ORDER,
    investigate,
    private_anomalous,
    standard_variants,
    summary,
)
from studies.gap.shared_order import (
    common,
    largest_overlap,
    shared_order_likelihood,
    working_overlap,
)

NOTEBOOK = Path(__file__).resolve().parents[3] / "studies" / "gap" / "21_forensics.ipynb"
SMALL = Reading(n_images=6, n_anomalous=2, public_sizes=(2, 3))
MODEL = Reported("small", "0.67", "0.5")
REPORTED = parse_reported("WRN101:0.35714:0.44,ResNet-50:0.3846:0.375")


def prints(fraction: Fraction, text: str) -> bool:
    """Round (either way at a half) or cut a fraction to the digits given."""
    scaled = fraction * 10 ** len(text.partition(".")[2])
    half = Fraction(1, 2)
    wanted = int(text.replace(".", ""))
    return wanted == int(scaled) or scaled - half <= wanted <= scaled + half


def f1(labels, flags) -> Fraction | None:
    hits = sum(a and b for a, b in zip(labels, flags, strict=True))
    total = sum(labels) + sum(flags)
    return Fraction(2 * hits, total) if total else None


def labels_of(reading: Reading) -> list[int]:
    return [1] * reading.n_anomalous + [0] * reading.n_normal


def parts_of(reading: Reading, size: int):
    """Yield every public part of a size with its private part."""
    images = range(reading.n_images)
    for part in combinations(images, size):
        rest = [i for i in images if i not in part]
        yield part, (list(images) if reading.private == "all" else rest)


def fits(model: Reported, labels, flags, parts) -> bool:
    values = [f1([labels[i] for i in own], [flags[i] for i in own]) for own in parts]
    texts = (model.public, model.private)
    return all(v is not None and prints(v, t) for v, t in zip(values, texts, strict=True))


def independent_flags(reading: Reading, sensitivity: float, alarms: float) -> np.ndarray:
    tp = binom.pmf(np.arange(reading.n_anomalous + 1), reading.n_anomalous, sensitivity)
    fp = binom.pmf(np.arange(reading.n_normal + 1), reading.n_normal, alarms)
    return np.outer(tp, fp)


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


def test_five_digits_pin_down_the_tables_worked_by_hand():
    # F1 = 2 TP / (TP + FP + 40) = 0.44 exactly: 22 hits among 60 flags, and no other table.
    assert matching_tables("0.44", 100, 40, digits=5, rounding="either").tolist() == [[22, 38]]
    # 5/14 = 0.357142857: denominators are multiples of 14.
    tables = matching_tables("0.35714", 100, 40, rounding="either")
    assert tables.tolist() == [[10, 6], [15, 29], [20, 52]]
    assert all(Fraction(2 * tp, tp + fp + 40) == Fraction(5, 14) for tp, fp in tables.tolist())


@pytest.mark.parametrize("text", ["0.3846", "0.375", "0.4", "1.0", "0.0"])
def test_enumeration_equals_fractions(text):
    expected = [
        [tp, fp]
        for tp, fp in product(range(13), range(19))
        if prints(Fraction(2 * tp, tp + fp + 12), text)
    ]
    assert matching_tables(text, 30, 12, rounding="either").tolist() == expected


def test_an_empty_denominator_never_matches():
    assert not printed_as(np.array([0]), np.array([0]), "0.0", digits=1, rounding="either").any()


@pytest.mark.parametrize("private", ["rest", "all"])
def test_explanations_are_every_table_that_fits(private):
    reading = replace(SMALL, private=private)
    labels, expected = labels_of(reading), set()
    for size in reading.public_sizes:
        for parts, flags in product(parts_of(reading, size), product((0, 1), repeat=6)):
            if fits(MODEL, labels, flags, parts):
                public = parts[0]
                hits = [sum(flags[i] for i in public if labels[i] == label) for label in (1, 0)]
                anomalous = sum(labels[i] for i in public)
                expected.add((size, anomalous, *hits, sum(flags[:2]), sum(flags[2:])))
    found = explanations(MODEL, reading)
    keys = ("public_images", "public_anomalous", "public_tp", "public_fp", "tp", "fp")
    rows = list(zip(*(found[key].tolist() for key in keys), strict=True))
    assert set(rows) == expected
    assert len(rows) == len(expected)


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


# Flags of a perfect run, in another order.


def test_forty_flags_cannot_print_the_first_pair_worked_by_hand():
    # 0.35714 is 5/14 alone: public flags + anomalous are 28, 56 or 84 (TP = 5, 10, 15), all of both
    # are 40 + 40 = 80, so the private part's are 52 or 24, and 2 TP / 52, 2 TP / 24 miss 0.44.
    for left in (52, 24):
        assert not any(prints(Fraction(2 * tp, left), "0.44") for tp in range(left // 2 + 1))
    # With 38 or 42 flags: 22/50 and 24/54.
    assert prints(Fraction(22, 50), "0.44") and prints(Fraction(24, 54), "0.44")
    found = flag_counts(REPORTED[0], Reading())
    assert found.distance(40) == 2
    assert {38, 42} <= set(found.counts)
    assert found.after_private
    # The second: 5/13 and 3/8, so flags + 40 is 26 k + 16 m; 80 is none of these, 84 is.
    second = flag_counts(REPORTED[1], Reading())
    sums = {26 * k + 16 * m - 40 for k, m in product(range(1, 9), repeat=2)}
    assert set(second.counts) <= sums
    assert second.distance(40) == 4
    # Where the private part is all images: 2 * 15 / 80 = 0.375.
    assert 40 in flag_counts(REPORTED[1], Reading(private="all")).counts


@pytest.mark.parametrize("private", ["rest", "all"])
@pytest.mark.parametrize("model", [MODEL, Reported("m", "0.5", "0.67"), Reported("m", "1", "0.4")])
def test_flag_counts_are_those_of_every_row_order(private, model):
    reading = replace(SMALL, private=private, public_sizes=(1, 2, 3, 4, 5))
    labels, counts, after = labels_of(reading), set(), False
    for size in reading.public_sizes:
        for parts, flags in product(parts_of(reading, size), product((0, 1), repeat=6)):
            if not fits(model, labels, flags, parts):
                continue
            counts.add(sum(flags))
            # Some flags that were all right in the private part, as many as these?
            free = 0 if private == "all" else size
            right = sum(labels[i] for i in parts[1])
            after |= right <= sum(flags) <= right + free
    found = flag_counts(model, replace(SMALL, private=private))
    assert found.counts == tuple(sorted(counts))
    assert found.after_private == after


def test_another_entrants_value_pins_the_split_worked_by_hand():
    reading = standard_reading(100, 40, other_private="0.98039")
    assert private_anomalous(reading) == [25, 26]
    assert sum(splits(reading)[1]) == pytest.approx(1)
    assert splits(replace(reading, private="all")) == ([], [])
    assert private_anomalous(replace(reading, private="all")) == []
    text = evidence_sentence(reading)
    assert "50/51: 25 true positives and 1 error." in text
    assert "25 or 26 of the 40" in text and "not all images" in text
    # 80/81: 40 hits, one error; so then it can be all images.
    assert "not all images" not in evidence_sentence(replace(reading, other_private="0.98765"))
    assert "several" in evidence_sentence(replace(reading, other_private="0.5"))


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


# The answer.


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
    models = [Reported("a", "0.5", "0.4")]
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


@pytest.fixture(scope="module")
def study():
    return investigate(REPORTED, 100, 40, other_private="0.98039", working=0.9, window=0.25)


def test_printed_values_that_say_nothing_of_the_images(study):
    text = findings(study)
    assert text.index("**Certain.**") < text.index("**Likely.**") < text.index("hypothesis")
    assert "WRN101's pair cannot come from exactly 40 flags under any split" in text
    assert "38 or 42" in text and "at least 2 flags changed" in text
    assert "little or no information" in text
    assert "assumption" in text and "submission" in text
    both = [summary(study)[key] for key in ("printed", "with_evidence")]
    for found in both:
        factor = found["log10_no_information_against_rival"]
        assert 1 < factor < 2  # very strong at most: the text must not say decisive of it
        assert found["log10_no_information_against_information"]["0.3"]["best_suited"] > 2
        assert found["log10_no_information_against_information"]["0.1"]["best_suited"] < 0.5
        assert 0 < found["log10_one_order_against_rival"] < 0.5
        assert found["one_order_rival"] == NO_INFORMATION
        assert found["log10_likelihood"][IN_ORDER] < -40
    assert both[0]["fewest_flags_changed"] == {"WRN101": 1, "ResNet-50": 0}
    assert both[1]["fewest_flags_changed"] == {"WRN101": 2, "ResNet-50": 4}
    impossible = [v.name for v in study.variants if v.factor is None]
    assert impossible == ["private part = all images"]
    json.dumps(summary(study), allow_nan=False)


def test_rows_and_figures(study):
    assert len(count_rows(study)) == 16
    assert factor_rows(study.main)[0]["against the likeliest"] == "likeliest"
    assert len(information_rows(study)) == 6
    assert "30 to 50" in setting(study)
    for draw in (
        lambda ax: forensics_plots.flag_count_strip(ax, study.counts, 40, 100),
        lambda ax: forensics_plots.information_curves(
            ax, {name: weighed.profile for name, weighed in study.all_weighed.items()}
        ),
        lambda ax: forensics_plots.cause_factors(ax, study.all_weighed),
        lambda ax: forensics_plots.variant_bounds(ax, study.variants),
    ):
        fig, ax = plt.subplots()
        draw(ax)
        assert ax.get_xlabel()
        assert ax.get_legend() is not None
        plt.close(fig)


@pytest.mark.parametrize(
    ("text", "evidence", "words"),
    [
        # All hits and one false alarm (10/11): a working detector in order.
        ("a:1.00000:0.90909", "", ["carried information", "worked out for two models"]),
        ("a:0.44444:0.40000,b:0.50000:0.33333", "", ["little or no information", "reorder"]),
        ("a:0.97531:0.97531", "", ["No cause looked at prints these values"]),
        ("a:0.5:0.4", "0.97531", ["No cause looked at", "0.97531"]),
    ],
)
def test_other_values_give_another_answer(text, evidence, words):
    models = parse_reported(text)
    found = investigate(models, 20, 8, other_private=evidence, working=0.9, window=0.25)
    answer = findings(found)
    for word in words:
        assert word in answer
    assert (ONE_ORDER in found.plain.likelihood) == (len(models) == 2)
    json.dumps(summary(found), allow_nan=False)
    count_rows(found), information_rows(found), factor_rows(found.main), setting(found)


def test_planted_order_is_found_by_the_number_of_flags():
    # Flags of a perfect run, rows reordered, print a pair that exactly n_anomalous flags can print.
    generator = np.random.default_rng(0)
    labels = np.array([1] * 8 + [0] * 12)
    for _ in range(20):
        flags, public = generator.permutation(labels), generator.permutation(20) < 9
        values = [
            2 * (labels & flags)[part].sum() / (labels[part].sum() + flags[part].sum())
            for part in (public, ~public)
        ]
        model = Reported("m", *(f"{value:.5f}" for value in values))
        counts = flag_counts(model, Reading(20, 8, (9,)))
        assert 8 in counts.counts
        assert "can come from exactly 8 flags" in reordering_sentence("m", [counts], 8)


def test_variants_follow_the_size_of_the_test_set():
    for n_images, n_anomalous in ((100, 40), (20, 3), (37, 30)):
        base = standard_reading(n_images, n_anomalous)
        if n_images == 100:
            assert base == Reading()
        variants = standard_variants(base, working=0.9, window=0.25)
        assert len(variants) == len(set(variants))
        for name, (reading, _, window) in variants.items():
            assert len(flag_window(reading, window)), name


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: explanations(Reported("m", "high", "0.4"), Reading()), ["high", "decimal"]),
        (lambda: Reading(private="half"), ["half", "rest"]),
        (lambda: Reading(public_sizes=(100,)), ["100", "99"]),
        (lambda: Reading(n_anomalous=0), ["n_anomalous=0"]),
        (lambda: matching_tables("0.44", 10, 4, digits=1, rounding="round"), ["0.44", "1"]),
        (lambda: matching_tables("0.44", 10, 4, rounding="up"), ["up", "truncate"]),
        (lambda: parse_reported("a:0.4"), ["a:0.4", "name:public:private"]),
        (
            lambda: shared_order_likelihood([MODEL], SMALL, overlap=largest_overlap, window=0.5),
            ["1 models", "2"],
        ),
        (lambda: log10_factor(0.0, 0.0), ["neither", "reading"]),
    ],
)
def test_bad_input_is_one_clear_line(call, parts, one_line):
    with pytest.raises(ValueError) as caught:
        call()
    one_line(caught, *parts)


def test_reported_values_are_read_as_text():
    found = parse_reported("a:0.35714:0.44, b:0.3846:0.375")
    assert found == [Reported("a", "0.35714", "0.44"), Reported("b", "0.3846", "0.375")]


def test_the_notebook_reads_like_a_page():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert 6 <= len(code) <= 10
    assert all(len(cell["source"]) <= 25 and not cell["outputs"] for cell in code)
    assert cells[0]["cell_type"] == "markdown"
    first = "".join(cells[0]["source"])
    assert all(word in first for word in ("Question", "Inputs", "Outputs", "Assumption"))
    assert cells[1]["metadata"]["tags"] == ["parameters"]
    for statement in ast.parse("".join(cells[1]["source"])).body:
        ast.literal_eval(statement.value)
